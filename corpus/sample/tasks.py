"""Labelled SYNTHETIC tasks: one multi-label, one binary, one multi-class, laid out as docs/contracts.md says.

Each label has dozens of hand-written ways to be expressed, with few words in common, and the ways used for test are
never used for training or validation: counting words does not carry far, knowing what sentences mean does. Fillers
and distractors (negated, past, somebody else's) stand between them. The labels are the grammar's, no diagnosis.
"""

import json
import random as random_module
from pathlib import Path
from typing import Any

import orjson

from configs.run_folder import write_atomically
from corpus.sample.composition import STYLES, Composer, restyle
from corpus.sample.grammar import LANGUAGE_DIR, Passage, Random, Sections, pick, read_sections

SPLITS = ("train", "validation", "test")
SPLIT_PATTERN = ("train",) * 7 + ("validation",) + ("test",) * 2
LABEL_SHARES = {
    "anxiety": 0.22,
    "low_mood": 0.20,
    "work_or_study_stress": 0.15,
    "sleep": 0.12,
    "loneliness": 0.10,
    "family_conflict": 0.08,
    "hopeful": 0.07,
    "anger": 0.06,
}
MULTI_LABEL_ROWS = {"train": 900, "validation": 200, "test": 300}
SMALL_ROWS = {"train": 160, "validation": 60, "test": 80}
NO_LABEL_SHARE, SECOND_LABEL_SHARE, THIRD_LABEL_SHARE = 0.06, 0.42, 0.09
DISTRACTOR_SHARE, TWICE_SHARE = 0.2, 0.35
MULTI_CLASS_LABELS = ("sleep", "loneliness", "work_or_study_stress", "family_conflict")
DISTRESS, NO_DISTRESS = "distress", "no_distress"
LINKS = (". ", ". ", ". ", ", ", "... ", " and ", "! ")


def write_tasks(folder: Path, composer: Composer, seed: int) -> None:
    """Write `task/`, `task_binary/` and `task_multi_class/` below `folder`."""
    sections = read_sections(LANGUAGE_DIR / "task.txt")
    emoji = composer.common["emoji"]
    labels = list(LABEL_SHARES)
    for name, rows in (("task", MULTI_LABEL_ROWS), ("task_binary", SMALL_ROWS), ("task_multi_class", SMALL_ROWS)):
        texts: set[str] = set()
        for split in SPLITS:
            random = random_module.Random(f"{seed}/{name}/{split}").random
            available = split_expressions(sections, split)
            lines: list[bytes] = []
            while len(lines) < rows[split]:
                drawn = _draw_labels(name, len(lines), random)
                text = _text(drawn, available, sections["fillers"], random, emoji)
                if text in texts:
                    continue
                texts.add(text)
                row = {"id": f"synthetic-{name}-{split}-{len(lines):04d}", "text": text, "labels": _named(name, drawn)}
                lines.append(orjson.dumps(row | {"synthetic": True}) + b"\n")
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name / f"{split}.jsonl", b"".join(lines))
    _write_labels(folder / "task", {"type": "multi_label", "labels": labels})
    binary = {"type": "binary", "labels": [NO_DISTRESS, DISTRESS], "positive": DISTRESS}
    _write_labels(folder / "task_binary", binary)
    _write_labels(folder / "task_multi_class", {"type": "multi_class", "labels": list(MULTI_CLASS_LABELS)})


def split_expressions(sections: Sections, split: str) -> Sections:
    """Return the expressions (and distractors) of one split; no two splits share one. Fillers are common to all."""
    return {
        name: [line for index, line in enumerate(lines) if SPLIT_PATTERN[index % len(SPLIT_PATTERN)] == split]
        for name, lines in sections.items()
        if name != "fillers"
    }


def _draw_labels(task: str, number: int, random: Random) -> list[str]:
    if task == "task_multi_class":
        return [MULTI_CLASS_LABELS[int(random() * len(MULTI_CLASS_LABELS))]]
    if task == "task_binary" and number % 2:
        return ["hopeful"] if random() < 0.5 else []
    point, count = random(), 1
    if task == "task" and point < NO_LABEL_SHARE:
        count = 0
    elif point > 1 - THIRD_LABEL_SHARE:
        count = 3
    elif point > 1 - SECOND_LABEL_SHARE:
        count = 2
    shares = {label: share for label, share in LABEL_SHARES.items() if task == "task" or label != "hopeful"}
    return [_draw_weighted(shares, random) for _ in range(count)]


def _draw_weighted(shares: dict[str, float], random: Random) -> str:
    """Draw one label and take it out of `shares`."""
    point, drawn = random() * sum(shares.values()), ""
    for drawn, share in shares.items():  # noqa: B007  # where the loop stops is the draw
        point -= share
        if point < 0:
            break
    del shares[drawn]
    return drawn


def _named(task: str, drawn: list[str]) -> list[str]:
    if task == "task_binary":
        return [NO_DISTRESS if not drawn or drawn == ["hopeful"] else DISTRESS]
    return [label for label in LABEL_SHARES if label in drawn]


def _text(drawn: list[str], available: Sections, fillers: list[str], random: Random, emoji: list[str]) -> str:
    sentences = [pick(available[label], random) for label in drawn for _ in range(1 + (random() < TWICE_SHARE))]
    sentences += [pick(fillers, random) for _ in range(int(random() * 3))]
    if random() < DISTRACTOR_SHARE or not drawn:
        sentences.append(pick(available["distractors"], random))
    sentences = list(dict.fromkeys(sentences))
    passage, starts = Passage(), True
    while sentences:
        sentence = sentences.pop(int(random() * len(sentences)))
        link = pick(LINKS, random) if sentences else pick((".", "", "..."), random)
        passage.pieces += [sentence[0].upper() + sentence[1:] if starts else sentence, link]
        starts = link not in (", ", " and ")
    restyle(passage, STYLES[int(random() * len(STYLES))], random, emoji)
    return passage.text()


def _write_labels(folder: Path, labels: dict[str, Any]) -> None:
    write_atomically(folder / "labels.json", json.dumps(labels, indent=2) + "\n")
