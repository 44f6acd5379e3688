"""The trackers a recipe may add to `metrics.jsonl`: trackio, TensorBoard or wandb. None of them uses the network.

- trackio keeps runs in a local database (TRACKIO_DIR, else its own cache folder): `trackio show --project mindshift`.
  It stays out of the run folder, whose files must not change once their manifest is written.
- TensorBoard files lie in `tensorboard/` of the run folder.
- wandb writes offline files unless WANDB_MODE says otherwise.
"""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from configs.errors import UserError

PROJECT = "mindshift"


class Tracker(Protocol):
    """Where figures go beside `metrics.jsonl`."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Note the figures of a step."""

    def finish(self) -> None:
        """End the run."""


def start_tracker(report_to: str, folder: Path, run_name: str) -> Tracker | None:
    """Return the tracker of that name; None for `none`.

    Raises:
        UserError: it is not installed.
    """
    try:
        match report_to:
            case "trackio":
                return _Trackio(run_name)
            case "tensorboard":
                return _TensorBoard(folder / "tensorboard")
            case "wandb":
                return _start_wandb(folder, run_name)
            case _:
                return None
    except ImportError:
        raise UserError(f"{report_to} is not installed", where="report_to", fix="pip install -e '.[track]'") from None


def _start_wandb(folder: Path, run_name: str) -> Tracker:
    import wandb

    if os.environ.get("WANDB_MODE", "disabled") == "disabled":  # the console's default for everything else
        os.environ["WANDB_MODE"] = "offline"
    run: Tracker = wandb.init(project=PROJECT, name=run_name, dir=str(folder))
    return run


class _Trackio:
    def __init__(self, run_name: str) -> None:
        import trackio

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
