"""Corpus building, step by step and side by side: `python -m benchmarks.corpus [--json]`.

Ours: a whole build of the posts with one worker, documents per CPU-second of every step and of all together. Against
it: the same posts through datatrove's own blocks (`JsonlReader`, `PIIFormatter`) and Presidio with spaCy's small
model at batch 64, which is what one would put together without this project; it does not even remove duplicates.
CPU seconds are process time, so other work on the machine moves them less than a clock would.
"""

import argparse
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from configs.errors import UserError, run_program
from corpus import build_corpus
from corpus.deidentify import Deidentifier, mask
from corpus.dumps import read_lines

DUMP = Path(__file__).resolve().parents[2] / "shared" / "data" / "dumps" / "RS_2019.zst"


def write_posts(path: Path, count: int) -> int:
    """Copy the first posts of a real dump into a scratch file."""
    if not DUMP.is_file():
        raise UserError("the dumps are not here", where=DUMP, fix="Put the project's shared data beside the repo.")
    lines = [line.content or b"" for line in itertools.islice(read_lines(DUMP, 2**24), count)]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def measure_ours(dump: Path, scratch: Path, posts: int) -> dict[str, float]:
    """Build a corpus and return documents per CPU-second by step, `all` together."""
    output = scratch / "corpus"
    arguments = ["--inputs", json.dumps([str(dump)]), "--tokenizer", "package:minilm", "--workers", "1"]
    arguments += ["--output_dir", str(output), "--keys_dir", str(scratch / "keys"), "--held_out_share", "0.1"]
    build_corpus.main(arguments, "mindshift corpus build")
    seconds = json.loads((output / "report.json").read_text(encoding="utf-8"))["counts"]["cpu_seconds"]
    rates = {step: round(posts / max(used, 1e-3), 1) for step, used in seconds.items()}
    return rates | {"all": round(posts / sum(seconds.values()), 1)}


def measure_stock(dump: Path, posts: int) -> dict[str, float]:
    """Read, format and mask the posts with stock blocks; documents per CPU-second."""
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader

    presidio = Deidentifier("presidio")
    presidio.find(["warm up"])
    started = time.process_time()
    reader = JsonlReader(str(dump.parent), glob_pattern=dump.name, text_key="selftext")
    texts = [document.text for document in itertools.islice(PIIFormatter()(reader()), posts)]
    for text, spans in zip(texts, presidio.find(texts), strict=True):
        mask(text, spans)
    return {"all": round(len(texts) / (time.process_time() - started), 1)}


def main(arguments: Sequence[str]) -> None:
    """Print both, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__)
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    parser.add_argument("--posts", type=int, default=4000, help="Posts for ours.")
    parser.add_argument("--stock_posts", type=int, default=200, help="Posts for the stock blocks, which are slow.")
    options = parser.parse_args(arguments)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        count = write_posts(scratch / "ours.jsonl", options.posts)
        few = write_posts(scratch / "stock.jsonl", options.stock_posts)
        results: dict[str, Any] = {
            "posts": count,
            "mindshift": measure_ours(scratch / "ours.jsonl", scratch, count),
            "stock_posts": few,
            "datatrove + Presidio": measure_stock(scratch / "stock.jsonl", few),
        }
    results["ratio"] = round(results["mindshift"]["all"] / results["datatrove + Presidio"]["all"], 1)
    if options.json:
        print(orjson.dumps(results).decode())
        return
    print(f"documents per CPU-second, {count:,} posts (stock: {few:,})")
    for system in ("mindshift", "datatrove + Presidio"):
        for step, rate in results[system].items():
            print(f"{system:24}{step:12}{rate:12,.1f}")
    print(f"ratio of the whole: {results['ratio']}")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
