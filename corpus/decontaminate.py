"""Keep the texts of labelled tasks out of the corpus, so that a test score is no memory.

Long n-grams (13 words in GPT-3, 12 in datatrove) say nothing about a text of six words. Four rules:

- the rule of the benchmark's gate (`configs.word_runs`): the same words, or 13 words in a row, so that no corpus that
  passed here is refused there;
- the same words: the whole text, or the text without its first line (its title), equals a post's title, body, or
  title and body, from 3 words on, or a line of it from 5, or sentences of it that follow each other from 7 to 12;
- one word changed, added or missing in the whole text, from 5 to 12 words;
- from 13 words on, half of the word 3-grams of the text within a window of the post not much longer than the text
  (edited copies, segments of posts), or half of a post's 3-grams in the text (a post that is part of it).

A 3-gram that stands in many task texts ("i want to") says nothing and is left out of the index. But for the gate's
rule, "don't", "dont" and "do n't" are one word, an HTML entity is its character, and all placeholders are one word:
`finish` compares a post a second time when it has masked it, since many tasks publish masked texts.
"""

import dataclasses
import functools
import gzip
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from configs.errors import UserError
from configs.word_runs import Hashes, hash_runs, match_keys
from corpus.deduplicate import WORD, hash_words
from corpus.document import decode_entities

MIN_WORDS, MIN_LINE_WORDS, MIN_SENTENCE_WORDS = 3, 5, 7
"""Of a whole post, a line, sentences within one: the smaller the part, the more often its words are said anyway."""
ONE_EDIT_WORDS = range(5, 13)  # of the task's text; one edit makes that 4 to 13 words of a post
LONG_WORDS, GRAM_WORDS = 13, 3
MIN_SHARE = 0.5
WINDOW_FACTOR, WINDOW_SLACK = 1.5, 5
COMMON_GRAM_TEXTS = 60
MIN_RARE_GRAMS, NOT_COPIED_BY_GRAMS = 6, 2**30
SPLITS = ("train", "validation", "test")
READ_TYPES, OTHER_TABLES = (".jsonl", ".ndjson"), (".csv", ".tsv", ".parquet")
SPLIT_TYPES = (*READ_TYPES, *OTHER_TABLES, ".json", ".txt")
"""What fine-tuning reads a split from: a task in a type that is not read here is refused, never passed over."""
PLACEHOLDERS = re.compile(r"(?:\[[A-Za-z]{2,20}\d{0,5}\][ \t]*)+")
CONTRACTION = re.compile(
    r"(?<=[^\W\d_])[ '’ʼ‘`\u0301]{1,2}(?=(?:n[ '’ʼ‘`\u0301]?t|t|s|m|d|re|ve|ll)\b)"  # \u0301: NFKC of an acute accent
)
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")
Words = list[str]


@dataclasses.dataclass(frozen=True)
class TaskIndex:
    """What is looked up: sorted hashes, and which task or text each belongs to.

    G = (3-gram, text) entries, T = long texts.
    """

    tasks: list[str]
    runs: Hashes
    runs_task: npt.NDArray[np.uint16]
    exact: Hashes
    exact_task: npt.NDArray[np.uint16]
    near: Hashes
    near_task: npt.NDArray[np.uint16]
    grams: Hashes
    """(G,) sorted."""
    gram_text: npt.NDArray[np.int32]
    """(G,) the text of each entry."""
    text_grams: npt.NDArray[np.int32]
    """(T,) how many indexed 3-grams a text has."""
    text_task: npt.NDArray[np.uint16]

    def save(self, path: Path) -> None:
        """Write the index; all or nothing."""
        temporary = path.with_suffix(".tmp.npz")
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "tasks"}
        np.savez(temporary, tasks=np.array(self.tasks), **arrays)
        temporary.replace(path)

    def find(self, title: str, body: str) -> int:
        """Return the number of the task that a post is contaminated by, -1 if by none."""
        sentences = [
            [compared_words(part) for part in SENTENCE_END.split(line)] for line in (title, *body.splitlines())
        ]
        title_words, *lines = [[word for words in line for word in words] for line in sentences]
        body_words = [word for line in lines for word in line]
        parts = [title_words, body_words, title_words + body_words if title_words else []]
        parts += [line for line in lines if len(line) >= MIN_LINE_WORDS]
        exact = [hash_words(words) for words in parts if len(words) >= MIN_WORDS]
        exact += [hash_words(words) for line in sentences for words in _short_passages(line)]
        near = [key for words in parts for key in one_edit_keys(words)]
        for keys, tasks, found in (
            (self.runs, self.runs_task, match_keys(f"{title}\n{body}")),
            (self.exact, self.exact_task, np.array(exact, dtype=np.uint64)),
            (self.near, self.near_task, np.array(near, dtype=np.uint64)),
        ):
            if (task := _lookup(keys, tasks, found)) is not None:
                return task
        task = self._find_overlap(title_words + body_words)
        return -1 if task is None else task

    def _find_overlap(self, words: Words) -> int | None:
        if len(words) < GRAM_WORDS or not len(self.grams):
            return None
        hashes = hash_runs(words, GRAM_WORDS)
        low = np.searchsorted(self.grams, hashes, side="left")
        high = np.searchsorted(self.grams, hashes, side="right")
        hit = np.flatnonzero(high > low)
        if len(hit) < MIN_SHARE * min(LONG_WORDS - GRAM_WORDS, len(hashes)):
            return None
        positions = np.repeat(hit, (high - low)[hit])
        entries = np.concatenate([self.gram_text[low[place] : high[place]] for place in hit])
        texts, counts = np.unique(entries, return_counts=True)
        distinct = len(np.unique(hashes))
        for text in texts[counts >= MIN_SHARE * np.minimum(self.text_grams[texts], distinct)]:
            places = positions[entries == text]
            text_grams = int(self.text_grams[text])
            window = int(WINDOW_FACTOR * (text_grams + GRAM_WORDS)) + WINDOW_SLACK
            copied = _most_in_window(places, hashes[places], window) >= MIN_SHARE * text_grams
            part = len(words) >= LONG_WORDS and len(np.unique(hashes[places])) >= MIN_SHARE * distinct
            if copied or part:
                return int(self.text_task[text])
        return None


def build_index(tasks: dict[str, Iterable[str]]) -> TaskIndex:
    """Index the texts of every task."""
    runs: dict[int, int] = {}
    exact: dict[int, int] = {}
    near: dict[int, int] = {}
    gram_texts: dict[int, list[int]] = defaultdict(list)
    text_task: list[int] = []
    for number, texts in enumerate(tasks.values()):
        for text in texts:
            runs |= dict.fromkeys(match_keys(text).tolist(), number)
            whole = compared_words(text)
            rest = text.strip().partition("\n")[2]
            for words in (whole, compared_words(rest)):
                if len(words) >= MIN_WORDS:
                    exact.setdefault(hash_words(words), number)
                    for key in one_edit_keys(words) if len(words) in ONE_EDIT_WORDS else ():
                        near.setdefault(key, number)
            if len(whole) >= LONG_WORDS:
                for gram in set(hash_runs(whole, GRAM_WORDS).tolist()):
                    gram_texts[gram].append(len(text_task))
                text_task.append(number)
    rare = {gram: texts for gram, texts in gram_texts.items() if len(texts) <= COMMON_GRAM_TEXTS}
    grams = np.repeat(np.array(list(rare), dtype=np.uint64), [len(texts) for texts in rare.values()])
    gram_text = np.fromiter((text for texts in rare.values() for text in texts), dtype=np.int32, count=len(grams))
    order = np.lexsort((gram_text, grams))
    text_grams = np.bincount(gram_text, minlength=len(text_task)).astype(np.int32)
    text_grams[text_grams < MIN_RARE_GRAMS] = NOT_COPIED_BY_GRAMS
    return TaskIndex(
        list(tasks),
        *_sorted_table(runs),
        *_sorted_table(exact),
        *_sorted_table(near),
        grams[order],
        gram_text[order],
        text_grams,
        np.array(text_task, dtype=np.uint16),
    )


@functools.cache
def load_index(path: Path) -> TaskIndex:
    """Return this process's copy of a saved index."""
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return TaskIndex(**(values | {"tasks": values["tasks"].tolist()}))


def compared_words(text: str) -> Words:
    """Return the words of a text as it is compared with task texts, however entities and apostrophes are written."""
    text = PLACEHOLDERS.sub(" placeholder ", decode_entities(text)) if "[" in text or "&" in text else text
    return WORD.findall(CONTRACTION.sub("", unicodedata.normalize("NFKC", text).casefold()))


def one_edit_keys(words: Words) -> list[int]:
    """Return keys of which two texts share one if they differ in one word at most: each leaves one word out.

    A substitution leaves the same rest on both sides; a missing word makes the shorter text the longer one's rest,
    so the text itself is a key too.
    """
    if not ONE_EDIT_WORDS.start - 1 <= len(words) <= ONE_EDIT_WORDS.stop:
        return []
    return [hash_words(words)] + [hash_words(words[:place] + words[place + 1 :]) for place in range(len(words))]


def read_tasks(patterns: list[str]) -> dict[str, Path]:
    """Find task folders or single .jsonl files by path or glob, each once; name → path.

    Raises:
        UserError: nothing there, a folder that is no task, or a task in another type of file.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        base = Path(path.anchor) if path.is_absolute() else Path()
        matches = [path] if path.exists() else sorted(base.glob(str(path.relative_to(base) if path.anchor else path)))
        tasks = [match for match in matches if task_files(match)]
        if not tasks:
            raise UserError(
                "no task folder or .jsonl file here", where=pattern, fix="Check `decontaminate_against` in the recipe."
            )
        for task in tasks:
            found.setdefault(task.resolve(), task.absolute())
    return {_name_among(list(found.values()), task): task for task in found.values()}


def task_files(path: Path) -> list[Path]:
    """Return the files of a task folder's splits, or the one .jsonl file; none if it is no task.

    Raises:
        UserError: a task in a type of file that is not read here.
    """
    if path.is_dir():
        found = [file for split in SPLITS for file in sorted(path.glob(f"{split}.*")) if _type(file) in SPLIT_TYPES]
    else:
        found = [path] if _type(path) in (*READ_TYPES, *OTHER_TABLES) else []
    for file in found:
        if _type(file) not in READ_TYPES:
            raise UserError(
                f"texts are compared with {' and '.join(READ_TYPES)} files only",
                where=file,
                fix='Write it as .jsonl with a "text", or keep it out of `decontaminate_against`.',
            )
    return found


def _type(file: Path) -> str:
    """Return the type of a file by its name, `.gz` behind it left out."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def task_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a task folder's splits, or of one .jsonl file.

    Raises:
        UserError: a line without a text, or not in UTF-8.
    """
    for file in task_files(path):
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    text = json.loads(line)["text"]
                except (ValueError, KeyError, TypeError):
                    raise UserError('not a JSON object with a "text", in UTF-8', where=f"{file}:{number}") from None
                yield str(text)


def _name_among(tasks: list[Path], task: Path) -> str:
    """Return the name of a task, with as many of its parent folders as tell it from the others."""
    least = 1 if task.is_dir() else 2  # a file's own name is that of its split
    ends = (task.parts[-count:] for count in range(least, len(task.parts) + 1))
    return "/".join(next(end for end in ends if sum(other.parts[-len(end) :] == end for other in tasks) == 1))


def _sorted_table(entries: dict[int, int]) -> tuple[Hashes, npt.NDArray[np.uint16]]:
    keys = np.array(list(entries), dtype=np.uint64)
    order = np.argsort(keys)
    return keys[order], np.array(list(entries.values()), dtype=np.uint16)[order]


def _short_passages(sentences: list[Words]) -> Iterator[Words]:
    """Yield the sentences, and the runs of sentences, of a line that are as long as a short task text may be."""
    for first in range(len(sentences)):
        words: Words = []
        for sentence in sentences[first:]:
            words = words + sentence
            if len(words) > ONE_EDIT_WORDS[-1]:
                break
            if len(words) >= MIN_SENTENCE_WORDS:
                yield words


def _lookup(keys: Hashes, tasks: npt.NDArray[np.uint16], found: Hashes) -> int | None:
    """Return the task of the first key that is in a table."""
    if not len(keys) or not len(found):
        return None
    places = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
    hits = np.flatnonzero(keys[places] == found)
    return int(tasks[places[hits[0]]]) if len(hits) else None


def _most_in_window(places: npt.NDArray[np.int64], hashes: Hashes, window: int) -> int:
    """Return the most distinct 3-grams that stand within `window` words of each other."""
    best, first = 0, 0
    inside: dict[int, int] = {}
    for place, gram in zip(places.tolist(), hashes.tolist(), strict=True):
        inside[gram] = inside.get(gram, 0) + 1
        while place - int(places[first]) >= window:
            gone = int(hashes[first])
            inside[gone] -= 1
            if not inside[gone]:
                del inside[gone]
            first += 1
        best = max(best, len(inside))
    return best
