"""Why a job failed, from the tail of its log, in one line that carries no post.

A stage's own error line names files, keys and counts by contract. Of a traceback only the exception's type is
shown: its message may quote what was being read.
"""

import re
from pathlib import Path

TAIL_BYTES = 65_536
ATTEMPT = re.compile(r"^attempt \d+ on .*$", re.MULTILINE)
RANK_PREFIX = re.compile(r"^\[(rank|default)\d+\]:\s?", re.MULTILINE)
EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Interrupt|Exit)): ?", re.MULTILINE)
NODE_LOST = re.compile(r"^(?:srun: error: Node failure on|error: node) (\S+?)(?: does not answer)?$", re.MULTILINE)
USER_ERROR = re.compile(r"^error: (.+)\n?((?:  .+\n?)?)", re.MULTILINE)
# The order is from cause to consequence: a rank out of memory makes the others complain of their connection.
KNOWN = (
    (r"OutOfMemoryError|CUDA out of memory", "out of GPU memory: lower micro_batch_size"),
    (r"oom[-_ ]kill|can'?t allocate memory|cannot allocate memory|MemoryError", "out of memory: raise `memory`"),
    (r"CANCELLED AT \S+ DUE TO TIME LIMIT", "time limit: it was not requeued in time (see docs/cluster.md)"),
    (r"CANCELLED AT \S+ DUE TO PREEMPTION", "preempted"),
    (r"^the stage saved and asks to go on", "its time limit was near"),
    (r"^SLURM ended the stage", "ended by SLURM and requeued"),
    (r"CANCELLED AT \S+ DUE TO JOB REQUEUE", "requeued by `scontrol requeue`"),
    (r"No space left on device|disk quota exceeded", "the disk is full"),
    (r"EADDRINUSE|Address already in use|another process is utilizing it", "the port is taken by another job"),
    (r"ModuleNotFoundError|ImportError", "a package is missing on the node: check `environment` or `container`"),
    (r"Connection (?:closed|reset|refused)|DistBackendError|NCCL error|Socket Timeout", "the ranks lost each other"),
)


def attempt_reasons(log: Path) -> list[str]:
    """Return, for each attempt in the tail of a job's log, why it ended; empty where the log does not say."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    starts = [match.end() for match in ATTEMPT.finditer(text)] or [0]
    return [diagnose(text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def diagnose(text: str) -> str:
    """Return why the attempt that wrote this text ended, or an empty string if it does not say."""
    text = RANK_PREFIX.sub("", text)
    node = NODE_LOST.search(text)
    if node:
        return f"node {node.group(1)} was lost"
    message = USER_ERROR.search(text)
    if message:
        return " ".join(f"{message.group(1)} {message.group(2)}".split())
    for pattern, meaning in KNOWN:
        if re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return meaning
    raised = EXCEPTION.findall(text)
    return f"{raised[0]} (the log has the traceback)" if raised else ""
