"""How much arithmetic a token costs, and how much a device can do: for MFU and for estimates.

Model FLOP of a real token, forward and backward (Kaplan et al., arXiv:2001.08361; PaLM, arXiv:2204.02311 appendix B):
6 × encoder weights + 12 × layers × width × keys it attends to + 6 × the vocabulary head on the share of masked
tokens. Padding, recomputation and the tokens of contrastive views count as nothing.
"""

import dataclasses
import re
import time
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, PretrainedConfig


@dataclasses.dataclass(frozen=True)
class ModelSize:
    """What arithmetic and memory depend on.

    Attributes:
        parameters: all of them, tied ones once.
        encoder_parameters: without embeddings and head.
        head_parameters: what `trainable: head` leaves to train; output rows tied to the embeddings are not among them.
        layers, width, vocabulary: the encoder's shape.
        local_keys: most keys a token of a local-attention layer sees; None if there are no such layers.
        local_layers: layers with local attention.
    """

    parameters: int
    encoder_parameters: int
    head_parameters: int
    layers: int
    width: int
    vocabulary: int
    local_keys: int | None = None
    local_layers: int = 0


def model_size(config: PretrainedConfig) -> ModelSize:
    """Return the sizes of a masked language model without allocating it."""
    with torch.device("meta"):
        model: Any = AutoModelForMaskedLM.from_config(config)
    base = model.base_model
    encoder = sum(weight.numel() for name, weight in base.named_parameters() if "embeddings" not in name)
    layers, width = int(config.num_hidden_layers), int(config.hidden_size)
    kinds = list(getattr(config, "layer_types", None) or [])
    local = kinds.count("sliding_attention")
    keys = int(config.local_attention) + 1 if local else None
    parameters = sum(weight.numel() for weight in model.parameters())
    head = parameters - sum(weight.numel() for weight in base.parameters())
    return ModelSize(parameters, encoder, head, layers, width, int(config.vocab_size), keys, local)


def flops_per_token(
    size: ModelSize, *, mean_keys: float, mlm_probability: float, encoder_is_frozen: bool = False
) -> float:
    """Return the model FLOP of one real token, forward and backward.

    Through a frozen encoder there is no backward. The head has one for its own weights, and through its output rows,
    which are counted as the frozen ones they are where they are tied.

    Args:
        size: of the model.
        mean_keys: Σ length² / Σ length over sequences: how many keys a token attends to in the mean.
        mlm_probability: share of the tokens that are predicted.
        encoder_is_frozen: only the head is trained.
    """
    near = mean_keys if size.local_keys is None else min(mean_keys, size.local_keys)
    keys = (size.layers - size.local_layers) * mean_keys + size.local_layers * near
    head = mlm_probability * (size.width**2 + size.width * size.vocabulary)
    if encoder_is_frozen:
        rows_are_tied = size.head_parameters < size.width * size.vocabulary
        return 2.0 * size.encoder_parameters + 4.0 * size.width * keys + (4.0 if rows_are_tied else 6.0) * head
    return 6.0 * (size.encoder_parameters + head) + 12.0 * size.width * keys


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as its maker describes it, and what an hour of it costs roughly.

    Attributes:
        name: a word of what torch calls it.
        tflops: dense bf16 peak, in 10¹² FLOP/s.
        memory_gb: in 10⁹ bytes.
        dollars_per_hour: an on-demand price of the order that clouds ask; a key overrides it.
    """

    name: str
    tflops: float
    memory_gb: float
    dollars_per_hour: float


GPUS = (
    Gpu("L4", 121, 24, 0.8),
    Gpu("A100", 312, 80, 2.0),
    Gpu("H100", 989, 80, 3.0),
    Gpu("H200", 989, 141, 3.5),
)


def peak_flops(device_name: str) -> float | None:
    """Return a device's peak in FLOP/s by the name torch gives it; None if it is not in the table."""
    words = re.findall(r"\w+", device_name)  # an L40S is no L4
    return next((gpu.tflops * 1e12 for gpu in GPUS if gpu.name in words), None)


def utilisation(size: ModelSize, device_name: str, tokens_per_second: float, **shape: Any) -> float | None:
    """Return the share of a device's peak that the model's arithmetic takes (MFU); None on an unknown device.

    Args:
        size: of the model.
        device_name: as torch calls it.
        tokens_per_second: real tokens, on one device.
        shape: `mean_keys`, `mlm_probability` and `encoder_is_frozen`, as for `flops_per_token`.
    """
    peak = peak_flops(device_name)
    return None if peak is None else tokens_per_second * flops_per_token(size, **shape) / peak


def matmul_flops(size: int = 2048, rounds: int = 6) -> float:
    """Return the FLOP/s of a large bf16 matrix product on this machine, the best of several.

    On a CPU by the CPU time of its threads, not by the clock: other programs' share is not the machine's slowness.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))

    def seconds() -> float:
        if device.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        torch.cuda.synchronize()
        return time.perf_counter()

    best = float("inf")
    for _ in range(rounds):
        started = seconds()
        left @ right
        best = min(best, seconds() - started)
    return 2 * size**3 / best
