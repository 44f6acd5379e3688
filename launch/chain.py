"""Stages that follow one another on this machine, each in a process of its own; finished ones are left as they are.

A finished folder counts only if it holds what would be made now: its recipe and its inputs are compared first.
"""

import dataclasses
import logging
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from configs.errors import USER_ERROR_EXIT_CODE, UserError
from configs.finished import differences
from configs.manifest import CODE_ROOT, MANIFEST_NAME
from configs.recipe import StageRecipe
from finetune.benchmark_config import BenchmarkRecipe

logger = logging.getLogger("chain")
OTHER_NODES = ("SLURM_NNODES", "SLURM_STEP_NUM_NODES", "SLURM_NODEID")
"""Variables of a shell inside a job, by which `launch.on_node` would wait for the job's other nodes."""


class StageFailedError(RuntimeError):
    """A stage ended with an exit code that is no user's error."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"the {name} step failed with exit code {code}")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Step:
    """One stage: its command and what it asks for."""

    name: str
    command: list[str]
    recipe: StageRecipe

    @property
    def folder(self) -> Path:
        """Where it writes."""
        return self.recipe.output_dir


def is_finished(recipe: StageRecipe) -> bool:
    """Return whether the output folder of a stage holds what its recipe asks for.

    Raises:
        UserError: it holds a finished run of another recipe or of other inputs.
    """
    folder = recipe.output_dir
    if not (folder / MANIFEST_NAME).is_file():
        return False
    differs = differences(folder, recipe)
    if not differs and isinstance(recipe, BenchmarkRecipe):
        from finetune.benchmark_baselines import made_of_other

        differs = made_of_other(recipe, folder)
    if differs:
        raise UserError(
            f"holds a finished run of another recipe or other inputs (differs in {', '.join(differs)})",
            where=folder,
            fix="Put back what it was made of, rename the folder to have it made anew, or choose another --output_dir.",
        )
    return True


def run_step(step: Step) -> bool:
    """Run one stage, unless its folder is complete already; return whether it ran.

    Raises:
        UserError: it ended with a user's error, whose message stands above, or its folder holds something else.
        StageFailedError: it ended otherwise.
    """
    if is_finished(step.recipe):
        logger.info("%s: finished before, in %s", step.name, step.folder)
        return False
    run_stage(step.name, step.command, {})
    return True


def run_stage(name: str, command: list[str], settings: Mapping[str, str]) -> None:
    """Run the command of a stage on this machine, with further environment variables.

    Raises:
        UserError: it ended with a user's error; its own message stands above.
        StageFailedError: it ended with any other exit code but 0.
    """
    logger.info("%s: %s", name, shlex.join(command))
    environment = {key: value for key, value in os.environ.items() if key not in OTHER_NODES} | dict(settings)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CODE_ROOT), os.environ.get("PYTHONPATH")]))
    code = subprocess.run(command, env=environment, check=False).returncode
    if code == USER_ERROR_EXIT_CODE:
        raise UserError(f"the {name} step stopped; its message stands above")
    if code != 0:
        raise StageFailedError(name, code)
