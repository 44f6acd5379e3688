"""The last layer computed only where a prediction is asked for.

Behind the last layer's attention nothing but the masked positions is read, so its query, output projection and
feed-forward run on those alone: M of N rows. Keys and values still need all. The result is the same rows of the same
numbers; the layer's own forward is replaced on the instance, so weights and checkpoints stay as they are.

N = tokens of a micro-batch, M = predictions, E = hidden width.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from pretrain.attention import packed_attention


@dataclasses.dataclass(frozen=True)
class Asked:
    """The positions a micro-batch asks predictions for.

    Attributes:
        positions: (M,) in ascending order.
        counts: how many of them lie in each sequence.
    """

    positions: Tensor
    counts: list[int]


def narrow_last_layer(model: PreTrainedModel) -> None:
    """Make the model's last layer return only the rows of its `asked` keyword; without it nothing changes."""
    layer: Any = encoder_layers(model)[-1]
    narrowed = {"distilbert": _distilbert, "modernbert": _modernbert}.get(model.config.model_type, _bert)
    layer.forward = functools.partial(_forward, layer, layer.forward, narrowed)


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the encoder's layers, first to last."""
    base: Any = model.base_model
    match model.config.model_type:
        case "distilbert":
            layers = base.transformer.layer
        case "modernbert":
            layers = base.layers
        case _:  # BERT, the RoBERTa family and ELECTRA share their layers' names
            layers = base.encoder.layer
    return cast(nn.ModuleList, layers)


def _forward(
    layer: nn.Module,
    whole: Callable[..., Tensor],
    narrowed: Callable[..., Tensor],
    hidden_1NE: Tensor,
    *arguments: Any,
    asked: Asked | None = None,
    **keywords: Any,
) -> Tensor:
    if asked is None:
        return whole(hidden_1NE, *arguments, **keywords)
    if getattr(getattr(layer, "attn", None), "sliding_window", None) is not None:  # a mask would be needed
        return whole(hidden_1NE, *arguments, **keywords)[:, asked.positions]
    return narrowed(layer, hidden_1NE, asked, **keywords)


def _heads(tensor_1NE: Tensor, width: int) -> Tensor:
    """Return (1, heads, N, width)."""
    rows, count, _ = tensor_1NE.shape
    return tensor_1NE.view(rows, count, -1, width).transpose(1, 2)


def _attend(layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, asked: Asked, **keywords: Any) -> Tensor:
    output, _ = packed_attention(layer, query, key, value, None, query_lengths=asked.counts, **keywords)
    return output.flatten(2)  # (1, M, E)


def _bert(layer: Any, hidden_1NE: Tensor, asked: Asked, *, lengths: list[int], **_: object) -> Tensor:
    attention = layer.attention.self
    rows_1ME, width = hidden_1NE[:, asked.positions], attention.attention_head_size
    attended = _attend(
        layer,
        _heads(attention.query(rows_1ME), width),
        _heads(attention.key(hidden_1NE), width),
        _heads(attention.value(hidden_1NE), width),
        asked,
        lengths=lengths,
        scaling=attention.scaling,
        dropout=attention.dropout.p if layer.training else 0.0,
    )
    attended = layer.attention.output(attended, rows_1ME)
    return cast(Tensor, layer.feed_forward_chunk(attended))


def _distilbert(layer: Any, hidden_1NE: Tensor, asked: Asked, *, lengths: list[int], **_: object) -> Tensor:
    attention = layer.attention
    rows_1ME, width = hidden_1NE[:, asked.positions], attention.attention_head_size
    attended = _attend(
        layer,
        _heads(attention.q_lin(rows_1ME), width),
        _heads(attention.k_lin(hidden_1NE), width),
        _heads(attention.v_lin(hidden_1NE), width),
        asked,
        lengths=lengths,
        scaling=attention.scaling,
        dropout=attention.dropout.p if layer.training else 0.0,
    )
    attended = layer.sa_layer_norm(attention.out_lin(attended) + rows_1ME)
    return cast(Tensor, layer.output_layer_norm(layer.ffn(attended) + attended))


def _modernbert(
    layer: Any,
    hidden_1NE: Tensor,
    asked: Asked,
    *,
    lengths: list[int],
    position_embeddings: tuple[Tensor, Tensor],
    **_: object,
) -> Tensor:
    from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

    attention = layer.attn
    projected = attention.Wqkv(layer.attn_norm(hidden_1NE)).unflatten(-1, (3, -1, attention.head_dim))
    query, key, value = (tensor.transpose(1, 2) for tensor in projected.unbind(dim=-3))
    query, key = apply_rotary_pos_emb(query, key, *position_embeddings, unsqueeze_dim=1)
    attended = _attend(
        layer,
        query[:, :, asked.positions],
        key,
        value,
        asked,
        lengths=lengths,
        scaling=attention.head_dim**-0.5,
        dropout=attention.attention_dropout if layer.training else 0.0,
    )
    rows_1ME = hidden_1NE[:, asked.positions] + attention.out_drop(attention.Wo(attended))
    return cast(Tensor, rows_1ME + layer.mlp(layer.mlp_norm(rows_1ME)))
