"""Where a classifier is better and worse: by length, by columns such as subreddit or year, by identity terms.

A text "names" a group if it holds one of a few plain words for it. That says nothing about its author; it shows
whether the words themselves move the classifier. Slices with few texts are left out: their figures are noise.

N = texts, L = labels.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune.metrics import BoolArray
from finetune.tasks import Example, FloatArray

SMALLEST_SLICE = 30
LENGTH_BOUNDS = (25, 75, 150, 300)  # words
IDENTITY_TERMS = {
    "women": ("woman", "women", "girl", "girls", "female", "mother", "wife", "girlfriend"),
    "men": ("man", "men", "boy", "boys", "male", "father", "husband", "boyfriend"),
    "sexual or gender minority": ("gay", "lesbian", "bisexual", "queer", "trans", "transgender", "nonbinary", "lgbt"),
    "religion": ("christian", "muslim", "jewish", "hindu", "buddhist", "catholic", "atheist", "church", "mosque"),
    "race or origin": ("black", "white", "asian", "hispanic", "latino", "latina", "indian", "immigrant", "african"),
    "disability": ("disabled", "disability", "autistic", "autism", "deaf", "blind", "wheelchair"),
    "age": ("teenager", "teen", "elderly", "old", "young", "retired"),
}
IDENTITY_PATTERNS = {
    group: re.compile(rf"\b(?:{'|'.join(terms)})\b", re.IGNORECASE) for group, terms in IDENTITY_TERMS.items()
}


def slices_of(example: Example) -> list[tuple[str, str]]:
    """Return the (kind, slice) pairs an example belongs to."""
    words = len(example.text.split())
    lower = max((bound for bound in (0, *LENGTH_BOUNDS) if words >= bound), default=0)
    upper = next((bound for bound in LENGTH_BOUNDS if words < bound), None)
    found = [("length in words", f"{lower} to {upper - 1}" if upper else f"{lower} and more")]
    found += [("names", group) for group, pattern in IDENTITY_PATTERNS.items() if pattern.search(example.text)]
    return found + list(example.slices)


def score_slices(examples: Sequence[Example], targets_NL: FloatArray, decisions_NL: BoolArray) -> list[dict[str, Any]]:
    """Return size, micro-F1 and exact-match accuracy of every slice that is large enough."""
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        for key in slices_of(example):
            members[key].append(number)
    rows = []
    for (kind, name), numbers in sorted(members.items()):
        if len(numbers) < SMALLEST_SLICE:
            continue
        truth, given = targets_NL[numbers] > 0.5, decisions_NL[numbers]
        wrong = int((truth != given).sum())
        right = int((truth & given).sum())
        rows.append(
            {
                "kind": kind,
                "slice": name,
                "rows": len(numbers),
                "micro_f1": 2 * right / max(2 * right + wrong, 1),
                "accuracy": float(np.mean((truth == given).all(axis=1))),
            }
        )
    return rows
