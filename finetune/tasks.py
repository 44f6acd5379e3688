"""A labelled task: its label set, its examples, its splits.

N = examples, L = labels. Every type of task has the same targets, `multi_hot_NL`: any number of ones a row for
multi-label tasks, exactly one for multi-class and binary ones.
"""

import dataclasses
import enum
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from configs.errors import LONGEST_NAME, UserError, listed, quoted
from configs.recipe import nearest

SPLITS = ("train", "validation", "test")
LABELS_NAME = "labels.json"
FloatArray = npt.NDArray[np.float64]


class TaskType(enum.StrEnum):
    """How many labels a text can have."""

    MULTI_LABEL = "multi_label"
    MULTI_CLASS = "multi_class"
    BINARY = "binary"


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """The labels of a task, in the order of the classifier's outputs."""

    type: TaskType
    names: tuple[str, ...]
    positive: str | None = None
    """The class that a binary task is about."""
    ordinal: bool = False
    """Whether the classes are grades, in rising order."""
    parents: tuple[tuple[str, str], ...] = ()
    """A hierarchy of a multi-label set: (label, the broader label it is a kind of). Whoever has the first has both."""

    @property
    def is_multi_label(self) -> bool:
        """Whether a text can have any number of labels."""
        return self.type is TaskType.MULTI_LABEL

    @property
    def positive_index(self) -> int:
        """The index of the positive class of a binary task (the last one if none was named)."""
        return self.names.index(self.positive) if self.positive is not None else len(self.names) - 1

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of `labels.json`."""
        values: dict[str, Any] = {"type": str(self.type), "labels": list(self.names)}
        if self.positive is not None:
            values["positive"] = self.positive
        if self.ordinal:
            values["ordinal"] = True
        if self.parents:
            values["parents"] = dict(self.parents)
        return values

    @classmethod
    def from_dict(cls, values: object, *, where: object) -> Self:
        """Read the contents of `labels.json`.

        Raises:
            UserError: an unknown type, fewer than two classes, names that repeat, a positive class that is none.
        """
        if not isinstance(values, dict) or not isinstance(values.get("labels"), list):
            raise UserError('holds no {"type": ..., "labels": [...]}', where=where)
        names = tuple(str(name) for name in values["labels"])
        known = [str(kind) for kind in TaskType]
        kind = values.get("type", TaskType.MULTI_LABEL)
        if kind not in known:
            raise UserError(f"task type {quoted(str(kind))} is unknown; known: {', '.join(known)}", where=where)
        if len(set(names)) != len(names) or not all(names):
            raise UserError("a label is empty or stands twice", where=where)
        needed = 1 if kind == TaskType.MULTI_LABEL else 2
        if len(names) < needed or (kind == TaskType.BINARY and len(names) != 2):
            raise UserError(f"{len(names)} labels do not make a {kind} task", where=where)
        positive = values.get("positive")
        if positive is not None and positive not in names:
            raise UserError(f"positive class {quoted(str(positive))} is not among the labels", where=where)
        label_set = cls(TaskType(kind), names, positive, bool(values.get("ordinal", False)))
        return dataclasses.replace(label_set, parents=_checked_parents(values.get("parents"), label_set, where))

    def ancestors(self) -> list[tuple[int, int]]:
        """Return (label, broader label) by number, the broadest pairs last, for one pass that carries upwards."""
        parent = {self.names.index(child): self.names.index(broader) for child, broader in self.parents}

        def depth(label: int) -> int:
            return 1 + depth(parent[label]) if label in parent else 0

        return [(label, parent[label]) for label in sorted(parent, key=lambda label: (-depth(label), label))]

    def close_upwards(self, values_NL: FloatArray) -> FloatArray:
        """Return values (N, L) where no label's exceeds its broader label's (max, as in arXiv:2010.10151 §3)."""
        closed_NL = values_NL
        for label, broader in self.ancestors():
            if closed_NL is values_NL:
                closed_NL = values_NL.copy()
            closed_NL[:, broader] = np.maximum(closed_NL[:, broader], closed_NL[:, label])
        return closed_NL

    def multi_hot(self, labels: Sequence[Sequence[str]]) -> FloatArray:
        """Return the targets (N, L) of N rows of label names; the broader labels of a label are set with it."""
        index = {name: number for number, name in enumerate(self.names)}
        targets_NL = np.zeros((len(labels), len(self.names)))
        for row, names in enumerate(labels):
            for name in names:
                targets_NL[row, index[name]] = 1.0
        return self.close_upwards(targets_NL)

    def check(self, labels: Sequence[str], *, where: object) -> None:
        """Refuse labels that a row of this task cannot have."""
        for name in labels:
            if name not in self.names:
                raise UserError(
                    f"label {quoted(name)} is not in the label set{_nearest_label(name, self.names)}",
                    where=where,
                    fix=f"The labels are: {listed(self.names)}.",
                )
        if not self.is_multi_label and len(set(labels)) != 1:
            raise UserError(f"a {self.type} row has exactly one label, not {len(set(labels))}", where=where)


def _nearest_label(name: str, names: Sequence[str]) -> str:
    return nearest(name, [known for known in names if len(known) <= LONGEST_NAME]) if len(name) <= LONGEST_NAME else ""


def _checked_parents(values: object, label_set: LabelSet, where: object) -> tuple[tuple[str, str], ...]:
    """Return the hierarchy of `labels.json`.

    Raises:
        UserError: it is no mapping between the labels, runs in a circle, or the task is not multi-label.
    """
    if not values:
        return ()
    if not isinstance(values, dict) or not {*values, *values.values()} <= set(label_set.names):
        raise UserError('parents is no {"label": "broader label"} mapping between the labels', where=where)
    if not label_set.is_multi_label:
        raise UserError(f"a {label_set.type} task has no hierarchy: a text would have several labels", where=where)
    for start in values:
        seen, label = {start}, start
        while label in values:
            label = values[label]
            if label in seen:
                raise UserError(f"parents of {quoted(start)} run in a circle", where=where)
            seen.add(label)
    return tuple(values.items())


def read_label_set(path: Path) -> LabelSet:
    """Read `labels.json`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"not a readable JSON file ({type(error).__name__})", where=path) from error
    return LabelSet.from_dict(values, where=path)


def infer_label_set(labels: Sequence[Sequence[str]], *, multi_label: bool, where: object) -> LabelSet:
    """Make a label set from the training labels, names in sorted order (numbers by value)."""
    names = sorted({name for row in labels for name in row}, key=_natural)
    if len(names) < 2:
        raise UserError(f"the training labels hold {len(names)} distinct label(s)", where=where)
    if multi_label or any(len(row) != 1 for row in labels):
        return LabelSet(TaskType.MULTI_LABEL, tuple(names))
    if len(names) == 2:
        return LabelSet(TaskType.BINARY, tuple(names), positive=names[1])
    return LabelSet(TaskType.MULTI_CLASS, tuple(names))


LONGEST_LABEL = 100
FEWEST_TEXTS = 10
MOST_RARE_LABELS = 30


def refuse_texts(labels: Sequence[Sequence[str]], known: Sequence[str], *, column: str, where: object) -> None:
    """Refuse a label column that holds what people wrote, or an id: labels are printed, and texts must not be.

    Args:
        labels: the label names of the training rows.
        known: the labels that `labels.json` lists; they are labels, however they look.
        column: the column they were read from.
        where: the file.

    Raises:
        UserError: a value is long, the values are more than half as many as the rows, or most of many stand once.
    """
    counts = Counter(name for row in labels for name in set(row) if name not in known)
    if not counts:
        return
    longest, once = max(map(len, counts)), sum(count == 1 for count in counts.values())
    is_own = len(counts) >= FEWEST_TEXTS and len(counts) > len(labels) / 2
    is_rare = len(counts) > MOST_RARE_LABELS and once > len(counts) / 2
    if longest > LONGEST_LABEL or is_own or is_rare:
        raise UserError(
            f"column {quoted(column)} holds free text or ids, not labels: {len(counts):,} different values in "
            f"{len(labels):,} rows, the longest of {longest:,} characters",
            where=where,
            fix=f"Name the column of the labels by --label_columns; if they are labels, list them in {LABELS_NAME}.",
        )


def _natural(name: str) -> tuple[bool, float, str]:
    try:
        return (False, float(name), name)
    except ValueError:
        return (True, 0.0, name)


@dataclasses.dataclass(frozen=True)
class Example:
    """One labelled text."""

    id: str
    text: str
    labels: tuple[str, ...]
    group: str = ""
    """Examples of one group (an author, a post) never stand on two sides of a split."""
    slices: tuple[tuple[str, str], ...] = ()
    """What the example is counted under in the evidence: (column, value) pairs such as (year, 2021)."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A label set and its examples by split."""

    name: str
    label_set: LabelSet
    splits: dict[str, list[Example]]
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What was counted while reading: quarantined, empty, repeated rows, where the validation split came from."""
    quarantine: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Unreadable rows: file, line, reason; never the text."""

    def texts(self, split: str) -> list[str]:
        """Return the N texts of a split."""
        return [example.text for example in self.splits[split]]

    def targets(self, split: str) -> FloatArray:
        """Return the targets (N, L) of a split."""
        return self.label_set.multi_hot([example.labels for example in self.splits[split]])
