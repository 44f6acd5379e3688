"""The whole chain on the embedded synthetic sample, a sweep, and the corpus's own arrays, on the real SLURM."""

import json

import pytest

from configs.manifest import CODE_ROOT, read_manifest, verify_folder
from launch.stages import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

SHORT = ["--pretrain.max_steps", "20", "--finetune.epochs", "1", "--benchmark.seeds", "[1]"]
SHORT += ["--audit.shadow_steps", "5"]
SHORT += ["--audit.documents_per_side", "50", "--audit.bootstrap_samples", "200", "--audit.masks_per_document", "1"]


def ids(printed):
    """Return stage → job id from what a launch printed."""
    words = [line.partition(": job ") for line in printed.splitlines() if ": job " in line]
    return {stage: rest.split(",")[0] for stage, _, rest in words}


def test_the_whole_chain_on_the_sample(slurm, tmp_path):
    run = tmp_path / "run"
    words = ["launch", "all", "configs/launch/sample.yaml", "--on", "slurm", "--output_dir", run]
    words += ["--corpus.keys_dir", tmp_path / "keys", *SHORT]
    jobs = ids(slurm.mindshift(*words).stdout)
    assert list(jobs) == ["corpus", "pretrain", "finetune", "benchmark", "audit"]
    numbers = list(jobs.values())
    for place, job in enumerate(numbers[1:], start=1):  # each waits for all before it
        waits_for = slurm.job(job)["Dependency"].split(",")
        assert f"afterok:{numbers[place - 1]}(unfulfilled)" in waits_for
        assert set(waits_for) <= {f"afterok:{before}(unfulfilled)" for before in numbers[:place]}
    waiting = slurm.mindshift("launch", "status", run).stdout
    assert "waits for corpus, pretrain" in waiting
    for stage, job in jobs.items():
        state = slurm.wait(job, timeout=1500)
        assert state == "COMPLETED", slurm.mindshift("launch", "status", run).stdout
        verify_folder(run / STAGES[stage].folder)
    finished = slurm.mindshift("launch", "status", run).stdout
    assert finished.count(" done ") == len(jobs)
    encoder = read_manifest(run / "encoder")
    assert encoder.inputs["corpus"].path == str(run / "corpus")
    assert encoder.counts["steps"] == 20
    again = slurm.mindshift(*words)
    assert again.stdout.count("finished before") == len(jobs)
    assert ids(again.stdout) == {}


@pytest.fixture
def sweep(tmp_path):
    """Write a sweep of four fine-tunings, two of which start from an encoder that is not there."""
    values = {
        "stage": "finetune",
        "base_recipe": str(CODE_ROOT / "configs" / "finetune" / "sample.yaml"),
        "grid": {"epochs": [0.1, 0.2], "model": ["package:minilm", "./absent"]},
        "output_dir": str(tmp_path / "sweep"),
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(values))
    return tmp_path


def test_a_sweep_is_one_array_that_skips_what_is_done(slurm, sweep):
    words = ["launch", "sweep", sweep / "sweep.yaml", "--on", "slurm"]
    printed = slurm.mindshift(*words).stdout
    assert "4 runs, 0 of them finished before" in printed
    assert printed.count(": job ") == 1
    job = ids(printed)["sweep"]
    for task in range(4):
        assert slurm.wait(f"{job}_{task}", timeout=900) == ("FAILED" if task % 2 else "COMPLETED")
    status = slurm.mindshift("launch", "status", sweep / "sweep").stdout
    assert "2 of 4 runs done" in status
    assert "no such model folder" in status
    again = slurm.mindshift(*words, "--grid", '{"epochs": [0.1, 0.2], "model": ["package:minilm"]}')
    assert "2 runs, 2 of them finished before" in again.stdout
    assert ids(again.stdout) == {}
