"""`metrics.jsonl`: one line a logging step, and the tracker beside it.

A resumed run drops the lines behind its checkpoint first, so that the file reads as if nothing had happened. So does
one that went back to a checkpoint by itself, and says so in a line of its own.
"""

import contextlib
import dataclasses
import json
import math
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
    seconds: float = 0.0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Interval":
        """Go on from what a checkpoint kept."""
        if "seconds" not in values:  # an older checkpoint: tokens of unknown seconds would make a false rate
            values = values | {"real_tokens": 0, "room_tokens": 0}
        return cls(**values)

    def add(self, losses: list[float], *, masked: int, real: int, room: int, views: int, seconds: float) -> None:
        """Add an optimizer step.

        Args:
            losses: summed over masked tokens; the contrastive and the anchor loss summed over micro-batches.
            masked: tokens that were predicted.
            real: tokens that were no padding.
            room: tokens with the padding.
            views: micro-batches.
            seconds: how long the step took.
        """
        loss, contrastive, anchor = losses
        self.loss += loss
        self.contrastive += contrastive
        self.anchor += anchor
        self.masked_tokens += masked
        self.real_tokens += real
        self.room_tokens += room
        self.view_batches += views
        self.seconds += seconds

    @property
    def mean_loss(self) -> float:
        """Cross entropy of a masked token."""
        return self.loss / max(1, self.masked_tokens)

    @property
    def shown(self) -> dict[str, str]:
        """What stands beside the progress bar."""
        return {"loss": f"{self.mean_loss:.3f}"}

    @property
    def rates(self) -> dict[str, float]:
        """What a line of `metrics.jsonl` says of the interval's tokens."""
        return {
            "tokens_per_second": round(self.real_tokens / max(self.seconds, 1e-9), 1),
            "padding_share": round(1 - self.real_tokens / max(1, self.room_tokens), 5),
        }

    @property
    def mean_sentence_losses(self) -> dict[str, float]:
        """The losses on whole texts, by their names in `metrics.jsonl`."""
        count = max(1, self.view_batches)
        return {"contrastive_loss": self.contrastive / count, "anchor_loss": self.anchor / count}


def _is_broken(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


class MetricsLog(contextlib.AbstractContextManager["MetricsLog"]):
    """Append figures to `metrics.jsonl`, and to a tracker if the recipe names one; leaving it finishes the tracker.

    Args:
        folder: the working folder of the run.
        step: optimizer steps done; later lines are dropped.
        report_to: a tracker of `pretrain.trackers`, `none`, or None for the default.
        run_name: what a tracker calls the run.
    """

    def __init__(self, folder: Path, *, step: int, report_to: str | None, run_name: str) -> None:
        self._folder, self._path = folder, folder / METRICS_FILE
        self._rewrite([line for line in read_metrics(folder) if line["step"] <= step])
        self._tracker = start_tracker(report_to, folder, run_name)

    def write(self, values: Mapping[str, Any]) -> None:
        """Add one line; it must have a `step`. What is no number any more (a loss of a broken step) becomes null."""
        values = {key: None if _is_broken(value) else value for key, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self._tracker is not None:
            numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and key != "step"}
            self._tracker.log(numbers, step=values["step"])

    def rewind(self, *, step: int, rewound_from: int, rewinds: int) -> None:
        """Put a line about going back from one step to another in the place of the lines in between.

        It may be told twice: a run that is killed before its next checkpoint goes back once more.
        """
        line = {"step": step, "rewound_from": rewound_from, "rewinds": rewinds}
        lines = [old for old in read_metrics(self._folder) if old["step"] <= step and old.get("rewinds", 0) < rewinds]
        self._rewrite([*lines, line])

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in lines))

    def __exit__(self, *_: object) -> None:
        """Finish the tracker's run, also when the run stops or breaks; its files do not change any more."""
        if self._tracker is not None:
            self._tracker.finish()
