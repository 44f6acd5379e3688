"""The learning rate's shapes, and what AdamW decays."""

import math
from pathlib import Path

import pytest
import torch

from pretrain.config import PretrainRecipe
from pretrain.optimization import build_optimizer, learning_rate_factor, mlm_probability


def build_recipe(**values: object) -> PretrainRecipe:
    return PretrainRecipe(output_dir=Path("x"), corpus=Path("c"), max_steps=100, **values)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", {0: 0.1, 9: 1.0, 10: 1.0, 55: 0.5, 99: 1 / 90}),
        ("cosine", {9: 1.0, 10: 1.0, 55: 0.5, 99: 0.5 * (1 + math.cos(math.pi * 89 / 90))}),
        ("wsd", {0: 0.1, 10: 1.0, 79: 1.0, 80: 1.0, 85: 0.5, 99: 1 - math.sqrt(19 / 20)}),
        ("constant", {0: 0.1, 10: 1.0, 99: 1.0}),
    ],
)
def test_shapes_of_the_learning_rate(shape, expected):
    recipe = build_recipe(lr_scheduler_type=shape, warmup_ratio=0.1, decay_ratio=0.2)
    assert {step: learning_rate_factor(step, 100, recipe) for step in expected} == pytest.approx(expected)


def test_no_warmup_starts_at_the_peak():
    assert learning_rate_factor(0, 100, build_recipe(warmup_ratio=0.0)) == 1.0


def test_only_matrices_decay():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    groups = build_optimizer(model, build_recipe(weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("wsd", {0: 0.3, 79: 0.3, 80: 0.15, 99: 0.15}),
        ("linear", {0: 0.3, 33: 0.25, 66: 0.2, 99: 0.15}),
        ("constant", {0: 0.3, 99: 0.15}),
    ],
)
def test_the_masking_rate_moves_with_the_schedule(shape, expected):
    recipe = build_recipe(lr_scheduler_type=shape, mlm_probability=0.3, final_mlm_probability=0.15, decay_ratio=0.2)
    assert {step: mlm_probability(step, 100, recipe) for step in expected} == pytest.approx(expected)


def test_without_a_final_rate_the_masking_rate_stays():
    assert {mlm_probability(step, 100, build_recipe(mlm_probability=0.2)) for step in range(100)} == {0.2}
