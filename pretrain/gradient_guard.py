"""Skip optimizer steps whose gradient is a spike or no number at all, and give up when they do not stop.

One broken batch can throw Adam's moments off for thousands of steps; leaving it out costs one batch (PaLM,
arXiv:2204.02311 §5.1, skips the data around a spike). A spike is measured against the median of recent norms, which
a spike cannot move.
"""

import logging
import math
import statistics
from collections import deque
from typing import Any

from configs.errors import UserError

REMEMBERED_NORMS, FEWEST_NORMS = 64, 16
"""The median is over so many sound steps; before it has seen the fewest, only NaN and infinity count as spikes."""
MOST_IN_A_ROW = 10

log = logging.getLogger(__name__)


def is_sound(norm: float, limit: float) -> bool:
    """Return whether a step with this gradient norm may change the weights."""
    return math.isfinite(norm) and norm <= limit


class GradientGuard:
    """Decide what a step's gradient norm may be, and count the steps that were skipped.

    Args:
        factor: how many times the recent median is a spike; 0 lets every finite norm pass.
        tells: whether this process logs what is skipped; all see the same norms.
    """

    def __init__(self, factor: float, *, tells: bool = True) -> None:
        self._factor, self._tells = factor, tells
        self._norms: deque[float] = deque(maxlen=REMEMBERED_NORMS)
        self._in_a_row = 0
        self.skipped = 0

    @property
    def limit(self) -> float:
        """The largest norm that the next step may have."""
        if self._factor == 0 or len(self._norms) < FEWEST_NORMS:
            return math.inf
        return self._factor * statistics.median(self._norms)

    def record(self, step: int, norm: float) -> None:
        """Take note of a step that was done, or skipped because its norm is over `limit`.

        Raises:
            UserError: the last ten were all skipped.
        """
        limit = self.limit
        if is_sound(norm, limit):
            self._norms.append(norm)
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        if self._tells:
            log.warning("step %d skipped: gradient norm %.3g, at most %.3g is sound", step + 1, norm, limit)
        if self._in_a_row == MOST_IN_A_ROW:
            raise UserError(
                f"the gradient norm was {norm:.3g} at step {step + 1}, and no step of the last {MOST_IN_A_ROW} was "
                f"sound (at most {limit:.3g}, {self._factor:g} times the median before)",
                where="training",
                fix="Lower learning_rate, lengthen warmup_ratio or raise spike_factor; earlier checkpoints are kept.",
            )

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values that `load_state_dict` goes on from."""
        return {"norms": list(self._norms), "in_a_row": self._in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._norms = deque(state["norms"], maxlen=REMEMBERED_NORMS)
        self._in_a_row, self.skipped = state["in_a_row"], state["skipped"]
