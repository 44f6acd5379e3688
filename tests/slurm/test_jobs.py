"""What a job does on real nodes: its ranks meet, it is requeued when it should be, and a failure names its cause."""

import re
import time

import pytest

from configs.errors import USER_ERROR_EXIT_CODE
from launch.diagnosis import attempt_reasons
from launch.scheduler import SLURM_FOLDER, batch_command
from launch.site_settings import SiteSettings, job_environment

SCRIPT = '"$MINDSHIFT_HOME/pretrain/run_mlm.py"'


@pytest.fixture
def submit(slurm, tmp_path):
    """Submit launch/slurm/pretrain.sbatch with a program of the tests in place of the pretraining."""

    def submit(program: str, *arguments: object, nodes: int = 1, options=(), site: SiteSettings | None = None) -> str:
        text = (SLURM_FOLDER / "pretrain.sbatch").read_text()
        assert SCRIPT in text
        job_file = tmp_path / "job.sbatch"
        job_file.write_text(text.replace(SCRIPT, f'"$MINDSHIFT_HOME/tests/slurm/programs/{program}"'))
        environment = job_environment(site or SiteSettings(), "pretrain", gpus=0)
        environment["MINDSHIFT_LAUNCH_FOLDER"] = str(tmp_path)
        output = f"--output={tmp_path}/%j.log"
        command = batch_command([output, f"--nodes={nodes}", *options], job_file, [str(word) for word in arguments])
        return slurm.run("env", *(f"{key}={value}" for key, value in environment.items()), *command).stdout.strip()

    return submit


def wait_for_count(checkpoint, least):
    deadline = time.monotonic() + 60
    while not checkpoint.exists() or int(checkpoint.read_text()) < least:
        assert time.monotonic() < deadline, "the program never got there"
        time.sleep(0.1)


def test_ranks_of_two_nodes_meet_under_accelerate(slurm, submit, tmp_path):
    job = submit("sum_ranks.py", nodes=2, site=SiteSettings(processes_per_node=2))
    state = slurm.wait(job)
    log = (tmp_path / f"{job}.log").read_text()
    assert state == "COMPLETED", log
    assert sorted(re.findall(r"n\d rank \d sum \d+", log)) == [
        f"n{rank // 2 + 1} rank {rank} sum 10" for rank in range(4)
    ]


def test_a_warned_job_saves_and_is_requeued_and_goes_on(slurm, submit, tmp_path):
    checkpoint = tmp_path / "count"
    job = submit("count_steps.py", checkpoint, 40, 0.1)
    wait_for_count(checkpoint, 5)
    slurm.run("scancel", "--signal=USR1", job)  # what --signal sends before the time limit
    assert slurm.wait(job) == "COMPLETED"
    assert slurm.job(job)["Restarts"] == "1"
    first, second = (int(line) for line in checkpoint.with_suffix(".attempts").read_text().split())
    assert (first, checkpoint.read_text()) == (0, "40")
    assert 5 <= second < 40
    assert attempt_reasons(tmp_path / f"{job}.log") == ["its time limit was near", ""]


def test_one_task_of_an_array_is_requeued_and_no_other(slurm, submit, tmp_path):
    job = submit("count_steps.py", tmp_path / "count", 60, 0.1, options=["--array=0-1"])
    for task in range(2):
        wait_for_count(tmp_path / f"count{task}", 5)
    slurm.run("scancel", "--signal=USR1", f"{job}_1")  # the last task, which has the array's own id
    for task in range(2):
        assert slurm.wait(f"{job}_{task}") == "COMPLETED"
        assert slurm.job(f"{job}_{task}")["Restarts"] == str(task)
        assert (tmp_path / f"count{task}").read_text() == "60"


@pytest.mark.slow
def test_a_preempted_job_gives_way_and_goes_on(slurm, submit, tmp_path):
    checkpoint = tmp_path / "count"
    job = submit("count_steps.py", checkpoint, 40, 0.1, options=["--exclusive"], nodes=2)
    wait_for_count(checkpoint, 5)
    words = ["--partition=urgent", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=true"]
    urgent = slurm.run("sbatch", "--parsable", *words)
    assert slurm.wait(urgent.stdout.strip()) == "COMPLETED"
    assert slurm.wait(job) == "COMPLETED"
    assert slurm.job(job)["Restarts"] == "1"
    assert checkpoint.read_text() == "40"


def test_a_failure_on_one_node_ends_all_and_is_not_requeued(slurm, submit, tmp_path):
    (tmp_path / "count").write_text("no number")
    job = submit("count_steps.py", tmp_path / "count", 40, 0.1, nodes=2)
    assert slurm.wait(job) == "FAILED"
    assert slurm.job(job)["Restarts"] == "0"
    assert attempt_reasons(tmp_path / f"{job}.log") == ["ValueError (the log has the traceback)"]


@pytest.mark.slow
def test_the_stage_s_exit_code_reaches_slurm(slurm, submit, tmp_path):
    job = submit("../../../finetune/run_classifier.py", tmp_path / "no-such-recipe.yaml")
    assert slurm.wait(job) == "FAILED"
    assert slurm.job(job)["ExitCode"] == f"{USER_ERROR_EXIT_CODE}:0"
    assert "no such recipe" in attempt_reasons(tmp_path / f"{job}.log")[0]


@pytest.mark.slow
def test_a_lost_node_is_named_and_the_job_requeued_until_it_is_back(slurm, submit, tmp_path):
    checkpoint = tmp_path / "count"
    job = submit("count_steps.py", checkpoint, 60, 0.1, nodes=2)
    wait_for_count(checkpoint, 5)
    lost_at = time.monotonic()
    slurm.lose_node("n2")
    slurm.wait(job, until={"PENDING"}, timeout=60)
    seconds = time.monotonic() - lost_at
    slurm.start_node("n2")
    assert slurm.wait(job) == "COMPLETED"
    assert seconds < 60
    assert attempt_reasons(tmp_path / f"{job}.log") == ["node n2 was lost", ""]
    assert checkpoint.read_text() == "60"
