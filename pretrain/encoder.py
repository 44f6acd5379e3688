"""The masked language model, run without padding: Hugging Face's classes and weights, our attention and head call.

Three things differ from a plain `AutoModelForMaskedLM` forward, none of them in the result: sequences lie end to
end in one row and attention runs inside each (no padding is computed, no sequence sees another), positions restart
at every sequence, and the last layer and the vocabulary head see the masked positions only. Attention plugs in
through transformers' `AttentionInterface`, so saved folders are plain Hugging Face checkpoints.

N = tokens of a micro-batch, M = predictions, E = hidden width, V = vocabulary.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from configs.base_models import ModelSource
from configs.errors import UserError
from pretrain.attention import PACKED_ATTENTION
from pretrain.last_layer import Asked, narrow_last_layer

SUPPORTED_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert")

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Views:
    """Whole texts whose mean vectors are asked for, end to end, nothing masked.

    Attributes:
        input_ids, position_ids: (N,) tokens.
        lengths: tokens of each text, and of the padding behind the last.
        count: how many texts there are.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: list[int]
    count: int


class PackedMaskedLM(nn.Module):
    """A masked language model that reads flat micro-batches.

    Args:
        model: the Hugging Face model, the one that is saved.
        autocast_dtype: compute in this type under autocast, the same under every backend; None computes in fp32.
    """

    def __init__(self, model: PreTrainedModel, *, autocast_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.model = model
        narrow_last_layer(model)
        self._autocast_dtype = autocast_dtype
        self._position_offset = _position_offset(model)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, lengths: list[int], asked: Asked, views: Views | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits at the masked positions, and the mean vectors of `views` if there are any.

        Args:
            input_ids: (N,) tokens of the sequences, end to end.
            position_ids: (N,) position of each token in its own sequence, from 0.
            lengths: tokens of each sequence; they add up to N.
            asked: the M positions to predict.
            views: whole texts, run through the encoder in the same pass.

        Returns:
            (M, V) logits; with views also (count, E) vectors in fp32.
        """
        with self._autocast(input_ids):
            if views is None:
                return _head_logits(self.model, self._encode(input_ids, position_ids, lengths, asked))
            places = torch.arange(len(views.input_ids), device=input_ids.device) + len(input_ids)
            hidden = self._encode(
                torch.cat([input_ids, views.input_ids]),
                torch.cat([position_ids, views.position_ids]),
                lengths + views.lengths,
                Asked(torch.cat([asked.positions, places]), asked.counts + views.lengths),
            )
            count = len(asked.positions)
            return _head_logits(self.model, hidden[:count]), _means(hidden[count:], views)

    def mean_vectors(self, views: Views) -> Tensor:
        """Return (count, E) mean vectors of whole texts, special tokens included, in fp32."""
        with self._autocast(views.input_ids):
            everything = Asked(torch.arange(len(views.input_ids), device=views.input_ids.device), views.lengths)
            return _means(self._encode(views.input_ids, views.position_ids, views.lengths, everything), views)

    def _autocast(self, input_ids: Tensor) -> torch.autocast:
        return torch.autocast(input_ids.device.type, self._autocast_dtype, enabled=self._autocast_dtype is not None)

    def _encode(self, input_ids: Tensor, position_ids: Tensor, lengths: list[int], asked: Asked) -> Tensor:
        """Return (M, E) hidden states."""
        output = self.model.base_model(
            input_ids=input_ids[None],
            position_ids=position_ids[None] + self._position_offset,
            lengths=lengths,
            asked=asked,
        )
        return cast(Tensor, output.last_hidden_state[0])


def _means(hidden_NE: Tensor, views: Views) -> Tensor:
    parts = torch.split(hidden_NE, views.lengths)[: views.count]
    return torch.stack([part.float().mean(dim=0) for part in parts])


def load_masked_lm(source: ModelSource) -> PreTrainedModel:
    """Load the encoder with its masked-LM head in fp32; a missing head starts at random and is logged.

    Raises:
        UserError: the model cannot be found, is damaged, lacks weights of its encoder, or its architecture is not
            supported.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(
            source.name_or_path,
            attn_implementation=PACKED_ATTENTION,
            dtype=torch.float32,
            output_loading_info=True,
            **source.load_arguments,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot load this masked language model ({reason})", where=source.name_or_path) from error
    if model.config.model_type not in SUPPORTED_TYPES:
        raise UserError(
            f"architecture {model.config.model_type!r} is not supported; supported: {', '.join(SUPPORTED_TYPES)}",
            where=source.name_or_path,
        )
    missing = info["missing_keys"]
    body = sorted(name for name in missing if name.startswith(model.base_model_prefix + "."))
    if body:  # a head may start at random, an encoder that does is none
        raise UserError(
            f"{len(body)} weights of the encoder are not in the checkpoint, such as {body[0]}",
            where=source.name_or_path,
            fix="Save it by transformers' save_pretrained: names with a prefix (module., model.) do not fit.",
        )
    if missing:
        log.info("%d weights are not in the checkpoint and start at random: the masked-LM head", len(missing))
    return cast(PreTrainedModel, model)


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder or Hub id.

    Raises:
        UserError: there is none, or it lacks a special token that masked language modelling needs.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot load a tokenizer ({reason})", where=source.name_or_path) from error
    for name in ("cls_token_id", "sep_token_id", "mask_token_id", "pad_token_id"):
        if getattr(tokenizer, name) is None:
            raise UserError(f"the tokenizer has no {name.removesuffix('_id')}", where=source.name_or_path)
    return cast(PreTrainedTokenizerBase, tokenizer)


def load_for_corpus(
    source: ModelSource, tokenizer_dir: Path, max_seq_length: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and the tokenizer of the corpus it is to learn from.

    Raises:
        UserError: the corpus was tokenized for another vocabulary, or sequences are longer than the model allows.
    """
    tokenizer = load_tokenizer(ModelSource(str(tokenizer_dir), is_local=True))
    if load_tokenizer(source).get_vocab() != tokenizer.get_vocab():
        raise UserError(
            f"the corpus was tokenized with another vocabulary than that of {source.name_or_path}",
            where=tokenizer_dir,
            fix="Build the corpus with this model's tokenizer, or start from the model it was built for.",
        )
    model = load_masked_lm(source)
    if len(tokenizer) > model.config.vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} tokens, the model {model.config.vocab_size:,}",
            where=source.name_or_path,
        )
    longest = int(model.config.max_position_embeddings) - _position_offset(model)
    if max_seq_length > longest:
        raise UserError(f"max_seq_length is {max_seq_length}; this model has {longest} positions", where="recipe")
    return model, tokenizer


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set all dropout of a model without touching its config, so that fine-tuning finds the checkpoint's own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = probability  # type: ignore[assignment]  # ModernBERT keeps a plain number


def freeze_encoder(model: PreTrainedModel) -> None:
    """Leave only the masked-LM head trainable; tied embeddings stay frozen with the encoder."""
    for parameter in model.base_model.parameters():
        parameter.requires_grad_(False)


def _position_offset(model: PreTrainedModel) -> int:
    # RoBERTa counts positions from behind the padding index (transformers#47496).
    embeddings: Any = model.base_model.embeddings
    return int(embeddings.padding_idx) + 1 if hasattr(embeddings, "create_position_ids_from_input_ids") else 0


def _head_logits(model: Any, hidden_ME: Tensor) -> Tensor:
    """Return (M, V) logits of the model's own masked-LM head."""
    match model.config.model_type:
        case "bert":
            logits = model.cls(hidden_ME)
        case "distilbert":
            transformed = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden_ME)))
            logits = model.vocab_projector(transformed)
        case "electra":
            logits = model.generator_lm_head(model.generator_predictions(hidden_ME))
        case "modernbert":
            logits = model.decoder(model.head(hidden_ME))
        case _:  # the RoBERTa family
            logits = model.lm_head(hidden_ME)
    return cast(Tensor, logits)
