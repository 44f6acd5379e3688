"""Put a classification head on an encoder.

The default head is the one the architecture's own `...ForSequenceClassification` has, so that the saved folder
loads with nothing of ours installed.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from configs.base_models import ModelSource
from configs.errors import UserError
from finetune.tasks import LabelSet

LOADING_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError)
HIDDEN_DROPOUT_KEYS = ("hidden_dropout_prob", "dropout", "hidden_dropout", "embedding_dropout", "mlp_dropout")
ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")


def build_classifier(source: ModelSource, label_set: LabelSet, *, hidden_dropout: float) -> Any:
    """Load an encoder and give it a new classification head.

    Raises:
        UserError: the model cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    names = label_set.names
    try:
        config = AutoConfig.from_pretrained(
            source.name_or_path,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
            **source.load_arguments,
        )
        config.problem_type = (
            "multi_label_classification" if label_set.is_multi_label else "single_label_classification"
        )
        _set_dropout(config, hidden_dropout)
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                source.name_or_path,
                config=config,
                dtype=torch.float32,
                attn_implementation=attention_implementation(),
                **source.load_arguments,
            )
    except LOADING_ERRORS as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"this encoder does not load ({reason})", where=source.name_or_path) from error
    return model


def load_classifier(folder: Path) -> Any:
    """Load a fine-tuned classifier for prediction."""
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet_transformers():
            return AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, attn_implementation=attention_implementation(), local_files_only=True
            ).eval()
    except LOADING_ERRORS as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"this classifier does not load ({reason})", where=folder) from error


def load_tokenizer(source: ModelSource, max_seq_length: int) -> Any:
    """Load a tokenizer whose `truncation=True` cuts at `max_seq_length` tokens."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
    except LOADING_ERRORS as error:
        raise UserError("its tokenizer does not load", where=source.name_or_path) from error
    tokenizer.model_max_length = max_seq_length
    return tokenizer


def longest_sequence(config: Any, asked: int) -> int:
    """Return how many tokens to read: as asked, but no more than the encoder has positions for."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return asked
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "longformer"):
        positions -= config.pad_token_id + 1  # their positions start behind the padding index
    return min(asked, int(positions))


def last_linear(model: Any) -> nn.Linear:
    """Return the layer that makes the logits: the last linear one with an output a label."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    found = [module for module in linears if module.out_features == model.config.num_labels]
    if not found:
        raise RuntimeError(f"{type(model).__name__} has no linear layer that makes its logits")
    return found[-1]


def divide_logits(model: Any, temperature: float) -> None:
    """Divide the weights of the last layer, and so every logit, by `temperature`."""
    layer = last_linear(model)
    with torch.no_grad():
        layer.weight.div_(temperature)
        if layer.bias is not None:
            layer.bias.div_(temperature)


def attention_implementation() -> str | None:
    """Return the attention to load models with: on CPU the plain one, which trains 1.5 times as fast (measured)."""
    return None if torch.cuda.is_available() else "eager"


def _set_dropout(config: Any, hidden_dropout: float) -> None:
    """Set the dropouts; none on attention, where it costs a quarter of a CPU step and gains nothing (measured)."""
    for key in HIDDEN_DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, hidden_dropout)
    for key in ATTENTION_DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, 0.0)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep loading bars and the report on the head's new weights off the screen."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()
