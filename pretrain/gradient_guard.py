"""Skip optimizer steps whose gradient is a spike or no number at all; say when to go back, and when to give up.

One broken batch can throw Adam's moments off for thousands of steps; leaving it out costs one batch. A spike is
measured against the median of recent norms, which a spike cannot move. If ten steps in a row are broken, the weights
may be the cause: then the run goes back to a checkpoint from before them and on with other documents, as PaLM did
(arXiv:2204.02311 §5.1: "restart training from a checkpoint roughly 100 steps before the spike started, and skip
roughly 200–500 data batches"). `PretrainingRun` does that; the guard counts.
"""

import logging
import math
import statistics
from collections import deque
from typing import Any, NoReturn

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

    Attributes:
        in_a_row: broken steps since the last sound one.
        skipped: broken steps in all.
        rewinds: how often the run went back.
        rewound_to: the step it went back to last.
    """

    def __init__(self, factor: float, *, tells: bool = True) -> None:
        self._factor, self._tells = factor, tells
        self._norms: deque[float] = deque(maxlen=REMEMBERED_NORMS)
        self._last_norm = 0.0
        self.in_a_row, self.skipped, self.rewinds = 0, 0, 0
        self.rewound_to: int | None = None

    @property
    def limit(self) -> float:
        """The largest norm that the next step may have."""
        if self._factor == 0 or len(self._norms) < FEWEST_NORMS:
            return math.inf
        return self._factor * statistics.median(self._norms)

    def record(self, step: int, norm: float) -> None:
        """Take note of a step that was done, or skipped because its norm is over `limit`."""
        limit, self._last_norm = self.limit, norm
        if is_sound(norm, limit):
            self._norms.append(norm)
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        if self._tells:
            log.warning("step %d skipped: gradient norm %.3g, at most %.3g is sound", step + 1, norm, limit)

    @property
    def is_stuck(self) -> bool:
        """Whether skipping does not help: the last ten steps were all broken."""
        return self.in_a_row >= MOST_IN_A_ROW

    def give_up(self, step: int) -> NoReturn:
        """End a run that is stuck behind `step` steps.

        Raises:
            UserError: always.
        """
        tried = f", going back {self.rewinds} times did not help" if self.rewinds else ""
        raise UserError(
            f"the gradient norm was {self._last_norm:.3g} at step {step}, and no step of the last {MOST_IN_A_ROW} was "
            f"sound (at most {self.limit:.3g}, {self._factor:g} times the median before){tried}",
            where="training",
            fix="Start again in another --output_dir with a lower learning_rate, a longer warmup_ratio or a higher "
            "spike_factor.",
        )

    def rewind(self, state: dict[str, Any], step: int) -> None:
        """Take over the norms of a checkpoint's guard, which the run went back to; its own counts go on."""
        self._norms = deque(state["norms"], maxlen=REMEMBERED_NORMS)
        self.in_a_row, self.rewinds, self.rewound_to = 0, self.rewinds + 1, step

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values that `load_state_dict` goes on from."""
        counts = {name: getattr(self, name) for name in ("in_a_row", "skipped", "rewinds", "rewound_to")}
        return {"norms": list(self._norms)} | counts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._norms = deque(state["norms"], maxlen=REMEMBERED_NORMS)
        self.in_a_row, self.skipped = state["in_a_row"], state["skipped"]
        self.rewinds, self.rewound_to = state.get("rewinds", 0), state.get("rewound_to")
