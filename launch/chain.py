"""Steps that follow one another, each a stage in a process of its own; finished ones are left as they are."""

import dataclasses
import logging
import shlex
import subprocess
from pathlib import Path

from configs.errors import USER_ERROR_EXIT_CODE, UserError
from configs.manifest import CODE_ROOT, MANIFEST_NAME

logger = logging.getLogger("chain")


@dataclasses.dataclass(frozen=True)
class Step:
    """One stage: its command and the folder it leaves."""

    name: str
    command: list[str]
    folder: Path


def run_step(step: Step) -> bool:
    """Run one stage from the checkout's root, unless its folder is complete already; return whether it ran.

    Raises:
        UserError: it ended with a user's error; its own message stands above.
    """
    if (step.folder / MANIFEST_NAME).exists():
        logger.info("%s: finished before, in %s", step.name, step.folder)
        return False
    logger.info("%s: %s", step.name, shlex.join(step.command))
    code = subprocess.run(step.command, cwd=CODE_ROOT, check=False).returncode
    if code == USER_ERROR_EXIT_CODE:
        raise UserError(f"the {step.name} step stopped; its message stands above")
    if code != 0:
        raise RuntimeError(f"the {step.name} step failed with exit code {code}")
    return True
