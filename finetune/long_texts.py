"""Turn texts into token ids, and fit those that are longer than the encoder reads.

`head_tail` keeps the beginning and the end of a long text (Sun et al. 2019, arXiv:1905.05583 §5.3.1), `head` only
the beginning, and `windows` cuts overlapping pieces whose logits are pooled into one prediction.

R = windows (one a text, but for long texts under `windows`), T = tokens of a window, B = texts in a batch.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

LongTextPolicy = Literal["head", "head_tail", "windows"]
HEAD_SHARE = 0.25  # of a head_tail text, the part taken from its beginning: 128 of 512 tokens in the paper
TOKENIZER_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class EncodedTexts:
    """Texts as windows of token ids, special tokens included."""

    windows: list[list[list[int]]]
    """Per text, its windows; per window, its token ids."""
    truncated: int
    """Texts that lost tokens."""

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The tokens a text costs: those of all its windows."""
        return np.array([sum(map(len, windows)) for windows in self.windows], dtype=np.int64)


class TextEncoder:
    """Turns texts into windows of token ids.

    Args:
        tokenizer: a transformers tokenizer.
        max_seq_length: tokens of a window at most, special tokens included.
        policy: what to do with longer texts.
        max_windows: windows of a text at most; beyond them the text's middle is dropped.
    """

    def __init__(self, tokenizer: Any, *, max_seq_length: int, policy: LongTextPolicy, max_windows: int = 4) -> None:
        self.tokenizer, self.max_seq_length = tokenizer, max_seq_length
        self.policy, self.max_windows = policy, max_windows
        sample = tokenizer("a", return_special_tokens_mask=True)
        ids, special = sample["input_ids"], sample["special_tokens_mask"]
        first, last = special.index(0), len(special) - special[::-1].index(0)
        self._prefix, self._suffix = list(ids[:first]), list(ids[last:])  # [CLS] and [SEP] for BERT

    @property
    def pad_token_id(self) -> int:
        """The token that fills up a batch; attention never sees it."""
        return int(self.tokenizer.pad_token_id or 0)

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Encode texts; an empty one becomes a window of special tokens only."""
        windows, truncated = [], 0
        for start in range(0, len(texts), TOKENIZER_BATCH):
            batch = list(texts[start : start + TOKENIZER_BATCH])
            for ids in self.tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
                pieces, complete = self._fit(ids)
                windows.append([self._prefix + piece + self._suffix for piece in pieces])
                truncated += not complete
        return EncodedTexts(windows, truncated)

    def _fit(self, ids: list[int]) -> tuple[list[list[int]], bool]:
        room = self.max_seq_length - len(self._prefix) - len(self._suffix)
        if len(ids) <= room:
            return [ids], True
        if self.policy == "head":
            return [ids[:room]], False
        if self.policy == "head_tail":
            head = round(room * HEAD_SHARE)
            return [ids[:head] + ids[len(ids) - (room - head) :]], False
        return self._windows(ids, room)

    def _windows(self, ids: list[int], room: int) -> tuple[list[list[int]], bool]:
        """Cut equally spaced windows that cover the text, or its two ends if `max_windows` cannot."""
        complete = len(ids) <= room * self.max_windows
        if not complete:
            kept = room * self.max_windows
            ids = ids[: kept // 2] + ids[len(ids) - (kept - kept // 2) :]
        count = -(-len(ids) // room)
        starts = np.linspace(0, len(ids) - room, count).round().astype(int)
        return [ids[start : start + room] for start in starts], complete
