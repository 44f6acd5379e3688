"""Look a task over before anything is trained on it: empty and repeated texts, conflicting labels, leaks, balance.

What is taken out is counted and noted, and the test split is never changed: it is what others are compared on.
"""

import dataclasses
import logging
import re
from collections import Counter, defaultdict
from typing import Any, Literal

from configs.errors import UserError, listed
from finetune.leakage import TextIndex, normalized
from finetune.tasks import Example, Task

log = logging.getLogger("task")
ConflictPolicy = Literal["keep", "drop", "majority"]
LETTER_OR_DIGIT = re.compile(r"\w")
FEW_POSITIVES = 50
STRONG_IMBALANCE = 20.0


def clean_task(task: Task, *, conflicts: ConflictPolicy, drop_leaked: bool) -> Task:
    """Return the task without what must not be trained on, its findings in `notes`.

    Args:
        task: as it was read.
        conflicts: what to do with training texts that stand there with different labels.
        drop_leaked: take training texts out that match one of validation or test, and validation texts one of test
            (see `finetune.leakage`).

    Raises:
        UserError: nothing is left to train or validate on.
    """
    splits, notes = dict(task.splits), dict(task.notes)
    for split in ("train", "validation"):
        kept = [example for example in splits[split] if LETTER_OR_DIGIT.search(example.text)]
        notes[f"empty_texts_{split}"] = len(splits[split]) - len(kept)
        splits[split] = kept
    notes["empty_texts_test"] = sum(not LETTER_OR_DIGIT.search(example.text) for example in splits["test"])
    for split, others in (("validation", ("test",)), ("train", ("validation", "test"))):
        elsewhere = TextIndex((example.id, example.text) for other in others for example in splits[other])
        clean = [example for example in splits[split] if not elsewhere.matches(example.text)]
        notes[f"{split}_texts_also_in_{'_or_'.join(others)}"] = len(splits[split]) - len(clean)
        splits[split] = clean if drop_leaked else splits[split]
    splits["train"], notes["repeated_texts"], notes["conflicting_texts"] = _resolve(splits["train"], conflicts)
    task = dataclasses.replace(task, splits=splits, notes=notes)
    for split in ("train", "validation"):
        if not splits[split]:
            raise UserError(f"no rows of the {split} split are left after cleaning", where=task.name)
    _log_findings(notes)
    return task


def _resolve(examples: list[Example], policy: ConflictPolicy) -> tuple[list[Example], int, int]:
    """Return the examples under the policy, how many repeat an earlier text, and how many texts have a conflict."""
    by_text: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_text[normalized(example.text)].append(example)
    conflicting = {
        text: Counter(frozenset(example.labels) for example in same)
        for text, same in by_text.items()
        if len({frozenset(example.labels) for example in same}) > 1
    }
    repeated = len(examples) - len(by_text)
    if policy == "keep" or not conflicting:
        return examples, repeated, len(conflicting)
    kept = []
    for example in examples:
        counts = conflicting.get(normalized(example.text))
        if counts is not None:
            (winner, votes), *others = counts.most_common()
            tied = others[0][1] == votes
            if policy == "drop" or tied or frozenset(example.labels) != winner:
                continue
        kept.append(example)
    return kept, repeated, len(conflicting)


def _log_findings(notes: dict[str, Any]) -> None:
    found = {key: count for key, count in notes.items() if isinstance(count, int) and count}
    if found:
        log.info("found: %s", ", ".join(f"{key.replace('_', ' ')} {count:,}" for key, count in found.items()))


def check_labels(task: Task) -> None:
    """Name the labels without examples.

    Raises:
        UserError: the training rows leave nothing to learn.
    """
    positives_L = task.targets("train").sum(axis=0)
    present = [name for name, count in zip(task.label_set.names, positives_L, strict=True) if count]
    if len(present) < (1 if task.label_set.is_multi_label else 2):
        raise UserError(
            f"the training rows hold {len(present)} of {len(task.label_set.names)} labels",
            where=task.name,
            fix="Label more rows; if train_rows is set, draw more of them.",
        )
    for split in ("train", "validation", "test"):
        counts_L = task.targets(split).sum(axis=0)
        missing = [name for name, count in zip(task.label_set.names, counts_L, strict=True) if not count]
        if missing:
            log.warning("%s has no positive example of: %s", split, listed(missing))


def balance_advice(task: Task) -> list[str]:
    """Return what the label counts of train suggest, one sentence each."""
    targets_NL = task.targets("train")
    counts = dict(zip(task.label_set.names, targets_NL.sum(axis=0).astype(int).tolist(), strict=True))
    rows = len(targets_NL)
    advice = []
    few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < FEW_POSITIVES]
    if few:
        advice.append(
            f"Fewer than {FEW_POSITIVES} examples of {listed(few)}: their figures will be noisy; "
            "more annotation helps more than any loss."
        )
    present = [count for count in counts.values() if count]
    if task.label_set.is_multi_label:
        uneven = max((rows - count) / count for count in present) >= STRONG_IMBALANCE
        remedies = "loss: distribution_balanced or asymmetric, or sampling: class_aware"
    else:
        uneven = max(present) / min(present) >= STRONG_IMBALANCE / 4
        remedies = "loss: weighted_cross_entropy, or sampling: class_aware"
    if uneven:
        advice.append(
            f"The labels are uneven (rarest {min(present)}, most frequent {max(present)} of {rows} rows): tuned "
            f"thresholds are on by default; compare {remedies}."
        )
    return advice or [f"The labels are balanced enough (rarest {min(present)} of {rows} rows)."]
