"""What tuning changed: the tuned responder beside the zero-shot base, on conversations neither was trained on.

- perplexity per word: exp of the summed loss of the real replies over their words; comparable across tokenizers.
- distinct-1/2 (arXiv:1510.03055): distinct words and word pairs over all words of the answers.
- BLEU (sacrebleu) and ROUGE-L (rouge-score) against the real reply; low for every system, since many replies fit.
- similarity: mean cosine of answer and real reply under a mean-pooled encoder (the idea of arXiv:1904.09675).
- emotion match: how often a classifier of `mindshift finetune` finds the conversation's emotion in the answer; where a
  data set has no emotion label, the emotion it finds in the person's last turn.
- repetition: answers that hold one three-word run twice; share of answers that are equal to another one.
- length in words, beside that of the real replies; share of answers the safety layer would withhold.

None of these says that an answer helps anybody. Only people can.
"""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from configs.errors import UserError
from configs.manifest import CODE_ROOT
from dialogue.config import DialogueRecipe
from dialogue.examples import EncodedReply, Reply, collate
from dialogue.safety import screen_reply
from dialogue.training import token_losses

RESPONDER_EXTRA = "Install it: pip install -e '.[responder]'"
Similarity = Callable[[Sequence[str], Sequence[str]], list[float]]
Emotions = Callable[[Sequence[str]], list[str]]


def perplexity_per_word(model: Any, encoded: Sequence[EncodedReply], *, batch_size: int, pad_token_id: int) -> float:
    """Return exp(loss summed over the reply tokens / words of the replies); a reply cut short counts as far as read."""
    model.eval()
    device = next(model.parameters()).device
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(encoded), batch_size):
            batch = collate(encoded[start : start + batch_size], pad_token_id)
            loss, _ = token_losses(model, {key: value.to(device) for key, value in batch.items()})
            total += float(loss)
    return math.exp(total / max(1, sum(example.words for example in encoded)))


def answer_metrics(
    answers: Sequence[str],
    replies: Sequence[Reply],
    similarity: Similarity | None = None,
    emotions: Emotions | None = None,
) -> dict[str, float]:
    """Return every figure that needs the answers' words only.

    Args:
        answers: generated texts.
        replies: what was really answered, in the same order.
        similarity: texts, references → one cosine a pair.
        emotions: texts → one emotion each.
    """
    words = [answer.lower().split() for answer in answers]
    singles = Counter(word for answer in words for word in answer)
    pairs = Counter(pair for answer in words for pair in pairwise(answer))
    references = [reply.text for reply in replies]
    metrics = {
        "distinct_1": len(singles) / max(1, singles.total()),
        "distinct_2": len(pairs) / max(1, pairs.total()),
        "bleu": bleu(answers, references),
        "rouge_l": rouge_l(answers, references),
        "repeats_itself": float(np.mean([_repeats(answer) for answer in words])),
        "same_as_another": 1 - len(set(answers)) / max(1, len(answers)),
        "empty": float(np.mean([not answer for answer in words])),
        "words": float(np.mean([len(answer) for answer in words])),
        "words_of_real_reply": float(np.mean([len(text.split()) for text in references])),
        "withheld_by_safety": float(np.mean([bool(screen_reply(answer)) for answer in answers])),
    }
    if similarity is not None:
        metrics["similarity"] = float(np.mean(similarity(answers, references)))
    if emotions is not None:
        wanted = [
            reply.labelled_emotion or found
            for reply, found in zip(replies, emotions([r.context[-1].text for r in replies]), strict=True)
        ]
        metrics["emotion_match"] = float(np.mean([a == b for a, b in zip(wanted, emotions(answers), strict=True)]))
    return metrics


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return corpus BLEU in percent."""
    try:
        import sacrebleu
    except ImportError:
        raise UserError("package 'sacrebleu' is not installed", fix=RESPONDER_EXTRA) from None
    return float(sacrebleu.corpus_bleu(list(answers), [list(references)]).score)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the mean ROUGE-L F1 in percent."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise UserError("package 'rouge-score' is not installed", fix=RESPONDER_EXTRA) from None
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(answers, references, strict=True)
    return 100 * float(np.mean([scorer.score(reference, answer)["rougeL"].fmeasure for answer, reference in pairs]))


def load_similarity(recipe: DialogueRecipe) -> Similarity | None:
    """Return a function that compares texts by the mean-pooled states of an encoder."""
    if recipe.similarity_encoder is None:
        return None
    from transformers import AutoModel, AutoTokenizer

    from configs.base_models import resolve_model

    source = resolve_model(recipe.similarity_encoder)
    tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
    encoder = AutoModel.from_pretrained(source.name_or_path, **source.load_arguments).eval()

    def embed(texts: Sequence[str]) -> torch.Tensor:
        rows = []
        for start in range(0, len(texts), 32):
            part = [text or " " for text in texts[start : start + 32]]
            batch = tokenizer(part, padding=True, truncation=True, max_length=128, return_tensors="pt")
            with torch.inference_mode():
                states_BTH = encoder(**batch).last_hidden_state
            mask_BT1 = batch["attention_mask"].unsqueeze(-1)
            rows.append((states_BTH * mask_BT1).sum(1) / mask_BT1.sum(1))
        return torch.nn.functional.normalize(torch.cat(rows), dim=-1)

    return lambda texts, references: (embed(texts) * embed(references)).sum(-1).tolist()


def load_emotions(recipe: DialogueRecipe) -> Emotions | None:
    """Return a function that asks `mindshift predict` for the likeliest label of each text.

    A process of its own: any head that `finetune/` writes is read by `finetune/` alone, and no text is put on a disk.
    """
    if recipe.emotion_classifier is None:
        return None
    folder = recipe.emotion_classifier
    if not (folder / "decision.json").is_file():
        raise UserError("no classifier here (decision.json is missing)", where=folder, fix="Run `mindshift finetune`.")

    def emotions(texts: Sequence[str]) -> list[str]:
        rows = "".join(json.dumps({"id": n, "text": text or "-"}) + "\n" for n, text in enumerate(texts))
        command = [sys.executable, "-m", "finetune.predict", "--model", str(folder.absolute())]
        found = subprocess.run(command, input=rows, capture_output=True, text=True, check=False, cwd=CODE_ROOT)
        answered = [json.loads(line)["probabilities"] for line in found.stdout.splitlines()]
        if found.returncode != 0 or len(answered) != len(texts):
            raise UserError(f"`mindshift predict` failed: {found.stderr.strip()[-300:]}", where=folder)
        return [max(probabilities, key=probabilities.__getitem__) for probabilities in answered]

    return emotions


def _repeats(words: Sequence[str]) -> bool:
    runs = Counter(zip(words, words[1:], words[2:], strict=False))
    return any(count > 1 for count in runs.values())
