"""Several tasks on one encoder: auxiliary tasks train it together with the one that counts (arXiv:1901.11504).

While training, the last layer has the labels of all tasks side by side; every batch is of one task, and its loss sees
that task's columns only. Afterwards the auxiliary columns are cut off, so the saved folder is a classifier like any
other. Texts of an auxiliary task that stand in validation or test of the main one are left out: sets of one family
annotate the same posts.

N = training texts of all tasks, B = texts in a batch, L = labels of all tasks, M = labels of the main one.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from configs.errors import UserError
from finetune.heads import last_linear
from finetune.leakage import TextIndex
from finetune.losses import Loss, LossName, build_loss
from finetune.task_checks import check_labels, clean_task
from finetune.task_files import Columns, read_task
from finetune.tasks import Example, FloatArray, LabelSet, Task

log = logging.getLogger("finetune")


class AuxiliaryTask(NamedTuple):
    """A further task: its name, its label set, and its training examples."""

    name: str
    label_set: LabelSet
    examples: list[Example]


class Combined(NamedTuple):
    """The training parts of all tasks as one: examples, targets (N, L; NaN in other tasks' columns), tasks (N,)."""

    label_set: LabelSet
    examples: list[Example]
    targets_NL: FloatArray
    task_N: npt.NDArray[np.int64]


def read_auxiliary_tasks(folders: Sequence[str], main: Task, *, seed: int) -> list[AuxiliaryTask]:
    """Read auxiliary tasks, without what stands in validation or test of the main task.

    Raises:
        UserError: an unreadable task, one that stands twice, or nothing of it left.
    """
    held_out = [example for split in ("validation", "test") for example in main.splits[split]]
    tasks: list[AuxiliaryTask] = []
    for folder in folders:
        task = read_task(folder, Columns(), validation_fraction=0.1, test_fraction=0.1, seed=seed)
        task = clean_task(task, conflicts="majority", drop_leaked=False)
        check_labels(task)
        # All its splits train: nothing is decided on them.
        examples = [example for examples in task.splits.values() for example in examples]
        kept = leave_out([AuxiliaryTask(task.name, task.label_set, examples)], held_out)
        if not kept:
            raise UserError("every text stands in validation or test of the main task", where=folder)
        log.info("auxiliary task %s: %d texts of %d", task.name, len(kept[0].examples), len(examples))
        if task.name in [main.name, *(other.name for other in tasks)]:
            raise UserError("this task is there already", where=folder)
        tasks += kept
    return tasks


def leave_out(tasks: Sequence[AuxiliaryTask], held_out: Sequence[Example]) -> list[AuxiliaryTask]:
    """Return the tasks without the texts of `held_out`; one that has no others is left out whole."""
    index = TextIndex((example.id, example.text) for example in held_out)
    clean = [task._replace(examples=[e for e in task.examples if not index.matches(e.text)]) for task in tasks]
    return [task for task in clean if task.examples]


def combine(label_set: LabelSet, train: list[Example], auxiliary: Sequence[AuxiliaryTask]) -> Combined:
    """Put the training parts of all tasks side by side, the main one first."""
    names = [*label_set.names, *(f"{task.name}/{name}" for task in auxiliary for name in task.label_set.names)]
    parts = [(label_set, train), *((task.label_set, task.examples) for task in auxiliary)]
    targets_NL = np.full((sum(len(examples) for _, examples in parts), len(names)), np.nan)
    row = column = 0
    for part, examples in parts:
        width = len(part.names)
        block = part.multi_hot([example.labels for example in examples])
        targets_NL[row : row + len(examples), column : column + width] = block
        row, column = row + len(examples), column + width
    return Combined(
        dataclasses.replace(label_set, names=tuple(names)),
        [example for _, examples in parts for example in examples],
        targets_NL,
        np.repeat(np.arange(len(parts)), [len(examples) for _, examples in parts]),
    )


def build_multi_task_loss(
    name: LossName, combined: Combined, label_set: LabelSet, auxiliary: Sequence[AuxiliaryTask]
) -> Loss:
    """Return a loss over batches of one task each: the recipe's for the main task, the usual one for the others."""
    columns, losses, start = [], [], 0
    for number, part in enumerate([label_set, *(task.label_set for task in auxiliary)]):
        columns.append(slice(start, start + len(part.names)))
        start = columns[-1].stop
        targets_NL = combined.targets_NL[combined.task_N == number][:, columns[-1]]
        losses.append(build_loss(name if number == 0 else "auto", targets_NL, part))

    if not auxiliary:
        return losses[0]

    def loss(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
        first_label = int((~torch.isnan(targets_BL[0])).nonzero()[0])
        number = next(n for n, part in enumerate(columns) if part.start == first_label)
        return losses[number](logits_BL[:, columns[number]], targets_BL[:, columns[number]])

    return loss


def keep_main_labels(model: Any, label_set: LabelSet) -> None:
    """Cut the auxiliary labels off a trained classifier."""
    count = len(label_set.names)
    if model.config.num_labels == count:
        return  # trained alone
    layers = [last_linear(model)]
    if hasattr(model, "label_queries"):
        layers.append(model.label_queries)
    for layer in layers:
        layer.weight = torch.nn.Parameter(layer.weight[:count].detach().clone())
        if layer.bias is not None:
            layer.bias = torch.nn.Parameter(layer.bias[:count].detach().clone())
        layer.out_features = count
    model.config.id2label = dict(enumerate(label_set.names))  # num_labels follows
    model.config.label2id = {name: number for number, name in enumerate(label_set.names)}
    model.num_labels = count
