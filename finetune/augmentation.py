"""More training texts for rare labels: back-off masking with a masked LM.

A copy of a text that bears a rare label gets some of its words masked and filled in by the masked LM, best one that
was adapted to the domain (as in Kobayashi 2018, arXiv:1805.06201, without training it on labels). A guard, TF-IDF
with logistic regression fitted on the same training texts, must still see the label in the copy; if not, the copy
is made anew with half as many words masked, and dropped when nothing is left to back off to.

Only training texts are copied, so nothing of validation or test enters; whether it helps is for validation to say.

N = texts, T = tokens, V = vocabulary, L = labels.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from configs.base_models import ModelSource
from configs.console import progress
from configs.errors import UserError
from finetune.heads import attention_implementation, load_tokenizer, longest_sequence, quiet_transformers
from finetune.tasks import Example, FloatArray, LabelSet

log = logging.getLogger("finetune")
Augmentation = Literal["none", "back_off_masking"]
MASKED_SHARES = (0.3, 0.15, 0.075)  # of a text's words: the first, and what is backed off to
MOST_COPIES = 4  # of one text
SAMPLED_FROM = 20  # the likeliest words
BATCH_TEXTS = 32


class Augmented(NamedTuple):
    """Training examples with the copies behind them, and what was counted."""

    examples: list[Example]
    counts: dict[str, int]


def back_off_masking(
    examples: Sequence[Example], label_set: LabelSet, source: ModelSource, *, target: float, seed: int, max_length: int
) -> Augmented:
    """Add filled-in copies of texts with rare labels.

    Args:
        examples: the training examples.
        label_set: their labels.
        source: a masked LM.
        target: how many examples a label should have, as a share of the most frequent one's.
        seed: draws the words.
        max_length: tokens the masked LM reads of a text.

    Raises:
        UserError: the model has no masked-LM head.
    """
    generator = np.random.default_rng(seed)
    pending = _texts_to_copy(examples, target=target, generator=generator)
    if not pending:
        return Augmented(list(examples), {"copies": 0})
    filler = _Filler(source, max_length, generator)
    guard = _Guard(examples, label_set)
    copies: list[Example] = []
    counts = {"asked": len(pending)}
    for share in MASKED_SHARES:
        refused: list[int] = []
        texts = filler.rewrite([examples[index].text for index in pending], share)
        for index, text, sure in zip(pending, texts, guard.still_sees(pending, texts), strict=True):
            if not sure:
                refused.append(index)
                continue
            number = len(copies) + 1
            copies.append(dataclasses.replace(examples[index], id=f"{examples[index].id}+copy-{number}", text=text))
        counts[f"copies_with_{round(100 * share)}_percent_masked"] = len(pending) - len(refused)
        pending = refused
    counts |= {"given_up": len(pending), "copies": len(copies)}
    log.info("augmentation: %s", ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
    return Augmented([*examples, *copies], counts)


def _texts_to_copy(examples: Sequence[Example], *, target: float, generator: np.random.Generator) -> list[int]:
    """Return the index of a text for every copy wanted: the rarest label first, until it has its share."""
    counts = Counter(label for example in examples for label in example.labels)
    wanted = target * max(counts.values(), default=0)
    copies_of: Counter[int] = Counter()
    chosen: list[int] = []
    for label in sorted(counts, key=lambda name: (counts[name], name)):
        bearers = [index for index, example in enumerate(examples) if label in example.labels]
        for _ in range(MOST_COPIES):
            for index in generator.permutation(bearers).tolist():
                if counts[label] >= wanted:
                    break
                if copies_of[index] < MOST_COPIES:
                    copies_of[index] += 1
                    chosen.append(index)
                    counts.update(examples[index].labels)
    return chosen


class _Guard:
    """Says whether a copy still shows the labels of its text."""

    def __init__(self, examples: Sequence[Example], label_set: LabelSet) -> None:
        self._targets_NL = label_set.multi_hot([example.labels for example in examples])
        self._vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        features = self._vectorizer.fit_transform([example.text for example in examples])
        varied_L = (self._targets_NL.min(0) == 0) & (self._targets_NL.max(0) == 1)
        self._labels = np.flatnonzero(varied_L)
        self._model = OneVsRestClassifier(LogisticRegression(C=4.0, class_weight="balanced", solver="liblinear"))
        self._model.fit(features, self._targets_NL[:, self._labels])
        self._before_NL = self._probabilities(features)

    def _probabilities(self, features: Any) -> FloatArray:
        found: FloatArray = self._model.predict_proba(features)
        if len(self._labels) == 1:  # scikit-learn then gives both classes
            return found[:, -1:]
        return found

    def still_sees(self, sources: Sequence[int], copies: Sequence[str]) -> list[bool]:
        """Return, copy by copy, whether every label of its source is still likely, or no less likely than before."""
        if not copies:
            return []
        after_NL = self._probabilities(self._vectorizer.transform(copies))
        needed_NL = np.minimum(0.5, self._before_NL[list(sources)])
        borne_NL = self._targets_NL[list(sources)][:, self._labels] > 0
        kept_NL = (after_NL >= needed_NL) | ~borne_NL
        return [bool(row.all()) for row in kept_NL]


class _Filler:
    """Masks words and lets a masked LM fill them in."""

    def __init__(self, source: ModelSource, max_length: int, generator: np.random.Generator) -> None:
        from transformers import AutoModelForMaskedLM

        with quiet_transformers():
            self._model, report = AutoModelForMaskedLM.from_pretrained(
                source.name_or_path,
                attn_implementation=attention_implementation(),
                output_loading_info=True,
                **source.load_arguments,
            )
        # Whatever stands outside the encoder is the head: of an ELECTRA discriminator it is `generator_…`.
        if any(not key.startswith(f"{self._model.base_model_prefix}.") for key in report["missing_keys"]):
            raise UserError(
                "this model has no masked-LM head, so it cannot fill in words",
                where=source.name_or_path,
                fix="Name one that has in augmentation_model: an encoder that `mindshift pretrain` wrote.",
            )
        self._model.eval()
        self._length = longest_sequence(self._model.config, max_length)
        self._tokenizer = load_tokenizer(source, self._length)
        self._generator = generator
        self._words_V = self._whole_words()

    def _whole_words(self) -> torch.Tensor:
        """Return which tokens (V,) are words of their own."""
        allowed_V = torch.zeros(self._model.config.vocab_size, dtype=torch.bool)
        marks = ("Ġ", "▁")
        tokens = self._tokenizer.get_vocab()
        marked = any(token.startswith(marks) for token in tokens)
        for token, number in tokens.items():
            word = token[1:] if token.startswith(marks) else token
            allowed_V[number] = word.isalpha() and (token.startswith(marks) or not marked)
        return allowed_V

    def rewrite(self, texts: Sequence[str], share: float) -> list[str]:
        """Return the texts with a share of their words, at least one, filled in anew."""
        rewritten: list[str] = []
        starts = range(0, len(texts), BATCH_TEXTS)
        for start in progress(list(starts), description=f"fill in {share:.0%}", unit="batches"):
            rewritten += self._rewrite_batch(texts[start : start + BATCH_TEXTS], share)
        return rewritten

    def _rewrite_batch(self, texts: Sequence[str], share: float) -> list[str]:
        all_words, all_places = [], []
        for text in texts:
            words = text.split()
            within = [place for place, word in enumerate(words[: self._length // 2]) if word.isalpha()]
            count = min(len(within), max(1, round(share * len(within))))
            places = sorted(self._generator.choice(within, size=count, replace=False).tolist()) if within else []
            all_words.append(words)
            all_places.append(places)
        masked = []
        for words, places in zip(all_words, all_places, strict=True):
            hidden = set(places)
            shown = [self._tokenizer.mask_token if place in hidden else word for place, word in enumerate(words)]
            masked.append(" ".join(shown))
        batch = self._tokenizer(masked, truncation=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits_NTV = self._model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        for row, (words, places) in enumerate(zip(all_words, all_places, strict=True)):
            positions = (batch["input_ids"][row] == self._tokenizer.mask_token_id).nonzero()[:, 0].tolist()
            for place, position in zip(places, positions, strict=False):  # what was cut off stays as it was
                words[place] = self._draw(logits_NTV[row, position], words[place])
        return [" ".join(words) for words in all_words]

    def _draw(self, logits_V: torch.Tensor, original: str) -> str:
        """Draw a word from the likeliest, other than the one that stood there."""
        allowed_V = self._words_V.clone()
        own = self._tokenizer(original, add_special_tokens=False)["input_ids"]
        if len(own) == 1:
            allowed_V[own[0]] = False
        likely = logits_V.masked_fill(~allowed_V, float("-inf")).topk(min(SAMPLED_FROM, int(allowed_V.sum())))
        shares = torch.softmax(likely.values.double(), dim=0).numpy()
        chosen = int(likely.indices[self._generator.choice(len(shares), p=shares / shares.sum())])
        return str(self._tokenizer.convert_ids_to_tokens(chosen)).lstrip("Ġ▁")
