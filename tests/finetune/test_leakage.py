"""The gate finds planted leaks, names their ids, never a text, and lets clean tasks through."""

import json
from pathlib import Path

import pytest
import zstandard

from configs.errors import UserError
from finetune.leakage import Leak, TextIndex, leaks_between, leaks_from_pretraining, refuse_leaks
from finetune.tasks import Example, LabelSet, Task, TaskType

LABELS = LabelSet(TaskType.BINARY, ("no", "yes"))
LONG = " ".join(f"word{i}" for i in range(30))


def task(name: str, train: list[str], test: list[str]) -> Task:
    def rows(split: str, texts: list[str]) -> list[Example]:
        return [Example(f"{name}-{split}-{i}", text, ("no",)) for i, text in enumerate(texts)]

    return Task(name, LABELS, {"train": rows("train", train), "validation": [], "test": rows("test", test)})


def test_whole_texts_and_runs_of_13_words_match() -> None:
    index = TextIndex([("short", "Feeling fine!"), ("long", LONG)])
    assert index.matches("feeling   FINE") == {"short"}
    assert index.matches("feeling fine today") == set()
    run = LONG.split()[5:18]
    assert index.matches("before " + " ".join(run) + " after") == {"long"}
    assert index.matches("before " + " ".join(run[:12]) + " after") == set()
    assert index.matches("") == set()


def test_leaks_across_tasks_are_refused_by_id() -> None:
    found = leaks_between([task("a", [f"x {LONG}", "fine"], []), task("b", [], ["other", LONG])])
    assert list(found) == [("a", "b")]
    leaks = found["a", "b"]
    assert leaks == [Leak("a/train", "a-train-0", "b/test", "b-test-1")]
    with pytest.raises(UserError, match="a/train:a-train-0 in b/test:b-test-1") as error:
        refuse_leaks(leaks, fix="Take them out.")
    assert "word5" not in str(error.value)
    refuse_leaks([], fix="")


def write_model(folder: Path, corpus: Path) -> None:
    folder.mkdir()
    manifest = {
        "stage": "pretrain", "recipe": {}, "recipe_sha256": "", "seed": 1, "outputs": {}, "counts": {},
        "inputs": {"corpus": {"path": str(corpus), "sha256": "", "has_manifest": True}}, "accepted": [], "versions": {},
        "code_revision": "", "code_sha256": "", "started_at": "", "finished_at": "",
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_pretraining_corpus_is_searched(tmp_path: Path) -> None:
    documents = tmp_path / "corpus" / "documents" / "train"
    documents.mkdir(parents=True)
    lines = [{"id": "d0", "title": "t", "text": "clean"}, {"id": "d1", "title": "", "text": f"so {LONG}"}]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (documents / "00000.jsonl.zst").write_bytes(zstandard.compress(data))
    write_model(tmp_path / "model", tmp_path / "corpus")
    leaks = leaks_from_pretraining(tmp_path / "model", [task("b", [], ["other", LONG])])
    assert leaks == [Leak("corpus", "d1", "b/test", "b-test-1")]
    (documents / "00000.jsonl.zst").unlink()
    with pytest.raises(UserError, match="cannot be checked"):
        leaks_from_pretraining(tmp_path / "model", [])


def test_model_without_manifest_has_no_corpus_to_search(tmp_path: Path) -> None:
    assert leaks_from_pretraining(tmp_path, []) == []
