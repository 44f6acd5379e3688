"""Which words a decision rests on, and whether that is true: integrated gradients with faithfulness scores.

Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) of the logit of a given label, over the input
embeddings, from a text of padding; by captum. Faithfulness as in ERASER (DeYoung et al. 2020, arXiv:1911.03429):
comprehensiveness is how far the label's probability falls without the words with the largest attributions (more is
better), sufficiency how far it falls when only they are left (less is better), averaged over shares of the words.
The same figures for words in random order stand beside them: attributions that do no better say nothing.

T = tokens, L = labels.
"""

import importlib.util
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from configs.base_models import ModelSource
from configs.console import progress
from configs.errors import UserError
from finetune.decisions import Decision, to_probabilities
from finetune.heads import load_classifier, load_tokenizer
from finetune.tasks import FloatArray, LabelSet

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # ERASER's bins
WORD_TEXTS = 5  # a word is listed when it stands in so many of the texts: a rare one might name somebody
LISTED_WORDS = 15
STEPS_TOGETHER = 8


class Attribution(NamedTuple):
    """One decision: the label by number, and per token where it stands in the text and how much it adds."""

    label: int
    spans: list[tuple[int, int]]
    scores_T: FloatArray


class Explainer:
    """Attributes decisions of one model.

    Args:
        model: a classifier, in evaluation mode.
        tokenizer: its tokenizer, a fast one (it must know where tokens stand).
        label_set: its labels.
        max_seq_length: tokens it reads; longer texts are cut, whatever the classifier does with them.
        steps: of the integral.
    """

    def __init__(self, model: Any, tokenizer: Any, label_set: LabelSet, *, max_seq_length: int, steps: int) -> None:
        from captum.attr import LayerIntegratedGradients

        self._model, self._tokenizer, self._label_set = model, tokenizer, label_set
        self._max_seq_length, self._steps = max_seq_length, steps
        self._integrated = LayerIntegratedGradients(self._logits, model.get_input_embeddings())

    @classmethod
    def load(cls, folder: Path, decision: Decision, *, steps: int) -> "Explainer":
        """Load the classifier of a folder; `decision` is its labels and the tokens it reads.

        Raises:
            UserError: captum is not installed, or no classifier is there.
        """
        if importlib.util.find_spec("captum") is None:
            raise UserError("package 'captum' is not installed", fix="pip install -e '.[explain]'")
        length = int(decision.long_texts["max_seq_length"])
        tokenizer = load_tokenizer(ModelSource(str(folder), is_local=True), length)
        return cls(load_classifier(folder), tokenizer, decision.label_set, max_seq_length=length, steps=steps)

    def _logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits_RL: torch.Tensor = self._model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits
        return logits_RL

    def _encode(self, text: str) -> tuple[list[int], list[bool], list[tuple[int, int]]]:
        found = self._tokenizer(
            text,
            truncation=True,
            max_length=self._max_seq_length,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        special = [bool(mark) for mark in found["special_tokens_mask"]]
        return found["input_ids"], special, [tuple(span) for span in found["offset_mapping"]]

    def attribute(self, text: str, label: int) -> Attribution:
        """Attribute the logit of a label to the tokens of a text."""
        ids, special, spans = self._encode(text)
        input_ids = torch.tensor([ids])
        padding = int(self._tokenizer.pad_token_id or 0)
        baseline = torch.where(torch.tensor([special]), input_ids, torch.full_like(input_ids, padding))
        found = self._integrated.attribute(
            input_ids, baseline, target=label, n_steps=self._steps, internal_batch_size=STEPS_TOGETHER
        )
        scores_T = found.sum(dim=-1)[0].detach().double().numpy()
        content = np.flatnonzero(~np.array(special))
        return Attribution(label, [spans[place] for place in content], scores_T[content])

    def faithfulness(self, text: str, label: int, scores_T: FloatArray) -> tuple[float, float]:
        """Return comprehensiveness and sufficiency of scores over a text's tokens."""
        ids, special, _ = self._encode(text)
        content = np.flatnonzero(~np.array(special))
        order = np.argsort(-scores_T, kind="stable")
        without, only = [], []
        for share in SHARES:
            top = content[order[: max(1, round(share * len(order)))]]
            without.append(self._kept(ids, np.setdiff1d(np.arange(len(ids)), top)))
            only.append(self._kept(ids, np.union1d(np.flatnonzero(special), top)))
        probabilities = [self._probability(kept, label) for kept in (ids, *without, *only)]
        full, parts = probabilities[0], probabilities[1:]
        return (
            full - statistics.fmean(parts[: len(SHARES)]),
            full - statistics.fmean(parts[len(SHARES) :]),
        )

    @staticmethod
    def _kept(ids: Sequence[int], places: npt.NDArray[np.int64]) -> list[int]:
        return [ids[place] for place in places]

    def _probability(self, ids: Sequence[int], label: int) -> float:
        with torch.inference_mode():
            logits_1L = self._logits(torch.tensor([list(ids)])).double().numpy()
        return float(to_probabilities(logits_1L, self._label_set)[0, label])


def explain(explainer: Explainer, texts: Sequence[str], labels: Sequence[int], *, seed: int) -> dict[str, Any]:
    """Attribute one label a text, and measure the attributions against words in random order.

    Returns:
        `attributions` in the order of the texts, `faithfulness` (means), and `words`: by label number, the words
        that stand in several texts with their mean attribution. A text without a token is left out (None).
    """
    generator = np.random.default_rng(seed)
    attributions: list[Attribution | None] = []
    figures: dict[str, list[tuple[float, float]]] = {"attributions": [], "random_order": []}
    by_word: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    pairs = list(zip(texts, labels, strict=True))
    for text, label in progress(pairs, description="explain", unit="texts"):
        found = explainer.attribute(text, label)
        if not len(found.scores_T):
            attributions.append(None)
            continue
        attributions.append(found)
        figures["attributions"].append(explainer.faithfulness(text, label, found.scores_T))
        shuffled_T = generator.permutation(len(found.scores_T)).astype(np.float64)
        figures["random_order"].append(explainer.faithfulness(text, label, shuffled_T))
        in_text: dict[str, float] = defaultdict(float)
        for (start, end), score in zip(found.spans, found.scores_T, strict=True):
            in_text[_word_around(text, start, end)] += float(score)
        for word, score in in_text.items():
            by_word[label][word].append(score)
    return {
        "attributions": attributions,
        "faithfulness": {name: _means(values) for name, values in figures.items() if values},
        "words": {label: _largest(words) for label, words in by_word.items()},
    }


def _means(values: Sequence[tuple[float, float]]) -> dict[str, float]:
    comprehensiveness, sufficiency = (statistics.fmean(column) for column in zip(*values, strict=True))
    return {"comprehensiveness": comprehensiveness, "sufficiency": sufficiency}


def _word_around(text: str, start: int, end: int) -> str:
    """Return the whole word, in lower case, that a token is part of."""
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return text[start:end].strip().lower()


def _largest(words: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return the words with the largest mean attribution, of those that stand in several texts."""
    rows = [
        {"word": word, "texts": len(scores), "attribution": round(statistics.fmean(scores), 4)}
        for word, scores in words.items()
        if len(scores) >= WORD_TEXTS and word.isalpha()
    ]
    return sorted(rows, key=lambda row: -float(str(row["attribution"])))[:LISTED_WORDS]
