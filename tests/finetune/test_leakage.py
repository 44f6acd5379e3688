"""The gate finds planted leaks, names their ids, never a text, and lets clean tasks through."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import zstandard

from configs.errors import UserError
from configs.manifest import write_manifest
from configs.recipe import StageRecipe
from finetune import leakage
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


def test_test_texts_of_one_id_are_all_searched() -> None:
    segments = [Example("post", text, ("no",)) for text in ("fine words", LONG, "other words")]
    target = Task("b", LABELS, {"train": [], "validation": [], "test": segments})
    found = leaks_between([task("a", ["fine words", LONG, "other words"], []), target])
    assert [leak.source_id for leak in found["a", "b"]] == ["a-train-0", "a-train-1", "a-train-2"]


@dataclasses.dataclass(kw_only=True)
class PretrainKeys(StageRecipe):
    """Keys of a pretraining run that decide what it trains on."""

    replay_share: float = 0.0


@dataclasses.dataclass(kw_only=True)
class SoupKeys(StageRecipe):
    """A key that only a soup has."""

    shares: list[float] = dataclasses.field(default_factory=lambda: [0.5, 0.5])


def write_run(folder: Path, stage: str, recipe: StageRecipe | None = None, **inputs: Path) -> Path:
    folder.mkdir(exist_ok=True)
    recipe = recipe or PretrainKeys(output_dir=folder)
    write_manifest(folder, stage=stage, recipe=recipe, inputs=inputs, counts={}, started_at="")
    return folder


def write_corpus(folder: Path, *texts: str) -> Path:
    documents = folder / "documents" / "train"
    documents.mkdir(parents=True)
    lines = [{"id": f"d{i}", "title": "t" if i == 0 else "", "text": text} for i, text in enumerate(texts)]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (documents / "00000.jsonl.zst").write_bytes(zstandard.compress(data))
    return write_run(folder, "corpus")


def leaks_of(model: Path) -> list[Leak]:
    return leaks_from_pretraining({"m": model}, [task("b", [], ["other", LONG])])["m"]


def test_pretraining_corpus_is_searched(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", "clean", f"so {LONG}")
    model = write_run(tmp_path / "model", "pretrain", corpus=corpus)
    assert leaks_of(model) == [Leak("corpus", "d1", "b/test", "b-test-1")]
    (corpus / "documents" / "train" / "00000.jsonl.zst").unlink()
    with pytest.raises(UserError, match="cannot be checked"):
        leaks_of(model)


def test_a_corpus_of_several_models_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaky, clean = write_corpus(tmp_path / "leaky", f"so {LONG}"), write_corpus(tmp_path / "clean", "clean")
    models = {
        name: write_run(tmp_path / name, "pretrain", corpus=corpus)
        for name, corpus in (("a", leaky), ("b", clean), ("c", leaky))
    }
    opened: list[Path] = []
    read = leakage._documents
    monkeypatch.setattr(leakage, "_documents", lambda path: opened.append(path) or read(path))
    tasks = [task("b", [], ["other", LONG]), task("e", [], [LONG])]
    leaks = [Leak("leaky", "d0", "b/test", "b-test-1"), Leak("leaky", "d0", "e/test", "e-test-0")]
    assert leaks_from_pretraining(models, tasks) == {"a": leaks, "b": [], "c": leaks}
    assert [path.parents[2].name for path in opened] == ["leaky", "clean"]


def test_corpora_of_all_generations_are_searched(tmp_path: Path) -> None:
    leaky, clean = write_corpus(tmp_path / "leaky", f"so {LONG}"), write_corpus(tmp_path / "clean", "clean")
    leak = [Leak("leaky", "d0", "b/test", "b-test-1")]
    first = write_run(tmp_path / "first", "pretrain", corpus=leaky)
    second = write_run(tmp_path / "second", "pretrain", corpus=clean, model=first)
    assert leaks_of(second) == leak
    other = write_run(tmp_path / "other", "pretrain", corpus=clean)
    soup = write_run(
        tmp_path / "soup", "pretrain", SoupKeys(output_dir=tmp_path), corpus=clean, model_0=other, model_1=second
    )
    assert leaks_of(soup) == leak
    scored = write_run(tmp_path / "scored", "pretrain", SoupKeys(output_dir=tmp_path), corpus=leaky, model_0=other)
    assert leaks_of(scored) == []  # it was only evaluated on the leaky one
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    classifier = write_run(tmp_path / "classifier", "finetune", task=labelled, model=first)
    assert leaks_of(classifier) == leak


def test_replayed_general_text_is_searched(tmp_path: Path) -> None:
    leaky, clean = write_corpus(tmp_path / "leaky", f"so {LONG}"), write_corpus(tmp_path / "clean", "clean")
    scored = write_run(tmp_path / "scored", "pretrain", corpus=clean, general_corpus=leaky)
    assert leaks_of(scored) == []
    replay = PretrainKeys(output_dir=tmp_path, replay_share=0.1)
    replayed = write_run(tmp_path / "replayed", "pretrain", replay, corpus=clean, general_corpus=leaky)
    assert leaks_of(replayed) == [Leak("leaky", "d0", "b/test", "b-test-1")]


def test_a_model_whose_past_is_not_there_as_it_was_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", "clean")
    first = write_run(tmp_path / "first", "pretrain", corpus=corpus)
    second = write_run(tmp_path / "second", "pretrain", corpus=write_corpus(tmp_path / "later", "clean"), model=first)
    assert leaks_of(second) == []
    shutil.rmtree(corpus)
    write_corpus(corpus, "a corpus made anew in the same folder")
    with pytest.raises(UserError, match="corpus: a corpus this model was pretrained on is gone or has changed"):
        leaks_of(second)
    shutil.rmtree(first)
    with pytest.raises(UserError, match="first, which the model came from, is gone"):
        leaks_of(second)


def test_model_without_manifest_has_no_corpus_to_search(tmp_path: Path) -> None:
    assert leaks_of(tmp_path) == []
