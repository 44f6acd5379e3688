"""What a person sees of long work: log lines with a clock, and a progress bar with rate and ETA.

On a terminal the bar is tqdm's; elsewhere (a job's log file) it becomes a plain line now and then. No line ever
carries a post: ids and counts only.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

SECONDS_BETWEEN_LOG_LINES = 30.0
ItemT = TypeVar("ItemT")


def start_console(level: int = logging.INFO) -> None:
    """Set up logging for a program, and switch off what would phone home."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("WANDB_MODE", "disabled")
    logging.basicConfig(
        level=level, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", stream=sys.stderr, force=True
    )
    for noisy in ("httpx", "httpx2", "filelock", "urllib3", "matplotlib", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def progress(
    items: Iterable[ItemT], *, description: str, unit: str, total: int | None = None, initial: int = 0
) -> Iterator[ItemT]:
    """Yield `items`, showing how far it is, how fast, and when it will be done."""
    with Progress(description=description, unit=unit, total=total, initial=initial) as bar:
        for item in items:
            yield item
            bar.advance(1)


class Progress:
    """A bar that is advanced by hand.

    Args:
        description: what is being done.
        unit: what is counted, such as `documents` or `steps`.
        total: how many there will be, if it is known.
        initial: how many an earlier, interrupted run had done.
        enabled: False on ranks that stay silent.
    """

    def __init__(
        self, *, description: str, unit: str, total: int | None = None, initial: int = 0, enabled: bool = True
    ) -> None:
        self._on_terminal = enabled and sys.stderr.isatty()
        self._log = logging.getLogger(description)
        self._enabled, self._unit, self._total = enabled, unit, total
        self._count, self._initial = initial, initial
        self._started = self._last_line = time.monotonic()
        self._details = ""
        self._bar = tqdm(
            desc=description, unit=f" {unit}", total=total, initial=initial, disable=not self._on_terminal, leave=False
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def advance(self, count: int, **details: object) -> None:
        """Count `count` more, and show `details` (such as the loss) beside the bar."""
        self._count += count
        if details:
            self._details = " ".join(f"{key} {value}" for key, value in details.items())
        if self._on_terminal:
            if details:
                self._bar.set_postfix_str(self._details, refresh=False)
            self._bar.update(count)
        elif self._enabled and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LOG_LINES:
            self._last_line = time.monotonic()
            self._log.info(self._line())

    def _line(self) -> str:
        rate = (self._count - self._initial) / max(time.monotonic() - self._started, 1e-9)
        line = f"{self._count:,}" + (f" of {self._total:,}" if self._total else "") + f" {self._unit}, {rate:,.1f}/s"
        if self._total and rate > 0:
            seconds_left = (self._total - self._count) / rate
            line += f", {seconds_left / 60:.1f} min left"
        return f"{line} {self._details}".rstrip()
