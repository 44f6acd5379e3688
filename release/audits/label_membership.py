"""Membership inference on a classifier's labelled texts, by its loss (Yeom et al. 2018, arXiv:1709.01604).

A classifier that fits its training examples better than others of the same make tells who was among them. Members
are the task's training split, non-members its test split; the blind check of `membership` guards the comparison.

N = texts, L = labels, R = windows of texts, T = tokens of the longest.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from configs.errors import UserError
from configs.manifest import Manifest
from release.audits.classifier_model import DECISION, TextReader, load_classifier
from release.audits.documents import text_digest
from release.audits.membership import attack_measures, blind_measure
from release.evidence import AuditResult

Floats = npt.NDArray[np.float64]
Labeled = tuple[str, frozenset[str]]
LEAST_TRAINED = 0.95
"""Share of the training split that must have been trained on: rows left out count as members and dilute the attack."""


@dataclasses.dataclass(frozen=True)
class LabelNames:
    """The labels of a classifier in the order of its outputs, and which a row may have."""

    names: tuple[str, ...]
    is_multi_label: bool
    parents: dict[str, str]
    """Label → the broader label that whoever has it has too."""

    def read(self, values: object, *, where: str) -> frozenset[str]:
        """Return the labels of a row, broader ones included.

        Raises:
            UserError: not a list, a label that the model does not have, or not exactly one where one is asked.
        """
        fix = f"Write a list of labels, such as {json.dumps(self.names[:1])}; they are: {', '.join(self.names)}."
        if not isinstance(values, list):
            raise UserError("labels is not a list", where=where, fix=fix)
        labels = {label_name(value) for value in values}
        if not labels <= set(self.names):
            raise UserError("a label is none of the model's", where=where, fix=fix)
        if not self.is_multi_label and len(labels) != 1:
            raise UserError(f"a row of this model has exactly one label, not {len(labels)}", where=where, fix=fix)
        while broader := {self.parents[label] for label in labels & self.parents.keys()} - labels:
            labels |= broader
        return frozenset(labels)


def audit_label_membership(
    model_dir: Path,
    task_dir: Path,
    *,
    trained_rows: int | None,
    count: int,
    batch_tokens: int,
    samples: int,
    seed: int,
) -> AuditResult:
    """Attack a classifier (or adapter) with the texts of its own task; `trained_rows` is what its run recorded."""
    rng = np.random.default_rng(seed)
    model, tokenizer = load_classifier(model_dir)
    labels = read_label_names(model_dir, model)
    training = read_split(task_dir, "train", labels)
    if trained_rows is None or trained_rows < LEAST_TRAINED * len(training):
        trained = "an unknown number" if trained_rows is None else f"only {trained_rows:,}"
        note = f"{trained} of the {len(training):,} rows in the training split were trained on, it is not known which"
        return AuditResult(name="label_membership", status="invalid", note=note)
    seen = {text_digest(text) for text, _ in training}
    unseen = [row for row in read_split(task_dir, "test", labels) if text_digest(row[0]) not in seen]
    members, others = (_sample(rows, count, rng) for rows in (training, unseen))
    if min(len(members), len(others)) < 10:
        return AuditResult(name="label_membership", status="not_run", note="the task has too few texts")
    rows = [*members, *others]
    scores = -label_losses(model, TextReader.of(model_dir, tokenizer), labels, rows, batch_tokens=batch_tokens)
    is_member = np.arange(len(rows)) < len(members)
    groups = [str(number) for number in range(len(rows))]
    blind = blind_measure([text for text, _ in rows], is_member, groups, rng=rng, samples=samples)
    return AuditResult(
        name="label_membership",
        status="measured",
        measures=[blind, *attack_measures(scores[is_member], scores[~is_member], "", samples=samples, rng=rng)],
        counts={"members": len(members), "non_members": len(others)},
    )


def rows_trained_on(manifest: Manifest) -> int | None:
    """Return how many rows a fine-tuning run trained on; None if its manifest does not say.

    Fewer than stand in the task's file after `train_rows`, cleaning, or a validation split that was cut from it; a run
    of less than one pass has not seen all of them either.
    """
    rows = manifest.counts.get("rows")
    if not isinstance(rows, dict) or "train" not in rows:
        return None
    return int(rows["train"] * min(1.0, manifest.recipe.get("epochs") or 1.0))


def read_label_names(model_dir: Path, model: Any) -> LabelNames:
    """Return the labels of a loaded classifier, with the hierarchy that its `decision.json` states, if any."""
    path = model_dir / DECISION
    stated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # One output without a second to choose from is a yes or no, as several labels are.
    is_multi_label = model.config.problem_type == "multi_label_classification" or model.config.num_labels == 1
    names = tuple(model.config.id2label[number] for number in range(model.config.num_labels))
    return LabelNames(names, is_multi_label, dict(stated.get("parents", {})))


def read_split(task_dir: Path, split: str, labels: LabelNames) -> list[Labeled]:
    """Read texts and label names of a task's split.

    Raises:
        UserError: there is none, or a row that this classifier cannot have been trained on.
    """
    path, rows = task_dir / f"{split}.jsonl", []
    if not path.is_file():
        raise UserError("missing", where=path, fix="Name the task folder that the classifier was trained on.")
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                values = json.loads(line)
                text, given = values["text"], values["labels"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"not a labelled text ({type(error).__name__})", where=where) from error
            if not isinstance(text, str):
                raise UserError("text is not a string", where=where)
            rows.append((text, labels.read(given, where=where)))
    return rows


def label_name(value: object) -> str:
    """Return a label as fine-tuning names it (`finetune.label_formats`): 2.0 and 2 are both `2`, outer spaces go."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    name = "" if value is None else str(value).strip()
    return name[:-2] if name.endswith(".0") and name[:-2].isdigit() else name


@torch.inference_mode()
def label_losses(
    model: Any, reader: TextReader, labels: LabelNames, rows: list[Labeled], *, batch_tokens: int
) -> Floats:
    """Return (N,) losses: cross-entropy of the label, or the summed binary ones of a multi-label model."""
    losses, size = np.zeros(len(rows)), max(1, batch_tokens // reader.max_seq_length)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    for start in range(0, len(rows), size):
        chosen = order[start : start + size]
        windows = [reader.windows(rows[i][0]) for i in chosen]
        pieces = [torch.tensor(ids) for text in windows for ids in text]
        ids_RT = pad_sequence(pieces, batch_first=True, padding_value=reader.tokenizer.pad_token_id or 0)
        attention_RT = pad_sequence([torch.ones_like(ids) for ids in pieces], batch_first=True)
        logits_RL = model(
            input_ids=ids_RT.to(model.device), attention_mask=attention_RT.to(model.device)
        ).logits.float()
        # Windows of one text are pooled into one prediction, as fine-tuning does.
        logits_NL = torch.stack([part.mean(0) for part in logits_RL.split([len(text) for text in windows])])
        targets_NL = torch.tensor([[float(name in rows[i][1]) for name in labels.names] for i in chosen])
        targets_NL = targets_NL.to(logits_NL.device)
        if labels.is_multi_label:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_NL, targets_NL, reduction="none").sum(1)
        else:
            loss = -(logits_NL.log_softmax(1) * targets_NL).sum(1)
        losses[chosen] = loss.double().cpu().numpy()
    return losses


def _sample(rows: list[Labeled], count: int, rng: np.random.Generator) -> list[Labeled]:
    return [rows[i] for i in rng.permutation(len(rows))[:count]]
