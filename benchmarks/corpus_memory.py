"""Memory of the two steps that see all posts at once: `python -m benchmarks.corpus_memory [--posts N] [--json]`.

`pairs` sorts one band of all signatures, `decide` reads the facts of all posts. Both run here on made facts (hashes and
dates without any text behind them: their memory depends on nothing else), for a quarter of the posts and for all of
them, each in a process of its own; the bytes a post are the slope between the two peaks.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from configs.errors import run_program
from corpus.decide import DecisionRules, decide
from corpus.describe import FACTS, read_facts
from corpus.minhash import ROWS, candidate_pairs

DUPLICATED_SHARE = 0.02
RULES = DecisionRules(seed=0, held_out_share=0.01, held_out_months=0, max_posts_per_author=100, tasks=[])


def run_pairs(posts: int) -> None:
    """Sort one band in which some rows repeat another."""
    random = np.random.default_rng(0)
    band = random.integers(0, 2**32, size=(posts, ROWS), dtype=np.uint32)
    copies = int(posts * DUPLICATED_SHARE)
    band[-copies:] = band[:copies]
    candidate_pairs(band)


def run_decide(posts: int) -> None:
    """Decide about posts of a tenth as many authors, some of them exact or near duplicates."""
    random = np.random.default_rng(0)
    facts = np.zeros(posts, dtype=FACTS)
    for name in ("id", "words"):
        facts[name] = random.integers(1, 2**63, size=posts)
    facts["author"] = random.integers(1, max(2, posts // 10), size=posts)
    facts["created"] = random.integers(1_400_000_000, 1_700_000_000, size=posts)
    copies = int(posts * DUPLICATED_SHARE)
    facts["words"][-copies:] = facts["words"][:copies]
    pairs = np.stack([np.arange(copies, 2 * copies), np.arange(copies) + posts - 2 * copies], axis=1)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "00000.facts").write_bytes(facts.tobytes())
        del facts
        decide(read_facts(Path(folder), 1, None), pairs, RULES)


STEPS: dict[str, Callable[[int], None]] = {"pairs": run_pairs, "decide": run_decide}


def _peak(step: str, posts: int) -> int:
    STEPS[step](posts)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(posts: int) -> dict[str, dict[str, float]]:
    """Return peak memory (GB) at both sizes and the bytes a post, for each step."""
    result = {}
    for step in STEPS:
        peaks = []
        for size in (posts // 4, posts):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peaks.append(pool.apply(_peak, (step, size)))
        slope = (peaks[1] - peaks[0]) / (posts - posts // 4)
        result[step] = {"quarter_gb": peaks[0] / 1e9, "peak_gb": peaks[1] / 1e9, "bytes_per_post": slope}
    return result


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_memory")
    parser.add_argument("--posts", type=int, default=10_000_000, help="posts of the larger of the two sizes")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options = parser.parse_args(arguments)
    result = measure(options.posts)
    lines = [
        f"{step}: {row['peak_gb']:.2f} GB, {row['bytes_per_post']:.0f} bytes a post" for step, row in result.items()
    ]
    print(json.dumps({"posts": options.posts, "steps": result}, indent=2) if options.json else "\n".join(lines))


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
