"""Find texts of one set in another: the gate that keeps a benchmark honest.

Two texts match if they are the same after normalisation, or share a run of 13 words: the rule of `configs.word_runs`,
by which a corpus was kept free of them. Ids are compared with nothing: one post has other ids elsewhere.
"""

import io
import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from configs.console import Progress
from configs.errors import UserError
from configs.lineage import trace_lineage
from configs.manifest import MANIFEST_NAME, read_manifest, record_input
from configs.word_runs import compared_words, match_keys
from finetune.tasks import Task

SHOWN_IDS = 10
DOCUMENTS = "documents/train/*.jsonl.zst"
Key = TypeVar("Key", bound=Hashable)
Test = tuple[int, str, str]
"""A test text: its number, the name of its task, its id, which others of the task may have as well."""


class Leak(NamedTuple):
    """A text of `source` that stands in `target`."""

    source: str
    source_id: str
    target: str
    target_id: str


def normalized(text: str) -> str:
    """Return a text as it is compared: lower case, words only, single spaces."""
    return " ".join(compared_words(text))


class TextIndex(Generic[Key]):
    """Texts to look for in others, by whole text and by runs of words."""

    def __init__(self, texts: Iterable[tuple[Key, str]]) -> None:
        self._found: dict[int, set[Key]] = defaultdict(set)
        for identifier, text in texts:
            for key in match_keys(text).tolist():
                self._found[key].add(identifier)

    def matches(self, text: str) -> set[Key]:
        """Return the identifiers of the indexed texts that `text` matches."""
        hits = self._found.keys() & match_keys(text).tolist()
        return set().union(*(self._found[key] for key in hits))


def leaks_between(tasks: Sequence[Task]) -> dict[tuple[str, str], list[Leak]]:
    """Return the training and validation texts that stand in a test split, by source task and target task."""
    index = _index_tests(tasks)
    leaks: dict[tuple[str, str], list[Leak]] = defaultdict(list)
    for source in tasks:
        for split in ("train", "validation"):
            for example in source.splits[split]:
                for _, target, target_id in sorted(index.matches(example.text)):
                    leak = Leak(f"{source.name}/{split}", example.id, f"{target}/test", target_id)
                    leaks[source.name, target].append(leak)
    return leaks


def leaks_from_pretraining(models: Mapping[str, Path], tasks: Sequence[Task]) -> dict[str, list[Leak]]:
    """Return the test texts that stand in a corpus that a model's weights have seen, in any generation.

    A model without a manifest cannot be checked, nor one whose past is no longer where and what its manifests say.

    Args:
        models: folders by name.
        tasks: whose test texts are looked for.

    Returns:
        leaks by the model's name. What several models have read is searched once.

    Raises:
        UserError: a model that one came from, or a corpus, is gone or has changed.
    """
    read = {name: _corpora_of(folder) for name, folder in models.items()}
    corpora = {sha256: folder for folders in read.values() for sha256, folder in folders.items()}
    files = {sha256: sorted(folder.glob(DOCUMENTS)) for sha256, folder in corpora.items()}
    index = _index_tests(tasks) if corpora else TextIndex[Test](())
    leaks: dict[str, list[Leak]] = defaultdict(list)
    with Progress(description="leakage gate", unit="files", total=sum(map(len, files.values()))) as bar:
        for sha256, paths in files.items():
            for path in paths:
                for document_id, text in _documents(path):
                    for _, target, target_id in sorted(index.matches(text)):
                        leaks[sha256].append(Leak(corpora[sha256].name, document_id, f"{target}/test", target_id))
                bar.advance(1)
    return {name: [leak for sha256 in folders for leak in leaks[sha256]] for name, folders in read.items()}


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


def _index_tests(tasks: Sequence[Task]) -> TextIndex[Test]:
    """Index all test splits together: task by task would read everything else anew for each."""
    tests = [(task.name, example) for task in tasks for example in task.splits["test"]]
    return TextIndex(((number, name, example.id), example.text) for number, (name, example) in enumerate(tests))


def _corpora_of(model_folder: Path) -> dict[str, Path]:
    """Return the folders of what a model was pretrained on, by sha256, if they are all there as they were."""
    if not (model_folder / MANIFEST_NAME).is_file():
        return {}
    lineage = trace_lineage(read_manifest(model_folder))
    fix = "Put it back as it was, or leave this model out."
    if lineage.gaps:
        raise UserError(f"cannot be checked for test texts: {lineage.gaps[0]}", where=model_folder, fix=fix)
    for sha256, record in lineage.corpora.items():
        folder = Path(record.path)
        if not any(folder.glob(DOCUMENTS)) or record_input(folder).sha256 != sha256:
            raise UserError(
                "a corpus this model was pretrained on is gone or has changed, so it cannot be checked for test texts",
                where=folder,
                fix=fix,
            )
    return {sha256: Path(record.path) for sha256, record in lineage.corpora.items()}


def _documents(path: Path) -> Iterator[tuple[str, str]]:
    import zstandard

    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            record = json.loads(line)
            yield str(record["id"]), f"{record.get('title') or ''}\n{record.get('text') or ''}"
