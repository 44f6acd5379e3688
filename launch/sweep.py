"""`mindshift launch sweep`: many small runs of one stage, as one array of jobs that leaves out what is done.

A sweep is the product of its grid. Every run has its own output folder, named by its values; launched again, the
sweep submits only the runs whose folder is not complete.
"""

import dataclasses
import itertools
import json
import logging
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.manifest import MANIFEST_NAME
from configs.recipe import load_recipe, require
from launch.journal import Launch, LaunchedStage, launch_folder
from launch.launch_options import LaunchOptions, parse_options
from launch.run_launch import job_options, print_job, refuse_if_at_work
from launch.scheduler import SLURM_FOLDER, batch_command, largest_array, require_slurm, submit
from launch.site_settings import SiteSettings, job_environment
from launch.stages import Stage, find_stage

FIRST_RUN = "MINDSHIFT_FIRST_RUN"
"""Variable with the number of the run that is task 0 of an array: arrays have a largest size."""
logger = logging.getLogger("sweep")


@dataclasses.dataclass(kw_only=True)
class SweepRecipe:
    """Run one stage many times, over every combination of some values."""

    stage: str
    """Stage to run: the same names as `mindshift launch` knows."""
    base_recipe: Path
    """Its recipe."""
    grid: dict[str, list[Any]]
    """Recipe key → the values it takes."""
    output_dir: Path
    """Folder that gets one folder a run."""
    at_once: int = 0
    """Runs at a time under SLURM. 0: as many as the cluster gives."""

    def __post_init__(self) -> None:
        require(bool(self.grid) and all(self.grid.values()), "grid", self.grid, "keys with at least one value each")
        require(self.at_once >= 0, "at_once", self.at_once, "0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run of a sweep."""

    arguments: list[str]
    output_dir: Path

    @property
    def is_done(self) -> bool:
        """Whether its folder is complete."""
        return (self.output_dir / MANIFEST_NAME).is_file()


def main(arguments: Sequence[str], program: str) -> None:
    """Launch a sweep, or (inside a job of it) run the one run that is this task's.

    Raises:
        UserError: a mistake in the recipe or grid, SLURM refuses, or runs failed here.
    """
    arguments = list(arguments)
    is_task = arguments[-2:] == ["--on", "task"]
    options = parse_options([*arguments[:-2], "--on", "local"] if is_task else arguments)
    sweep = load_recipe(SweepRecipe, options.rest, program)
    stage, runs = find_stage(sweep.stage), sweep_runs(sweep)
    if is_task:
        _run_task(stage, runs)
    site = options.site()
    if (nodes := site.nodes.get("sweep", 1)) > 1:
        raise UserError(f"each run of a sweep is on one node, not on {nodes}", where="site.nodes")
    # One GPU a run: many small runs side by side, and the same batch whatever the nodes have.
    gpus = min(1, stage.gpus(stage.load(runs[0].arguments), site.gpus_per_node))
    todo = [number for number, run in enumerate(runs) if not run.is_done]
    print(f"{len(runs)} runs, {len(runs) - len(todo)} of them finished before")
    if todo and options.on == "local" and options.dry_run:
        print("\n".join(shlex.join(stage.command(runs[number].arguments)) for number in todo))
    elif todo and options.on == "local":
        _run_here(stage, [runs[number] for number in todo], job_environment(site, stage.name, gpus=gpus))
    elif todo:
        _submit(sweep, todo, len(runs), options, site, gpus)


def sweep_runs(sweep: SweepRecipe) -> list[SweepRun]:
    """Return all runs of a sweep, in the order of its grid; the last key changes fastest.

    Raises:
        UserError: two runs would have the same folder.
    """
    runs = []
    for values in itertools.product(*sweep.grid.values()):
        chosen = dict(zip(sweep.grid, values, strict=True))
        name = ",".join(f"{key}={_short(value)}" for key, value in chosen.items())
        output_dir = sweep.output_dir / name
        words = [str(sweep.base_recipe)]
        words += [word for key, value in chosen.items() for word in (f"--{key}", _as_argument(value))]
        runs.append(SweepRun(arguments=[*words, "--output_dir", str(output_dir)], output_dir=output_dir))
    if len({run.output_dir for run in runs}) < len(runs):
        raise UserError("two runs of this grid have the same name", where="grid", fix="Remove double values.")
    return runs


def array_ranges(numbers: Sequence[int], largest: int) -> list[tuple[int, str]]:
    """Return the arrays that cover these runs: number of each one's task 0, and its `--array` value.

    Args:
        numbers: ascending.
        largest: highest index, plus one, that the cluster allows in an array.
    """
    arrays = []
    for first, group in itertools.groupby(numbers, key=lambda number: number - number % largest):
        indices = [number - first for number in group]
        arrays.append((first, _compact(indices)))
    return arrays


def _compact(indices: Sequence[int]) -> str:
    parts = []
    for _, run in itertools.groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        parts.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ",".join(parts)


def _submit(
    sweep: SweepRecipe, todo: list[int], runs: int, options: LaunchOptions, site: SiteSettings, gpus: int
) -> None:
    launch = Launch(folder=launch_folder(sweep.output_dir), where="slurm")
    noted = LaunchedStage(stage="sweep", output_dir=str(sweep.output_dir), arguments=options.rest, runs=runs)
    launch.stages = [noted]
    if not options.dry_run:
        require_slurm()
        refuse_if_at_work(launch.folder)
        launch.folder.mkdir(parents=True, exist_ok=True)
    environment = job_environment(site, sweep.stage, gpus=gpus) | {"MINDSHIFT_LAUNCH_FOLDER": str(launch.folder)}
    job_file = SLURM_FOLDER / "sweep.sbatch"
    for first, array in array_ranges(todo, 1000 if options.dry_run else largest_array()):
        at_once = f"%{sweep.at_once}" if sweep.at_once else ""
        sbatch = job_options(launch, "sweep", site, gpus=gpus, log="sweep-%A_%a.log")
        command = batch_command([*sbatch, f"--array={array}{at_once}"], job_file, options.rest)
        own = environment | {FIRST_RUN: str(first)}
        if options.dry_run:
            print_job(command, own, job_file)
            continue
        noted.job_ids.append(submit(command, own))
        launch.write()
        print(f"sweep: job {noted.job_ids[-1]}, tasks {array}")


def _run_here(stage: Stage, runs: list[SweepRun], settings: dict[str, str]) -> None:
    environment = {**os.environ, **settings}
    environment["PYTHONPATH"] = environment["MINDSHIFT_HOME"]
    failed = []
    for number, run in enumerate(runs, start=1):
        logger.info("run %d of %d: %s", number, len(runs), run.output_dir.name)
        if subprocess.run(stage.command(run.arguments), env=environment, check=False).returncode != 0:
            failed.append(run.output_dir.name)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(runs)} runs failed, the first {failed[0]}; their messages stand above",
            fix="The same command runs the unfinished ones again.",
        )


def _run_task(stage: Stage, runs: list[SweepRun]) -> None:
    """Become the run that is this task's; the process is replaced, so that signals reach it directly."""
    number = int(os.environ.get(FIRST_RUN, "0")) + int(os.environ["SLURM_ARRAY_TASK_ID"])
    run = runs[number]
    if run.is_done:
        print(f"{run.output_dir.name}: finished before")
        raise SystemExit(0)
    print(f"{run.output_dir.name}", flush=True)
    environment = {key: value for key, value in os.environ.items() if key != "SLURM_NODEID"}
    command = stage.command(run.arguments)
    os.execve(command[0], command, environment)


def _short(value: Any) -> str:
    return re.sub(r"[^\w.+-]", "_", Path(value).name if isinstance(value, str) else _as_argument(value))


def _as_argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
