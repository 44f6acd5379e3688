"""The tagger at work: texts in, spans of names, places, addresses and organisations out.

The same text gives the same spans whatever else is in the batch and however many threads the machine has: batches
have fixed shapes (rows and pieces are padded up), one thread computes, and a row sees only itself. Processors with
and without fast bfloat16 compute in different precision, so a word at the very threshold can differ between them.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from corpus.deidentify import gate
from corpus.deidentify.spans import Span
from corpus.deidentify.storage import load_tagger
from corpus.deidentify.tagger import CLASSES
from corpus.deidentify.windows import Window, collate, read_window
from corpus.deidentify.words import is_common, is_kept, is_misspelt_drug, is_ordinary

MODEL_FOLDER = Path(__file__).parent / "model"
MASKED = ("NAME", "PLACE", "ADDRESS", "ORGANISATION")
BUCKETS = tuple(
    (pieces, max(2, 384 // pieces)) for pieces in (12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192)
)
"""(pieces, rows) of a batch."""
Place = tuple[int, int, int]
"""Which text, and a stretch of it."""
ScoredWord = tuple[tuple[int, int], list[float]]
"""A word's offsets, and its probability of being each of `MASKED`."""
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_GAP = re.compile(r"|[-'’.&]|\.? {1,3}|\n| & | [^\W\d_]\.? ")
"""Between two masked words of one thing: nothing, a mark, spaces, a line's end, or an initial."""
_MASKED_INDEX = [CLASSES.index(label) for label in MASKED]


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """From which probability of being identifying a word is masked; tuned on the dev sets only."""

    usual: float = 0.07
    lower: float = 0.15
    """For words in lower case."""
    common: float = 0.6
    """For words that are everyday English too: "Will", "reading"."""
    organisation: float = 0.3
    """For words that are more probably an organisation than a person or place."""


class NameTagger:
    """The trained tagger, its tokenizer and its thresholds."""

    def __init__(self, folder: Path = MODEL_FOLDER, thresholds: Thresholds | None = None) -> None:
        self.model, self.tokenizer = load_tagger(folder)
        self.thresholds = thresholds or Thresholds()
        self._dtype = torch.bfloat16 if _has_fast_bfloat16() else torch.float32
        self.model.to(self._dtype).eval()

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, sorted."""
        return [self.decide(text, words) for text, words in zip(texts, self.score_words(texts), strict=True)]

    def score_words(self, texts: Sequence[str]) -> list[list[ScoredWord]]:
        """Return the words of each text that the gate let through, in order, each with its probabilities."""
        texts = [_SURROGATES.sub("\ufffd", text) for text in texts]
        places = [(number, start, end) for number, text in enumerate(texts) for start, end in gate.stretches(text)]
        places, windows = self._read(texts, places)
        words: list[dict[tuple[int, int], list[float]]] = [{} for _ in texts]
        for (number, start, _), window, scores in zip(places, windows, self.score_windows(windows), strict=True):
            for (a, b), row in zip(window.words, scores, strict=True):
                known = words[number].get((start + a, start + b))
                # Where stretches overlap, the reading that is surer of a name counts.
                if known is None or sum(row) > sum(known):
                    words[number][start + a, start + b] = row
        return [sorted(found.items()) for found in words]

    def decide(self, text: str, words: list[ScoredWord]) -> list[Span]:
        """Return the spans that the thresholds make of a text's scored words."""
        return repeat_names(text, self._spans(text, words))

    def _read(self, texts: list[str], places: list[Place]) -> tuple[list[Place], list[Window]]:
        """Return the windows of the places; one with too many pieces is read in halves."""
        done: list[Place] = []
        windows: list[Window] = []
        while places:
            cut: list[Place] = []
            stretches = [texts[number][start:end] for number, start, end in places]
            encodings = self.tokenizer.encode_batch(stretches)
            for (number, start, end), stretch, encoding in zip(places, stretches, encodings, strict=True):
                if len(encoding.ids) > BUCKETS[-1][0] and len(stretch) > 1:
                    left_end, right_start = _halves(stretch)
                    cut += [(number, start, start + left_end), (number, start + right_start, end)]
                else:
                    done.append((number, start, end))
                    windows.append(read_window(stretch, encoding))
            places = cut
        return done, windows

    def score_windows(self, windows: Sequence[Window]) -> list[list[list[float]]]:
        """Return for each window and word the probability of each class of `MASKED`."""
        scores: list[list[list[float]]] = [[] for _ in windows]
        lower = 0
        for pieces, rows in BUCKETS:
            mine = [n for n, window in enumerate(windows) if lower < len(window.input_ids) <= pieces]
            lower = pieces
            for first in range(0, len(mine), rows):
                numbers = mine[first : first + rows]
                probabilities = self._forward([windows[n] for n in numbers], rows, pieces)
                for row, n in enumerate(numbers):
                    scores[n] = probabilities[row, windows[n].first_pieces].tolist()
        return scores

    def _forward(self, windows: list[Window], rows: int, pieces: int) -> torch.Tensor:
        batch = collate(windows, rows=rows, pieces=pieces)
        with torch.inference_mode(), one_thread():
            logits: torch.Tensor = self.model(*batch)
            return logits.float().softmax(-1)[:, :, _MASKED_INDEX]

    def _spans(self, text: str, words: list[ScoredWord]) -> list[Span]:
        spans: list[tuple[int, int, list[float]]] = []
        for (start, end), scores in words:
            if not self._masks(text[start:end], scores):
                continue
            if spans and _joins(text[spans[-1][1] : start]):
                before = spans[-1]
                spans[-1] = (before[0], end, [a + b for a, b in zip(before[2], scores, strict=True)])
            else:
                spans.append((start, end, scores))
        return [
            Span(start, end, MASKED[scores.index(max(scores))])
            for start, end, scores in spans
            if not _only_kept(text[start:end])
        ]

    def _masks(self, word: str, scores: list[float]) -> bool:
        total, limits = sum(scores), self.thresholds
        if not word[0].isalnum() or total < limits.usual:
            return False
        if scores[-1] > 0.5 * total and total < limits.organisation:
            return False
        if word.islower() and total < limits.lower:
            return False
        return total >= limits.common or not (is_ordinary(word) if word.islower() else is_common(word))


def repeat_names(text: str, spans: list[Span]) -> list[Span]:
    """Add the other places of a text where a name found in it stands again, written the same way."""
    names = {
        word
        for span in spans
        if span.label == "NAME"
        for word in gate.WORD.findall(text[span.start : span.end])
        if len(word) > 2 and word.isalpha() and not is_common(word)
    }
    if not names:
        return spans
    taken = bytearray(len(text))
    for start, end, _ in spans:
        taken[start:end] = b"\1" * (end - start)
    again = [
        Span(match.start(), match.end(), "NAME")
        for match in re.finditer(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b", text)
        if not any(taken[match.start() : match.end()])
    ]
    return sorted(spans + again)


def _halves(stretch: str) -> tuple[int, int]:
    """Return where the first half of a stretch ends and the second starts: at a space, if there is one."""
    middle = len(stretch) // 2
    space = stretch.rfind(" ", 1, middle + 1)
    if space < 0:
        space = stretch.find(" ", middle, len(stretch) - 1)
    return (space, space + 1) if space > 0 else (middle, middle)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: workers are processes, and results must not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _joins(gap: str) -> bool:
    """Say whether what stands between two masked words belongs to one thing: "New York", "Anne-Marie", "J. Smith"."""
    return _GAP.fullmatch(gap) is not None


def _only_kept(surface: str) -> bool:
    if is_kept(surface):
        return True
    words = [word for word in gate.WORD.findall(surface) if word[0].isalnum()]
    if all(is_kept(word) or word.isdecimal() or is_misspelt_drug(word) for word in words):
        # "Will" and "Grace" are names too when two such words stand together with capitals.
        return len(words) < 2 or not all(word[0].isupper() and not word.isupper() for word in words)
    return all(word.islower() and is_common(word) for word in words)


def _has_fast_bfloat16() -> bool:
    capability = torch.backends.cpu.get_cpu_capability()
    return "AVX512" in capability and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
