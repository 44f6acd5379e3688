"""The way of docs/own-task.md: a CSV of labelled notes, masked, grouped by patient, fine-tuned, used."""

import csv
import json
import random
from pathlib import Path

import pytest

from launch.cli import main as mindshift
from tests.finetune.conftest import CUES, FILLERS


def test_a_csv_of_notes_becomes_a_classifier(
    tiny_encoder: Path, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(0)
    with (tmp_path / "notes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "text", "label"])
        for number in range(160):
            label, cue = ("case", "sleep") if number // 2 % 2 else ("control", "work")
            words = [*generator.choices(FILLERS, k=9), *generator.choices(CUES[cue], k=2), "u/some_one"]
            writer.writerow([f"p{number // 2}", " ".join(words), label])
    masked, output = tmp_path / "notes.masked.jsonl", tmp_path / "run"
    mask = ["corpus", "deidentify", "--backend", "rules", "--workers", "1", "--output", str(masked)]
    assert mindshift([*mask, "--input", str(tmp_path / "notes.csv")]) == 0
    assert "some_one" not in masked.read_text(encoding="utf-8")
    keys = ["--group_column", "patient_id", "--positive_label", "case", "--output_dir", str(output)]
    assert mindshift(["finetune", "--task", str(masked), *keys, *small_run, "--epochs", "1"]) == 0
    assert "F1 of case" in capsys.readouterr().out
    assert json.loads((output / "metrics.json").read_text())["test"]["classifier"]["positive"]["label"] == "case"
    words = ["predict", "--model", str(output), "--input", str(masked), "--output", str(tmp_path / "predicted.jsonl")]
    assert mindshift(words) == 0
    assert len((tmp_path / "predicted.jsonl").read_text().splitlines()) == 160
