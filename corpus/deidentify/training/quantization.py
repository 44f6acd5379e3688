"""Train with the rounding that storage will do (straight-through estimator, arXiv:1308.3432 §5)."""

import torch
from torch import nn
from torch.nn.utils import parametrize

from corpus.deidentify.storage import EMBEDDING_BLOCK, MATRIX_BLOCK, dequantize, quantize
from corpus.deidentify.tagger import Tagger


class RoundedMatrix(nn.Module):
    """The stored value of a matrix forward, its own gradient backward."""

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return `matrix` as it will be read back."""
        with torch.no_grad():
            change = dequantize(*quantize(matrix, MATRIX_BLOCK)) - matrix
        return matrix + change


def freeze_embeddings(model: Tagger) -> None:
    """Round word and position embeddings once and train them no more: rare names must not be learnt by heart."""
    for table, block in ((model.words, EMBEDDING_BLOCK), (model.positions, MATRIX_BLOCK)):
        table.weight.data = dequantize(*quantize(table.weight.data, block))
        table.weight.requires_grad_(False)


def start_rounding(model: Tagger) -> None:
    """Let every matrix of the encoder be rounded from now on."""
    for layer in model.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                parametrize.register_parametrization(module, "weight", RoundedMatrix())


def stop_rounding(model: Tagger) -> None:
    """Put the rounded matrices in place of the trained ones."""
    for layer in model.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                parametrize.remove_parametrizations(module, "weight")
