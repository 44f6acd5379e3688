"""One run of a benchmark, in a process that ends when the benchmark's does, however that ended.

A run that stays behind would train on beside the one that the resumed benchmark starts. Its standard input is a pipe
whose other end the benchmark alone holds and never writes to: at its end, so is the benchmark.
"""

import os
import sys
import threading

from configs.console import start_console
from configs.errors import INTERRUPTED_EXIT_CODE, run_program


def end_with_benchmark() -> None:
    """Watch standard input from a thread, and end this process when the other end is closed."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(INTERRUPTED_EXIT_CODE)  # as a kill would: the run resumes from its checkpoint

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_benchmark()
    from finetune.run_classifier import main

    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "a benchmark's run")))
