"""From text to what the tagger reads: words, how they are written, word pieces, batches.

A word is what the tokenizer splits at spaces and punctuation. B = windows in the batch, T = pieces per window.
"""

import dataclasses
from collections.abc import Sequence

import torch
from tokenizers import Encoding, Tokenizer

from corpus.deidentify.tagger import casing_of, shape_of

SENTENCE_ENDS = frozenset('.!?:"“”…•*>')


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A stretch of text as the tagger reads it; W = its words."""

    input_ids: list[int]
    """T pieces, `[CLS]` and `[SEP]` included."""
    shapes: list[int]
    """T: `shape_of` each piece's word."""
    casing: int
    first_pieces: list[int]
    """W: the index of each word's first piece."""
    words: list[tuple[int, int]]
    """W: character offsets into the window's text."""


def read_window(text: str, encoding: Encoding) -> Window:
    """Return the window of an encoded text."""
    first_pieces, words = list[int](), list[tuple[int, int]]()
    last = None
    word_ids, offsets = encoding.word_ids, encoding.offsets
    for piece, word in enumerate(word_ids):
        if word is None:
            continue
        start, end = offsets[piece]
        if word != last:
            first_pieces.append(piece)
            words.append((start, end))
            last = word
        else:
            words[-1] = (words[-1][0], max(end, words[-1][1]))
    surfaces = [text[start:end] for start, end in words]
    shapes = [0] * len(word_ids)
    opens, previous_end = True, 0
    bounds = [*first_pieces, len(word_ids)]
    for number, (surface, (start, end)) in enumerate(zip(surfaces, words, strict=True)):
        opens = opens or "\n" in text[previous_end:start]
        shape = shape_of(surface, opens=opens)
        for piece in range(bounds[number], bounds[number + 1]):
            shapes[piece] = shape
        opens, previous_end = surface in SENTENCE_ENDS, end
    return Window(encoding.ids, shapes, casing_of(surfaces), first_pieces, words)


def read_windows(texts: Sequence[str], tokenizer: Tokenizer) -> list[Window]:
    """Encode texts, each as one window."""
    return [
        read_window(text, encoding) for text, encoding in zip(texts, tokenizer.encode_batch(list(texts)), strict=True)
    ]


def collate(
    windows: Sequence[Window], *, rows: int, pieces: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return input ids, shapes (both (B, T)), casings (B,) and which pieces are visible (B, T).

    Args:
        windows: at most `rows` windows of at most `pieces` pieces.
        rows: B; rows without a window see one padding piece.
        pieces: T.
    """
    input_ids_BT = torch.zeros(rows, pieces, dtype=torch.long)
    shapes_BT = torch.zeros(rows, pieces, dtype=torch.long)
    casings_B = torch.zeros(rows, dtype=torch.long)
    visible_BT = torch.zeros(rows, pieces, dtype=torch.bool)
    visible_BT[:, 0] = True
    for row, window in enumerate(windows):
        length = len(window.input_ids)
        input_ids_BT[row, :length] = torch.tensor(window.input_ids)
        shapes_BT[row, :length] = torch.tensor(window.shapes)
        casings_B[row] = window.casing
        visible_BT[row, :length] = True
    return input_ids_BT, shapes_BT, casings_B, visible_BT
