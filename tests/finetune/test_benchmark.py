"""The benchmark: gate first, resumable in pieces, every cell counted, losses to the baseline said."""

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from configs.errors import UserError
from configs.manifest import CODE_ROOT, now, write_manifest
from configs.recipe import StageRecipe, identifying_values, load_recipe, recipe_sha256
from finetune import benchmark_baselines, benchmark_gate, benchmark_tables
from finetune.benchmark_baselines import score_baselines
from finetune.benchmark_config import BenchmarkRecipe
from finetune.benchmark_gate import close_gate, close_gate_once, keep_gate
from finetune.benchmark_report import loss_sentence, pooled_sentence, text_report
from finetune.benchmark_runs import all_cells, cell_origins, cell_recipe, gpus_of_jobs, reading_of, run_cells
from finetune.benchmark_tables import FEWEST_RESAMPLES
from finetune.fitting import load_task
from finetune.significance import holm
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
        return {"a": np.full((3, 1 + FEWEST_RESAMPLES), 0.5), "b": np.full((3, 1 + FEWEST_RESAMPLES), 0.6)}

    monkeypatch.setattr(benchmark_tables, "_resampled", resampled)
    (comparison,) = benchmark_tables._comparisons(recipe, tmp_path, tasks, None)
    assert comparison["pooled_mean"] == pytest.approx(0.1)
    assert comparison["across_tasks_p_value"] == 2 / 2**4  # the least that four tasks can give
    assert comparison["pooled_p_value"] == pytest.approx(
        2 / (1 + FEWEST_RESAMPLES)
    )  # the bootstrap's; random signs: 2 / 2**12
    benchmark_tables._correct([comparison])
    assert "with tasks as units p = 0.1250" in pooled_sentence(comparison, [1, 2, 3])
    assert "over all tasks, one seed" in pooled_sentence(comparison, [1])


@pytest.mark.parametrize(("models", "sizes"), [(2, []), (4, [100]), (30, [50, 100])])
def test_holm_s_correction_never_swallows_every_difference(models: int, sizes: list[int]) -> None:
    names = json.dumps([f"m{number}=x" for number in range(models)])
    words = ["--tasks", '["a"]', "--models", names, "--references", '["m0", "m1"]', "--output_dir", "x"]
    recipe = load_recipe(BenchmarkRecipe, [*words, "--train_sizes", json.dumps(sizes)], "test")
    comparisons = len(recipe.pairs) * (1 + len(sizes))
    least = 2 / (benchmark_tables.resamples_of(recipe) + 1)
    assert max(holm([least] * comparisons)) < 0.05
    assert benchmark_tables.resamples_of(recipe) == 1000 or comparisons > 10  # the figures of few comparisons stay


def test_a_difference_that_only_random_signs_find_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # All seeds of a task win, but on other test texts none would: the texts are what differs.
    tasks = [f"task{number}" for number in range(4)]
    words = ["--tasks", json.dumps(tasks), "--models", '["a=a", "b=b"]', "--seeds", "[1, 2, 3]", "--output_dir", "x"]
    recipe = load_recipe(BenchmarkRecipe, words, "test")
    texts = np.random.default_rng(0).normal(0.02, 0.06, size=1 + FEWEST_RESAMPLES)
    texts[0] = 0.02

    def resampled(*_: object) -> dict[str, FloatArray]:
        return {"a": np.zeros((3, 1 + FEWEST_RESAMPLES)), "b": np.tile(texts, (3, 1))}

    monkeypatch.setattr(benchmark_tables, "_resampled", resampled)
    (comparison,) = benchmark_tables._comparisons(recipe, tmp_path, tasks, None)
    benchmark_tables._correct([comparison])
    assert comparison["pooled_low"] < 0 < comparison["pooled_high"]
    assert comparison["pooled_holm_p_value"] > 0.05


def test_holm_counts_the_comparisons_of_few_labels_too() -> None:
    comparisons = [{"pooled_p_value": value} for value in (0.01, 0.02, 0.9)]
    benchmark_tables._correct(comparisons)
    assert [c["pooled_holm_p_value"] for c in comparisons] == pytest.approx([0.03, 0.04, 0.9])


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


def test_gate_is_closed_again_when_tasks_are_read_otherwise(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path, [make_task("binary")], {"tiny": tiny_encoder})
    recipe = load_recipe(BenchmarkRecipe, [str(path)], "benchmark")
    _, record = close_gate_once(recipe)
    working = tmp_path / "benchmark.partial"
    working.mkdir()
    keep_gate(working, record)
    monkeypatch.setattr(benchmark_gate, "close_gate", lambda _: {"closed again": 1})
    assert close_gate_once(recipe)[0] == {}
    edit_quick(tmp_path, epochs=2)
    assert close_gate_once(recipe)[0] == {}
    edit_quick(tmp_path, test_fraction=0.3)
    assert close_gate_once(recipe)[0] == {"closed again": 1}


def edit_quick(folder: Path, **keys: object) -> None:
    """Change the fine-tuning recipe of `write_recipe`."""
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


def test_gate_sees_the_splits_that_the_runs_use(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"text {i}", "label": ("a, b", "b, c")[i % 2], "post": f"p{i // 4}"} for i in range(80)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_recipe(tmp_path, [tmp_path / "posts.jsonl"], {"tiny": tiny_encoder})
    edit_quick(tmp_path, label_format="names", group_column="post", task_type="multi_label")
    recipe = load_recipe(BenchmarkRecipe, [str(path)], "benchmark")
    seen: list[Any] = []
    monkeypatch.setattr(benchmark_gate, "leaks_between", lambda tasks: seen.extend(tasks) or {})
    close_gate_once(recipe)
    (gated,) = seen
    for seed in recipe.seeds:
        used = load_task(cell_recipe(recipe, "posts.jsonl", seed=seed))
        assert gated.splits["test"] == used.splits["test"]
        assert gated.label_set == used.label_set


class FakeRuns:
    """Stands in for the processes of a benchmark's runs; `made` says which folders it wrote."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        self.commands.append(command)
        output = Path(command[command.index("--output_dir") + 1])
        if not output.with_name(f"{output.name}.partial").exists():
            self.made.append(output.name)
        (output / "predictions").mkdir(parents=True)
        (output / "metrics.json").write_text("{}")
        (output / "predictions" / "test.jsonl").write_text(json.dumps({"id": "0", "labels": []}) + "\n")
        write_manifest(
            output, stage="finetune", recipe=StageRecipe(output_dir=output), inputs={}, counts={}, started_at=now()
        )
        return subprocess.CompletedProcess(command, 0)

    def take(self) -> list[str]:
        """Return what was made since the last call."""
        made, self.made = self.made, []
        return sorted(made)


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    fake = FakeRuns()
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


def two_models(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, /, **keys: object
) -> tuple[BenchmarkRecipe, Path]:
    """Return a benchmark of one task and two models, and its working folder."""
    for name in ("base", "other"):
        shutil.copytree(tiny_encoder, tmp_path / name)
    models = {name: tmp_path / name for name in ("base", "other")}
    path = write_recipe(tmp_path, [make_task("binary")], models, **({"seeds": [1]} | keys))
    working = tmp_path / "benchmark.partial"
    working.mkdir()
    return load_recipe(BenchmarkRecipe, [str(path)], "benchmark"), working


def test_runs_made_of_something_else_are_made_again(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, fake_runs: FakeRuns, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, working = two_models(make_task, tiny_encoder, tmp_path)
    base, other = "task--base--seed-1", "task--other--seed-1"
    assert run_cells(recipe, working)
    assert fake_runs.take() == [base, other]
    assert set(json.loads((working / "cells" / f"{base}.json").read_text())) == {
        "origin",
        "metrics",
        "decisions",
        "seconds",
    }
    assert run_cells(recipe, working)
    assert fake_runs.take() == []
    (tmp_path / "other" / "note.txt").write_text("so that its hash differs")
    with caplog.at_level(logging.INFO):
        assert run_cells(recipe, working)
    assert fake_runs.take() == [other]
    assert f"{other} was made of another task, model or recipe" in caplog.text
    assert base not in caplog.text
    edit_quick(tmp_path, epochs=2)
    assert run_cells(recipe, working)
    assert fake_runs.take() == [base, other]
    assert not list((working / "running").iterdir())


@pytest.mark.parametrize(
    ("gpus", "visible", "of_jobs"),
    [
        (0, None, [None, None, None]),
        (1, "5", [None, None, None]),
        (4, None, ["0", "1", "2"]),
        (2, "GPU-a, GPU-b", ["GPU-a", "GPU-b", "GPU-a"]),
    ],
)
def test_gpus_are_dealt_to_jobs(
    gpus: int, visible: str | None, of_jobs: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_of_jobs(3) == of_jobs


def test_two_runs_at_a_time_never_share_a_gpu(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, working = two_models(make_task, tiny_encoder, tmp_path, jobs=2)
    fake, both_run = FakeRuns(), threading.Barrier(2)
    seen: list[str] = []

    def run(command: list[str], *, env: dict[str, str], **_: object) -> "subprocess.CompletedProcess[str]":
        seen.append(env["CUDA_VISIBLE_DEVICES"])
        both_run.wait(timeout=30)
        return fake(command)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.setattr(subprocess, "run", run)
    assert run_cells(recipe, working)
    assert sorted(seen) == ["4", "5"]


@pytest.mark.parametrize("changed", ["base", "other"])
def test_an_interrupted_run_goes_on_only_with_what_it_began_with(
    changed: str, make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    fake_runs: FakeRuns,
) -> None:  # fmt: skip
    def fail(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        output = Path(command[command.index("--output_dir") + 1])
        output.with_name(f"{output.name}.partial").mkdir()
        return subprocess.CompletedProcess(command, 1)

    recipe, working = two_models(make_task, tiny_encoder, tmp_path)
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(UserError, match="ended with code 1"):
        run_cells(recipe, working)
    assert (working / "running" / "task--base--seed-1.partial").is_dir()
    (tmp_path / changed / "note.txt").write_text("so that its hash differs")
    monkeypatch.setattr(subprocess, "run", fake_runs)
    assert run_cells(recipe, working)
    # Otherwise it went on from its own checkpoint.
    assert ("task--base--seed-1" in fake_runs.take()) == (changed == "base")


def test_baselines_made_of_something_else_are_fitted_again(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []

    def fit(system: str, *_: object) -> dict[str, Any]:
        fitted.append(system)
        return {"validation": {}, "test": {}}

    def score() -> list[str]:
        fitted.clear()
        assert score_baselines(recipe, working)["task"]["frozen base"] == {"validation": {}, "test": {}}
        return sorted(fitted)

    monkeypatch.setattr(benchmark_baselines, "_fit_baseline", fit)
    recipe, working = two_models(make_task, tiny_encoder, tmp_path)
    every = ["frozen base", "frozen other", "majority", "tfidf_logistic_regression"]
    assert score() == every
    assert score() == []
    edit_quick(tmp_path, epochs=2)
    assert score() == []
    edit_quick(tmp_path, max_seq_length=32)
    assert score() == ["frozen base", "frozen other"]
    (tmp_path / "other" / "note.txt").write_text("so that its hash differs")
    assert score() == ["frozen other"]
    edit_quick(tmp_path, test_rows=20)
    assert score() == every
    (working / "baselines" / "task--majority.json").write_text('{"validation": {}, "test": {}}')  # of an older version
    assert score() == ["majority"]
    with (tmp_path / "task" / "test.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "text": "one more", "labels": ["sleep"]}) + "\n")
    assert score() == every


def test_baselines_of_an_earlier_benchmark_are_taken_over(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []

    def fit(system: str, *_: object) -> dict[str, Any]:
        fitted.append(system)
        return {"test": {"fitted": len(fitted)}}

    monkeypatch.setattr(benchmark_baselines, "_fit_baseline", fit)
    recipe, working = two_models(make_task, tiny_encoder, tmp_path)
    first = score_baselines(recipe, working)["task"]
    assert len(fitted) == 4
    (tmp_path / "other" / "note.txt").write_text("so that its hash differs")
    models = [f"renamed={tiny_encoder}", f"other={tmp_path / 'other'}"]
    second = dataclasses.replace(recipe, models=models, references=["renamed"], earlier=[working])
    (tmp_path / "second").mkdir()
    taken = score_baselines(second, tmp_path / "second")["task"]
    assert fitted[4:] == ["frozen other"]
    expected = {name: first[name] for name in ("majority", "tfidf_logistic_regression")}
    assert taken == expected | {"frozen renamed": first["frozen base"], "frozen other": {"test": {"fitted": 5}}}


def test_auxiliary_tasks_and_the_filling_model_are_what_a_run_is_made_of(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, fake_runs: FakeRuns
) -> None:
    recipe, working = two_models(make_task, tiny_encoder, tmp_path, models=[f"base={tiny_encoder}"])
    extra, filler = make_task("binary", name="extra"), tmp_path / "other"
    plain = cell_origins(recipe, all_cells(recipe))
    assert all("inputs" not in origin for origin in plain.values())  # runs of older versions are still known again
    keys = {"augmentation": "back_off_masking", "augmentation_model": str(filler), "auxiliary_tasks": [str(extra)]}
    edit_quick(tmp_path, **keys)
    assert run_cells(recipe, working)
    assert fake_runs.take() == ["task--base--seed-1"]
    assert run_cells(recipe, working)
    assert fake_runs.take() == []
    for folder in (extra, filler):
        (folder / "note.txt").write_text("so that its hash differs")
        assert run_cells(recipe, working)
        assert fake_runs.take() == ["task--base--seed-1"]


def test_changed_inputs_are_refused_at_once_or_accepted_for_every_run(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_runs: FakeRuns
) -> None:
    recipe, working = two_models(make_task, tiny_encoder, tmp_path, leakage="drop")
    base, other = "task--base--seed-1", "task--other--seed-1"
    assert run_cells(recipe, working)
    assert fake_runs.take() == [base, other]
    made = StageRecipe(output_dir=tmp_path)
    write_manifest(tmp_path / "other", stage="made", recipe=made, inputs={}, counts={}, started_at=now())
    assert run_cells(recipe, working)
    assert fake_runs.take() == [other]
    config = (tmp_path / "other" / "config.json").read_text()
    (tmp_path / "other" / "config.json").write_text(config + " ")
    assert mindshift(["benchmark", str(tmp_path / "benchmark.yaml")]) == 2
    assert "config.json: changed since its manifest was written" in capsys.readouterr().err
    accepting = dataclasses.replace(recipe, accept_changed_inputs=True)
    assert run_cells(accepting, working)
    assert fake_runs.take() == [other]  # it is not the model that the manifest stands for
    assert fake_runs.commands[-1][-2:] == ["--accept_changed_inputs", "true"]


def test_a_point_of_a_curve_stands_at_the_rows_it_was_trained_on(
    make_task: MakeTask, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe, _ = two_models(make_task, tiny_encoder, tmp_path, train_sizes=[50, 95], leakage="drop")
    close_gate(recipe)
    edit_quick(tmp_path, train_rows=60)
    with pytest.raises(UserError, match="95 of train_sizes: task trains on 60 rows in all"):
        close_gate(recipe)


def test_runs_end_with_their_benchmark() -> None:
    program = (
        "import subprocess, sys\nfrom finetune.benchmark_runs import _lifeline\n"
        "run = 'from finetune.run_cell import end_with_benchmark as watch; import time; watch(); "
        "print(1, flush=True); time.sleep(300)'\n"
        "subprocess.run([sys.executable, '-c', run], stdin=_lifeline())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(CODE_ROOT)}
    benchmark = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    assert benchmark.stdout is not None
    assert benchmark.stdout.readline() == b"1\n"
    benchmark.kill()
    assert benchmark.stdout.read() == b""  # nobody holds it any more: the run has ended, too
    benchmark.stdout.close()
    assert benchmark.wait() == -signal.SIGKILL


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


def test_a_key_that_came_later_identifies_a_run_only_where_it_is_set(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task("binary")
    recipe = BenchmarkRecipe(tasks=[str(task)], models=["a=package:minilm"], output_dir=tmp_path / "b")
    unset = cell_recipe(recipe, "task")
    named = dataclasses.replace(unset, positive_label="work")
    assert "positive_label" not in reading_of(unset) | identifying_values(unset)
    assert reading_of(named)["positive_label"] == identifying_values(named)["positive_label"] == "work"
    assert recipe_sha256(named) != recipe_sha256(unset)
