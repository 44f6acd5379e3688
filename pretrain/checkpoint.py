"""Checkpoints that a kill, a full disk or a damaged file cannot hurt.

A checkpoint is a folder `checkpoints/step-NNNNNNNN`, written under another name and renamed when complete. It holds
whole tensors by name, however the optimizer was sharded, so it fits any number of processes and any backend;
`model.safetensors` beside `config.json` is a plain Hugging Face folder. `checksums.json` is written last: a folder
whose files do not match it is passed over for the next older one. One that is written anew is set aside as
`.step-NNNNNNNN.old` until the new one is in its place, and counts as the older of the two.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from configs.errors import UserError
from configs.manifest import sha256_file
from configs.run_folder import remove_folder

CHECKPOINTS = "checkpoints"
MODEL_FILE, OPTIMIZER_FILE = "model.safetensors", "optimizer.safetensors"
MOMENT_KEYS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter."""
MOMENT_SUFFIXES = tuple(f"::{key}" for key in MOMENT_KEYS)
STATE_FILE, CHECKSUMS_FILE = "state.json", "checksums.json"
SET_ASIDE = ".old"

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Everything a run needs to go on, by name, whole and on the CPU.

    Attributes:
        step: optimizer steps done.
        weights: fp32 weights by parameter name, tied ones once.
        moments: AdamW's state, named by `moment_name`.
        progress: JSON values: the run's sizes, the planner's position, tokens read, the evaluation before.
    """

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    progress: dict[str, Any]

    @classmethod
    def of(cls, step: int, tensors: dict[str, Tensor], progress: dict[str, Any]) -> "TrainingState":
        """Build from a backend's gathered tensors."""
        moments = {name: tensor for name, tensor in tensors.items() if name.endswith(MOMENT_SUFFIXES)}
        weights = {name: tensor for name, tensor in tensors.items() if name not in moments}
        return cls(step, weights, moments, progress)


def moment_name(parameter: str, key: str) -> str:
    """Return the name of a parameter's AdamW state in a checkpoint."""
    return f"{parameter}::{key}"


def save_checkpoint(working_dir: Path, state: TrainingState, model: PreTrainedModel, *, keep: int) -> Path:
    """Write a checkpoint, then drop all but the newest `keep`. Call it on one process only.

    A full disk raises OSError and leaves the earlier checkpoints as they were.
    """
    folder = working_dir / CHECKPOINTS / f"step-{state.step:08d}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove_folder(temporary)
    temporary.mkdir(parents=True)
    try:
        model.config.save_pretrained(temporary)
        save_file(state.weights, temporary / MODEL_FILE, metadata={"format": "pt"})
        save_file(state.moments, temporary / OPTIMIZER_FILE)
        (temporary / STATE_FILE).write_text(json.dumps({"step": state.step, "progress": state.progress}))
        checksums = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
        (temporary / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2))
        _sync(temporary)
    except BaseException:
        remove_folder(temporary)
        raise
    old = folder.with_name(f".{folder.name}{SET_ASIDE}")
    if folder.exists():  # one that was found damaged, or that the run went back to, and has no other
        remove_folder(old)
        folder.rename(old)
    temporary.rename(folder)
    remove_folder(old)
    for dropped in _folders(working_dir)[keep:]:
        remove_folder(dropped)
    return folder


def load_newest_checkpoint(working_dir: Path) -> TrainingState | None:
    """Return the newest checkpoint whose files are intact, or None if there is none at all.

    Raises:
        UserError: there are checkpoints, and every one is damaged.
    """
    folders = _folders(working_dir)
    for state in _intact(folders):
        return state
    if folders:
        raise UserError(
            f"all {len(folders)} checkpoints are damaged",
            where=working_dir / CHECKPOINTS,
            fix=f"Remove {working_dir} to start over.",
        )
    return None


def load_checkpoint_before_trouble(working_dir: Path, *, helped_not: int | None) -> TrainingState | None:
    """Return the newest intact checkpoint that was not written in a row of broken steps; None if there is none.

    Args:
        working_dir: the run's folder.
        helped_not: the step that the run went back to last: an older checkpoint is better, if there is one.
    """
    found = None
    for state in _intact(_folders(working_dir)):
        if state.progress["guard"]["in_a_row"] == 0:
            if state.step != helped_not:
                return state
            found = state
    return found


def drop_checkpoints_after(working_dir: Path, step: int) -> None:
    """Remove the checkpoints of a part of the run that it went back behind."""
    for folder in _folders(working_dir):
        if _step(folder) > step:
            remove_folder(folder)


def _intact(folders: list[Path]) -> Iterator[TrainingState]:
    """Yield the checkpoints whose files are intact."""
    for folder in folders:
        problem = _damage(folder)
        if problem is not None:
            log.warning("%s is damaged (%s); trying an older one", folder.name, problem)
            continue
        values = json.loads((folder / STATE_FILE).read_text())
        yield TrainingState(
            values["step"], load_file(folder / MODEL_FILE), load_file(folder / OPTIMIZER_FILE), values["progress"]
        )


def _folders(working_dir: Path) -> list[Path]:
    """Return the checkpoint folders, newest first; of one step the one that was set aside last."""
    found = [path for name in ("step-*", f".step-*{SET_ASIDE}") for path in (working_dir / CHECKPOINTS).glob(name)]
    return sorted(found, key=lambda folder: (_step(folder), folder.suffix != SET_ASIDE), reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(".").removesuffix(SET_ASIDE).removeprefix("step-"))


def _damage(folder: Path) -> str | None:
    try:
        checksums: dict[str, str] = json.loads((folder / CHECKSUMS_FILE).read_text())
    except (OSError, ValueError):
        return "no readable checksums"
    for name, expected in checksums.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != expected:
            return f"{name} does not match its checksum"
    missing = {MODEL_FILE, OPTIMIZER_FILE, STATE_FILE} - checksums.keys()
    return f"{sorted(missing)[0]} is missing" if missing else None


def _sync(folder: Path) -> None:
    """Push a folder's files to the disk before its rename makes them count."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
