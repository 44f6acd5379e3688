"""DeepSpeed with ZeRO 0 to 3: optimizer state, gradients and weights in shards over the processes.

Private names of DeepSpeed are used where it has no public ones: its gradient norm before the update, and its links
between weights and moments. The lower bound in `setup.py` is the version the tests ran with.
"""

import contextlib
import math
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pretrain.checkpoint import MOMENT_KEYS, TrainingState, moment_name
from pretrain.config import PretrainRecipe
from pretrain.encoder import PackedMaskedLM
from pretrain.gradient_guard import is_sound
from pretrain.last_layer import Asked
from pretrain.optimization import set_learning_rate, trainable_parameters


class DeepSpeedBackend:
    """See `pretrain.distributed.Backend`.

    The engine's own checkpoints only resume on as many processes as wrote them, so whole tensors are gathered
    instead, one parameter at a time.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: PackedMaskedLM,
        optimizer: torch.optim.Optimizer,
        recipe: PretrainRecipe,
    ) -> None:
        self._accelerator, self._model = accelerator, module.model
        config = accelerator.deepspeed_plugin.deepspeed_config
        config["train_micro_batch_size_per_gpu"] = recipe.micro_batch_size
        config["gradient_accumulation_steps"] = 1
        config["managed_gradient_accumulation"] = False  # `step` alone says when a step is complete
        # Without ZeRO the engine clips but does not tell the norm, so the clipping is ours.
        zero_stage = config.get("zero_optimization", {}).get("stage", 0)
        config["gradient_clipping"] = recipe.max_grad_norm if zero_stage else 0.0
        self._norm, self._limit, self._max_norm = 0.0, math.inf, recipe.max_grad_norm or math.inf
        # The engine knows the norm just before it lets the optimizer update: the one moment to refuse.
        self._update: Any = optimizer.step
        optimizer.step = self._update_if_sound  # type: ignore[method-assign, assignment]
        self._engine, self._optimizer = accelerator.prepare(module, optimizer)
        self.module: nn.Module = self._engine

    @property
    def _stage(self) -> int:
        return int(self._engine.zero_optimization_stage())

    def backward(self, loss: Tensor) -> None:
        """Add gradients; the engine averages over processes."""
        self._engine.backward(loss * self._accelerator.num_processes, scale_wrt_gas=False)

    def step(self, learning_rate: float, limit: float = math.inf) -> float:
        """Let the engine clip and update."""
        set_learning_rate(self._optimizer, learning_rate)
        self._limit = limit
        self._engine.step()
        return self._norm if self._stage == 0 else float(self._engine.get_global_grad_norm() or 0.0)

    def _update_if_sound(self, *arguments: Any) -> None:
        if self._stage == 0:
            self._norm = float(nn.utils.clip_grad_norm_(trainable_parameters(self._model), self._max_norm))
            norm = self._norm
        else:
            norm = float(self._engine.optimizer._global_grad_norm)
        if is_sound(norm, self._limit):
            self._update(*arguments)

    def accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Nothing to do: the engine reduces in `step`."""
        return contextlib.nullcontext()

    def gather(self) -> dict[str, Tensor] | None:
        """Put each sharded tensor together on every process, and keep it on the main one."""
        tensors: dict[str, Tensor] = {}
        self._link_moments()
        for name, parameter in self._model.named_parameters():
            found: dict[str, Tensor | None] = {name: self._whole_weight(parameter)}
            if parameter.requires_grad:
                found |= {moment_name(name, key): self._whole_moment(parameter, key) for key in MOMENT_KEYS}
            if self._accelerator.is_main_process:
                # A parameter without a moment yet is one that no step has touched.
                tensors |= {key: value.detach().cpu().clone() for key, value in found.items() if value is not None}
        return tensors if self._accelerator.is_main_process else None

    def restore_moments(self, state: TrainingState) -> None:
        """Make the engine allocate its state by a step that changes nothing, then fill that state."""
        self._step_without_change()
        for name, parameter in self._model.named_parameters():
            if moment_name(name, "step") not in state.moments:
                continue
            for key in ("exp_avg", "exp_avg_sq"):
                self._set_state(parameter, key, state.moments[moment_name(name, key)])
            for moments in self._inner_optimizer.state.values():
                moments["step"] = _like(moments["step"], state.moments[moment_name(name, "step")])

    @torch.no_grad()
    def restore_weights(self, state: TrainingState) -> None:
        """Fill the working weights, and the optimizer's own copy where ZeRO keeps one."""
        for name, parameter in self._model.named_parameters():
            with self._whole(parameter):
                parameter.copy_(state.weights[name])
            if self._stage > 0 and parameter.requires_grad:
                self._set_state(parameter, None, state.weights[name])

    @property
    def _inner_optimizer(self) -> torch.optim.Optimizer:
        optimizer = self._engine.optimizer
        return optimizer if self._stage == 0 else optimizer.optimizer  # type: ignore[no-any-return]

    def _whole_weight(self, parameter: nn.Parameter) -> Tensor:
        with self._whole(parameter):
            return parameter.detach().cpu().clone()

    def _whole(self, parameter: nn.Parameter) -> contextlib.AbstractContextManager[None]:
        """Return a context in which every process has the whole parameter and may change it alike."""
        if self._stage < 3:
            return contextlib.nullcontext()
        import deepspeed

        gathered: contextlib.AbstractContextManager[None] = deepspeed.zero.GatheredParameters(
            [parameter], modifier_rank=0
        )
        return gathered

    def _whole_moment(self, parameter: nn.Parameter, key: str) -> Tensor | None:
        if key == "step":
            steps = [moments["step"] for moments in self._inner_optimizer.state.values()]
            return torch.as_tensor(float(steps[0])) if steps else None
        if self._stage == 0:
            return cast(Tensor | None, self._inner_optimizer.state[parameter].get(key))
        from deepspeed.utils import safe_get_full_optimizer_state

        return cast(Tensor | None, safe_get_full_optimizer_state(parameter, key))

    def _set_state(self, parameter: nn.Parameter, key: str | None, value: Tensor) -> None:
        """Set a moment of a parameter, or the optimizer's own copy of its weights (None)."""
        from deepspeed import utils

        value = value.to(self._accelerator.device)
        if self._stage == 0 and key is not None:
            self._inner_optimizer.state[parameter][key].copy_(value)
        elif self._stage < 3:
            if key is None:
                utils.safe_set_full_fp32_param(parameter, value)
            else:
                utils.safe_set_full_optimizer_state(parameter, value, key)
        else:  # the whole-tensor setters of ZeRO-3 refuse a parameter whose last shard is padded
            world_size, rank = self._accelerator.num_processes, self._accelerator.process_index
            shard = -(-value.numel() // world_size)
            padded = nn.functional.pad(value.flatten(), (0, shard * world_size - value.numel()))
            mine = padded[rank * shard : (rank + 1) * shard]
            if key is None:
                utils.safe_set_local_fp32_param(parameter, mine)
            else:
                utils.safe_set_local_optimizer_state(parameter, mine, key)

    def _step_without_change(self) -> None:
        device = self._accelerator.device
        places = torch.arange(2, device=device)
        logits = self.module(torch.zeros_like(places), places, [2], Asked(places, [2]))
        self.backward(logits.sum() * 0.0)
        self.step(learning_rate=0.0)
        self._link_moments()

    def _link_moments(self) -> None:
        # ZeRO-1 and -2 link the moments after the first parameter group's step, when the second group has none yet.
        if self._stage in (1, 2):
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()


def _like(example: Tensor | float, value: Tensor) -> Tensor | float:
    return value.to(example.device).reshape(example.shape).clone() if isinstance(example, Tensor) else float(value)
