"""A sweep's runs, their names, and how they are cut into arrays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import UserError
from configs.manifest import CODE_ROOT, MANIFEST_NAME
from configs.recipe import load_recipe
from launch.cli import main
from launch.stages import ChainRecipe, chain_links
from launch.sweep import SweepRecipe, array_ranges, sweep_runs


def recipe(tmp_path, **grid):
    return SweepRecipe(stage="finetune", base_recipe=tmp_path / "r.yaml", grid=grid, output_dir=tmp_path / "out")


def test_a_sweep_is_the_product_of_its_grid(tmp_path):
    runs = sweep_runs(recipe(tmp_path, task=["a/one", "b/two"], seed=[1, 2]))
    names = [run.output_dir.name for run in runs]
    assert names == ["task=one,seed=1", "task=one,seed=2", "task=two,seed=1", "task=two,seed=2"]
    assert runs[1].arguments[1:5] == ["--task", "a/one", "--seed", "2"]
    assert runs[1].arguments[-2:] == ["--output_dir", str(runs[1].output_dir)]


def test_two_runs_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match="same name"):
        sweep_runs(recipe(tmp_path, task=["a/one", "b/one"]))


def expand(array):
    for part in array.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


@given(st.sets(st.integers(0, 5000), min_size=1), st.integers(1, 1500))
def test_arrays_cover_every_run_once_within_the_cluster_s_limit(numbers, largest):
    arrays = array_ranges(sorted(numbers), largest)
    covered = [first + index for first, array in arrays for index in expand(array)]
    assert covered == sorted(numbers)
    assert all(index < largest for _, array in arrays for index in expand(array))


def test_arrays_over_a_thousand_tasks_are_split():
    assert array_ranges(range(2500), 1000) == [(0, "0-999"), (1000, "0-999"), (2000, "0-499")]
    assert array_ranges([0, 1, 2, 7, 1001], 1000) == [(0, "0-2,7"), (1000, "1")]


def test_finished_runs_are_left_out(tmp_path, capsys):
    base = CODE_ROOT / "configs" / "finetune" / "sample.yaml"
    values = {"stage": "finetune", "base_recipe": str(base), "grid": {"seed": [1, 2, 3]}, "output_dir": str(tmp_path)}
    (tmp_path / "sweep.yaml").write_text(json.dumps(values))
    (tmp_path / "seed=2").mkdir()
    (tmp_path / "seed=2" / MANIFEST_NAME).touch()
    assert main(["launch", "sweep", str(tmp_path / "sweep.yaml"), "--on", "slurm", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "3 runs, 1 of them finished before" in printed
    assert "--array=0,2 " in printed


def test_a_dry_run_here_prints_the_commands_and_starts_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a training was started"))
    base = CODE_ROOT / "configs" / "finetune" / "sample.yaml"
    values = {"stage": "finetune", "base_recipe": str(base), "grid": {"seed": [1, 2]}, "output_dir": str(tmp_path)}
    (tmp_path / "sweep.yaml").write_text(json.dumps(values))
    assert main(["launch", "sweep", str(tmp_path / "sweep.yaml"), "--on", "local", "--dry-run"]) == 0
    commands = [line for line in capsys.readouterr().out.splitlines() if "launch.on_node" in line]
    assert [command.split("--seed ")[1].split()[0] for command in commands] == ["1", "2"]


def test_each_run_of_a_sweep_has_one_gpu_and_one_process(tmp_path, capsys):
    base = CODE_ROOT / "configs" / "finetune" / "sample.yaml"
    values = {"stage": "finetune", "base_recipe": str(base), "grid": {"seed": [1, 2]}, "output_dir": str(tmp_path)}
    (tmp_path / "sweep.yaml").write_text(json.dumps(values))
    words = ["launch", "sweep", str(tmp_path / "sweep.yaml"), "--on", "slurm", "--dry-run"]
    assert main([*words, "--site.gpus_per_node", "8"]) == 0
    printed = capsys.readouterr().out
    assert "--gpus-per-node=1 " in printed
    assert "MINDSHIFT_PROCESSES_PER_NODE=1 " in printed


def test_a_key_the_stage_does_not_have_is_refused_before_anything_starts(tmp_path, capsys):
    base = CODE_ROOT / "configs" / "finetune" / "sample.yaml"
    values = {"stage": "finetune", "base_recipe": str(base), "grid": {"sead": [1]}, "output_dir": str(tmp_path / "s")}
    (tmp_path / "sweep.yaml").write_text(json.dumps(values))
    assert main(["launch", "sweep", str(tmp_path / "sweep.yaml"), "--on", "local"]) == 2
    assert "did you mean 'seed'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "grid", "message"),
    [
        ("finetune", {"learning_rate": [5e-5, -1]}, "learning_rate is -1"),
        ("pretrain", {"global_batch_tokens": [8192, 1000]}, "no multiple of micro_batch_size"),
    ],
)
def test_a_mistake_in_any_run_is_found_before_anything_starts(stage, grid, message, tmp_path, capsys):
    base = {"finetune": "configs/finetune/sample.yaml", "pretrain": "configs/pretrain/sample.yaml"}[stage]
    values = {"stage": stage, "base_recipe": str(CODE_ROOT / base), "grid": grid, "output_dir": str(tmp_path / "s")}
    (tmp_path / "sweep.yaml").write_text(json.dumps(values))
    assert main(["launch", "sweep", str(tmp_path / "sweep.yaml"), "--on", "slurm", "--dry-run"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((CODE_ROOT / "configs" / "launch").glob("*.yaml")), ids=lambda path: path.name)
def test_every_launch_recipe_loads_down_to_its_stages(path, monkeypatch):
    monkeypatch.chdir(CODE_ROOT)
    if "sweep" in path.name:
        assert sweep_runs(load_recipe(SweepRecipe, [str(path)], "test"))
    else:
        assert chain_links(load_recipe(ChainRecipe, [str(path)], "test"), {"finetune": ["--task", "a task of yours"]})
