"""A text cut into its words, each with how much it moved a label: what the classify page colours.

The attributions are `mindshift explain`'s (finetune/attributions.py); a word's share is the sum over its tokens. It
shows what the model looked at, not why a person wrote something.
"""

from typing import Any

from finetune.attributions import Attribution


def cut_into_words(text: str, attribution: Attribution) -> list[dict[str, Any]]:
    """Return the text's pieces in order, `share` of words from -1 (against the label) to 1 (for it), else None."""
    words: list[tuple[int, int, float]] = []
    for (start, end), score in zip(attribution.spans, attribution.scores_T.tolist(), strict=True):
        if words and words[-1][1] == start and text[start - 1].isalnum() and text[start].isalnum():
            words[-1] = (words[-1][0], end, words[-1][2] + score)
        else:
            words.append((start, end, score))
    largest = max((abs(share) for _, _, share in words), default=0.0) or 1.0
    pieces: list[dict[str, Any]] = []
    place = 0
    for start, end, share in words:
        if start > place:
            pieces.append({"text": text[place:start], "share": None})
        pieces.append({"text": text[start:end], "share": share / largest})
        place = end
    return [*pieces, {"text": text[place:], "share": None}] if place < len(text) else pieces
