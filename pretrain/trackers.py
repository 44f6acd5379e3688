"""The trackers beside `metrics.jsonl`: trackio by default, TensorBoard or wandb. None of them uses the network.

- trackio keeps a local database in `trackio/` of the run folder, or in TRACKIO_DIR for one database over many runs:
  `TRACKIO_DIR=RUN/trackio trackio show --project mindshift`. Looking at it does not change it.
- TensorBoard files lie in `tensorboard/` of the run folder.
- wandb writes offline files in `wandb/` of the run folder unless WANDB_MODE says otherwise.

A run has one name there from its start to its end, however often it is resumed: `RUN_ID_FILE` keeps what tells it from
others of the same folder name.
"""

import contextlib
import importlib.util
import io
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from configs.errors import UserError
from configs.run_folder import remove_folder, write_atomically

PROJECT = "mindshift"
RUN_ID_FILE = "tracker_id"
INSTALL = "pip install -e '.[track]'"

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Where figures go beside `metrics.jsonl`."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Note the figures of a step."""

    def finish(self) -> None:
        """End the run."""


def start_tracker(report_to: str | None, folder: Path, run_name: str) -> Tracker | None:
    """Return the tracker of that name; None for `none`. Unset is trackio, or none where that is not installed.

    Args:
        report_to: the tracker's name.
        folder: of the run.
        run_name: what the tracker calls the run, its id behind it.

    Raises:
        UserError: the one that was asked for is not installed.
    """
    if report_to is None and importlib.util.find_spec("trackio") is None:
        log.info("no tracker beside metrics.jsonl and training.html: trackio is not installed (%s)", INSTALL)
        return None
    try:
        match report_to or "trackio":
            case "trackio":
                return _Trackio(folder / "trackio", f"{run_name}-{_run_id(folder)}")
            case "tensorboard":
                return _TensorBoard(folder / "tensorboard")
            case "wandb":
                return _Wandb(folder, run_name)
            case _:
                return None
    except ImportError:
        raise UserError(f"{report_to} is not installed", where="report_to", fix=INSTALL) from None


def _run_id(folder: Path) -> str:
    """Return what the first attempt at a run called it."""
    path = folder / RUN_ID_FILE
    if not path.is_file():
        write_atomically(path, secrets.token_hex(4))
    return path.read_text()


def _load_trackio(folder: Path) -> Any:
    """Import trackio for a folder: it takes TRACKIO_DIR when it is imported, and keeps to it."""
    if "TRACKIO_DIR" in os.environ:
        return importlib.import_module("trackio")
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]  # an earlier run of this process had another folder
    os.environ["TRACKIO_DIR"] = str(folder.resolve())
    try:
        return importlib.import_module("trackio")
    finally:
        del os.environ["TRACKIO_DIR"]


class _Trackio:
    def __init__(self, folder: Path, run_name: str) -> None:
        trackio = _load_trackio(folder)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints advertisement of its own dashboard
            self._run: Any = trackio.init(
                project=PROJECT, name=run_name, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False
            )
        self._finish = trackio.finish

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._finish()


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, run_name: str) -> None:
        import wandb

        if os.environ.get("WANDB_MODE", "disabled") == "disabled":  # the console's default for everything else
            os.environ["WANDB_MODE"] = "offline"
        run_id = _run_id(folder)
        self._run: Any = wandb.init(
            project=PROJECT, name=f"{run_name}-{run_id}", id=run_id, resume="allow", dir=str(folder)
        )
        self._folder, self._end_service = folder / "wandb", wandb.teardown

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        self._run.finish()
        self._end_service()  # else it writes on until the program ends, behind the manifest
        # Its own logs lie in the user's cache, behind links that a manifest would follow.
        for path in sorted(self._folder.rglob("*")):
            if path.is_symlink():
                path.unlink()
            elif path.name == "logs":
                remove_folder(path)
