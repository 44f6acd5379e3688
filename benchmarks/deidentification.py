"""De-identification, side by side: `python -m benchmarks.deidentification [--json]`.

Every system reads the same texts in this one process, on one thread. Dev sets only (`../shared/data/pii`); the test
parts are held out. Definitions:

- recall: a gold span counts as found when every character of it is covered by masks, whatever their label;
- word precision: of the words (between white space) touched by a mask, the share that touch a gold span of any kind.
  Words that are wholly a handle, link, e-mail or hashtag are left out: the gold sets do not annotate them, and
  whether to mask them is no error of either kind. `word_precision_strict` leaves nothing out;
- documents per CPU-second: posts of 80-120 words from `../shared/data/dumps` (synthetic ones without it), process
  time, models loaded before;
- false masks: words of the keep list masked in carrier sentences, per 100.
"""

import argparse
import collections
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from configs.errors import UserError, run_program
from corpus.deidentify import Deidentifier, Span
from corpus.deidentify.training.examples import read_conll
from corpus.deidentify.words import keep_words

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
POSTS, MINIMUM_WORDS, MAXIMUM_WORDS = 400, 80, 120
DUMPS = ("RS_2019.zst", "RS_2022.zst", "RC_2021.zst", "RS_undated.zst")
SHAPED_WORD = re.compile(r"@\w+\W*|#\S+|https?:\S+|www\.\S+|\S+@\S+\.\S+")
CARRIERS = ("I was told it is {}.", "{} helped me a lot", "my friend has {} too, and my mom", "So, {}?")
Gold = tuple[str, list[tuple[int, int, str]]]
Find = Callable[[Sequence[str]], list[list[Span]]]


def gold_sets() -> dict[str, tuple[list[Gold], tuple[str, ...] | None]]:
    """Return each dev set with the kinds its recall counts (None: all, reported by kind)."""
    pii = DATA / "pii"
    if not pii.is_dir():
        raise UserError("the dev sets are not here", where=pii, fix="Put the project's shared data beside the repo.")
    wnut_kinds = ("person", "location", "corporation", "group", "product", "creative-work")
    btc_kinds = ("PER", "LOC", "ORG")
    rows = json.loads((pii / "presidio_research" / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    halves: dict[int, list[Gold]] = {0: [], 1: []}
    for row in rows:
        spans = [(span["start_position"], span["end_position"], span["entity_type"]) for span in row["spans"]]
        halves[row["template_id"] % 2].append((row["full_text"], spans))
    wnut = list(read_conll(pii / "wnut17" / "emerging.dev.conll", {kind: kind for kind in wnut_kinds}))
    btc = list(read_conll(pii / "btc" / "btc.dev", {kind: kind for kind in btc_kinds}))
    return {
        "wnut17_dev": (wnut, ("person", "location")),
        "btc_dev": (btc, ("PER", "LOC")),
        "synth_v2": (halves[0] + halves[1], None),
        "synth_v2_even_templates": (halves[0], None),
        "synth_v2_odd_templates": (halves[1], None),
    }


def score(gold: Sequence[Gold], found: Sequence[Sequence[Span]], kinds: tuple[str, ...] | None) -> dict[str, Any]:
    """Return recall, word precision and recall by kind, as the module defines them."""
    hits: collections.Counter[str] = collections.Counter()
    totals: collections.Counter[str] = collections.Counter()
    words = collections.Counter[tuple[bool, bool]]()
    for (text, spans), masks in zip(gold, found, strict=True):
        masked, personal = bytearray(len(text)), bytearray(len(text))
        for start, end, _ in masks:
            masked[start:end] = b"\1" * (end - start)
        for start, end, kind in spans:
            personal[start:end] = b"\1" * (end - start)
            totals[kind] += 1
            hits[kind] += all(masked[start:end])
        for word in re.finditer(r"\S+", text):
            if any(masked[word.start() : word.end()]):
                shaped = SHAPED_WORD.fullmatch(word.group()) is not None
                words[any(personal[word.start() : word.end()]), shaped] += 1
    counted = kinds or tuple(totals)
    right, wrong = words[True, False], words[False, False]
    return {
        "recall": _share(sum(hits[kind] for kind in counted), sum(totals[kind] for kind in counted)),
        "word_precision": _share(right, right + wrong),
        "word_precision_strict": _share(right + words[True, True], words.total()),
        "recall_by_kind": {kind: _share(hits[kind], totals[kind]) for kind in sorted(totals)},
        "spans": sum(totals[kind] for kind in counted),
    }


def false_mask_rate(find: Find) -> float:
    """Return how many of 100 keep-list words in carrier sentences are masked."""
    texts = [carrier.format(word) for word in sorted(keep_words()) for carrier in CARRIERS]
    return round(100 * sum(bool(spans) for spans in find(texts)) / len(texts), 2)


def posts() -> list[str]:
    """Return posts of about 100 words: real ones where they are at hand, else synthetic sentences put together."""
    if not (DATA / "dumps").is_dir():
        from corpus.deidentify.training.synthetic import synthetic_examples

        sentences = iter(example.text for example in synthetic_examples(12 * POSTS, seed=5))
        return [" ".join(itertools.islice(sentences, 12)) for _ in range(POSTS)]
    share = POSTS // len(DUMPS)
    return [text for name in DUMPS for text in itertools.islice(_dump_texts(DATA / "dumps" / name), share)]


def _dump_texts(path: Path) -> Iterator[str]:
    import io

    import zstandard

    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            record = json.loads(line)
            text = f"{record['title']}\n{record['selftext']}" if "selftext" in record else record["body"]
            if MINIMUM_WORDS <= len(text.split()) <= MAXIMUM_WORDS:
                yield text


def documents_per_second(run: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Return texts per second of process time, after a warm-up."""
    run(texts[:16])
    start = time.process_time()
    run(texts)
    return round(len(texts) / (time.process_time() - start), 1)


def systems() -> dict[str, tuple[Find, Callable[[Sequence[str]], object]]]:
    """Return each system: what finds spans, and what is timed (Presidio runs with datatrove's PIIFormatter)."""
    from datatrove.pipeline.formatters import PIIFormatter

    formatter = PIIFormatter()
    presidio = Deidentifier("presidio")

    def both(texts: Sequence[str]) -> None:
        presidio.find(texts)
        for text in texts:
            formatter.format(text)

    named = {backend: Deidentifier(backend) for backend in ("default", "rules")}
    chosen: dict[str, tuple[Find, Callable[[Sequence[str]], object]]] = {
        f"mindshift {backend}": (one.find, one.find) for backend, one in named.items()
    }
    chosen["Presidio (spaCy sm, batch 64) + PIIFormatter"] = (presidio.find, both)
    return chosen


def measure() -> dict[str, Any]:
    """Run every system over every set."""
    torch.set_num_threads(1)
    sets, texts = gold_sets(), posts()
    report: dict[str, Any] = {}
    for name, (find, timed) in systems().items():
        rows = {key: score(gold, find([text for text, _ in gold]), kinds) for key, (gold, kinds) in sets.items()}
        report[name] = {
            "sets": rows,
            "false_masks_per_100_keep_words": false_mask_rate(find),
            "documents_per_cpu_second": documents_per_second(timed, texts),
        }
    return report


def print_report(report: dict[str, Any]) -> None:
    """Print the measurements as tables."""
    print(f"{'':46} {'docs/CPU-s':>10} {'keep-list false masks':>22}")
    for name, row in report.items():
        print(f"{name:46} {row['documents_per_cpu_second']:>10} {row['false_masks_per_100_keep_words']:>20} %")
    for key in next(iter(report.values()))["sets"]:
        print(f"\n{key}\n{'':46} {'recall':>7} {'word-P':>7} {'strict':>7}")
        for name, row in report.items():
            one = row["sets"][key]
            figures = (one["recall"], one["word_precision"], one["word_precision_strict"])
            print(f"{name:46} " + " ".join(f"{figure:>7.3f}" for figure in figures))
            print("   " + "  ".join(f"{kind} {value:.2f}" for kind, value in one["recall_by_kind"].items()))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 3) if whole else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    report = measure()
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        print_report(report)


if __name__ == "__main__":
    sys.exit(run_program(main))
