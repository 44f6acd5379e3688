"""A stage in small: counts to a number, a checkpoint each step; saves and asks to be requeued when it is told to stop.

Arguments: checkpoint file (a task of an array adds its number), number to reach, seconds a step. A second file,
CHECKPOINT.attempts, gets a line a start.
"""

import os
import signal
import sys
import time
from pathlib import Path

from configs.run_folder import write_atomically
from launch.on_node import REQUEUE_EXIT_CODE

own = os.environ.get("SLURM_ARRAY_TASK_ID", "")
checkpoint, goal, seconds = Path(sys.argv[1] + own), int(sys.argv[2]), float(sys.argv[3])
stop = False


def on_signal(number, frame):
    """Finish the step, then stop."""
    global stop
    stop = True


signal.signal(signal.SIGUSR1, on_signal)
signal.signal(signal.SIGTERM, on_signal)
count = int(checkpoint.read_text()) if checkpoint.exists() else 0
with checkpoint.with_suffix(".attempts").open("a") as attempts:
    attempts.write(f"{count}\n")
while count < goal:
    if stop:
        sys.exit(REQUEUE_EXIT_CODE)
    time.sleep(seconds)
    count += 1
    write_atomically(checkpoint, str(count))
