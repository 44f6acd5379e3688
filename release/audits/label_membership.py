"""Membership inference on a classifier's labelled texts, by its loss (Yeom et al. 2018, arXiv:1709.01604).

A classifier that fits its training examples better than others of the same make tells who was among them. Members
are the task's training split, non-members its test split; the blind check of `membership` guards the comparison.

N = texts, L = labels.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from configs.errors import UserError
from release.audits.classifier_model import load_classifier
from release.audits.membership import attack_measures, blind_measure
from release.evidence import AuditResult

Floats = npt.NDArray[np.float64]
LABELED = tuple[str, frozenset[str]]


def audit_label_membership(
    model_dir: Path, task_dir: Path, *, count: int, max_tokens: int, batch_tokens: int, samples: int, seed: int
) -> AuditResult:
    """Attack a classifier (or adapter) with the texts of its own task."""
    rng = np.random.default_rng(seed)
    members, others = (_sample(read_split(task_dir, split), count, rng) for split in ("train", "test"))
    seen = {text for text, _ in members}
    others = [row for row in others if row[0] not in seen]
    if min(len(members), len(others)) < 10:
        return AuditResult(name="label_membership", status="not_run", note="the task has too few texts")
    rows = [*members, *others]
    scores = -label_losses(model_dir, rows, max_tokens=max_tokens, batch_tokens=batch_tokens)
    is_member = np.arange(len(rows)) < len(members)
    groups = [str(number) for number in range(len(rows))]
    blind = blind_measure([text for text, _ in rows], is_member, groups, rng=rng, samples=samples)
    return AuditResult(
        name="label_membership",
        status="measured",
        measures=[blind, *attack_measures(scores[is_member], scores[~is_member], "", samples=samples, rng=rng)],
        counts={"members": len(members), "non_members": len(others)},
    )


def read_split(task_dir: Path, split: str) -> list[LABELED]:
    """Read texts and label names of a task's split."""
    path, rows = task_dir / f"{split}.jsonl", []
    if not path.is_file():
        raise UserError("missing", where=path, fix="Name the task folder that the classifier was trained on.")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                values = json.loads(line)
                rows.append((str(values["text"]), frozenset(map(str, values["labels"]))))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"not a labelled text ({type(error).__name__})", where=f"{path}:{number}") from error
    return rows


@torch.inference_mode()
def label_losses(model_dir: Path, rows: list[LABELED], *, max_tokens: int, batch_tokens: int) -> Floats:
    """Return (N,) losses: cross-entropy of the label, or the summed binary ones of a multi-label model."""
    model, tokenizer = load_classifier(model_dir)
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    multi_label = model.config.problem_type == "multi_label_classification"
    losses, size = np.zeros(len(rows)), max(1, batch_tokens // max_tokens)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    for start in range(0, len(rows), size):
        chosen = order[start : start + size]
        batch = tokenizer(
            [rows[i][0] for i in chosen], truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
        )
        logits_NL = model(**batch.to(model.device)).logits.float()
        targets_NL = torch.tensor([[float(name in rows[i][1]) for name in names] for i in chosen])
        targets_NL = targets_NL.to(logits_NL.device)
        if multi_label or logits_NL.shape[1] == 1:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_NL, targets_NL, reduction="none").sum(1)
        else:
            loss = -(logits_NL.log_softmax(1) * targets_NL).sum(1)
        losses[chosen] = loss.double().cpu().numpy()
    return losses


def _sample(rows: list[LABELED], count: int, rng: np.random.Generator) -> list[LABELED]:
    return [rows[i] for i in rng.permutation(len(rows))[:count]]
