"""The guard: what a spike is, what it does not disturb, when the run goes back, and when it gives up."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from configs.manifest import read_manifest
from pretrain import objective
from pretrain.gradient_guard import GradientGuard, is_sound
from pretrain.metrics import read_metrics
from pretrain.packing import StepPlanner
from pretrain.run_mlm import main
from pretrain.training_loop import PretrainingRun


def guard_after(norms, factor=10.0):
    guard = GradientGuard(factor)
    for step, norm in enumerate(norms):
        guard.record(step, norm)
    return guard


def test_before_enough_steps_only_what_is_no_number_is_a_spike():
    guard = guard_after([1.0] * 15)
    assert guard.limit == math.inf
    assert is_sound(1e9, guard.limit)
    assert not is_sound(math.nan, guard.limit)
    assert not is_sound(math.inf, guard.limit)


def test_a_spike_is_ten_times_the_median_and_does_not_move_it():
    guard = guard_after([2.0] * 16)
    assert guard.limit == 20.0
    guard.record(16, 20.5)
    guard.record(17, math.nan)
    assert (guard.limit, guard.skipped) == (20.0, 2)


def test_the_median_follows_a_slow_change():
    assert guard_after([1.0] * 64 + [4.0] * 64).limit == 40.0


def test_factor_zero_lets_every_finite_norm_pass():
    guard = guard_after([1.0] * 40 + [1e30], factor=0.0)
    assert guard.skipped == 0


def test_ten_in_a_row_are_too_many_but_nine_and_a_good_one_are_not():
    guard = guard_after([1.0] * 16 + [99.0] * 9 + [1.0] + [99.0] * 9)
    assert (guard.skipped, guard.is_stuck) == (18, False)
    guard.record(35, 99.0)
    assert guard.is_stuck
    with pytest.raises(UserError, match="no step of the last 10 was sound"):
        guard.give_up(36)


def test_a_resumed_guard_goes_on():
    guard = guard_after([1.0] * 20 + [99.0] * 9)
    again = GradientGuard(10.0)
    again.load_state_dict(guard.state_dict())
    assert (again.limit, again.skipped) == (guard.limit, 9)
    again.record(29, 99.0)
    assert again.is_stuck


def test_a_guard_that_went_back_keeps_its_counts_and_takes_the_norms_from_there():
    there = guard_after([1.0] * 20)
    guard = guard_after([1.0] * 20 + [5.0] * 30 + [999.0] * 10)
    guard.rewind(there.state_dict(), step=20)
    assert (guard.limit, guard.skipped, guard.rewinds, guard.rewound_to) == (10.0, 10, 1, 20)
    assert not guard.is_stuck


# In a run


def weights(workspace, name: str) -> dict[str, torch.Tensor]:
    return load_file(workspace.folder / name / "model.safetensors")


def assert_bit_equal(workspace, one: str, other: str) -> None:
    first, second = weights(workspace, one), weights(workspace, other)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def shares_read(workspace, name: str) -> dict[str, float]:
    return read_manifest(workspace.folder / name).counts["shares_read"]


class BrokenDocuments:
    """Make the loss NaN for whatever is read at some places of the corpus, or leave those places out."""

    def __init__(self, first: int, last: int, *, leave_out: bool = False) -> None:
        self._first, self._last, self._leave_out = first, last, leave_out
        self._plan, self._loss = StepPlanner.next_step, objective.summed_loss
        self._places: dict[tuple[int, int], int] = {}
        self._number = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def next_step(planner):
            start = (planner._epoch, planner._cursor)
            # The number of a step's documents is a matter of the position alone, also after a resume.
            self._number = self._places.setdefault(start, len(self._places) + 1)
            plan = self._plan(planner)
            while self._leave_out and self._first <= self._number <= self._last:
                plan = next_step(planner)
            return plan

        def loss(module, batch):
            broken = self._first <= self._number <= self._last and not self._leave_out
            return self._loss(module, batch) * (math.nan if broken else 1.0)

        patch.setattr(StepPlanner, "next_step", next_step)
        patch.setattr(objective, "summed_loss", loss)


def test_a_broken_step_is_skipped_counted_and_changes_nothing(workspace, monkeypatch, caplog):
    BrokenDocuments(3, 3).install(monkeypatch)
    with caplog.at_level("WARNING"):
        main(workspace.arguments(save_steps=1, max_steps=4), "mindshift pretrain")
    assert "step 3 skipped: gradient norm nan" in caplog.text
    lines = read_metrics(workspace.folder / "run")
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 1]
    assert "NaN" not in (workspace.folder / "run" / "metrics.jsonl").read_text()
    assert json.loads((workspace.folder / "run" / "evaluation.json").read_text())["skipped_steps"] == 1
    assert all(weight.isfinite().all() for weight in weights(workspace, "run").values())


def test_what_a_skipped_step_read_counts_as_unread(workspace):
    settings = {"max_steps": 4, "save_steps": 1}
    main(workspace.arguments("sound", **settings), "mindshift pretrain")
    with pytest.MonkeyPatch.context() as patch:
        BrokenDocuments(4, 4).install(patch)
        main(workspace.arguments("skipped", **settings), "mindshift pretrain")
    main(workspace.arguments("shorter", **settings | {"max_steps": 3}), "mindshift pretrain")
    found = [shares_read(workspace, name)["corpus"] for name in ("sound", "skipped", "shorter")]
    assert 0 < found[1] == found[2] < found[0] < 1


ROW = {"max_steps": 18, "save_steps": 3, "dropout": 0.0}


def test_behind_ten_broken_steps_a_run_goes_back_and_on_with_other_documents(workspace, caplog):
    """It ends with exactly the weights of a run that never saw the broken documents."""
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("WARNING"):
        BrokenDocuments(8, 17).install(patch)
        main(workspace.arguments("rewound", **ROW), "mindshift pretrain")
    assert caplog.text.count("steps up to 17 went back to step 6 (1 of at most 3 times)") == 1
    lines = read_metrics(workspace.folder / "rewound")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 19))
    assert [line for line in lines if "rewound_from" in line] == [{"step": 6, "rewound_from": 17, "rewinds": 1}]
    found = json.loads((workspace.folder / "rewound" / "evaluation.json").read_text())
    assert (found["rewinds"], found["skipped_steps"], found["steps"]) == (1, 10, 18)
    assert "1 times gone back" in (workspace.folder / "rewound" / "training.html").read_text()
    # Step 7 was sound, and lies behind the checkpoint all the same: the run goes on behind its documents.
    with pytest.MonkeyPatch.context() as patch:
        BrokenDocuments(7, 17, leave_out=True).install(patch)
        main(workspace.arguments("without", **ROW), "mindshift pretrain")
    assert_bit_equal(workspace, "rewound", "without")
    assert shares_read(workspace, "rewound") == shares_read(workspace, "without")


@pytest.mark.parametrize("where", ["before_the_row_is_over", "while_going_back", "behind_it"])
def test_a_run_that_goes_back_resumes_exactly(workspace, where):
    """With dropout, whose random numbers are other ones after going back."""
    settings = ROW | {"dropout": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        broken = BrokenDocuments(7, 16)
        broken.install(patch)
        main(workspace.arguments("whole", **settings), "mindshift pretrain")
        with patch.context() as killed:
            if where == "while_going_back":
                killed.setattr(PretrainingRun, "_save", die_if(PretrainingRun._save, lambda run: run._guard.rewinds))
            else:
                step, rewinds = (12, 0) if where == "before_the_row_is_over" else (10, 1)
                dies = die_if(PretrainingRun._train_step, lambda run: (run.step, run._guard.rewinds) == (step, rewinds))
                killed.setattr(PretrainingRun, "_train_step", dies)
            with pytest.raises(MemoryError):
                main(workspace.arguments("killed", **settings), "mindshift pretrain")
        main(workspace.arguments("killed", **settings), "mindshift pretrain")
    assert_bit_equal(workspace, "whole", "killed")
    assert shares_read(workspace, "whole") == shares_read(workspace, "killed")
    told = [
        [(line["step"], line.get("loss"), line.get("rewinds")) for line in read_metrics(workspace.folder / name)]
        for name in ("whole", "killed")
    ]
    assert told[0] == told[1]


def die_if(method, condition):
    def dying(run, *arguments):
        if condition(run):
            raise MemoryError("as good as a kill")
        return method(run, *arguments)

    return dying


@pytest.mark.parametrize(("most", "went_to"), [(0, []), (3, [4, 2, 2])], ids=["never", "three_times"])
def test_steps_that_stay_broken_end_the_run_and_keep_a_sound_checkpoint(workspace, monkeypatch, caplog, most, went_to):
    """Each time it goes back further, if it can."""
    BrokenDocuments(6, 10**9).install(monkeypatch)
    with pytest.raises(UserError, match="no step of the last 10 was sound"):
        main(workspace.arguments(max_steps=50, save_steps=2, max_rewinds=most), "mindshift pretrain")
    found = [record.args[1] for record in caplog.records if "went back" in record.msg]
    assert found == went_to
    kept = sorted(path.name for path in (workspace.folder / "run.partial" / "checkpoints").iterdir())
    assert kept == (["step-00000002"] if most else ["step-00000002", "step-00000004"])


def test_a_kill_while_the_only_checkpoint_is_written_anew_loses_nothing(workspace, caplog):
    """Going back leaves the checkpoint that it went to alone, and writes that one again."""
    settings = ROW | {"save_steps": 6}
    with pytest.MonkeyPatch.context() as patch:
        BrokenDocuments(7, 16).install(patch)
        main(workspace.arguments("whole", **settings), "mindshift pretrain")
        with patch.context() as killed:
            move, renamed = Path.rename, []

            def die(path, target):
                renamed.append(path.name)
                if renamed.count(".step-00000006.tmp") == 2:
                    raise KeyboardInterrupt
                return move(path, target)

            killed.setattr(Path, "rename", die)
            with pytest.raises(KeyboardInterrupt):
                main(workspace.arguments("killed", **settings), "mindshift pretrain")
        with caplog.at_level("INFO"):
            main(workspace.arguments("killed", **settings), "mindshift pretrain")
    assert "resuming at step 6 of 18" in caplog.text
    assert_bit_equal(workspace, "whole", "killed")


def test_what_is_advised_to_a_run_that_is_stuck_works(workspace):
    """Behind 16 steps every norm is over the limit, and an interrupted run keeps its recipe: only another run helps."""
    settings = {"max_steps": 27, "save_steps": 5, "max_rewinds": 0}
    with pytest.raises(UserError, match=r"Start again in another --output_dir .* higher spike_factor"):
        main(workspace.arguments(**settings, spike_factor=1e-9), "mindshift pretrain")
    with pytest.raises(UserError, match="differs in spike_factor"):
        main(workspace.arguments(**settings, spike_factor=10), "mindshift pretrain")
    main(workspace.arguments("another", **settings, spike_factor=10), "mindshift pretrain")
    assert read_metrics(workspace.folder / "another")[-1]["skipped_steps"] == 0
