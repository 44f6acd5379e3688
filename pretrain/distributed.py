"""How gradients travel: one process or several, plain, DDP, DeepSpeed or FSDP, behind one small interface.

Whatever the backend, the gradient of a step is the sum over all its masked tokens divided by their number: neither
the number of processes nor gradient accumulation changes it (the Trainer's scaling, transformers#47688, does).
Without an explicit gloo group accelerate reports one process on every CPU rank under DeepSpeed, so one is asked for.
"""

import contextlib
import math
import os
from datetime import timedelta
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import Tensor, nn

from configs.errors import UserError
from configs.processor import keep_freed_memory, tell_deepspeed_of_cpus, use_own_cores
from pretrain.checkpoint import MOMENT_KEYS, TrainingState, moment_name
from pretrain.config import PretrainRecipe
from pretrain.encoder import PackedMaskedLM
from pretrain.gradient_guard import is_sound
from pretrain.optimization import build_optimizer, set_learning_rate, trainable_parameters

LONGEST_WAIT = timedelta(hours=2)
"""How long processes wait for each other: the first verifies the corpora, all of them, before it joins."""


def start_accelerator() -> Accelerator:
    """Join the other processes, if there are any."""
    keep_freed_memory()
    tell_deepspeed_of_cpus()
    use_own_cores()
    on_cpu = not torch.cuda.is_available()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    backend = "gloo" if on_cpu else "nccl"
    handlers = [InitProcessGroupKwargs(backend=backend, timeout=LONGEST_WAIT)] if several else []
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"
    # Asked for, since accelerate would take Apple's GPU, which has no float64.
    # Autocast is the model's own business (`PackedMaskedLM`), so that every backend computes alike.
    return Accelerator(cpu=on_cpu and not deepspeed, mixed_precision="no", kwargs_handlers=handlers)


class Backend(Protocol):
    """A model and its optimizer, prepared for one way of distributing."""

    module: nn.Module

    def backward(self, loss: Tensor) -> None:
        """Add this process's gradients of `loss`, to be summed over processes."""

    def step(self, learning_rate: float, limit: float = math.inf) -> float:
        """Clip, update the weights, forget the gradients; return the gradient norm before clipping.

        A norm over `limit`, or one that is no finite number, leaves the weights and the moments as they were.
        """

    def accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context for a micro-batch; gradients travel in the last one of a step."""

    def gather(self) -> dict[str, Tensor] | None:
        """Return weights and AdamW moments, whole, by name; None off the main process. All processes must call it."""

    def restore_moments(self, state: TrainingState) -> None:
        """Take over AdamW's moments from a checkpoint; its weights were put into the model before."""

    def restore_weights(self, state: TrainingState) -> None:
        """Take over a checkpoint's weights in the middle of a run."""


def prepare(accelerator: Accelerator, module: PackedMaskedLM, recipe: PretrainRecipe) -> Backend:
    """Return the backend that `accelerate launch` asked for, with AdamW.

    Raises:
        UserError: it cannot train with differential privacy.
    """
    sharded = accelerator.distributed_type == DistributedType.DEEPSPEED or _wants_fsdp()
    if recipe.is_private and sharded:
        raise UserError(
            "differential privacy needs whole gradients, which DeepSpeed and FSDP do not keep",
            where="dp_noise_multiplier or dp_epsilon",
            fix="Run one process, or several without them.",
        )
    if _wants_fsdp() and accelerator.distributed_type != DistributedType.DEEPSPEED:
        from pretrain.fully_sharded import FullyShardedBackend

        return FullyShardedBackend(accelerator, module, recipe)  # its optimizer is of the shards
    optimizer = build_optimizer(module, recipe)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from pretrain.deepspeed_backend import DeepSpeedBackend

        return DeepSpeedBackend(accelerator, module, optimizer, recipe)
    return PlainBackend(accelerator, module, optimizer, recipe)


def _wants_fsdp() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


class PlainBackend:
    """One process, or DDP over several; see `Backend`."""

    def __init__(
        self,
        accelerator: Accelerator,
        module: PackedMaskedLM,
        optimizer: torch.optim.Optimizer,
        recipe: PretrainRecipe,
    ) -> None:
        self._accelerator, self._optimizer = accelerator, optimizer
        self._max_norm = recipe.max_grad_norm or float("inf")
        self._model = module.model
        # A private run sums its gradients by itself; DDP would listen to each author's.
        self.module: nn.Module = (
            module.to(accelerator.device) if recipe.is_private else accelerator.prepare_model(module)
        )

    def backward(self, loss: Tensor) -> None:
        """Add gradients; DDP averages over processes, so the loss is multiplied by their number."""
        (loss * self._accelerator.num_processes).backward()

    def step(self, learning_rate: float, limit: float = math.inf) -> float:
        """Clip by the norm over all parameters and update."""
        set_learning_rate(self._optimizer, learning_rate)
        norm = float(nn.utils.clip_grad_norm_(trainable_parameters(self._model), self._max_norm))
        if is_sound(norm, limit):
            self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Keep DDP silent until the last micro-batch."""
        if last or not isinstance(self.module, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return self.module.no_sync()

    def gather(self) -> dict[str, Tensor] | None:
        """Copy the state of the main process; all have the same."""
        if not self._accelerator.is_main_process:
            return None
        tensors = {}
        for name, parameter in self._model.named_parameters():
            tensors[name] = parameter.detach().cpu().clone()
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[moment_name(name, key)] = value.detach().cpu().clone()
        return tensors

    def restore_moments(self, state: TrainingState) -> None:
        """Put the moments where fused AdamW keeps them."""
        self._optimizer.state.clear()
        for name, parameter in self._model.named_parameters():
            if moment_name(name, "step") in state.moments:
                moments = {key: state.moments[moment_name(name, key)] for key in MOMENT_KEYS}
                self._optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}

    @torch.no_grad()
    def restore_weights(self, state: TrainingState) -> None:
        """Every process reads all weights."""
        for name, parameter in self._model.named_parameters():
            parameter.copy_(state.weights[name])
