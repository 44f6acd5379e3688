"""The layers of an encoder, told by the names of their parameters; new random weights for the top ones."""

import re
from typing import Any

import torch

from configs.errors import UserError

LAYER_NUMBER = re.compile(r"\.(?:layer|layers|h|block)\.(\d+)\.")


def layer_number(parameter_name: str) -> int:
    """Return the encoder layer a parameter belongs to, or -1 (embeddings, pooler, head)."""
    found = LAYER_NUMBER.search(parameter_name)
    return int(found.group(1)) if found else -1


def reinitialize_layers(model: Any, count: int) -> None:
    """Give the top `count` encoder layers new random weights (Zhang et al. 2021, arXiv:2006.05987 §5).

    Raises:
        UserError: the encoder has fewer layers.
    """
    layers = 1 + max(layer_number(name) for name, _ in model.named_parameters())
    if count > layers:
        raise UserError(f"the encoder has {layers} layers; {count} cannot start anew", where="reinitialize_layers")
    for name, module in model.named_modules():
        if layer_number(name + ".") >= layers - count:
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=getattr(model.config, "initializer_range", 0.02))
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
            elif isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
