"""Show what each choice of thresholds gives on the dev sets: `python -m corpus.deidentify.training.choose_thresholds`.

Recall is of persons and locations over all masks; word precision is of the tagger's masks against gold of any kind. The
choice is written by hand into `corpus.deidentify.tagging.Thresholds`, with a margin: the test parts come from other
platforms than the dev parts.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.errors import run_program
from corpus.deidentify.deidentifier import combine
from corpus.deidentify.spans import Span
from corpus.deidentify.tagging import MODEL_FOLDER, NameTagger, Thresholds
from corpus.deidentify.training.examples import BTC_LABELS, WNUT_LABELS, read_conll

USUAL, LOWER, COMMON, ORGANISATION = (0.04, 0.07, 0.1, 0.2), (0.1, 0.15, 0.2), (0.6,), (0.3,)


def main(arguments: list[str]) -> None:
    """Print one line a choice."""
    pii = Path(arguments[0]) if arguments else Path("../shared/data/pii")
    tagger = NameTagger(Path(arguments[1]) if len(arguments) > 1 else MODEL_FOLDER)
    sets = {
        "wnut": list(read_conll(pii / "wnut17" / "emerging.dev.conll", WNUT_LABELS)),
        "btc": list(read_conll(pii / "btc" / "btc.dev", BTC_LABELS)),
    }
    scored = {name: tagger.score_words([text for text, _ in gold]) for name, gold in sets.items()}
    for usual, lower, common, organisation in itertools.product(USUAL, LOWER, COMMON, ORGANISATION):
        if lower and lower < usual:
            continue
        tagger.thresholds = Thresholds(usual, lower, common, organisation)
        line = f"usual {usual:.2f} lower {lower:.2f} common {common:.2f} organisation {organisation:.2f}"
        for name, gold in sets.items():
            found = total = right = masked = 0
            for (text, spans), words in zip(gold, scored[name], strict=True):
                tagged = tagger.decide(text, words)
                masks, own = covered(text, combine(text, tagged)), covered(text, tagged)
                personal = [span for span in spans if span[2] in ("NAME", "PLACE")]
                total += len(personal)
                found += sum(all(masks[start:end]) for start, end, _ in personal)
                for (start, end), _ in words:
                    if own[start] and text[start].isalnum():
                        masked += 1
                        right += any(low <= start and end <= high for low, high, _ in spans)
            line += f"   {name}: recall {found / total:.3f} precision {right / max(1, masked):.3f}"
        print(line, flush=True)  # noqa: T201  # this program prints a table


def covered(text: str, spans: Sequence[Span]) -> bytearray:
    """Return one byte a character: 1 where a span is."""
    marks = bytearray(len(text))
    for start, end, _ in spans:
        marks[start:end] = b"\1" * (end - start)
    return marks


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
