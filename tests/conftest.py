"""One thread a process, here and in the processes that tests start.

Sums are rounded differently with another number of threads, so tests that compare runs bit for bit need the same
number everywhere; and the suite's many processes would crowd a small machine.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, which is after this
