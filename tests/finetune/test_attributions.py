"""Attributions find the words that matter, beat a random order, and leave no text behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from launch.cli import main as mindshift
from tests.finetune.conftest import CUES, make_rows, write_jsonl

pytest.importorskip("captum")


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A classifier that has learned its cue words, and its explanation."""
    folder = tmp_path_factory.mktemp("explained")
    for seed, split in enumerate(("train", "validation", "test")):
        write_jsonl(folder / f"{split}.jsonl", make_rows("multi_class", 160 if split == "train" else 48, seed))
    options = ["--model", str(tiny_encoder), "--epochs", "8", "--learning_rate", "2e-3", "--mixed_precision", "no"]
    run = ["finetune", "--task", str(folder), "--output_dir", str(folder / "run"), "--baselines", "false"]
    assert mindshift([*run, *options]) == 0
    arguments = ["--model", str(folder / "run"), "--task", str(folder), "--texts", "40", "--steps", "12"]
    assert mindshift(["explain", *arguments, "--output_dir", str(folder / "explanation")]) == 0
    return folder


def test_cue_words_weigh_most(explained: Path) -> None:
    summary = json.loads((explained / "explanation" / "faithfulness.json").read_text())
    for label, cues in CUES.items():
        words = [row["word"] for row in summary["words"][label][:3]]
        assert set(words) & set(cues), f"{label}: {words}"


def test_faithful_beyond_chance(explained: Path) -> None:
    figures = json.loads((explained / "explanation" / "faithfulness.json").read_text())["faithfulness"]
    assert figures["attributions"]["comprehensiveness"] > figures["random_order"]["comprehensiveness"] + 0.05
    assert figures["attributions"]["sufficiency"] < figures["random_order"]["sufficiency"] - 0.05


def test_offsets_not_texts(explained: Path) -> None:
    texts = {row["id"]: row["text"] for row in map(json.loads, (explained / "test.jsonl").read_text().splitlines())}
    lines = (explained / "explanation" / "attributions.jsonl").read_text().splitlines()
    assert len(lines) == 40
    right = 0
    for record in map(json.loads, lines):
        assert set(record) == {"id", "label", "given", "tokens"}
        assert record["given"]
        start, end, _ = max(record["tokens"], key=lambda token: token[2])
        right += texts[record["id"]][start:end] in CUES[record["label"]]
    assert right > 30  # the heaviest token is nearly always a cue word of the label given
    assert np.mean([len(record["tokens"]) for record in map(json.loads, lines)]) > 5


def test_explained_is_the_class_that_was_decided(explained: Path, tmp_path: Path) -> None:
    shutil.copytree(explained / "run", tmp_path / "run")
    path = tmp_path / "run" / "decision.json"
    values = json.loads(path.read_text())
    values["thresholds"] = {"sleep": 1e-9, "work": 1.0, "family": 1.0}  # sleep is given whatever is likeliest
    path.write_text(json.dumps(values))
    arguments = ["--model", str(tmp_path / "run"), "--task", str(explained), "--texts", "8", "--steps", "2"]
    output = tmp_path / "explanation"
    assert mindshift(["explain", *arguments, "--output_dir", str(output), "--accept_changed_inputs", "true"]) == 0
    records = [json.loads(line) for line in (output / "attributions.jsonl").read_text().splitlines()]
    assert [record["label"] for record in records] == ["sleep"] * 8


def test_the_task_is_read_as_the_run_read_it(tiny_encoder: Path, tmp_path: Path) -> None:
    """A table with columns of its own, cut by the run's fractions and seed: test holds no training text."""
    rows = [{"key": row["id"], "words": row["text"], "topic": row["labels"]} for row in make_rows("multi_label", 90, 3)]
    write_jsonl(tmp_path / "posts.jsonl", rows)
    task, run = ["--task", str(tmp_path / "posts.jsonl")], tmp_path / "run"
    columns = ["--text_column", "words", "--label_columns", "[topic]", "--id_column", "key"]
    cuts = ["--validation_fraction", "0.3", "--test_fraction", "0.3", "--seed", "5", "--test_rows", "20"]
    options = ["--model", str(tiny_encoder), "--epochs", "1", "--mixed_precision", "no", "--baselines", "false"]
    assert mindshift(["finetune", *task, *columns, *cuts, *options, "--output_dir", str(run)]) == 0
    arguments = [
        "--split",
        "validation",
        "--texts",
        "9999",
        "--steps",
        "2",
        "--output_dir",
        str(tmp_path / "explained"),
    ]
    assert mindshift(["explain", "--model", str(run), *task, *arguments]) == 0
    files = (tmp_path / "explained" / "attributions.jsonl", run / "predictions" / "validation.jsonl")
    explained, scored = ([json.loads(line)["id"] for line in path.read_text().splitlines()] for path in files)
    assert explained == scored
