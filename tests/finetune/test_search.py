"""The search: defaults first, the best checkpoint becomes the classifier, a killed search goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from configs.manifest import verify_folder
from finetune import searching
from finetune.config import FinetuneRecipe
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
