"""What a larger corpus would take: `python -m benchmarks.corpus_plan CORPUS [--posts 100000000] [--json]`.

CORPUS is a finished corpus folder; its report has what the build used. CPU time, disk and the memory of `pairs` and
`decide` (which see all posts at once) grow with the posts, the memory of the other steps does not. Everything printed
for more posts is projected.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError, run_program
from corpus.build_corpus import REPORT_NAME, STEPS

PARALLEL_STEPS = {"ingest": "dump files", "describe": "chunks", "pairs": "32 bands", "decide": "1", "finish": "chunks"}
# Memory in bytes a post, measured by benchmarks/corpus_memory.py: `pairs` holds a band of all signatures and sorts it,
# `decide` holds the facts, a copy and their orders.
BYTES_PER_POST = {"pairs": 45, "decide": 98}


def plan(counts: dict[str, Any], posts: int) -> list[dict[str, Any]]:
    """Return, for each step, its measured rate and memory and what it would take for `posts` posts."""
    read = counts["read"]
    rows = []
    for step in STEPS:
        seconds, memory = counts["cpu_seconds"][step], counts["peak_memory_mb"][step]
        more = BYTES_PER_POST.get(step, 0) * max(0, posts - read) / 1e6
        rows.append(
            {
                "step": step,
                "at once": PARALLEL_STEPS[step],
                "posts per CPU-second": round(read / max(seconds, 1e-3)),
                "core-hours": round(seconds / read * posts / 3600, 1),
                "memory of a task, MB": round(memory + more),
            }
        )
    return rows


def main(arguments: Sequence[str]) -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_plan", description=__doc__)
    parser.add_argument("corpus", type=Path, help="A finished corpus folder.")
    parser.add_argument("--posts", type=int, default=100_000_000, help="Posts to plan for.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    options = parser.parse_args(arguments)
    path = options.corpus / REPORT_NAME
    if not path.is_file():
        raise UserError("no finished corpus is here", where=options.corpus, fix="Build it by `mindshift corpus build`.")
    counts = json.loads(path.read_text(encoding="utf-8"))["counts"]
    rows = plan(counts, options.posts)
    factor = options.posts / counts["read"] / 1000
    disk = {name: round(megabytes * factor, 1) for name, megabytes in counts["megabytes"].items()}
    if options.json:
        print(json.dumps({"measured_posts": counts["read"], "posts": options.posts, "steps": rows, "disk_gb": disk}))
        return
    print(f"measured over {counts['read']:,} posts, projected to {options.posts:,}")
    print("".join(f"{name:<24}" for name in rows[0]))
    for row in rows:
        print("".join(f"{value:<24}" if isinstance(value, str) else f"{value:<24,}" for value in row.values()))
    print("disk, GB: " + ", ".join(f"{name} {size:,}" for name, size in disk.items()))


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
