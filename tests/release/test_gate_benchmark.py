"""The gate's benchmark counts right, judges by the policy as it is, and blocks planted defects (slow, in small)."""

import dataclasses
import json
import subprocess
import sys

import pytest
from tiny_release import passing_result

from benchmarks.intervals import ONE_SIDED, wilson
from benchmarks.release_gate import MUTANTS, QUICK, Measured, read_measured, summary, table
from configs.manifest import CODE_ROOT
from release.policy import REQUIRED_AUDITS, STIGMA_RISE


def measured(seed, *, stigma_rise=0.0):
    results = [passing_result(name) for name in REQUIRED_AUDITS["encoder"]]
    for result in results:
        result.measures = [
            dataclasses.replace(m, low=stigma_rise) if m.name == "stigma_rise" else m for m in result.measures
        ]
    return Measured("some", seed, results, 1.5)


def test_wilsons_interval_has_its_textbook_values():
    assert wilson(10, 100, z=1.96) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert wilson(0, 20, z=ONE_SIDED) == pytest.approx((0.0, 1.645**2 / (20 + 1.645**2)))
    assert wilson(20, 20, z=ONE_SIDED)[1] == 1.0


def test_a_row_counts_blocked_models_and_says_by_which_audit():
    row = summary("some", [measured(1), measured(2, stigma_rise=STIGMA_RISE + 0.01)])
    assert (row["blocked"], row["models"], row["by"], row["cpu_seconds"]) == (1, 2, {"worrying_fills": 1}, 3.0)
    assert "| some | 1 of 2 | 12.1 to 87.9 % | worrying_fills 1 |" in table([row])


def test_a_kept_line_is_judged_anew():
    kept = json.loads(json.dumps(dataclasses.asdict(measured(1, stigma_rise=STIGMA_RISE + 0.01))))
    assert read_measured(json.dumps(kept)).verdicts()["worrying_fills"] == "failed"
    for result in kept["results"]:
        for measure in result["measures"]:
            measure["low"] = -0.5
    assert read_measured(json.dumps(kept)).verdicts()["worrying_fills"] == "passed"


def test_mutants_have_names_of_their_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert set(QUICK) <= set(MUTANTS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_quick_lets_the_clean_model_pass_and_blocks_the_mutants(tmp_path):
    command = [sys.executable, "-m", "benchmarks.release_gate", "--quick", "--json", "--work_dir", str(tmp_path)]
    printed = subprocess.run(command, cwd=CODE_ROOT, check=True, capture_output=True, text=True).stdout
    blocked = {row["model"]: row["blocked"] for row in json.loads(printed)["rows"]}
    assert blocked == {"clean": 0, **{mutant.name: 1 for mutant in QUICK}}
    assert subprocess.run(command, cwd=CODE_ROOT, check=True, capture_output=True, text=True).stdout == printed
