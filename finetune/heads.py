"""Put a classification head on an encoder.

`cls` and, for BERT-like encoders, `mean` are expressed in the architecture's own `...ForSequenceClassification`, so
that the saved folder loads with nothing of ours installed. The others are in `finetune.pooled_heads`.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from configs.base_models import ModelSource
from configs.errors import UserError
from finetune.encoder_layers import reinitialize_layers
from finetune.tasks import LabelSet

Head = Literal["cls", "mean", "label_attention"]
BERT_LIKE = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
LOADING_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError)
HIDDEN_DROPOUT_KEYS = ("hidden_dropout_prob", "dropout", "hidden_dropout", "embedding_dropout", "mlp_dropout")
ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")


def build_classifier(
    source: ModelSource,
    label_set: LabelSet,
    *,
    head: Head,
    hidden_dropout: float,
    reinitialized: int = 0,
    quantization_config: Any = None,
) -> Any:
    """Load an encoder (quantized, if so configured) and give it a new classification head.

    Args:
        source: the encoder.
        label_set: the labels of the head.
        head: how token states become logits.
        hidden_dropout: inside the encoder and before the head.
        reinitialized: how many of the encoder's top layers start anew.
        quantization_config: how transformers packs the encoder's weights, if it does.

    Raises:
        UserError: the model cannot be loaded, or has fewer layers than start anew.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    names = label_set.names
    labels = {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "multi_label_classification" if label_set.is_multi_label else "single_label_classification",
    }
    with _loading(source.name_or_path):
        config = AutoConfig.from_pretrained(source.name_or_path, **labels, **source.load_arguments)
        _set_dropout(config, hidden_dropout)
        if head == "mean" and hasattr(config, "classifier_pooling"):
            config.classifier_pooling = "mean"  # ModernBERT has mean pooling of its own
        elif head == "label_attention" or (head == "mean" and config.model_type not in BERT_LIKE):
            if quantization_config is not None:
                raise UserError(
                    f"head {head!r} of a {config.model_type} model has no 4-bit form",
                    where="head",
                    fix="Set head: cls.",
                )
            model = _pooled_classifier(source, config, labels, head)
            if reinitialized:
                reinitialize_layers(model, reinitialized)
            return model
        model, report = AutoModelForSequenceClassification.from_pretrained(
            source.name_or_path,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention_implementation(),
            output_loading_info=True,
            quantization_config=quantization_config,
            **source.load_arguments,
        )
    if reinitialized:
        reinitialize_layers(model, reinitialized)  # before the pooling layer stands on top, which is none of them
    pooler = _pooler(model)
    if pooler is not None and any("pooler" in key for key in report["missing_keys"]):
        _start_as_identity(pooler)  # a masked LM's checkpoint has no pooler
    if head == "mean" and config.model_type in BERT_LIKE:
        append_mean_pooling_layer(model)
    return model


def append_mean_pooling_layer(model: Any) -> None:
    """Add one more layer to a BERT-like encoder: attention that starts as the mean of all tokens.

    The classifier of these architectures reads the first token. Queries are small, keys are zero, so every token
    attends to all tokens alike; values and output are the identity; the feed-forward part adds nothing. After it
    the first token holds LayerNorm(itself + the mean of all tokens), and training turns the mean into a learned
    attention. So the stock architecture, and with it every program that loads it, has mean pooling.
    """
    encoder = model.base_model.encoder
    layer = type(encoder.layer[-1])(model.config, layer_idx=len(encoder.layer))  # its feed-forward part starts random
    layer.apply(model._init_weights)
    attention = layer.attention
    with torch.no_grad():
        for linear in (attention.self.query, attention.self.key, attention.self.value, attention.output.dense):
            linear.bias.zero_()
        nn.init.normal_(attention.self.query.weight, std=model.config.initializer_range)
        attention.self.key.weight.zero_()
        for linear in (attention.self.value, attention.output.dense):
            nn.init.eye_(linear.weight)
        layer.output.dense.weight.zero_()
        layer.output.dense.bias.zero_()
        for norm in (attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1.0)
            norm.bias.zero_()
    encoder.layer.append(layer)
    model.config.num_hidden_layers += 1
    pooler = _pooler(model)
    if pooler is not None:
        _start_as_identity(pooler)


def _pooled_classifier(source: ModelSource, config: Any, labels: dict[str, Any], head: Head) -> Any:
    from transformers import AutoModel

    from finetune.pooled_heads import PooledClassifier, PooledClassifierConfig

    dropout = next((getattr(config, key) for key in HIDDEN_DROPOUT_KEYS if hasattr(config, key)), 0.1)
    pooled = PooledClassifierConfig(encoder=config.to_dict(), pooling=head, classifier_dropout=dropout, **labels)
    pooled._attn_implementation = attention_implementation()
    model = PooledClassifier(pooled)
    encoder = AutoModel.from_pretrained(
        source.name_or_path,
        config=config,
        dtype=torch.float32,
        attn_implementation=attention_implementation(),
        **source.load_arguments,
    )
    model.encoder.load_state_dict(encoder.state_dict(), strict=False)
    return model


def _pooler(model: Any) -> nn.Linear | None:
    """Return the square layer between the first token and the classifier, where there is one."""
    for name in ("pooler.dense", "classifier.dense", "pre_classifier"):
        module: Any = model.base_model if name.startswith("pooler") else model
        for part in name.split("."):
            module = getattr(module, part, None)
        if isinstance(module, nn.Linear) and module.in_features == module.out_features:
            return module
    return None


def _start_as_identity(linear: nn.Linear) -> None:
    """Let a new square layer begin by passing its input on: a random one would have to be learned first."""
    with torch.no_grad():
        nn.init.eye_(linear.weight)
        if linear.bias is not None:
            linear.bias.zero_()


def load_classifier(folder: Path) -> Any:
    """Load a fine-tuned classifier for prediction."""
    from transformers import AutoModelForSequenceClassification

    import finetune.pooled_heads  # noqa: F401  # registers the heads that no stock architecture has

    with _loading(folder):
        return AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention_implementation(), local_files_only=True
        ).eval()


def load_tokenizer(source: ModelSource, max_seq_length: int) -> Any:
    """Load a tokenizer whose `truncation=True` cuts at `max_seq_length` tokens."""
    from transformers import AutoTokenizer

    with _loading(source.name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
    tokenizer.model_max_length = max_seq_length
    return tokenizer


def longest_sequence(config: Any, asked: int) -> int:
    """Return how many tokens to read: as asked, but no more than the encoder has positions for."""
    if isinstance(getattr(config, "encoder", None), dict):  # one of our own heads
        config = config.encoder_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return asked
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "longformer"):
        positions -= config.pad_token_id + 1  # their positions start behind the padding index
    return min(asked, int(positions))


def hidden_size(config: Any) -> int:
    """Return the width of a classifier's encoder."""
    encoder = getattr(config, "encoder", None)
    if isinstance(encoder, dict):  # our own heads keep the encoder's configuration inside theirs
        return int(encoder.get("hidden_size") or encoder.get("dim") or encoder["d_model"])
    return int(config.hidden_size)


def encoder_width(source: ModelSource) -> int:
    """Return the width of an encoder that is not loaded.

    Raises:
        UserError: its configuration cannot be read.
    """
    from transformers import AutoConfig

    with _loading(source.name_or_path):
        return hidden_size(AutoConfig.from_pretrained(source.name_or_path, **source.load_arguments))


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
def _loading(where: object) -> Iterator[None]:
    """Load something quietly, and say what and why if it does not load."""
    try:
        with quiet_transformers():
            yield
    except LOADING_ERRORS as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"this model does not load ({reason})", where=where) from error


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
