"""The search: defaults first, the best checkpoint becomes the classifier, a killed search goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from configs.manifest import now, read_manifest, verify_folder, write_manifest
from configs.recipe import StageRecipe
from finetune import searching
from finetune.config import FinetuneRecipe
from finetune.tasks import LabelSet, TaskType
from launch.cli import main as mindshift

pytest.importorskip("optuna")
MakeTask = Callable[..., Path]


@pytest.fixture
def arguments(make_task: MakeTask, tiny_encoder: Path, tmp_path: Path) -> list[str]:
    quick = {"task": "x", "output_dir": "x", "model": str(tiny_encoder), "epochs": 2, "mixed_precision": "no"}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(quick | {"learning_rate": 4e-4, "baselines": False}))
    options = [
        "--finetune_recipe",
        str(tmp_path / "quick.yaml"),
        "--searched_keys",
        "[learning_rate, loss]",
        "--trials",
        "3",
    ]
    return ["search", "--task", str(make_task()), "--output_dir", str(tmp_path / "search"), *options]


def test_killed_search_goes_on_and_keeps_the_best(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_model, trained = searching.train_model, []

    def killed_in_the_second(recipe: FinetuneRecipe, *rest: object):
        trained.append(recipe)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train_model(recipe, *rest)

    monkeypatch.setattr(searching, "train_model", killed_in_the_second)
    assert mindshift(arguments) == 130
    assert trained[0].learning_rate == 4e-4  # the recipe's own settings are the first trial
    assert trained[0].loss == "auto"
    quick = tmp_path / "quick.yaml"
    own = quick.read_text()
    quick.write_text(own + "batch_size: 4\n")
    assert mindshift(arguments) == 2  # finished trials are of another recipe
    quick.write_text(own)
    assert mindshift(arguments) == 0
    assert len(trained) == 4  # the finished trial was not repeated
    output = tmp_path / "search"
    verify_folder(output, stage="search")
    verify_folder(output / "classifier", stage="finetune")
    rows = json.loads((output / "trials.json").read_text())
    assert len(rows) == 3
    best = rows[0]
    history = json.loads((output / "classifier" / "metrics.json").read_text())["training"]
    assert max(r["validation_average_precision"] for r in history) == best["validation_average_precision"]
    resolved = yaml.safe_load((output / "classifier" / "recipe.yaml").read_text())
    assert {key: resolved[key] for key in best["settings"]} == best["settings"]
    assert not list(output.glob("trial-*"))


def test_budget_ends_the_search(arguments: list[str], tmp_path: Path) -> None:
    assert mindshift([*arguments, "--budget_hours", "1e-9"]) == 0
    assert len(json.loads((tmp_path / "search" / "trials.json").read_text())) == 1


def test_the_recipes_own_values_are_in_the_space(tmp_path: Path) -> None:
    import optuna

    own = {"learning_rate": 1e-3, "loss": "bce", "batch_size": 64, "hidden_dropout": 0.5, "head": "cls"}
    base = FinetuneRecipe(task="x", output_dir=tmp_path, **own)  # type: ignore[arg-type]
    space = searching.search_space(LabelSet(TaskType.MULTI_LABEL, ("a", "b")), base)
    trial = optuna.trial.FixedTrial(own)
    assert {key: space[key](trial) for key in own} == own


def test_auxiliary_tasks_train_in_every_trial(
    arguments: list[str], make_task: MakeTask, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe, extra = tmp_path / "quick.yaml", make_task("binary", name="extra")
    values = yaml.safe_load(recipe.read_text()) | {"learning_rate": None, "loss": "bce", "epochs": 1}
    recipe.write_text(yaml.safe_dump(values | {"auxiliary_tasks": [str(extra)]}))
    assert mindshift([*arguments, "--trials", "1"]) == 0
    output = tmp_path / "search"
    (row,) = json.loads((output / "trials.json").read_text())
    assert row["settings"] == {"learning_rate": 1e-4, "loss": "bce"}  # what the recipe's run would use
    history = json.loads((output / "classifier" / "metrics.json").read_text())["training"]
    assert history[0]["step"] == 18  # 96 texts of the task in 6 batches, all 192 of the other in 12
    assert f"auxiliary task {extra}" in json.loads((output / "manifest.json").read_text())["inputs"]


def test_a_resumed_search_draws_anew_and_tries_what_was_killed(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float | None] = []
    killed_after = [0]

    def train(recipe: FinetuneRecipe, *_: object) -> SimpleNamespace:
        tried.append(recipe.learning_rate)
        if len(tried) == killed_after[0]:
            raise KeyboardInterrupt
        return SimpleNamespace(history=[{"validation_average_precision": 0.5}])

    monkeypatch.setattr(searching, "train_model", train)
    monkeypatch.setattr(searching, "fit_classifier", lambda chosen: chosen.output_dir.mkdir())
    for killed_after[0] in (1, 3, 6):
        assert mindshift([*arguments, "--trials", "6"]) == 130
    killed_after[0] = 0
    assert mindshift([*arguments, "--trials", "6"]) == 0
    assert tried[0] == tried[1] == 4e-4  # the defaults, which a kill took from the first attempt
    assert tried[2] == tried[3]
    assert tried[5] == tried[6]
    assert len(tried) == 9
    assert len(set(tried)) == 6  # nothing is drawn twice


def test_inputs_are_verified_before_the_search(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task, output = tmp_path / "task", tmp_path / "search"
    made = StageRecipe(output_dir=task)
    write_manifest(task, stage="made", recipe=made, inputs={}, counts={}, started_at=now())
    (task / "labels.json").write_text((task / "labels.json").read_text() + " ")
    train_model = searching.train_model
    with monkeypatch.context() as patch:
        patch.setattr(searching, "train_model", lambda *_: pytest.fail("trained before it verified"))
        assert mindshift([*arguments, "--trials", "1"]) == 2
    assert "labels.json: changed since its manifest was written" in capsys.readouterr().err
    assert searching.train_model is train_model
    assert mindshift([*arguments, "--trials", "1", "--accept_changed_inputs", "true"]) == 0
    for folder in (output, output / "classifier"):
        assert read_manifest(folder).accepted == [f"{task / 'labels.json'}: changed since its manifest was written"]
