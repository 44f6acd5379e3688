"""`mindshift launch` against the real SLURM: submit, follow, cancel, and a chain that stops where it fails."""

import pytest


@pytest.fixture
def chain(tmp_path):
    """Write a chain whose corpus stage fails: what it is to read is there, but is no dump."""
    (tmp_path / "dump.rar").write_text("")
    (tmp_path / "corpus.yaml").write_text("inputs: [dump.rar]\ntokenizer: package:minilm\noutput_dir: x\n")
    (tmp_path / "pretrain.yaml").write_text("model: package:minilm\nmax_steps: 1\n")
    (tmp_path / "chain.yaml").write_text("corpus: corpus.yaml\npretrain: pretrain.yaml\noutput_dir: run\n")
    return tmp_path


def job_ids(printed):
    return [line.split(" job ")[1].split(",")[0] for line in printed.splitlines() if " job " in line]


def test_a_failed_stage_stops_the_chain_and_status_says_why(slurm, chain):
    printed = slurm.mindshift("launch", "all", "chain.yaml", "--on", "slurm", cwd=chain).stdout
    corpus, pretrain = job_ids(printed)
    assert slurm.job(pretrain)["Dependency"].startswith(f"afterok:{corpus}")
    assert slurm.wait(corpus) == "FAILED"
    assert slurm.wait(pretrain) == "CANCELLED"
    lines = slurm.mindshift("launch", "status", "run", cwd=chain).stdout.splitlines()
    assert lines[1].split()[:3] == ["corpus", "failed", "job"]
    assert "exit code 2: dump.rar: not a dump file" in lines[2]
    assert lines[4].split()[:3] == ["pretrain", "not", "started"]
    assert "corpus did not finish" in lines[5]


def test_a_launch_is_followed_cancelled_and_never_doubled(slurm, chain):
    words = ["launch", "corpus", "corpus.yaml", "--on", "slurm", "--output_dir", "run/corpus"]
    printed = slurm.mindshift(*words, "--site.sbatch_options", "[--begin=now+1hour]", cwd=chain).stdout
    (job,) = job_ids(printed)
    status = slurm.mindshift("launch", "status", "run/corpus", cwd=chain).stdout
    assert "pending" in status
    again = slurm.mindshift(*words, check=False, cwd=chain)
    assert (again.returncode, f"already launched as job {job}" in again.stderr) == (2, True)
    slurm.mindshift("launch", "cancel", "run/corpus", cwd=chain)
    assert slurm.wait(job) == "CANCELLED"
    assert "cancelled" in slurm.mindshift("launch", "status", "run/corpus", cwd=chain).stdout


def test_slurm_s_refusal_is_passed_on(slurm, chain):
    words = ["launch", "corpus", "corpus.yaml", "--on", "slurm", "--site.partition", "nowhere"]
    done = slurm.mindshift(*words, check=False, cwd=chain)
    assert done.returncode == 2
    assert "SLURM refuses the job" in done.stderr
    assert "nowhere" in done.stderr or "partition" in done.stderr
