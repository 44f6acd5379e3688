"""Every recipe under configs/finetune runs, end to end, with a tiny encoder in place of its own."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from configs.errors import UserError
from configs.recipe import load_recipe
from finetune.benchmark_config import BenchmarkRecipe
from finetune.config import FinetuneRecipe
from finetune.search_config import SearchRecipe
from launch.cli import main as mindshift
from tests.finetune.conftest import CUES, FILLERS

MakeTask = Callable[..., Path]
RECIPES = Path(__file__).resolve().parents[2] / "configs" / "finetune"
SEVEN = ["Anxiety", "Depression", "Suicidal", "Normal", "Stress", "Bipolar", "Personality disorder"]


def run(name: str, output: Path, options: list[str]) -> dict:
    quick = ["--epochs", "2", "--mixed_precision", "no", "--max_seq_length", "48", "--output_dir", str(output)]
    assert mindshift(["finetune", str(RECIPES / name), *quick, *options]) == 0
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    keys = yaml.safe_load(text)
    kind = BenchmarkRecipe if "tasks" in keys else SearchRecipe if "trials" in keys else FinetuneRecipe
    asked = [] if "task" in keys or "tasks" in keys else ["--task", "a folder of yours"]
    assert load_recipe(kind, [str(path), *asked], "mindshift").output_dir
    if asked:  # no placeholder that would be looked for on the Hub
        with pytest.raises(UserError, match="task is not given"):
            load_recipe(kind, [str(path)], "mindshift")
    assert all(f"# {word}:" in text for word in ("What", "Why", "Hardware", "Command"))


def test_anxiety_depression(tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = random.Random(0)
    with (tmp_path / "posts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(120):
            label, cue = ("anxiety", "sleep") if number % 4 else ("depression", "work")
            words = [*generator.choices(FILLERS, k=9), *generator.choices(CUES[cue], k=2)]
            writer.writerow([" ".join(words), label])
    options = ["--model", str(tiny_encoder), "--task", str(tmp_path / "posts.csv")]
    metrics = run("anxiety_depression.yaml", tmp_path / "run", options)
    assert metrics["task"]["type"] == "binary"
    rows = metrics["task"]["rows"]
    assert sum(rows.values()) == 120
    assert rows["test"] == 24
    assert "balance: " in capsys.readouterr().err


def test_mentalbert_multi_label(make_task: MakeTask, tiny_encoder: Path, tmp_path: Path) -> None:
    options = ["--model", str(tiny_encoder), "--task", str(make_task())]
    metrics = run("mentalbert_multi_label.yaml", tmp_path / "run", options)
    assert metrics["task"]["type"] == "multi_label"
    assert len(set(json.loads((tmp_path / "run" / "decision.json").read_text())["thresholds"].values())) > 1


def test_qlora_seven_class_on_the_kaggle_layout(tiny_encoder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("peft")
    path = tmp_path / "Combined Data.csv"
    generator = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["", "statement", "status"])
        for number in range(140):
            statement = " ".join(generator.choices(FILLERS, k=12)) + ("\n“quoted”, and more" if number % 9 == 0 else "")
            writer.writerow([number, "" if number % 20 == 3 else statement, SEVEN[number % 7]])
    metrics = run("qlora_seven_class.yaml", tmp_path / "run", ["--model", str(tiny_encoder), "--task", str(path)])
    assert metrics["task"]["labels"] == sorted(SEVEN)
    assert metrics["task"]["type"] == "multi_class"
    assert metrics["task"]["empty_texts_train"] > 0
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()


def test_back_off_masking(make_task: MakeTask, tiny_encoder: Path, tmp_path: Path) -> None:
    task = make_task("multi_class", rows=90)
    rows = [json.loads(line) for line in (task / "train.jsonl").read_text().splitlines()]
    rare = [row for row in rows if row["labels"] == ["family"]][:6]
    kept = [row for row in rows if row["labels"] != ["family"]] + rare
    (task / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    options = ["--model", str(tiny_encoder), "--task", str(task)]
    metrics = run("back_off_masking.yaml", tmp_path / "run", options)
    assert metrics["augmentation"]["asked"] > 0
    for system in ("classifier", "majority", "tfidf_logistic_regression"):
        assert 0 < metrics["test"][system]["macro"]["roc_auc"] <= 1
