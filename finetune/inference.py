"""Probabilities and labels of a classifier folder, or of a model under training.

N = texts, B = texts in a batch, L = labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from configs.base_models import ModelSource
from finetune.adapters import is_adapter, load_adapter
from finetune.batches import collate, forward, inference_batches
from finetune.decisions import Decision, to_probabilities
from finetune.heads import load_classifier, load_tokenizer
from finetune.long_texts import EncodedTexts, TextEncoder
from finetune.metrics import BoolArray
from finetune.onnx_model import ONNX_NAME, OnnxModel
from finetune.tasks import FloatArray

BATCH_TOKENS = 8192


class Predictions(NamedTuple):
    """Probabilities (N, L) and the labels given (N, L)."""

    probabilities_NL: FloatArray
    decisions_NL: BoolArray


def predict_logits(
    model: Any, encoded: EncodedTexts, *, pad_token_id: int, batch_tokens: int = BATCH_TOKENS, device: Any = "cpu"
) -> FloatArray:
    """Return the logits (N, L) of encoded texts, in their order; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    logits_NL: FloatArray | None = None
    with torch.inference_mode():
        for indices in inference_batches(encoded.lengths, batch_tokens=batch_tokens):
            batch = {key: value.to(device) for key, value in collate(encoded, indices, pad_token_id).items()}
            logits_BL = forward(model, batch, len(indices)).cpu().double().numpy()
            if logits_NL is None:
                logits_NL = np.zeros((len(encoded), logits_BL.shape[1]))
            logits_NL[indices] = logits_BL
    model.train(was_training)
    return np.zeros((0, 0)) if logits_NL is None else logits_NL


class Classifier:
    """A classifier folder, loaded.

    Attributes:
        decision: label names, thresholds, and how long texts are fitted.
    """

    def __init__(self, model: Any, encoder: TextEncoder, decision: Decision, batch_tokens: int = BATCH_TOKENS) -> None:
        on_gpu = torch.cuda.is_available() and not isinstance(model, OnnxModel)  # whose logits come back on the CPU
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.decision, self.batch_tokens = decision, batch_tokens
        self._model, self._encoder = model.to(self.device).eval(), encoder

    @classmethod
    def load(cls, folder: Path, *, batch_tokens: int = BATCH_TOKENS) -> Self:
        """Load a folder that `mindshift finetune` or `mindshift export` wrote.

        Raises:
            UserError: no classifier there, or a broken one.
        """
        decision = Decision.load(folder)
        tokenizer = load_tokenizer(ModelSource(str(folder), is_local=True), decision.long_texts["max_seq_length"])
        encoder = TextEncoder(tokenizer, **decision.long_texts)
        if (folder / ONNX_NAME).is_file():
            return cls(OnnxModel(folder / ONNX_NAME), encoder, decision, batch_tokens)
        model = load_adapter(folder, decision.label_set) if is_adapter(folder) else load_classifier(folder)
        return cls(model, encoder, decision, batch_tokens)

    def with_model(self, model: Any) -> Self:
        """Return the same classifier with another model behind it."""
        return type(self)(model, self._encoder, self.decision, self.batch_tokens)

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return the logits (N, L) of texts."""
        return predict_logits(
            self._model,
            self._encoder.encode(texts),
            pad_token_id=self._encoder.pad_token_id,
            batch_tokens=self.batch_tokens,
            device=self.device,
        )

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Return the probabilities and labels of texts."""
        probabilities_NL = to_probabilities(self.logits(texts), self.decision.label_set)
        return Predictions(probabilities_NL, self.decision.decide(probabilities_NL))
