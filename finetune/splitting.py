"""Cut a part off a set of examples: stratified by label, groups and repeated texts kept on one side.

Multi-label stratification follows Sechidis et al. 2011 (iterative stratification) over groups instead of rows:
the group holding the rarest label still wanted goes to the side that lacks that label most.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from configs.errors import UserError
from finetune.tasks import Example, LabelSet


def cut(
    examples: Sequence[Example], label_set: LabelSet, *, fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split `examples` into (rest, part) where `part` is about `fraction` of them.

    Raises:
        UserError: too few examples to cut.
    """
    parts = stratified_folds(examples, label_set, shares=[1.0 - fraction, fraction], seed=seed)
    rest, part = ([examples[index] for index in indices] for indices in parts)
    if not rest or not part:
        raise UserError(f"{len(examples)} examples are too few to cut a split from", where="task")
    return rest, part


def stratified_folds(
    examples: Sequence[Example], label_set: LabelSet, *, shares: Sequence[float], seed: int
) -> list[list[int]]:
    """Divide the examples' indices into folds of the given shares.

    Returns:
        one sorted list of indices a share; every index stands in exactly one of them.
    """
    groups = _groups(examples)
    random.Random(seed).shuffle(groups)
    labels_of = [Counter(label for index in group for label in examples[index].labels) for group in groups]
    total = sum(labels_of, Counter[str]())
    wanted_labels = [{name: share * count for name, count in total.items()} for share in shares]
    wanted_rows = [share * len(examples) for share in shares]
    folds: list[list[int]] = [[] for _ in shares]

    def place(group: int, fold: int) -> None:
        folds[fold].extend(groups[group])
        wanted_rows[fold] -= len(groups[group])
        for name, count in labels_of[group].items():
            wanted_labels[fold][name] -= count

    unplaced = set(range(len(groups)))
    for name in sorted(label_set.names, key=lambda name: (total[name], name)):  # the rarest label first
        for group in sorted(unplaced):
            if labels_of[group][name]:
                fold = max(range(len(shares)), key=lambda f: (wanted_labels[f][name], wanted_rows[f]))
                place(group, fold)
                unplaced.discard(group)
    for group in sorted(unplaced):  # rows without any label
        place(group, max(range(len(shares)), key=lambda f: wanted_rows[f]))
    return [sorted(fold) for fold in folds]


def _groups(examples: Sequence[Example]) -> list[list[int]]:
    """Return the indices of examples that must stay together: one group, or one text."""
    parent = list(range(len(examples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        keys = [("text", " ".join(example.text.lower().split()))]
        if example.group:
            keys.append(("group", example.group))
        for key in keys:
            parent[root(index)] = root(first.setdefault(key, index))
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(examples)):
        members[root(index)].append(index)
    return list(members.values())
