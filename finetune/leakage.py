"""Find texts of one set in another: the gate that keeps a benchmark honest.

Two texts match if they are the same after normalisation, or share a run of 13 words: the rule of `configs.word_runs`,
by which a corpus was kept free of them. Ids are compared with nothing: one post has other ids elsewhere.
"""

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from configs.errors import UserError
from configs.lineage import trace_lineage
from configs.manifest import MANIFEST_NAME, read_manifest, record_input
from configs.word_runs import compared_words, match_keys
from finetune.tasks import Task

SHOWN_IDS = 10


class Leak(NamedTuple):
    """A text of `source` that stands in `target`."""

    source: str
    source_id: str
    target: str
    target_id: str


def normalized(text: str) -> str:
    """Return a text as it is compared: lower case, words only, single spaces."""
    return " ".join(compared_words(text))


class TextIndex:
    """Texts to look for in others, by whole text and by runs of words."""

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self._ids: dict[int, set[str]] = defaultdict(set)
        for identifier, text in texts:
            for key in match_keys(text).tolist():
                self._ids[key].add(identifier)

    def matches(self, text: str) -> set[str]:
        """Return the ids of the indexed texts that `text` matches."""
        found: set[str] = set()
        for key in match_keys(text).tolist():
            found |= self._ids.get(key, set())
        return found


def leaks_between(tasks: Sequence[Task]) -> dict[tuple[str, str], list[Leak]]:
    """Return the training and validation texts that stand in a test split, by source task and target task.

    One index over all test splits, and one pass over the others: pair by pair would read everything anew for each.
    """
    tests = [(task.name, example) for task in tasks for example in task.splits["test"]]
    keys = [(name, example.id) for name, example in tests]
    index = TextIndex((str(number), example.text) for number, (_, example) in enumerate(tests))
    leaks: dict[tuple[str, str], list[Leak]] = defaultdict(list)
    for source in tasks:
        for split in ("train", "validation"):
            for example in source.splits[split]:
                for target, target_id in sorted(keys[int(number)] for number in index.matches(example.text)):
                    leak = Leak(f"{source.name}/{split}", example.id, f"{target}/test", target_id)
                    leaks[source.name, target].append(leak)
    return leaks


def leaks_from_pretraining(model_folder: Path, tasks: list[Task]) -> list[Leak]:
    """Return the test texts that stand in a corpus that a model's weights have seen, in any generation.

    A model without a manifest cannot be checked, nor one whose past is no longer where and what its manifests say.

    Raises:
        UserError: a model that it came from, or a corpus, is gone or has changed.
    """
    if not (model_folder / MANIFEST_NAME).is_file():
        return []
    lineage = trace_lineage(read_manifest(model_folder))
    fix = "Put it back as it was, or leave this model out."
    if lineage.gaps:
        raise UserError(f"cannot be checked for test texts: {lineage.gaps[0]}", where=model_folder, fix=fix)
    files: list[Path] = []
    for record in lineage.corpora.values():
        found = sorted(Path(record.path, "documents", "train").glob("*.jsonl.zst"))
        if not found or record_input(Path(record.path)).sha256 != record.sha256:
            raise UserError(
                "a corpus this model was pretrained on is gone or has changed, so it cannot be checked for test texts",
                where=record.path,
                fix=fix,
            )
        files += found
    indices = {task.name: TextIndex((e.id, e.text) for e in task.splits["test"]) for task in tasks}
    return [
        Leak(path.parents[2].name, document_id, f"{name}/test", target_id)
        for path in files
        for document_id, text in _documents(path)
        for name, index in indices.items()
        for target_id in sorted(index.matches(text))
    ]


def refuse_leaks(leaks: list[Leak], *, fix: str) -> None:
    """Raise if there are leaks, naming the first ids.

    Raises:
        UserError: there are.
    """
    if not leaks:
        return
    shown = "; ".join(f"{leak.source}:{leak.source_id} in {leak.target}:{leak.target_id}" for leak in leaks[:SHOWN_IDS])
    more = f"; and {len(leaks) - SHOWN_IDS} more" if len(leaks) > SHOWN_IDS else ""
    raise UserError(f"{len(leaks)} texts leak into a test split: {shown}{more}", where="leakage gate", fix=fix)


def _documents(path: Path) -> Iterator[tuple[str, str]]:
    import zstandard

    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            record = json.loads(line)
            yield str(record["id"]), f"{record.get('title') or ''}\n{record.get('text') or ''}"
