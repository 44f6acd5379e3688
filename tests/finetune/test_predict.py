"""`mindshift predict`: every kind of input, one kind of answer."""

import csv
import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from finetune import prediction_files
from finetune.inference import Classifier
from launch.cli import main as mindshift

TEXTS = ["tired at night", "my boss and the deadline", "", "mother, brother " * 200, "naïve ☕ words\nand lines"]


def write_input(path: Path) -> None:
    rows = [{"id": f"é{number}", "text": text} for number, text in enumerate(TEXTS)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        pd.DataFrame(rows).to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_file_type_gives_the_same(suffix: str, trained: Path, tmp_path: Path) -> None:
    write_input(tmp_path / f"texts{suffix}")
    output = tmp_path / "out.jsonl"
    arguments = ["--input", str(tmp_path / f"texts{suffix}"), "--output", str(output)]
    assert mindshift(["predict", "--model", str(trained), *arguments]) == 0
    written = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in written] == [f"é{number}" for number in range(len(TEXTS))]
    expected = Classifier.load(trained).predict(TEXTS)
    for row, probabilities, labels in zip(written, expected.probabilities_NL, expected.decisions_NL, strict=True):
        assert list(row["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)
        assert len(row["labels"]) == labels.sum()


def test_csv_output(trained: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "texts.jsonl")
    for name in ("out.csv", "out.jsonl"):
        arguments = ["--input", str(tmp_path / "texts.jsonl"), "--output", str(tmp_path / name)]
        assert mindshift(["predict", "--model", str(trained), *arguments]) == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    for cells, row in zip(table, lines, strict=True):
        assert cells["id"] == row["id"]
        assert [name for name in cells["labels"].split(";") if name] == row["labels"]
        assert {name: float(cells[name]) for name in row["probabilities"]} == row["probabilities"]


def test_arguments_and_standard_input(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mindshift(["predict", "--model", str(trained), "--text", "tired", "--text", "- boss: [1]"]) == 0
    by_arguments = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in by_arguments] == [0, 1]
    lines = b'{"id": 0, "text": "tired"}\nnot json\n{"id": 1, "text": "- boss: [1]"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert mindshift(["predict", "--model", str(trained)]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == by_arguments
    assert '"line": 2, "reason": "not JSON"' in printed.err


def test_what_looks_like_yaml_is_a_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["[deleted]", "yes", "null", "'tired'", "{a: b}", "--model"]
    words = [word for text in texts for word in ("--text", text)] + ["--text=[boss]"]
    assert mindshift(["predict", "--model", str(trained), *words]) == 0
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Classifier.load(trained).predict([*texts, "[boss]"]).probabilities_NL
    assert [list(row["probabilities"].values()) for row in written] == [
        pytest.approx(row, abs=1e-5) for row in expected.tolist()
    ]


def test_bytes_that_are_no_utf8_cost_their_own_row(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b'{"id": 0, "text": "tired"}\n{"id": 1, "text": "caf\xe9"}\n{"id": 2, "text": "boss"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert mindshift(["predict", "--model", str(trained)]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["id"] for line in printed.out.splitlines()] == [0, 2]
    assert '"file": "standard input", "line": 2, "reason": "not UTF-8"' in printed.err
    table = b"id,text\n0,tired\n1,caf\xe9\n2,boss\n3,ma\xc3\xb1ana\n"
    for name, content in (("texts.jsonl", lines), ("texts.csv", table), ("texts.txt", b"tired\ncaf\xe9\nboss\n")):
        (tmp_path / name).write_bytes(content)
        arguments = ["--input", str(tmp_path / name), "--output", str(tmp_path / "out.jsonl")]
        assert mindshift(["predict", "--model", str(trained), *arguments]) == 0
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == (3 if name == "texts.csv" else 2)
        (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl.quarantine.jsonl").read_text().splitlines()]
        assert row == {"file": str(tmp_path / name), "line": 3 if name == "texts.csv" else 2, "reason": "not UTF-8"}


def test_the_texts_are_not_replaced(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, link = tmp_path / "out.jsonl.quarantine.jsonl", tmp_path / "link.jsonl"
    write_input(path)
    link.symlink_to(path)
    for output in (path, link, tmp_path / "out.jsonl"):
        before = path.read_bytes()
        assert mindshift(["predict", "--model", str(trained), "--input", str(path), "--output", str(output)]) == 2
        assert "would replace the texts" in capsys.readouterr().err
        assert path.read_bytes() == before


def test_a_quote_within_a_quoted_cell_costs_its_own_row(trained: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "texts.csv", tmp_path / "out.jsonl"
    path.write_text('id,text\n1,tired\n2,"my "boss" again"\n3,"my ""boss"" again"\n')
    assert mindshift(["predict", "--model", str(trained), "--input", str(path), "--output", str(output)]) == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["1", "3"]
    (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl.quarantine.jsonl").read_text().splitlines()]
    assert row["line"] == 3
    assert row["reason"].startswith("no row of a table from line 3 on")


def test_chunks_do_not_change_the_answer(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(tmp_path / "texts.jsonl")
    answers = []
    for size in (1, 2, 1000):
        monkeypatch.setattr(prediction_files, "CHUNK_TEXTS", size)
        arguments = ["--input", str(tmp_path / "texts.jsonl"), "--output", str(tmp_path / "out.jsonl")]
        assert mindshift(["predict", "--model", str(trained), *arguments, "--batch_tokens", str(8 * size)]) == 0
        answers.append([json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()])
    for rows in zip(*answers, strict=True):
        assert rows[0]["labels"] == rows[1]["labels"] == rows[2]["labels"]
        assert rows[0]["probabilities"] == pytest.approx(rows[1]["probabilities"], abs=1e-5)


def test_unreadable_rows_are_counted_and_named(trained: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "texts.csv", tmp_path / "out.jsonl"
    path.write_text("id,text\n1,tired\n2,boss,extra\n3,mother\n", encoding="utf-8")
    assert mindshift(["predict", "--model", str(trained), "--input", str(path), "--output", str(output)]) == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["1", "3"]
    quarantined = [json.loads(line) for line in (tmp_path / "out.jsonl.quarantine.jsonl").read_text().splitlines()]
    assert quarantined == [{"file": str(path), "line": 3, "reason": "3 cells where the header has 2"}]


def test_texts_that_have_no_utf8_are_quarantined(trained: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    texts = ["tired", "boss \ud83d", "mother \U0001f642"]  # json.dumps writes both as escapes
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    assert mindshift(["predict", "--model", str(trained), "--input", str(path), "--output", str(output)]) == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == [0, 2]
    (quarantined,) = [json.loads(line) for line in (tmp_path / "out.jsonl.quarantine.jsonl").read_text().splitlines()]
    reason = "lone surrogate, which UTF-8 cannot hold"
    assert quarantined == {"file": str(path), "line": 2, "reason": reason}


def test_failure_leaves_the_old_output(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(tmp_path / "texts.jsonl")
    output = tmp_path / "out.jsonl"
    output.write_text("old\n")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Classifier, "predict", fail)
    arguments = ["--input", str(tmp_path / "texts.jsonl"), "--output", str(output)]
    assert mindshift(["predict", "--model", str(trained), *arguments]) == 2
    assert output.read_text() == "old\n"
    assert not list(tmp_path.glob(".*.tmp"))
