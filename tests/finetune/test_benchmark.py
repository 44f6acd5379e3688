"""The benchmark: gate first, resumable in pieces, every cell counted, losses to the baseline said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from configs.errors import UserError
from configs.recipe import load_recipe
from finetune import benchmark_tables
from finetune.benchmark_config import BenchmarkRecipe
from finetune.benchmark_gate import close_gate_once, keep_gate
from finetune.benchmark_report import loss_sentence, pooled_sentence, text_report
from finetune.benchmark_runs import all_cells
from finetune.significance import RESAMPLES
from finetune.tasks import FloatArray
from launch.cli import main as mindshift

MakeTask = Callable[..., Path]


def write_recipe(folder: Path, tasks: list[Path], models: dict[str, Path], /, **keys: object) -> Path:
    quick = {"task": "x", "output_dir": "x", "epochs": 1, "mixed_precision": "no", "learning_rate": 2e-3}
    (folder / "quick.yaml").write_text(yaml.safe_dump(quick))
    values = {
        "tasks": [str(task) for task in tasks],
        "models": [f"{name}={path}" for name, path in models.items()],
        "seeds": [1, 2],
        "finetune_recipe": str(folder / "quick.yaml"),
        "output_dir": str(folder / "benchmark"),
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(values | keys))
    return path


def test_gate_refuses_a_leak_by_id(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = make_task("binary")
    leaked = json.loads((task / "test.jsonl").read_text().splitlines()[4])
    with (task / "train.jsonl").open("a") as file:
        file.write(json.dumps({"id": "planted", "text": leaked["text"], "labels": leaked["labels"]}) + "\n")
    recipe = write_recipe(tmp_path, [task], {"tiny": tiny_encoder})
    assert mindshift(["benchmark", str(recipe)]) == 2
    message = capsys.readouterr().err
    assert f"task/train:planted in task/test:{leaked['id']}" in message
    assert leaked["text"] not in message
    assert not (tmp_path / "benchmark.partial").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"models": ["tiny"]}, "each is NAME=VALUE"),
        ({"references": ["other"]}, "references is 'other'"),
        ({"seeds": [1, 1]}, "each once"),
        ({"tasks": []}, "one or more task folders"),
    ],
)
def test_bad_recipe(
    keys: dict[str, object], message: str, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, [tmp_path], {"tiny": tiny_encoder}, **keys)
    assert mindshift(["benchmark", str(recipe)]) == 2
    assert message in capsys.readouterr().err


def test_cells_fill_up_seed_by_seed(tmp_path: Path) -> None:
    recipe = BenchmarkRecipe(
        tasks=["a", "b"], models=["x=1", "y=2"], seeds=[1, 2], train_sizes=[50], output_dir=tmp_path
    )
    cells = all_cells(recipe)
    assert len(cells) == len(set(cells)) == 16
    assert [cell.seed for cell in cells] == [1] * 8 + [2] * 8


def test_every_pair_is_compared_once(tmp_path: Path) -> None:
    def pairs(*references: str) -> list[tuple[str, str]]:
        models = ["a=1", "b=2", "c=3"]
        return BenchmarkRecipe(tasks=["t"], models=models, references=list(references), output_dir=tmp_path).pairs

    assert pairs() == [("b", "a"), ("c", "a")]
    assert pairs("b") == [("a", "b"), ("c", "b")]
    assert pairs("b", "a") == [("a", "b"), ("c", "b"), ("c", "a")]


def test_frozen_only_trains_nothing(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, [make_task("binary")], {"base": tiny_encoder}, frozen_only=True, leakage="drop")
    assert mindshift(["benchmark", str(recipe)]) == 0
    summary = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    assert summary["scores"] == {"task": {}}
    assert 0 < summary["baselines"]["task"]["frozen base"] <= 1
    assert not list((tmp_path / "benchmark" / "cells").iterdir())
    assert "frozen base" in capsys.readouterr().out


def test_seeds_of_a_task_are_no_more_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [f"task{number}" for number in range(4)]
    recipe = load_recipe(
        BenchmarkRecipe,
        ["--tasks", json.dumps(tasks), "--models", '["a=a", "b=b"]', "--seeds", "[1, 2, 3]", "--output_dir", "x"],
        "test",
    )

    def resampled(*_: object) -> dict[str, FloatArray]:
        return {"a": np.full((3, 1 + RESAMPLES), 0.5), "b": np.full((3, 1 + RESAMPLES), 0.6)}

    monkeypatch.setattr(benchmark_tables, "_resampled", resampled)
    (comparison,) = benchmark_tables._comparisons(recipe, tmp_path, tasks, None)
    assert comparison["pooled_mean"] == pytest.approx(0.1)
    assert comparison["across_tasks_p_value"] == 2 / 2**4  # the least that four tasks can give
    assert comparison["pooled_p_value"] == 2 / 2**12
    assert "with tasks as units p = 0.1250" in pooled_sentence(comparison)


def test_gate_is_not_closed_twice_on_the_same_files(make_task: MakeTask, tiny_encoder: Path, tmp_path: Path) -> None:
    task = make_task("binary")
    recipe = load_recipe(BenchmarkRecipe, [str(write_recipe(tmp_path, [task], {"tiny": tiny_encoder}))], "benchmark")
    _, record = close_gate_once(recipe)
    working = tmp_path / "benchmark.partial"
    working.mkdir()
    keep_gate(working, record)
    leaked = json.loads((task / "test.jsonl").read_text().splitlines()[4])
    stamped = json.loads(record) | {"leaks": {"from": 1}}
    (working / "gate.json").write_text(json.dumps(stamped))
    assert close_gate_once(recipe)[0] == {"from": 1}  # believed: the files are the same
    with (task / "train.jsonl").open("a") as file:
        file.write(json.dumps(leaked | {"id": "planted"}) + "\n")
    with pytest.raises(UserError, match="planted"):
        close_gate_once(recipe)


@pytest.mark.slow
def test_benchmark_in_pieces(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [make_task("binary", name="first"), make_task("multi_label", name="second")]
    models = {"base": tiny_encoder, "same": tiny_encoder}
    recipe = write_recipe(tmp_path, tasks, models, most_new_runs=5, leakage="drop", references=["base"])
    assert mindshift(["benchmark", str(recipe)]) == 0
    cells = tmp_path / "benchmark.partial" / "cells"
    first = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    assert len(first) == 5
    assert mindshift(["benchmark", str(recipe)]) == 0
    cells = tmp_path / "benchmark" / "cells"
    assert len(list(cells.iterdir())) == 8
    assert all((cells / name).stat().st_mtime_ns == moment for name, moment in first.items())
    summary = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    assert set(summary["baselines"]["first"]) == {"majority", "tfidf_logistic_regression", "frozen base", "frozen same"}
    comparison = summary["comparisons"][0]
    assert comparison["model"] == "same"  # the same weights under another name: no difference at all
    assert comparison["pooled_mean"] == comparison["pooled_low"] == comparison["pooled_high"] == 0
    assert comparison["pooled_holm_p_value"] == comparison["across_tasks_p_value"] == 1
    printed = capsys.readouterr().out
    assert "TF-IDF + logistic regression" in printed
    assert loss_sentence(summary) in printed
    assert printed.startswith(text_report(summary))
    assert "<svg" in (tmp_path / "benchmark" / "report.html").read_text()


@pytest.mark.slow
def test_a_model_more_costs_only_its_own_runs(make_task: MakeTask, tiny_encoder: Path, tmp_path: Path) -> None:
    task, other = make_task("binary"), tmp_path / "other"
    shutil.copytree(tiny_encoder, other)
    (other / "note.txt").write_text("so that its hash differs")
    quick = {"seeds": [1], "train_sizes": [30]}
    first = write_recipe(tmp_path, [task], {"base": tiny_encoder}, leakage="drop", frozen_encoder=False, **quick)
    assert mindshift(["benchmark", str(first)]) == 0
    base = (tmp_path / "benchmark" / "cells" / "task--base--seed-1.json").read_bytes()
    few = json.loads((tmp_path / "benchmark" / "cells" / "task--base--seed-1-rows-30.json").read_text())
    assert few["metrics"]["task"]["rows"]["validation"] == pytest.approx(30, abs=2)
    keys = {"earlier": [str(tmp_path / "benchmark")], "output_dir": str(tmp_path / "second"), "seeds": [1, 2]}
    models = {"same": tiny_encoder, "other": other}
    second = write_recipe(tmp_path, [task], models, most_new_runs=3, leakage="drop", frozen_encoder=False, **keys)
    assert mindshift(["benchmark", str(second)]) == 0  # finished: of its four runs one was there
    cells = tmp_path / "second" / "cells"
    assert (cells / "task--same--seed-1.json").read_bytes() == base
    assert len(list(cells.iterdir())) == 4
    assert (cells / "task--other--seed-1.json").read_bytes() != base
