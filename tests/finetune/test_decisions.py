"""Thresholds, temperature, abstention: optimal where that can be checked, and never tuned away from the data."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from configs.errors import UserError
from finetune.decisions import (
    Decision,
    best_f1_threshold,
    confidence,
    default_thresholds,
    surest_labels,
    to_probabilities,
    tune_abstention,
    tune_temperature,
    tune_thresholds,
)
from finetune.metrics import score
from finetune.tasks import LabelSet, TaskType

MULTI = LabelSet(TaskType.MULTI_LABEL, ("a", "b", "c"))
CLASSES = LabelSet(TaskType.MULTI_CLASS, ("a", "b", "c"))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0.03, 0.97).map(lambda p: round(p, 2)), st.booleans()), min_size=2, max_size=40
    ).filter(lambda rows: any(truth for _, truth in rows))
)
def test_no_threshold_has_a_better_f1(rows: list[tuple[float, bool]]) -> None:
    probabilities, truth = np.array([p for p, _ in rows]), np.array([t for _, t in rows])
    found = best_f1_threshold(probabilities, truth)
    best = max(f1_score(truth, probabilities >= candidate) for candidate in [*probabilities, 0.0])
    assert f1_score(truth, probabilities >= found) == pytest.approx(best)


@pytest.mark.parametrize("label_set", [MULTI, CLASSES])
def test_a_label_that_was_never_predicted_gets_a_threshold(label_set: LabelSet) -> None:
    """As of a baseline that saw no training text with it: its column is exactly 0."""
    probabilities = np.array([[0.8, 0.2, 0.0], [0.3, 0.7, 0.0], [0.6, 0.4, 0.0]])
    thresholds = tune_thresholds(probabilities, np.eye(3), label_set)
    assert all(0 < threshold < 1 for threshold in thresholds)
    assert not Decision(label_set, thresholds).decide(probabilities)[:, 2].any()


def test_few_positives_stay_near_the_shared_threshold() -> None:
    generator = np.random.default_rng(0)
    truth = np.zeros((400, 3))
    truth[:200, 0], truth[:200, 1], truth[:2, 2] = 1, 1, 1
    probabilities = np.clip(0.25 * truth + 0.5 * generator.random((400, 3)), 0.02, 0.98)
    probabilities[:2, 2] = 0.97  # a perfect threshold for two rows, which is luck
    frequent_a, frequent_b, rare = tune_thresholds(probabilities, truth, MULTI)
    assert abs(frequent_a - frequent_b) < 0.15
    assert rare < 0.6


def test_probabilities_that_lie_close_together_still_get_a_threshold() -> None:
    generator = np.random.default_rng(3)
    truth = generator.random((200, 3)) < 0.4
    probabilities = 0.4 + 0.002 * truth + 0.001 * generator.random((200, 3))
    thresholds = tune_thresholds(probabilities, truth.astype(float), MULTI)
    assert ((probabilities >= thresholds) == truth).all()


def test_label_without_positive_gets_the_shared_threshold() -> None:
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=float)
    probabilities = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.2], [0.8, 0.8, 0.1], [0.2, 0.3, 0.1]])
    thresholds = tune_thresholds(probabilities, truth, MULTI)
    assert 0.3 < thresholds[2] < 0.8


@pytest.mark.parametrize("label_set", [MULTI, CLASSES])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_temperature_undoes_a_scale(label_set: LabelSet, scale: float) -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(4000, 3)) * 1.5
    probabilities = to_probabilities(logits, label_set)
    if label_set.is_multi_label:
        targets = (generator.random(probabilities.shape) < probabilities).astype(float)
    else:
        targets = np.eye(3)[[generator.choice(3, p=row) for row in probabilities]]
    assert tune_temperature(logits * scale, targets, label_set) == pytest.approx(scale, rel=0.1)


def test_decisions() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    multi = Decision(MULTI, (0.5, 0.3, 0.7))
    assert multi.decide(probabilities).tolist() == [[True, True, False], [False, False, False]]
    assert multi.label_names(multi.decide(probabilities)) == [["a", "b"], []]
    assert Decision(CLASSES, default_thresholds(CLASSES)).decide(probabilities).argmax(1).tolist() == [0, 2]
    assert Decision(CLASSES, (0.6, 0.1, 0.6)).decide(probabilities).argmax(1).tolist() == [1, 1]


def test_probabilities_match_torch() -> None:
    import torch

    logits = np.random.default_rng(0).normal(size=(5, 3)) * 20
    assert np.allclose(to_probabilities(logits, MULTI), torch.sigmoid(torch.tensor(logits)))
    assert np.allclose(to_probabilities(logits, CLASSES), torch.softmax(torch.tensor(logits), -1))


def test_abstention_reaches_its_precision_on_new_texts() -> None:
    generator = np.random.default_rng(2)
    probabilities = generator.dirichlet([0.6] * 3, size=6000)
    targets = np.eye(3)[[generator.choice(3, p=row) for row in probabilities]]
    decide = Decision(CLASSES, default_thresholds(CLASSES)).decide
    decisions = decide(probabilities)
    cut = tune_abstention(probabilities[:3000], targets[:3000], decisions[:3000], precision=0.9)
    kept = confidence(probabilities[3000:], decisions[3000:]) >= cut
    precision = (decisions & (targets > 0))[3000:][kept].sum() / kept.sum()
    assert (decisions & (targets > 0))[3000:].sum() / 3000 < 0.85  # without abstention it is missed
    assert precision >= 0.89
    assert kept.mean() > 0.1  # an oracle could keep a fifth of these texts


def test_a_few_right_answers_do_not_make_a_cut() -> None:
    """Five right, then twenty wrong: a precision of .9 on five texts is luck."""
    sure = np.linspace(0.9, 0.6, 25)
    probabilities, targets = np.column_stack([sure, 1 - sure, 0 * sure]), np.eye(3)[[0] * 5 + [1] * 20]
    decisions = Decision(CLASSES, default_thresholds(CLASSES)).decide(probabilities)
    assert tune_abstention(probabilities, targets, decisions, precision=0.9) is None
    right = np.eye(3)[[0] * 25]
    assert tune_abstention(probabilities, right, decisions, precision=0.9) == pytest.approx(0.6)


def test_surest_labels_follow_the_decision() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.6], [0.4, 0.35, 0.1]])
    labels, given = surest_labels(probabilities, Decision(MULTI, (0.7, 0.2, 0.5)).decide(probabilities))
    assert (labels.tolist(), given.tolist()) == ([1, 2, 1], [True] * 3)
    labels, given = surest_labels(probabilities, Decision(MULTI, (0.7, 0.7, 0.7)).decide(probabilities))
    assert (labels.tolist(), given.tolist()) == ([0, 2, 0], [False] * 3)
    labels, given = surest_labels(probabilities, Decision(CLASSES, (0.6, 0.1, 0.6)).decide(probabilities))
    assert (labels.tolist(), given.tolist()) == ([1, 1, 1], [True] * 3)


def test_abstention_that_cannot_be_reached() -> None:
    probabilities, targets = np.full((50, 3), 1 / 3), np.eye(3)[[0] * 25 + [1] * 25]
    decisions = Decision(CLASSES, default_thresholds(CLASSES)).decide(probabilities)
    assert tune_abstention(probabilities, targets, decisions, precision=0.9) is None


def test_decision_file_round_trip(tmp_path: Path) -> None:
    decision = Decision(MULTI, (0.2, 0.3, 0.4), 1.7, {"max_seq_length": 64}, 0.8)
    decision.save(tmp_path)
    assert Decision.load(tmp_path) == decision
    values = json.loads((tmp_path / "decision.json").read_text())
    assert values["thresholds"] == {"a": 0.2, "b": 0.3, "c": 0.4}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"labels": ["a"]}', '{"type": "multi_label", "labels": ["a"], "thresholds": 3}']
)
def test_broken_decision_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "decision.json").write_text(content)
    with pytest.raises(UserError, match=r"decision\.json"):
        Decision.load(tmp_path)


def test_rare_classes_are_given_more_often_and_balanced_ones_alike() -> None:
    generator = np.random.default_rng(0)
    label_set = LabelSet(TaskType.MULTI_CLASS, ("a", "b", "c"))
    shares = np.array([0.8, 0.15, 0.05])

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        classes = generator.choice(3, size=rows, p=shares)
        evidence = generator.normal(size=(rows, 3)) + np.eye(3)[classes]
        weights = shares * np.exp(evidence)  # exactly P(class | evidence)
        return weights / weights.sum(1, keepdims=True), np.eye(3)[classes]

    def macro_f1(thresholds: tuple[float, ...], probabilities: np.ndarray, targets: np.ndarray) -> float:
        decisions = Decision(label_set, thresholds).decide(probabilities)
        return score(targets, probabilities, decisions, label_set)["macro"]["f1"]

    tuned = tune_thresholds(*draw(300), label_set)
    assert tuned[0] > tuned[1] > tuned[2]
    fresh = draw(20_000)
    assert macro_f1(tuned, *fresh) > macro_f1(default_thresholds(label_set), *fresh) + 0.02
    even = np.full((30, 3), 1 / 3)
    assert tune_thresholds(even, np.eye(3)[np.arange(30) % 3], label_set) == pytest.approx([1 / 3] * 3)
