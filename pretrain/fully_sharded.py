"""FSDP: weights, gradients and moments in shards over the processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

`accelerate launch` with `distributed_type: FSDP` asks for it, and its `fsdp_config` is read; the sharding is torch's
own, since accelerate 1.15 leaves it out on CPUs without a word, where this backend is tested. torch wants tied weights
in one group, and the head's matrix may be the embeddings': whatever is no layer of the encoder is the root's.
"""

import contextlib
from typing import Any, cast

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from configs.errors import UserError
from pretrain.checkpoint import MOMENT_KEYS, TrainingState, moment_name
from pretrain.config import PretrainRecipe
from pretrain.encoder import PackedMaskedLM
from pretrain.gradient_guard import is_sound
from pretrain.last_layer import encoder_layers
from pretrain.optimization import build_optimizer, set_learning_rate, trainable_parameters


class FullyShardedBackend:
    """FSDP2; see `pretrain.distributed.Backend`.

    Raises:
        UserError: the configuration asks for FSDP1, or for parameters in the memory of the CPU.
    """

    def __init__(self, accelerator: Accelerator, module: PackedMaskedLM, recipe: PretrainRecipe) -> None:
        plugin = FullyShardedDataParallelPlugin()
        if plugin.fsdp_version != 2:
            raise UserError("FSDP1 is not supported", where="fsdp_config", fix="Set fsdp_version to 2.")
        if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
            raise UserError("offloading is not supported", where="fsdp_config", fix="Remove fsdp_offload_params.")
        self._accelerator, self._model = accelerator, module.model
        self._max_norm = recipe.max_grad_norm or float("inf")
        module.to(accelerator.device)
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for layer in encoder_layers(module.model):
            fully_shard(layer, mesh=mesh, reshard_after_forward=plugin.reshard_after_forward)
        self._root = fully_shard(module, mesh=mesh)
        self.module: nn.Module = module
        self._optimizer = build_optimizer(module, recipe)  # of the shards, which took the place of the parameters

    def backward(self, loss: Tensor) -> None:
        """Add gradients; they are averaged over processes, so the loss is multiplied by their number."""
        (loss * self._accelerator.num_processes).backward()

    def step(self, learning_rate: float, limit: float = float("inf")) -> float:
        """Clip by the norm over all shards and update this process's."""
        set_learning_rate(self._optimizer, learning_rate)
        norm = float(_whole(nn.utils.clip_grad_norm_(trainable_parameters(self._model), self._max_norm)))
        if is_sound(norm, limit):
            self._optimizer.step()
        self._optimizer.zero_grad()
        return norm

    def accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Keep gradients whole, and here, until the last micro-batch."""
        self._root.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def gather(self) -> dict[str, Tensor] | None:
        """Put each tensor together on every process, and keep it on the main one."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._shards().items():
            found = {name: _whole(parameter.detach())}
            for key, value in self._optimizer.state.get(parameter, {}).items():
                found[moment_name(name, key)] = _whole(value.detach())
            if self._accelerator.is_main_process:
                tensors |= {key: value.cpu().clone() for key, value in found.items()}
        return tensors if self._accelerator.is_main_process else None

    def restore_moments(self, state: TrainingState) -> None:
        """Put each process's shards of the moments where fused AdamW keeps them."""
        self._optimizer.state.clear()
        for name, parameter in self._shards().items():
            if moment_name(name, "step") not in state.moments:
                continue
            moments = {key: state.moments[moment_name(name, key)] for key in MOMENT_KEYS}
            self._optimizer.state[parameter] = {
                key: value.to(parameter.device) if key == "step" else _shard_like(parameter, value)
                for key, value in moments.items()
            }

    @torch.no_grad()
    def restore_weights(self, state: TrainingState) -> None:
        """Each process takes its shards."""
        for name, parameter in self._shards().items():
            parameter.copy_(_shard_like(parameter, state.weights[name]))

    def _shards(self) -> dict[str, DTensor]:
        """Return the parameters by name; behind a forward without a backward some lie whole in their place."""
        for module in self.module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return cast(dict[str, DTensor], dict(self._model.named_parameters()))


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _shard_like(parameter: DTensor, value: Tensor) -> Any:
    """Return this process's shard of a whole tensor that every process has."""
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
