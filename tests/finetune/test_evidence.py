"""Intervals, calibration, slices and the report: right against known answers, and free of texts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from finetune.calibration import calibration, error_if_perfect, expected_calibration_error, reliability_bins
from finetune.evidence import confusion
from finetune.metrics import score
from finetune.slices import score_slices, slices_of
from finetune.tasks import Example, LabelSet, TaskType
from finetune.uncertainty import clusters_of, f1_intervals, f1_resamples
from launch.cli import main as mindshift

MULTI = LabelSet(TaskType.MULTI_LABEL, ("a", "b", "c"))
CLASSES = LabelSet(TaskType.MULTI_CLASS, ("a", "b", "c"))


def test_calibration_error_of_honest_and_boastful_probabilities() -> None:
    generator = np.random.default_rng(0)
    honest = generator.random((20_000, 3))
    happened = (generator.random(honest.shape) < honest).astype(float)
    assert calibration(honest, happened, MULTI)["expected_calibration_error"] < 0.01
    always = np.full((1000, 3), 0.9)
    half = np.tile([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], (500, 1))
    assert calibration(always, half, MULTI)["expected_calibration_error"] == pytest.approx(0.4)


def test_calibration_of_classes_looks_at_the_likeliest() -> None:
    probabilities = np.tile([0.8, 0.1, 0.1], (10, 1))
    targets = np.eye(3)[[0] * 6 + [1] * 4]
    # Ten bins of one text each: six are .2 off, four .8.
    assert calibration(probabilities, targets, CLASSES)["expected_calibration_error"] == pytest.approx(0.44)


def test_error_of_perfect_probabilities_shrinks_with_their_number() -> None:
    few, many = (np.random.default_rng(1).random(size) for size in (500, 50_000))
    happened = (np.random.default_rng(2).random(500) < few).astype(float)
    assert error_if_perfect(few) == pytest.approx(10 * error_if_perfect(many), rel=0.2)
    assert expected_calibration_error(reliability_bins(few, happened)) == pytest.approx(error_if_perfect(few), rel=0.7)
    assert error_if_perfect(np.array([0.0, 1.0, 1.0])) == 0


def test_weights_of_one_give_scikit_learns_f1() -> None:
    generator = np.random.default_rng(1)
    truth, given = generator.random((200, 3)) < 0.4, generator.random((200, 3)) < 0.5
    clusters = generator.integers(0, 50, 200)
    values = f1_resamples(truth, given, clusters, np.ones((1, clusters.max() + 1)))
    assert values["macro_f1"][0] == pytest.approx(f1_score(truth, given, average="macro"))
    assert values["micro_f1"][0] == pytest.approx(f1_score(truth, given, average="micro"))
    assert values["accuracy"][0] == pytest.approx((truth == given).all(1).mean())


def test_interval_covers_the_truth_and_widens_with_clusters() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for seed in range(60):
        right = generator.random(300) < 0.8
        truth = np.eye(2)[np.zeros(300, dtype=int)]
        given = np.eye(2, dtype=bool)[(~right).astype(int)]
        interval = f1_intervals(truth, given, np.arange(300), seed=seed)["accuracy"]
        covered += interval.low <= 0.8 <= interval.high
    assert covered >= 51  # 95 % of 60, less three standard errors
    repeated = np.repeat(np.arange(30), 10)
    right = generator.random(30)[repeated] < 0.8
    given = np.eye(2, dtype=bool)[(~right).astype(int)]
    alone, together = (
        f1_intervals(np.eye(2)[np.zeros(300, dtype=int)], given, clusters, seed=0)["accuracy"]
        for clusters in (np.arange(300), repeated)
    )
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_clusters() -> None:
    examples = [
        Example("1", "One", (), "g"),
        Example("2", "two", (), "g"),
        Example("3", "same", ()),
        Example("4", " Same ", ()),
    ]
    assert clusters_of(examples).tolist() == [0, 0, 1, 1]


def test_slices() -> None:
    examples = [
        Example(str(i), "my mother " + "word " * (i % 2 * 100), (), slices=(("year", "2021"),)) for i in range(80)
    ]
    found = {
        (row["kind"], row["slice"]): row
        for row in score_slices(examples, np.eye(2)[[0] * 80], np.eye(2, dtype=bool)[[0] * 40 + [1] * 40])
    }
    assert found["year", "2021"]["rows"] == found["names", "women"]["rows"] == 80
    assert found["length in words", "0 to 24"]["rows"] == 40
    assert found["year", "2021"]["accuracy"] == 0.5
    assert ("names", "men") not in slices_of(examples[0])


def test_kappa_counts_the_distance_across_a_grade_that_stands_nowhere() -> None:
    grades = LabelSet(TaskType.MULTI_CLASS, ("none", "mild", "moderate", "severe"), ordinal=True)
    truth, given = np.eye(4)[[0, 0, 1, 1, 3, 3]], np.eye(4, dtype=bool)[[0, 1, 1, 1, 3, 1]]
    kappa = score(truth, given.astype(float), given, grades)["quadratic_kappa"]
    # Squared distances: observed 0 + 1 + 0 + 0 + 0 + 4 = 5; by chance, of 36 pairs of a true and a given grade,
    # 2 × (0 + 4 × 1 + 9) + 2 × (1 + 0 + 4) + 2 × (9 + 4 × 4 + 0) = 86.
    assert kappa == pytest.approx(1 - (5 / 6) / (86 / 36))


def test_confusion() -> None:
    truth, given = np.eye(3)[[0, 0, 1, 2]], np.eye(3, dtype=bool)[[0, 1, 1, 0]]
    assert confusion(truth, given, CLASSES)["matrix"] == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert confusion(truth, given, MULTI)["per_label"]["a"] == {
        "true_positive": 1, "false_positive": 1, "false_negative": 1, "true_negative": 1,
    }  # fmt: skip


def test_report_is_whole_and_holds_no_text(
    make_task: Callable[..., Path], small_run: list[str], tmp_path: Path
) -> None:
    task, output = make_task("multi_class"), tmp_path / "run"
    arguments = ["--task", str(task), "--output_dir", str(output), *small_run, "--epochs", "1", "--patience", "1"]
    assert mindshift(["finetune", *arguments]) == 0
    report = (output / "report.html").read_text(encoding="utf-8")
    assert report.count("<svg") == 3
    for outside in ('src="', "<script", "<link", "@import"):
        assert outside not in report
    written = report + "".join(path.read_text() for path in output.rglob("*.json*"))
    for split in ("train", "validation", "test"):
        for line in (task / f"{split}.jsonl").read_text().splitlines():
            assert json.loads(line)["text"] not in written
    evidence = json.loads((output / "evidence.json").read_text())
    ids = {json.loads(line)["id"] for line in (task / "test.jsonl").read_text().splitlines()}
    assert {row["id"] for row in evidence["errors"]} <= ids
    low, high = evidence["intervals"]["macro_f1"][1:]
    assert low <= json.loads((output / "metrics.json").read_text())["test"]["classifier"]["macro"]["f1"] <= high
