"""Stop a run where it can go on: SIGTERM and SIGUSR1 ask for a checkpoint and an exit that SLURM requeues on."""

import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
REQUEUE_EXIT_CODE = 75
"""After a signal and a checkpoint (EX_TEMPFAIL): run the same command again."""


class Interrupted(SystemExit):
    """The run was told to stop, has saved, and can be resumed."""

    def __init__(self) -> None:
        super().__init__(REQUEUE_EXIT_CODE)


class StopRequest:
    """Whether this process was asked to stop; as a context it listens to the signals."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "StopRequest":
        self._earlier = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True
