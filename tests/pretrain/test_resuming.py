"""Going on with a run: nothing but the steps themselves is timed, and another batch is refused."""

import hashlib
import json
import types
from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from pretrain.metrics import read_metrics
from pretrain.packing import StepPlanner
from pretrain.run_mlm import main
from pretrain.training_loop import PretrainingRun


def stop_at(arguments: list[str], step: int) -> None:
    """Run up to `step` and stop there with a checkpoint."""
    train_step = PretrainingRun._train_step

    def stop(self, learning_rate):
        self.stop_request.asked = self.step == step - 1
        return train_step(self, learning_rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainingRun, "_train_step", stop)
        with pytest.raises(SystemExit):
            main(arguments, "mindshift pretrain")


def make_older(run: Path) -> dict[str, Any]:
    """Take from a run's newest checkpoint what was not kept once: its sizes and seconds. Returns its progress."""
    folder = max((run / "checkpoints").iterdir())
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    progress: dict[str, Any] = state["progress"]
    del progress["micro_batches"], progress["total_steps"], progress["interval"]["seconds"]
    (folder / "state.json").write_text(json.dumps(state))
    checksums = json.loads((folder / "checksums.json").read_text())
    checksums["state.json"] = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(checksums))
    return progress


# The batch


def several_processes(patch: pytest.MonkeyPatch) -> None:
    """Make a step twice as large, as a second process would."""
    patch.setattr("pretrain.config.PretrainRecipe.accumulation_steps", lambda recipe, world_size: 2)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ({"max_steps": 6}, "was begun with 1 micro-batches a step, and has 2 now"),
        ({"num_train_epochs": 0.4}, r"was begun with 1 micro-batches a step and \d+ steps, and has 2 and \d+ now"),
    ],
    ids=["steps", "epochs"],
)
def test_a_run_does_not_go_on_with_another_batch(workspace, monkeypatch, length, message):
    """With epochs it would end early: half as many steps of twice the size, most of which are done."""
    arguments = workspace.arguments(**({"max_steps": "null"} | length))
    stop_at(arguments, step=5)
    with monkeypatch.context() as patch:
        several_processes(patch)
        with pytest.raises(UserError, match=message) as refused:
            main(arguments, "mindshift pretrain")
    assert "as many processes" in str(refused.value.fix)
    assert "global_batch_tokens" in str(refused.value.fix)
    main(arguments, "mindshift pretrain")  # nothing was lost
    assert (workspace.folder / "run" / "evaluation.json").is_file()


def test_a_private_step_is_the_same_on_any_number_of_processes(workspace, monkeypatch):
    arguments = workspace.arguments(dp_noise_multiplier=0.8, dp_unit="document", dp_units_per_step=12)
    stop_at(arguments, step=3)
    several_processes(monkeypatch)
    main(arguments, "mindshift pretrain")
    assert read_metrics(workspace.folder / "run")[-1]["step"] == 6


def test_a_checkpoint_that_does_not_say_its_batch_is_resumed(workspace):
    arguments = workspace.arguments()
    stop_at(arguments, step=3)
    make_older(workspace.folder / "run.partial")
    main(arguments, "mindshift pretrain")
    assert [line["step"] for line in read_metrics(workspace.folder / "run")] == [1, 2, 3, 4, 5, 6]


def test_a_run_ends_at_the_step_that_it_was_begun_for(workspace, monkeypatch):
    """An older version counted the steps of a pass otherwise; its schedule goes on."""
    arguments = workspace.arguments(max_steps="null", num_train_epochs=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(StepPlanner, "count_steps", lambda planner, epochs: 8)
        stop_at(arguments, step=3)
    main(arguments, "mindshift pretrain")
    assert read_metrics(workspace.folder / "run")[-1]["step"] == 8


# The clock


@pytest.fixture
def clock(monkeypatch):
    """Each step takes a second, an evaluation a hundred, a checkpoint ten."""
    now = types.SimpleNamespace(seconds=0.0)

    def taking(method, seconds):
        def slow(self, *arguments):
            now.seconds += seconds
            return method(self, *arguments)

        return slow

    monkeypatch.setattr("pretrain.training_loop.time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    monkeypatch.setattr(StepPlanner, "next_step", taking(StepPlanner.next_step, 1))
    monkeypatch.setattr(PretrainingRun, "_evaluate_all", taking(PretrainingRun._evaluate_all, 100))
    monkeypatch.setattr(PretrainingRun, "_save", taking(PretrainingRun._save, 10))


def tokens_and_rates(run: Path) -> tuple[list[int], list[float]]:
    lines = [line for line in read_metrics(run) if "loss" in line]
    assert [line["step"] for line in lines] == [4, 8, 9]
    return [line["tokens"] for line in lines], [line["tokens_per_second"] for line in lines]


OFF_THE_GRID = {"max_steps": 9, "logging_steps": 4, "eval_steps": 3, "save_steps": 5}


@pytest.mark.parametrize("stopped", [False, True])
def test_rates_are_those_of_the_steps(workspace, clock, stopped):
    """Whatever evaluations, checkpoints and stops lie between two lines."""
    arguments = workspace.arguments(**OFF_THE_GRID)
    if stopped:
        stop_at(arguments, step=6)
    main(arguments, "mindshift pretrain")
    (first, second, third), rates = tokens_and_rates(workspace.folder / "run")
    assert rates == pytest.approx([first / 4, (second - first) / 4, third - second], abs=0.1)


def test_tokens_whose_seconds_a_checkpoint_does_not_say_are_in_no_rate(workspace, clock):
    arguments = workspace.arguments(**OFF_THE_GRID)
    stop_at(arguments, step=6)
    stopped_at = make_older(workspace.folder / "run.partial")["tokens"]
    main(arguments, "mindshift pretrain")
    (first, second, third), rates = tokens_and_rates(workspace.folder / "run")
    assert rates == pytest.approx([first / 4, (second - stopped_at) / 2, third - second], abs=0.1)
