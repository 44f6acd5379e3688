"""AdamW and its learning rate.

The rate is a function of the step alone: nothing to save, nothing that jumps on a resume.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pretrain.config import PretrainRecipe


def learning_rate_factor(step: int, total_steps: int, recipe: PretrainRecipe) -> float:
    """Return the share of the peak learning rate at `step` (from 0) of `total_steps`.

    `wsd`: warm-up, stable, then 1 − sqrt of the progress through the decay (Hägele et al., arXiv:2405.18392).
    """
    warmup_steps = math.ceil(recipe.warmup_ratio * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    match recipe.lr_scheduler_type:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        case "wsd":
            decay_steps = max(1, math.ceil(recipe.decay_ratio * total_steps))
            decayed = step - (total_steps - decay_steps)
            return 1.0 if decayed < 0 else 1.0 - math.sqrt(decayed / decay_steps)


def mlm_probability(step: int, total_steps: int, recipe: PretrainRecipe) -> float:
    """Return the masking rate at `step` (from 0).

    With `wsd` the final rate holds through the decay, as BioClinical ModernBERT and Ettin train; with other shapes
    the rate moves in a straight line (Yang et al., arXiv:2212.05251).
    """
    first, last = recipe.mlm_probability, recipe.final_mlm_probability
    if last is None:
        return first
    if recipe.lr_scheduler_type == "wsd":
        decay_steps = max(1, math.ceil(recipe.decay_ratio * total_steps))
        return first if step < total_steps - decay_steps else last
    return first + (last - first) * step / max(1, total_steps - 1)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def build_optimizer(model: nn.Module, recipe: PretrainRecipe) -> torch.optim.AdamW:
    """Return fused AdamW over the trainable parameters; biases and norms do not decay."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in trainable_parameters(model):
        (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        betas=(recipe.adam_beta1, recipe.adam_beta2),
        eps=recipe.adam_epsilon,
        fused=True,
    )


def trainable_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield each parameter that is trained, tied ones once."""
    return (parameter for parameter in model.parameters() if parameter.requires_grad)
