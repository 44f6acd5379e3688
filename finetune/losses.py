"""Losses over logits (B, L) and multi-hot targets (B, L).

B = texts in a batch, L = labels.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def binary_cross_entropy(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
    """One independent yes or no a label."""
    return functional.binary_cross_entropy_with_logits(logits_BL, targets_BL)


def cross_entropy(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
    """One class a text."""
    return functional.cross_entropy(logits_BL, targets_BL)
