"""Losses over logits (B, L) and multi-hot targets (B, L), for label sets as unequal as people's complaints.

bce, pos_weight: independent yes or no a label; the second weighs the rare yes up.
focal: easy decisions count less (Lin et al. 2017, arXiv:1708.02002).
asymmetric: easy negatives count much less (Ridnik et al. 2021, arXiv:2009.14119).
distribution_balanced: re-balanced weights and negative-tolerant logits (Wu et al. 2020, arXiv:2007.09654).
zlpr: every positive above zero above every negative (Su et al. 2022, arXiv:2208.02955).
cross_entropy, weighted_cross_entropy: one class a text; the second weighs rare classes up.
ordinal: cross-entropy towards targets that fall off with the distance in grades (SORD, Díaz & Marathe 2019).

B = texts in a batch, N = training texts, L = labels.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch.nn import functional

from configs.errors import UserError
from finetune.tasks import FloatArray, LabelSet

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MultiLabelLoss = Literal["bce", "pos_weight", "focal", "asymmetric", "distribution_balanced", "zlpr"]
SingleLabelLoss = Literal["cross_entropy", "weighted_cross_entropy", "focal", "ordinal"]
LossName = Literal["auto"] | MultiLabelLoss | SingleLabelLoss
MULTI_LABEL_LOSSES = ("bce", "pos_weight", "focal", "asymmetric", "distribution_balanced", "zlpr")
SINGLE_LABEL_LOSSES = ("cross_entropy", "weighted_cross_entropy", "focal", "ordinal")

FOCAL_GAMMA = 2.0
ASYMMETRIC_GAMMA_POSITIVE, ASYMMETRIC_GAMMA_NEGATIVE, ASYMMETRIC_MARGIN = 1.0, 4.0, 0.05
LARGEST_POSITIVE_WEIGHT = 20.0
BALANCE_ALPHA, BALANCE_BETA, BALANCE_MU = 0.1, 10.0, 0.2  # the paper's smoothing of the weights
TOLERANCE_LAMBDA, TOLERANCE_KAPPA = 2.0, 0.05  # the paper's slope for negatives, and its shift of the logits
ORDINAL_SHARPNESS = 2.0


def build_loss(name: LossName, targets_NL: FloatArray, label_set: LabelSet) -> Loss:
    """Return the loss of that name, with the weights that the training targets (N, L) ask for.

    Raises:
        UserError: the loss is not one for this type of task.
    """
    if name == "auto":
        name = "bce" if label_set.is_multi_label else "cross_entropy"
    known = MULTI_LABEL_LOSSES if label_set.is_multi_label else SINGLE_LABEL_LOSSES
    if name not in known or (name == "ordinal" and not label_set.ordinal):
        fit = [loss for loss in known if loss != "ordinal" or label_set.ordinal]
        raise UserError(f"loss {name!r} does not fit a {label_set.type} task; fit: {', '.join(fit)}", where="loss")
    counts_L = torch.tensor(targets_NL.sum(axis=0), dtype=torch.float32).clamp(min=1.0)
    if label_set.is_multi_label:
        return _multi_label_loss(name, counts_L, len(targets_NL))
    if name == "ordinal":
        return ordinal_loss(len(counts_L))
    if name == "focal":
        return focal_cross_entropy
    weights_L = len(targets_NL) / (len(counts_L) * counts_L) if name == "weighted_cross_entropy" else None
    return lambda logits, targets: functional.cross_entropy(
        logits, targets, weight=None if weights_L is None else weights_L.to(logits)
    )


def _multi_label_loss(name: LossName, counts_L: torch.Tensor, rows: int) -> Loss:
    if name == "pos_weight":
        weights_L = ((rows - counts_L) / counts_L).clamp(1.0, LARGEST_POSITIVE_WEIGHT)
        return lambda logits, targets: functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weights_L.to(logits)
        )
    if name == "distribution_balanced":
        return distribution_balanced_loss(counts_L, rows)
    simple: dict[str, Loss] = {
        "bce": functional.binary_cross_entropy_with_logits,
        "focal": focal_loss,
        "asymmetric": asymmetric_loss,
        "zlpr": zlpr_loss,
    }
    return simple[name]


def focal_loss(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, each term times (1 − probability of the truth)^γ."""
    cross_entropy_BL = functional.binary_cross_entropy_with_logits(logits_BL, targets_BL, reduction="none")
    return ((1 - torch.exp(-cross_entropy_BL)) ** FOCAL_GAMMA * cross_entropy_BL).mean()


def focal_cross_entropy(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a text times (1 − probability of its class)^γ."""
    cross_entropy_B = functional.cross_entropy(logits_BL, targets_BL, reduction="none")
    return ((1 - torch.exp(-cross_entropy_B)) ** FOCAL_GAMMA * cross_entropy_B).mean()


def asymmetric_loss(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
    """Focal loss with a larger γ for negatives, whose probability is first lowered by a margin (equation 7)."""
    positive_BL = torch.sigmoid(logits_BL)
    negative_BL = (1 - positive_BL + ASYMMETRIC_MARGIN).clamp(max=1.0)
    truth_BL = torch.where(targets_BL > 0.5, positive_BL, negative_BL)
    gamma_BL = torch.where(targets_BL > 0.5, ASYMMETRIC_GAMMA_POSITIVE, ASYMMETRIC_GAMMA_NEGATIVE)
    return (-((1 - truth_BL) ** gamma_BL) * truth_BL.clamp(min=1e-8).log()).mean()


def distribution_balanced_loss(counts_L: torch.Tensor, rows: int) -> Loss:
    """Return the loss of Wu et al. for labels with these numbers of positive training texts, of `rows` texts."""
    rates_L = (counts_L / rows).clamp(1e-6, 1 - 1e-6)
    shift_L = TOLERANCE_KAPPA * torch.log(1 / rates_L - 1)  # ν: how far a rare label's logit is pushed

    def loss(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
        inverse_L = (1 / counts_L).to(logits_BL)
        # P_C / P_I: how often class-aware sampling would draw this text for this label, over how often at all.
        total_B1 = (targets_BL * inverse_L).sum(dim=1, keepdim=True).clamp(min=1e-12)
        ratio_BL = inverse_L / total_B1
        weights_BL = BALANCE_ALPHA + torch.sigmoid(BALANCE_BETA * (ratio_BL - BALANCE_MU))
        shifted_BL = logits_BL - shift_L.to(logits_BL)
        positive_BL = functional.softplus(-shifted_BL)
        negative_BL = functional.softplus(TOLERANCE_LAMBDA * shifted_BL) / TOLERANCE_LAMBDA
        return (weights_BL * torch.where(targets_BL > 0.5, positive_BL, negative_BL)).mean()

    return loss


def zlpr_loss(logits_BL: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
    """log(1 + Σ exp(−positive logits)) + log(1 + Σ exp(negative logits)), mean over texts."""
    never = torch.finfo(logits_BL.dtype).min
    zero_B1 = torch.zeros_like(logits_BL[:, :1])
    positive_BL = torch.where(targets_BL > 0.5, -logits_BL, never)
    negative_BL = torch.where(targets_BL > 0.5, never, logits_BL)
    per_text_B = torch.logsumexp(torch.cat([positive_BL, zero_B1], dim=1), dim=1)
    per_text_B = per_text_B + torch.logsumexp(torch.cat([negative_BL, zero_B1], dim=1), dim=1)
    return per_text_B.mean()


def ordinal_loss(grades: int) -> Loss:
    """Return cross-entropy towards softmax(−sharpness × distance in grades)."""
    positions = torch.arange(grades, dtype=torch.float32)
    soft_LL = torch.softmax(-ORDINAL_SHARPNESS * (positions[:, None] - positions[None, :]).abs(), dim=1)
    return lambda logits, targets: functional.cross_entropy(logits, targets @ soft_LL.to(logits))
