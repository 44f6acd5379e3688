"""Each loss against its formula, written out with plain numbers."""

import math

import numpy as np
import pytest
import torch

from configs.errors import UserError
from finetune.losses import MULTI_LABEL_LOSSES, SINGLE_LABEL_LOSSES, build_loss, zlpr_loss
from finetune.tasks import LabelSet, TaskType

MULTI = LabelSet(TaskType.MULTI_LABEL, ("a", "b", "c"))
GRADES = LabelSet(TaskType.MULTI_CLASS, ("low", "middle", "high"), ordinal=True)
MULTI_TARGETS = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=float)
GRADE_TARGETS = np.eye(3)[[0, 0, 0, 1, 2]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("name", MULTI_LABEL_LOSSES)
def test_multi_label_loss_falls_towards_the_truth(name: str) -> None:
    loss = build_loss(name, MULTI_TARGETS, MULTI)
    targets = torch.tensor(MULTI_TARGETS, dtype=torch.float32)
    right, wrong = loss(4 * (2 * targets - 1), targets), loss(-4 * (2 * targets - 1), targets)
    assert 0 <= right < 0.3 * wrong


@pytest.mark.parametrize("name", SINGLE_LABEL_LOSSES)
def test_class_loss_falls_towards_the_truth(name: str) -> None:
    loss = build_loss(name, GRADE_TARGETS, GRADES)
    targets = torch.tensor(GRADE_TARGETS, dtype=torch.float32)
    assert loss(2 * targets, targets) < loss(torch.zeros_like(targets), targets) < loss(-2 * targets, targets)


def test_focal_by_hand() -> None:
    loss = build_loss("focal", MULTI_TARGETS, MULTI)(torch.tensor([[0.7, -0.2, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    truths = [sigmoid(0.7), 1 - sigmoid(-0.2), 0.5]
    assert loss.item() == pytest.approx(sum(-((1 - p) ** 2) * math.log(p) for p in truths) / 3, rel=1e-5)


def test_asymmetric_by_hand() -> None:
    loss = build_loss("asymmetric", MULTI_TARGETS, MULTI)(torch.tensor([[0.7, -4.0]]), torch.tensor([[1.0, 0.0]]))
    positive = (1 - sigmoid(0.7)) * -math.log(sigmoid(0.7))
    assert loss.item() == pytest.approx(positive / 2, rel=1e-5)  # p = .018 is within the margin: no loss at all


def test_zlpr_by_hand() -> None:
    loss = zlpr_loss(torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[1.0, 0.0, 0.0]]))
    expected = math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(-2.0) + math.exp(0.5))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_pos_weight_by_hand() -> None:
    logits, targets = torch.zeros(1, 3), torch.ones(1, 3)
    loss = build_loss("pos_weight", MULTI_TARGETS, MULTI)(logits, targets)  # 3, 1 and 1 positives of 4
    assert loss.item() == pytest.approx(math.log(2) * (1 + 3 + 3) / 3, rel=1e-5)  # a frequent label is not weighed down


def test_weighted_cross_entropy_gives_classes_equal_weight() -> None:
    loss = build_loss("weighted_cross_entropy", GRADE_TARGETS, GRADES)
    targets = torch.tensor(GRADE_TARGETS, dtype=torch.float32)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (loss(logits * 0, targets)).backward()
    assert loss(torch.zeros(5, 3), targets).item() == pytest.approx(math.log(3), rel=1e-5)


def test_ordinal_loss_punishes_distance() -> None:
    loss = build_loss("ordinal", GRADE_TARGETS, GRADES)
    low = torch.tensor([[1.0, 0.0, 0.0]])
    one_off, two_off = loss(torch.tensor([[0.0, 3.0, 0.0]]), low), loss(torch.tensor([[0.0, 0.0, 3.0]]), low)
    assert one_off < two_off


def test_distribution_balanced_weighs_the_rare_label_up() -> None:
    targets_NL = np.array([[1, 0]] * 9 + [[1, 1]], dtype=float)
    loss = build_loss("distribution_balanced", targets_NL, LabelSet(TaskType.MULTI_LABEL, ("often", "rarely")))
    logits = torch.zeros(1, 2, requires_grad=True)
    loss(logits, torch.tensor([[1.0, 1.0]])).backward()
    gradient_often, gradient_rarely = logits.grad.abs()[0]
    assert gradient_rarely > 1.5 * gradient_often


def test_loss_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"zlpr.*does not fit a multi_class task; fit: cross_entropy"):
        build_loss("zlpr", GRADE_TARGETS, GRADES)
    nominal = LabelSet(TaskType.MULTI_CLASS, GRADES.names)
    with pytest.raises(UserError, match="ordinal"):
        build_loss("ordinal", GRADE_TARGETS, nominal)
