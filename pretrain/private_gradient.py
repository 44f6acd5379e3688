"""Differentially private steps: DP-SGD (Abadi et al., arXiv:1607.00133 §3.1), a unit at a time.

A unit's gradient (`private_units`) is clipped to the norm C as a whole, the clipped ones are summed, noise of standard
deviation σC is added, and the sum is divided by the number of units a step draws in the mean: a divisor that looked at
the draw would say something about it. AdamW, clipping and the guard see that noised mean only, and what is made from
it needs no more protection.

One backward a unit is the slow and plain way. Nothing has to know how a layer makes the gradient of one example, so it
is right for every architecture, and for weights that are tied: the parts of a matrix that is embedding and head at once
are summed before the norm is taken (tied heads stop opacus's hooks: opacus#841).

The secret comes from the operating system and lies in the run's checkpoints alone, which are removed at its end. It
makes a resumed run repeat its draws and noise exactly, so nothing is noised twice. The numbers are torch's and numpy's
pseudo-random ones and float32 sums: no defence against attacks on those (Mironov, CCS 2012).
"""

import dataclasses
import math
import secrets
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from configs.errors import UserError
from pretrain.batches import build_masker, to_device
from pretrain.config import PretrainRecipe
from pretrain.losses import summed_cross_entropy
from pretrain.optimization import trainable_parameters
from pretrain.packing import Draw
from pretrain.privacy_accounting import epsilon_of, noise_for, renyi_divergence
from pretrain.private_units import DROPOUT, MASKING, NOISE, PrivateUnits, secret_seed
from pretrain.training_data import TrainingData

PADDED_TO = 64
"""Tokens of a unit's micro-batch are a multiple of it: fewer shapes for CPU kernels."""
SECRET_BITS = 128
ROUNDING = 1e-6
"""Gradients are clipped this share below the norm: float32 sums must not carry them over it."""


@dataclasses.dataclass(frozen=True)
class Guarantee:
    """What a private run promises.

    Attributes:
        unit: who is protected, `author` or `document`.
        units: how many there are; taken as public.
        without_author: how many of these are single documents whose author is not known.
        noise_multiplier: standard deviation of the noise over the clipping norm.
        max_grad_norm: the clipping norm C.
        sample_rate: probability of a unit to be in a step.
        delta: δ.
    """

    unit: str
    units: int
    without_author: int
    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    delta: float


def promise(recipe: PretrainRecipe, units: PrivateUnits, steps: int) -> Guarantee:
    """Return what a run of that many steps promises; it chooses the noise for `dp_epsilon`.

    Raises:
        UserError: δ is too large to promise anything, or no noise is enough.
    """
    delta = recipe.dp_delta or 1 / (10 * units.count)
    if delta * units.count >= 1:
        raise UserError(
            f"δ = {delta:g} would allow to give away one of the {units.count:,} {recipe.dp_unit}s whole",
            where="dp_delta",
            fix=f"Set it below {1 / units.count:.1e}, or leave it out.",
        )
    noise, rate = recipe.dp_noise_multiplier, units.sample_rate
    if noise is None:
        noise = noise_for(recipe.dp_epsilon or 0.0, sample_rate=rate, steps=steps, delta=delta)
    return Guarantee(recipe.dp_unit, units.count, units.without_author, noise, recipe.dp_max_grad_norm, rate, delta)


class PrivateGradient:
    """Fill the gradients of a model with a step's noised mean.

    Args:
        recipe: its `dp_` keys.
        data: the training documents.
        tokenizer: the corpus's.
        steps: steps of the run, for the noise that keeps it within `dp_epsilon`.
        accelerator: the processes that share a step's units.

    Attributes:
        guarantee: what the run promises.
        noised_steps: steps that were computed, those the guard refused included.
    """

    def __init__(
        self,
        recipe: PretrainRecipe,
        data: TrainingData,
        tokenizer: PreTrainedTokenizerBase,
        *,
        steps: int,
        accelerator: Accelerator,
    ) -> None:
        self._recipe, self._packer, self._tokenizer, self._accelerator = recipe, data.packer, tokenizer, accelerator
        self._units = data.private_units()
        self.guarantee = promise(recipe, self._units, steps)
        self._divergence = renyi_divergence(self.guarantee.noise_multiplier, self.guarantee.sample_rate)
        self.noised_steps = 0
        self._start(broadcast_object_list([secrets.randbits(SECRET_BITS)])[0])

    def _start(self, secret: int) -> None:
        self._secret = secret
        self._masker = build_masker(self._tokenizer, secret_seed(secret, MASKING), self._recipe.masking)

    @property
    def epsilon(self) -> float:
        """ε of the steps so far."""
        return epsilon_of(self._divergence, self.noised_steps, self.guarantee.delta)

    @property
    def tokens(self) -> int:
        """Tokens of the steps so far, in the mean: the exact number would say something about the draws."""
        return round(self.noised_steps * self._units.expected_tokens)

    def shares_read(self, skipped: int) -> dict[str, float]:
        """Return the share of the corpus's sequences that was read, in the mean, without steps that were skipped."""
        return {"corpus": self._units.share_read(self.noised_steps - skipped)}

    def fill(self, module: nn.Module, step: int, mlm_probability: float) -> None:
        """Put the noised mean of a step into the parameters' gradients.

        Args:
            module: a `PackedMaskedLM` that no wrapper listens to.
            step: its number in the run.
            mlm_probability: share of the tokens that are masked.
        """
        parameters = list(trainable_parameters(module))
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        rank, world_size = self._accelerator.process_index, self._accelerator.num_processes
        for unit, draws in self._units.draw(self._secret, step)[rank::world_size]:
            torch.manual_seed(secret_seed(self._secret, DROPOUT, step, unit))
            gradients = self._gradients(module, parameters, draws, mlm_probability)
            clip_into(sums, gradients, self.guarantee.max_grad_norm)
        generator = torch.Generator(self._accelerator.device).manual_seed(secret_seed(self._secret, NOISE, step))
        deviation = self.guarantee.noise_multiplier * self.guarantee.max_grad_norm
        for parameter, total in zip(parameters, sums, strict=True):
            summed = self._accelerator.reduce(total, reduction="sum")
            noise = torch.randn(total.shape, generator=generator, device=total.device)  # the same on every process
            parameter.grad = (summed + deviation * noise) / self._recipe.dp_units_per_step
        self.noised_steps += 1

    def _gradients(
        self, module: nn.Module, parameters: list[nn.Parameter], draws: list[Draw], mlm_probability: float
    ) -> list[Tensor]:
        """Return the gradient of a unit's mean loss; it looks at no other unit."""
        tokens = int(self._packer.sequence_lengths[[draw.sequence for draw in draws]].sum())
        packed = self._packer.pack(draws, -(-tokens // PADDED_TO) * PADDED_TO)
        batch = to_device(packed, self._masker.mask(packed, mlm_probability), self._accelerator.device)
        logits_MV = module(batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
        loss = summed_cross_entropy(logits_MV, batch.labels) / max(1, batch.masked_count)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    @property
    def shown(self) -> dict[str, str]:
        """What stands beside the progress bar: no loss of the training texts."""
        return {"epsilon": f"{self.epsilon:.2f}"}

    def report(self) -> dict[str, Any]:
        """Return what `evaluation.json` says of it."""
        return {"epsilon": self.epsilon, **dataclasses.asdict(self.guarantee), "noised_steps": self.noised_steps}

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values that `load_state_dict` goes on from; they hold the secret."""
        return {"secret": hex(self._secret), "report": self.report()}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            UserError: the checkpoint has no accountant, or promised something else.
        """
        promised = dataclasses.asdict(self.guarantee)
        if state is None or any(state["report"][key] != value for key, value in promised.items()):
            raise UserError(
                "this checkpoint does not say what its steps cost in privacy, or the corpus has changed since",
                where="training",
                fix="Start over in another --output_dir.",
            )
        self.noised_steps = state["report"]["noised_steps"]
        self._start(int(state["secret"], 16))


def clip_into(sums: list[Tensor], gradients: list[Tensor], max_norm: float) -> None:
    """Add a unit's gradient to the sums, scaled so that its norm over all tensors is at most `max_norm`.

    One that is no finite number adds nothing: it would break the sum for everybody.
    """
    norms = torch.stack(torch._foreach_norm(gradients)).double()
    norm = float(norms.square().sum().sqrt())
    if math.isfinite(norm):
        scale = min(1.0, max_norm * (1 - ROUNDING) / max(norm, 1e-30))
        torch._foreach_add_(sums, gradients, alpha=scale)
