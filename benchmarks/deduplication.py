"""Near-duplicate recall on short posts, setting by setting: `python -m benchmarks.deduplication [--json]`.

A copy of a post differs in 5 or 10 % of its words (half replaced, a quarter removed, a quarter inserted). Definitions:

- recall: the share of posts whose edited copy is found as a pair with it;
- false drops: the share of posts from `../shared/data/dumps` (synthetic ones without it) that would be dropped for a
  post with which they share fewer than half of their word 3-grams (exact Jaccard similarity below 0.5);
- documents per CPU-second: signatures of the posts as they are, one process.

All settings use the same hash functions; `datatrove` is its default of 5-grams and 14 bands of 8 rows.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import run_program
from configs.word_runs import hash_runs
from corpus import minhash
from corpus.config import CorpusRecipe
from corpus.deduplicate import normalized_words
from corpus.document import full_text
from corpus.dumps import read_lines
from corpus.ingest import decode_line

DUMPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "dumps"
FILES = ("RS_2019.zst", "RC_2022.zst", "RS_2024.zst")
DUPLICATE_FROM = 0.5
LENGTHS, EDITS = (20, 50, 150), (0.05, 0.10)
SIMILARITY = CorpusRecipe.near_duplicate_similarity
# name → words of a shingle, bands, rows, similarity that a candidate must reach (0: every candidate counts)
SETTINGS = {
    "ours (3-gram, 32 x 3, verified)": (3, 32, 3, SIMILARITY),
    "3-gram, 20 x 5": (3, 20, 5, 0.0),
    "datatrove (5-gram, 14 x 8)": (5, 14, 8, 0.0),
}
Words = list[str]
Signatures = npt.NDArray[np.uint32]


def read_posts(count: int) -> list[Words]:
    """Return the words of real posts, or of synthetic ones where the shared data are absent."""
    if not DUMPS.is_dir():
        random = np.random.default_rng(1)
        sizes = random.integers(8, 200, size=count)
        return [[f"w{word}" for word in random.zipf(1.3, size=size) % 30_000] for size in sizes]
    posts = []
    for name in FILES:
        for line, _ in zip(read_lines(DUMPS / name, 2**24), range(count // len(FILES)), strict=False):
            posts.append(normalized_words(full_text(decode_line(line))))
    return posts


def edit(words: Words, share: float, vocabulary: Words, random: np.random.Generator) -> Words:
    """Return a copy with a share of the words replaced, removed or preceded by another."""
    copy = list(words)
    for place in sorted(random.choice(len(words), max(1, round(share * len(words))), replace=False), reverse=True):
        kind, new = random.integers(0, 4), vocabulary[random.integers(len(vocabulary))]
        copy[place : place + (0 if kind == 3 else 1)] = [] if kind == 2 else [new]
    return copy


def sign_all(texts: Sequence[Words], shingle: int, permutations: int) -> Signatures:
    """Return signatures of any setting, (texts, permutations); `minhash.sign` is that of ours."""
    random = np.random.Generator(np.random.PCG64(minhash.SIGNATURE_SEED))
    numbers = random.integers(0, 2**64, size=(2, permutations), dtype=np.uint64)
    multipliers, offsets = numbers[0] | np.uint64(1), numbers[1]
    rows = []
    for words in texts:
        hashes = hash_runs(words, shingle)
        rows.append(((multipliers[:, None] * hashes + offsets[:, None]) >> np.uint64(32)).min(axis=1))
    return np.array(rows, dtype=np.uint32)


def jaccard(one: Words, other: Words) -> float:
    """Return the exact similarity of the word 3-grams of two texts."""
    grams = [{tuple(words[place : place + 3]) for place in range(max(len(words) - 2, 1))} for words in (one, other)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def find_pairs(signatures: Signatures, bands: int, rows: int, similarity: float) -> set[tuple[int, int]]:
    """Return the pairs that a setting finds."""
    table = signatures.reshape(len(signatures), bands, rows)
    pairs = {(int(a), int(b)) for band in range(bands) for a, b in minhash.candidate_pairs(table[:, band])}
    return {pair for pair in pairs if (signatures[pair[0]] == signatures[pair[1]]).mean() >= similarity}


def measure(posts: list[Words], per_length: int) -> dict[str, Any]:
    """Measure every setting."""
    vocabulary = [word for words in posts[:2000] for word in words]
    results: dict[str, Any] = {}
    for name, (shingle, bands, rows, similarity) in SETTINGS.items():
        recall: dict[str, float] = {}
        for length in LENGTHS:
            texts = [words[:length] for words in posts if len(words) >= length][:per_length]
            for share in EDITS:
                random = np.random.default_rng(length)
                copies = [edit(words, share, vocabulary, random) for words in texts]
                pairs = find_pairs(sign_all([*texts, *copies], shingle, bands * rows), bands, rows, similarity)
                found = sum((place, place + len(texts)) in pairs for place in range(len(texts)))
                recall[f"{length} words, {share:.0%}"] = round(found / max(len(texts), 1), 4)
        started = time.process_time()
        signatures = sign_all(posts, shingle, bands * rows)
        seconds = time.process_time() - started
        drops = {late: early for early, late in find_pairs(signatures, bands, rows, similarity)}
        false = sum(jaccard(posts[early], posts[late]) < DUPLICATE_FROM for late, early in drops.items())
        results[name] = {
            "recall": recall,
            "drops": len(drops),
            "false_drops": round(false / len(posts), 5),
            "documents_per_cpu_second": round(len(posts) / seconds),
        }
    return results


def main(arguments: Sequence[str]) -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deduplication", description=__doc__)
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    parser.add_argument("--posts", type=int, default=6000, help="Distinct posts.")
    parser.add_argument("--per_length", type=int, default=500, help="Edited posts for each length and share.")
    options = parser.parse_args(arguments)
    # Posts of the very same words are no false drops: they leave as exact duplicates.
    posts = [list(words) for words in dict.fromkeys(tuple(words) for words in read_posts(options.posts)) if words]
    results: dict[str, Any] = {
        "posts": len(posts),
        "real_posts": DUMPS.is_dir(),
        "settings": measure(posts, options.per_length),
    }
    if options.json:
        print(json.dumps(results))
        return
    columns = [f"{length} words, {share:.0%}" for length in LENGTHS for share in EDITS]
    print(f"{len(posts):,} {'real' if results['real_posts'] else 'synthetic'} posts; recall by length and share edited")
    print(
        f"{'':34}"
        + "".join(f"{column:>16}" for column in columns)
        + f"{'drops':>8}{'false drops':>14}{'docs/CPU-s':>12}"
    )
    for name, row in results["settings"].items():
        values = "".join(f"{row['recall'][column]:16.3f}" for column in columns)
        print(f"{name:34}{values}{row['drops']:8}{row['false_drops']:14.4%}{row['documents_per_cpu_second']:12,}")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
