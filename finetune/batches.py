"""Group encoded texts into batches of similar length, and pad them.

Padding to the longest row of a batch, with rows of similar length together, does on CPU about half the work of
padding to `max_seq_length`. Lengths are rounded up to a multiple of 8, so that the matrix library meets few shapes.

B = texts in a batch, R = their windows, T = tokens of the longest window, L = labels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from finetune.long_texts import EncodedTexts
from finetune.tasks import FloatArray

LENGTH_MULTIPLE = 8
BATCHES_SORTED_TOGETHER = 50
Batch = dict[str, torch.Tensor]


def epoch_order(targets_NL: FloatArray, *, class_aware: bool, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the indices of one epoch, shuffled.

    Args:
        targets_NL: (N, L) the training targets.
        class_aware: repeat texts with rare labels by the factor of LVIS (Gupta et al. 2019, arXiv:1908.03195):
            max(1, √(t / share of the label)), with t a fair share of the labels; the fraction is drawn.
        generator: draws and shuffles.
    """
    rows = len(targets_NL)
    if not class_aware:
        return generator.permutation(rows)
    shares_L = np.maximum(targets_NL.mean(axis=0), 1 / max(rows, 1))
    fair = targets_NL.sum() / max(rows, 1) / targets_NL.shape[1]
    factors_L = np.maximum(1.0, np.sqrt(fair / shares_L))
    factors_N = np.where(targets_NL > 0, factors_L, 1.0).max(axis=1)
    repeats_N = np.floor(factors_N + generator.random(rows)).astype(np.int64)
    return generator.permutation(np.repeat(np.arange(rows), repeats_N))


def training_batches(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], *, batch_size: int, generator: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Cut shuffled indices into batches of similar length, in random order.

    Args:
        order: the indices of one epoch, shuffled (an index may stand several times).
        lengths: the tokens of every text.
        batch_size: texts a batch.
        generator: shuffles the batches.
    """
    batches = []
    span = batch_size * BATCHES_SORTED_TOGETHER
    for start in range(0, len(order), span):
        chunk = order[start : start + span]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[first : first + batch_size] for first in range(0, len(chunk), batch_size)]
    return [batches[number] for number in generator.permutation(len(batches))]


def inference_batches(lengths: npt.NDArray[np.int64], *, batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield batches of at most `batch_tokens` padded tokens, the longest texts first.

    The longest first: what does not fit into memory fails at once, not in the end.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(int(lengths[order[start]]), 1))
        yield order[start : start + rows]
        start += rows


def collate(encoded: EncodedTexts, indices: Sequence[int] | npt.NDArray[np.int64], pad_token_id: int) -> Batch:
    """Pad the windows of some texts into tensors.

    Returns:
        input_ids and attention_mask (R, T), and owner (R,): the row of the batch, 0 to B-1, a window belongs to.
    """
    windows = [(row, window) for row, index in enumerate(indices) for window in encoded.windows[index]]
    longest = max(len(window) for _, window in windows)
    width = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    input_ids = np.full((len(windows), width), pad_token_id, dtype=np.int64)  # (R, T)
    attention_mask = np.zeros((len(windows), width), dtype=np.int64)
    for number, (_, window) in enumerate(windows):
        input_ids[number, : len(window)] = window
        attention_mask[number, : len(window)] = 1
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(attention_mask),
        "owner": torch.tensor([row for row, _ in windows]),
    }


def forward(model: Any, batch: Batch, texts: int) -> torch.Tensor:
    """Return the logits (B, L) of a batch: those of a text's windows are averaged."""
    logits_RL: torch.Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    owner_R = batch["owner"]
    if len(owner_R) == texts:
        return logits_RL.float()
    sums_BL = torch.zeros(texts, logits_RL.shape[1], device=logits_RL.device)
    sums_BL = sums_BL.index_add(0, owner_R, logits_RL.float())
    counts_B = torch.bincount(owner_R, minlength=texts).clamp(min=1)
    return sums_BL / counts_B[:, None]
