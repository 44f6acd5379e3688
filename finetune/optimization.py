"""The optimizer of fine-tuning: AdamW with bias correction, and a learning rate for every depth.

Lower layers hold what the encoder knows of language, the head knows nothing yet: discriminative learning rates
(Howard & Ruder 2018, arXiv:1801.06146 §3.2) let the first move slowly and the last quickly.
"""

from typing import Any

import torch

from finetune.config import FinetuneRecipe
from finetune.encoder_layers import layer_number
from finetune.heads import last_linear


def build_optimizer(model: Any, recipe: FinetuneRecipe, learning_rate: float) -> torch.optim.Optimizer:
    """Return AdamW over the trainable parameters, none of its decay on vectors (biases and norms)."""
    head = {id(parameter) for parameter in last_linear(model).parameters()}
    depths = {name: layer_number(name) for name, _ in model.named_parameters()}
    layers = 1 + max(depths.values(), default=-1)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        below_top = layers - depths[name] if ".embed" in name or depths[name] >= 0 else 0
        factor = recipe.layer_learning_rate_decay**below_top
        if id(parameter) in head:
            factor = recipe.head_learning_rate_factor
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((learning_rate * factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()],
        lr=learning_rate,
        fused=True,
    )
