"""Attention inside each sequence of a flat micro-batch, by whatever is fastest on the device.

- CUDA in bf16 or fp16 without attention dropout: `torch.nn.attention.varlen` (FlashAttention, in torch), which needs an
  Ampere GPU or a later one.
- CPU in bf16, or with attention dropout: plain matrix products with a backward of our own. The backward of torch's
  fused CPU kernel is several times slower in bf16, and dropout takes it off the fused kernel (docs/experiments.md).
- CUDA otherwise (attention dropout, which torch's varlen call lacks; fp32; older GPUs): sequences of like length,
  padded, in one `scaled_dot_product_attention`. A call a sequence would leave the GPU waiting for the next launch.
- anything else: `scaled_dot_product_attention`, one call a sequence.

N = tokens of a micro-batch, B = sequences of like length, T = tokens of one sequence, Q = its queries, H = heads,
E = head width.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

PACKED_ATTENTION = "mindshift_packed"
PADDED_TO = 64
"""Sequences whose length is the same, rounded up to a multiple of it, are padded into one call."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: list[int],
    query_lengths: list[int] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attend inside each sequence only; a function for transformers' `AttentionInterface`.

    Args:
        module: the calling layer, unused.
        query: (1, H, N, E), or fewer rows if `query_lengths` says so.
        key: (1, H, N, E).
        value: (1, H, N, E).
        attention_mask: unused; `lengths` say all.
        lengths: tokens of each sequence; they add up to N.
        query_lengths: queries of each sequence, if not all tokens ask; never with a sliding window.
        scaling: factor on the scores; 1/√E if unset.
        dropout: probability of dropping an attention weight.
        sliding_window: reach of local attention plus one, as transformers passes it.

    Returns:
        (1, N, H, E) outputs, one for each query, and no attention weights.
    """
    asked = lengths if query_lengths is None else query_lengths
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if dropout == 0.0 and _has_flash_attention(query.device, query.dtype):
        return _varlen(query, key, value, lengths, asked, scaling, sliding_window), None
    if not query.is_cuda and (query.dtype == torch.bfloat16 or dropout > 0.0):
        return matrix_attention(query, key, value, lengths, asked, scaling, dropout, sliding_window), None
    if query.is_cuda:
        return padded_attention(query, key, value, lengths, asked, scaling, dropout, sliding_window), None
    sizes = (asked, lengths, lengths)
    parts = zip(*(torch.split(t, size, dim=2) for t, size in zip((query, key, value), sizes, strict=True)), strict=True)
    outputs = [
        F.scaled_dot_product_attention(
            q, k, v, attn_mask=_local_mask(q.shape[2], sliding_window, q.device), dropout_p=dropout, scale=scaling
        ).transpose(1, 2)
        for q, k, v in parts
        if q.shape[2] > 0
    ]
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(PACKED_ATTENTION, packed_attention)


@functools.cache
def _has_flash_attention(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether FlashAttention runs there: in half precision, on Ampere and later, so on no V100 or T4."""
    is_half = dtype in (torch.bfloat16, torch.float16)
    return device.type == "cuda" and is_half and torch.cuda.get_device_capability(device) >= (8, 0)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    asked: list[int],
    scaling: float,
    sliding_window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    of_queries, of_keys = (_boundaries(tuple(sizes), query.device) for sizes in (asked, lengths))
    reach = -1 if sliding_window is None else sliding_window - 1
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (N, H, E)
    output = varlen_attn(
        q, k, v, of_queries, of_keys, max(asked), max(lengths), scale=scaling, window_size=(reach, reach)
    )
    return cast(Tensor, output)[None]


@functools.lru_cache(maxsize=8)
def _boundaries(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Return (sequences + 1,) starts and end; every layer of a micro-batch asks for the same."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    return torch.tensor(starts, dtype=torch.int32, device=device)


def _local_mask(length: int, sliding_window: int | None, device: torch.device) -> Tensor | None:
    """Return (T, T), True where a token may look; None if it may look everywhere."""
    if sliding_window is None or length <= sliding_window:
        return None
    position = torch.arange(length, device=device)
    return (position[:, None] - position[None]).abs() < sliding_window


@dataclasses.dataclass(frozen=True)
class _LikeSequences:
    """Where the sequences of like length lie among the rows of a micro-batch; padding repeats a sequence's last row.

    Attributes:
        queries, keys: (B, Q) and (B, T) rows.
        allowed: (B, 1, Q, T) whether a query may look at a key. One of padding may look anywhere: softmax over nothing
            is no number, and would spoil the gradients of the others.
    """

    queries: Tensor
    keys: Tensor
    allowed: Tensor


def padded_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    asked: list[int],
    scaling: float,
    dropout: float,
    sliding_window: int | None,
) -> Tensor:
    """Return (1, N, H, E): `packed_attention` in few calls, each over padded sequences of like length."""
    groups, order = _group_like(tuple(lengths), tuple(asked), sliding_window, query.device)
    outputs = []
    for group in groups:
        q, k, v = (
            tensor[0][:, rows].transpose(0, 1)  # (B, H, Q or T, E)
            for tensor, rows in ((query, group.queries), (key, group.keys), (value, group.keys))
        )
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=group.allowed, dropout_p=dropout, scale=scaling)
        outputs.append(found.transpose(1, 2).flatten(0, 1))  # (B·Q, H, E)
    return torch.cat(outputs)[order][None]


@functools.lru_cache(maxsize=8)
def _group_like(
    lengths: tuple[int, ...], asked: tuple[int, ...], sliding_window: int | None, device: torch.device
) -> tuple[list[_LikeSequences], Tensor]:
    """Return the groups, and (N,) where each query's output stands among theirs; every layer asks for the same."""
    by_size: dict[int, list[tuple[int, int, int, int]]] = {}
    row = start = 0
    for queries, length in zip(asked, lengths, strict=True):
        if queries > 0:
            by_size.setdefault(-(-length // PADDED_TO), []).append((row, queries, start, length))
        row, start = row + queries, start + length
    groups, order, first = [], torch.empty(row, dtype=torch.int64), 0
    for found in by_size.values():
        rows, query_counts, starts, key_counts = (torch.tensor(values)[:, None] for values in zip(*found, strict=True))
        query_places, key_places = (torch.arange(int(counts.max()))[None] for counts in (query_counts, key_counts))
        is_query, is_key = query_places < query_counts, key_places < key_counts  # (B, Q), (B, T)
        query_rows = rows + torch.minimum(query_places, query_counts - 1)
        key_rows = starts + torch.minimum(key_places, key_counts - 1)
        near = torch.ones(1, 1, 1, dtype=torch.bool)
        if sliding_window is not None:  # every token asks
            near = ((query_places.mT - key_places).abs() < sliding_window)[None]
        allowed = (is_key[:, None] & near) | ~is_query[:, :, None]  # (B, Q, T)
        order[query_rows[is_query]] = first + is_query.flatten().nonzero()[:, 0]
        first += is_query.numel()
        groups.append(_LikeSequences(query_rows.to(device), key_rows.to(device), allowed[:, None].to(device)))
    return groups, order.to(device)


def matrix_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    asked: list[int],
    scaling: float,
    dropout: float,
    sliding_window: int | None,
) -> Tensor:
    """Return (1, N, H, E): `packed_attention` as plain matrix products with a backward of our own."""
    apply: Any = _MatrixAttention.apply
    return cast(Tensor, apply(query, key, value, lengths, asked, scaling, dropout, sliding_window))


class _MatrixAttention(torch.autograd.Function):
    """Attention as matrix products over one sequence at a time, the attention weights kept for the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: list[int],
        asked: list[int],
        scaling: float,
        dropout: float,
        sliding_window: int | None,
    ) -> Tensor:
        output = query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])  # (1, N, H, E)
        weights: list[Tensor] = []
        factors: list[Tensor | None] = []
        for rows, span in _spans(asked, lengths):
            q, k, v = query[0, :, rows], key[0, :, span], value[0, :, span]  # (H, Q, E), (H, T, E) twice
            scores = torch.bmm(q * scaling, k.transpose(1, 2))  # (H, Q, T)
            mask = _local_mask(k.shape[1], sliding_window, scores.device)
            if mask is not None:
                scores.masked_fill_(~mask, -math.inf)
            weight = torch.softmax(scores, dim=-1)
            kept = dropout_factors(weight, dropout)
            torch.bmm(weight if kept is None else weight * kept, v, out=output[0, rows].transpose(0, 1))
            weights.append(weight)
            factors.append(kept)
        ctx.save_for_backward(query, key, value, *weights, *factors)
        ctx.asked, ctx.lengths, ctx.scaling = asked, lengths, scaling
        return output

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept_for_backward = ctx.saved_tensors
        weights, factors = kept_for_backward[: len(ctx.lengths)], kept_for_backward[len(ctx.lengths) :]
        dquery, dkey, dvalue = (torch.empty_like(tensor) for tensor in (query, key, value))
        for (rows, span), weight, kept in zip(_spans(ctx.asked, ctx.lengths), weights, factors, strict=True):
            q, k, v = query[0, :, rows], key[0, :, span], value[0, :, span]
            do = output_gradient[0, rows].transpose(0, 1)  # (H, Q, E)
            dropped = weight if kept is None else weight * kept
            dvalue[0, :, span] = torch.bmm(dropped.transpose(1, 2), do)
            weight_gradient = torch.bmm(do, v.transpose(1, 2))  # (H, Q, T)
            if kept is not None:
                weight_gradient *= kept
            scores = torch._softmax_backward_data(weight_gradient, weight, -1, weight.dtype)
            dquery[0, :, rows] = torch.bmm(scores, k).mul_(ctx.scaling)
            dkey[0, :, span] = torch.bmm(scores.transpose(1, 2), q).mul_(ctx.scaling)
        return dquery, dkey, dvalue, None, None, None, None, None


def _spans(asked: list[int], lengths: list[int]) -> Iterator[tuple[slice, slice]]:
    """Yield each sequence's rows among the queries and among the keys."""
    row = start = 0
    for queries, length in zip(asked, lengths, strict=True):
        yield slice(row, row + queries), slice(start, start + length)
        row, start = row + queries, start + length


def dropout_factors(like: Tensor, probability: float) -> Tensor | None:
    """Return 0 or 1/(1 − p) for each element of `like`, or None without dropout.

    One random byte an element, so p is rounded to a multiple of 1/256 and the scale made to fit: much cheaper than
    a Bernoulli draw each.
    """
    threshold = round(probability * 256)
    if threshold == 0:
        return None
    words = torch.empty(-(-like.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[: like.numel()].view(like.shape) >= threshold
    return kept.to(like.dtype) * (256 / (256 - threshold))
