"""A user's mistake ends with exit code 2, one or two lines that name the place, and no traceback."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from launch.cli import main as mindshift

MakeTask = Callable[..., Path]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert mindshift(arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert len([line for line in message.splitlines() if line and not line[0].isdigit()]) <= 3
    return message


def damaged_parquet() -> bytes:
    """A Parquet file whose footer is whole and whose texts are not."""
    file = io.BytesIO()
    pd.DataFrame({"text": [f"words {number}" for number in range(1000)]}).to_parquet(file)
    content = bytearray(file.getvalue())
    content[40:200] = bytes(160)
    return bytes(content)


def replace_line(path: Path, number: int, line: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_unknown_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = run(["finetune", "--task", "x", "--output_dir", str(tmp_path), "--learning_rat", "1"], capsys)
    assert "learning_rate" in message


def test_wrong_type(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = run(["finetune", "--task", "x", "--output_dir", str(tmp_path), "--batch_size", "many"], capsys)
    assert "batch_size" in message


def test_impossible_value(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = run(["finetune", "--task", "x", "--output_dir", str(tmp_path), "--batch_size", "0"], capsys)
    assert "batch_size is 0; allowed: 1 or more" in message


def test_missing_task(capsys: pytest.CaptureFixture[str], small_run: list[str], tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such" / "task"
    message = run(["finetune", "--task", str(missing), "--output_dir", str(tmp_path / "run"), *small_run], capsys)
    assert f"{missing}: no such task folder or file" in message


def test_label_outside_the_set(
    capsys: pytest.CaptureFixture[str], make_task: MakeTask, small_run: list[str], tmp_path: Path
) -> None:
    task = make_task()
    replace_line(task / "test.jsonl", 3, json.dumps({"id": "a", "text": "tired", "labels": ["sleeep"]}))
    message = run(["finetune", "--task", str(task), "--output_dir", str(tmp_path / "run"), *small_run], capsys)
    assert "test.jsonl:3" in message
    assert "did you mean 'sleep'" in message


def test_label_file_that_does_not_match(
    capsys: pytest.CaptureFixture[str], make_task: MakeTask, small_run: list[str], tmp_path: Path
) -> None:
    task = make_task("multi_class")
    (task / "labels.json").write_text(json.dumps({"type": "binary", "labels": ["sleep", "work"]}))
    message = run(["finetune", "--task", str(task), "--output_dir", str(tmp_path / "run"), *small_run], capsys)
    assert "'family' is not in the label set" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not a readable JSON file"),
        ('{"type": "many", "labels": ["a", "b"]}', "task type 'many' is unknown"),
        ('{"type": "binary", "labels": ["a", "b", "c"]}', "3 labels do not make a binary task"),
        ('{"type": "multi_class", "labels": ["a", "a"]}', "stands twice"),
        ('{"type": "binary", "labels": ["a", "b"], "positive": "c"}', "positive class 'c'"),
    ],
)
def test_broken_label_file(
    content: str, expected: str, capsys: pytest.CaptureFixture[str], make_task: MakeTask, small_run: list[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    task = make_task()
    (task / "labels.json").write_text(content)
    message = run(["finetune", "--task", str(task), "--output_dir", str(tmp_path / "run"), *small_run], capsys)
    assert "labels.json" in message
    assert expected in message


def test_model_folder_without_tokenizer(
    capsys: pytest.CaptureFixture[str], make_task: MakeTask, tiny_encoder: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((tiny_encoder / name).read_bytes())
    arguments = ["--task", str(make_task()), "--output_dir", str(tmp_path / "run"), "--model", str(bare)]
    assert "has no tokenizer" in run(["finetune", *arguments], capsys)


def test_corrupt_weights(
    capsys: pytest.CaptureFixture[str], make_task: MakeTask, tiny_encoder: Path, small_run: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_encoder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    arguments = ["--task", str(make_task()), "--output_dir", str(tmp_path / "run"), *small_run, "--model", str(broken)]
    assert "does not load" in run(["finetune", *arguments], capsys)


def test_malformed_lines_are_quarantined(make_task: MakeTask, small_run: list[str], tmp_path: Path) -> None:
    task = make_task()
    replace_line(task / "train.jsonl", 2, "{not json")
    replace_line(task / "train.jsonl", 5, json.dumps({"id": "x", "labels": []}))
    output = tmp_path / "run"
    assert mindshift(["finetune", "--task", str(task), "--output_dir", str(output), *small_run]) == 0
    quarantined = [json.loads(line) for line in (output / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["line"], row["reason"]) for row in quarantined] == [(2, "not JSON"), (5, "no text in column 'text'")]
    assert json.loads((output / "manifest.json").read_text())["counts"]["quarantined"] == 2


def test_a_table_with_an_open_quote_is_refused(
    capsys: pytest.CaptureFixture[str], small_run: list[str], tmp_path: Path
) -> None:
    rows = [f"words {number},{('sad', 'glad')[number % 2]}" for number in range(60)]
    rows[40] = '"words 40,sad'
    (tmp_path / "posts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    arguments = ["--task", str(tmp_path / "posts.csv"), "--output_dir", str(tmp_path / "run"), *small_run]
    message = run(["finetune", *arguments], capsys)
    assert "posts.csv:42: a quote opens in the row that begins here, and closes nowhere up to line 61" in message
    assert "words" not in message


def test_a_task_in_another_encoding_is_refused(
    capsys: pytest.CaptureFixture[str], make_task: MakeTask, small_run: list[str], tmp_path: Path
) -> None:
    task = make_task()
    line = json.dumps({"id": "a", "text": "caf\u00e9", "labels": []}, ensure_ascii=False)
    with (task / "train.jsonl").open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    message = run(["finetune", "--task", str(task), "--output_dir", str(tmp_path / "run"), *small_run], capsys)
    assert "train.jsonl:97: not UTF-8" in message


def test_mostly_malformed_is_refused(
    capsys: pytest.CaptureFixture[str], make_task: MakeTask, small_run: list[str], tmp_path: Path
) -> None:
    task = make_task()
    lines = (task / "validation.jsonl").read_text().splitlines()
    (task / "validation.jsonl").write_text("\n".join(lines[:3] + ["{"] * 40))
    message = run(["finetune", "--task", str(task), "--output_dir", str(tmp_path / "run"), *small_run], capsys)
    assert "40 of 43 rows are unusable" in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("texts.jsonl", b"", "no readable text"),
        ("texts.jsonl", b'{"id": 1}\n', "which column is the text"),
        ("texts.jsonl", b'{"id": 1, "text": "\xff"}\n', "not UTF-8"),
        ("texts.docx", b"", "not read"),
        ("texts.csv", b"id,words\n1,tired\n", "which column is the text"),
        ("texts.csv", b"id,te\xffxt\n1,tired\n", "the header is unreadable: not UTF-8"),
        ("texts.tsv", b'id\ttext\n1\t"tired\n2\tboss\n', "texts.tsv:2: a quote opens"),
        ("texts.parquet", b"PAR1", "broken or truncated"),
        ("texts.parquet", damaged_parquet(), "broken or truncated"),
        ("texts.jsonl.gz", gzip.compress(b'{"text": "tired"}\n' * 1000)[:-20], "broken or truncated"),
    ],
    ids=[
        "empty",
        "no_text_column",
        "not_utf8",
        "docx",
        "csv_without_text",
        "header_not_utf8",
        "open_quote",
        "broken_parquet",
        "damaged_parquet",
        "broken_gzip",
    ],
)
def test_predict_refuses(
    name: str, content: bytes, expected: str, capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    output = tmp_path / "out.jsonl"
    arguments = ["--model", str(trained), "--input", str(tmp_path / name), "--output", str(output)]
    assert expected in run(["predict", *arguments], capsys)
    assert not output.exists()


def test_predict_needs_a_classifier(capsys: pytest.CaptureFixture[str], tiny_encoder: Path) -> None:
    assert "decision.json is missing" in run(["predict", "--model", str(tiny_encoder), "--text", "tired"], capsys)


def test_thresholds_of_another_label_set(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in trained.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    values = json.loads((copy / "decision.json").read_text())
    values["thresholds"] = {"anger": 0.5}
    (copy / "decision.json").write_text(json.dumps(values))
    assert "thresholds are those of another label set" in run(["predict", "--model", str(copy), "--text", "a"], capsys)
