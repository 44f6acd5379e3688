"""`metrics.jsonl`: one line a logging step, and the trackers a recipe may add to it.

A resumed run drops the lines behind its checkpoint first, so that the file reads as if nothing had happened.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.run_folder import write_atomically
from pretrain.trackers import start_tracker

METRICS_FILE = "metrics.jsonl"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`; a last line torn by a kill is left out."""
    path = folder / METRICS_FILE
    lines = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


@dataclasses.dataclass
class Interval:
    """Sums since the last line of `metrics.jsonl`, over all processes."""

    loss: float = 0.0
    contrastive: float = 0.0
    anchor: float = 0.0
    masked_tokens: int = 0
    real_tokens: int = 0
    room_tokens: int = 0
    view_batches: int = 0

    def add(self, losses: list[float], *, masked: int, real: int, room: int, views: int) -> None:
        """Add an optimizer step.

        Args:
            losses: summed over masked tokens; the contrastive and the anchor loss summed over micro-batches.
            masked: tokens that were predicted.
            real: tokens that were no padding.
            room: tokens with the padding.
            views: micro-batches.
        """
        loss, contrastive, anchor = losses
        self.loss += loss
        self.contrastive += contrastive
        self.anchor += anchor
        self.masked_tokens += masked
        self.real_tokens += real
        self.room_tokens += room
        self.view_batches += views

    @property
    def mean_loss(self) -> float:
        """Cross entropy of a masked token."""
        return self.loss / max(1, self.masked_tokens)

    @property
    def mean_sentence_losses(self) -> dict[str, float]:
        """The losses on whole texts, by their names in `metrics.jsonl`."""
        count = max(1, self.view_batches)
        return {"contrastive_loss": self.contrastive / count, "anchor_loss": self.anchor / count}


class MetricsLog:
    """Append figures to `metrics.jsonl`, and to a tracker if the recipe names one.

    Args:
        folder: the working folder of the run.
        step: optimizer steps done; later lines are dropped.
        report_to: `none`, or a tracker of `pretrain.trackers`.
        run_name: what a tracker calls the run.
    """

    def __init__(self, folder: Path, *, step: int, report_to: str, run_name: str) -> None:
        self._path = folder / METRICS_FILE
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._tracker = start_tracker(report_to, folder, run_name)

    def write(self, values: Mapping[str, Any]) -> None:
        """Add one line; it must have a `step`."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self._tracker is not None:
            numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
            self._tracker.log(numbers, step=values["step"])

    def close(self) -> None:
        """Finish the tracker's run."""
        if self._tracker is not None:
            self._tracker.finish()
