"""The tests of difference: right size under no difference, power under one, Holm by hand."""

import numpy as np
import pytest

from finetune.significance import difference_of, holm, randomization_test, resample_differences


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_randomization_is_exact_for_few_pairs() -> None:
    assert randomization_test(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), seed=0) == pytest.approx(2 / 32)
    assert randomization_test(np.array([1.0, -1.0]), seed=0) == 1.0


def test_randomization_keeps_its_level_and_has_power() -> None:
    generator = np.random.default_rng(0)
    rejected = [randomization_test(generator.normal(size=8), seed=i) < 0.05 for i in range(400)]
    assert np.mean(rejected) < 0.08
    assert np.mean([randomization_test(generator.normal(1.5, size=8), seed=i) < 0.05 for i in range(100)]) > 0.7
    assert randomization_test(generator.normal(1.0, 0.5, size=45), seed=0) < 0.001


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_of_a_mean_over_tasks_covers_the_truth(seeds: int) -> None:
    # Nine tasks without a difference, whose seeds scatter and whose texts do not.
    generator, tasks, rounds, covered = np.random.default_rng(seeds), 9, 300, 0
    for _ in range(rounds):
        ours = [np.tile(generator.normal(size=(seeds, 1)), (1, 401)) for _ in range(tasks)]
        drawn = [resample_differences(task, np.zeros_like(task), seed=[0, number]) for number, task in enumerate(ours)]
        pooled = difference_of(np.mean(drawn, axis=0))
        covered += pooled.low <= 0 <= pooled.high
    assert 0.90 <= covered / rounds <= 0.985


def test_resampled_differences() -> None:
    generator = np.random.default_rng(1)
    theirs = 0.70 + 0.02 * generator.normal(size=(5, 1001))
    noisy = theirs + 0.005 * generator.normal(size=theirs.shape)
    same = difference_of(resample_differences(noisy, theirs, seed=0))
    better = difference_of(resample_differences(theirs + 0.05, theirs, seed=0))
    assert same.p_value > 0.05
    assert same.low < 0 < same.high
    assert better.p_value < 0.01
    assert better.mean == pytest.approx(0.05)
