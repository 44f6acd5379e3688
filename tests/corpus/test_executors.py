import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.errors import UserError
from configs.manifest import read_manifest
from corpus import executors
from corpus.config import CorpusRecipe
from corpus.engine import run_step, step_counts, step_usage
from corpus.executors import completed_tasks, run_tasks
from tests.corpus.conftest import make_post, pack_lines
from tests.corpus.test_build import hashes

Build = Callable[..., Path]


class Count(PipelineStep):
    """Counts its rank; the task of one rank may fail or die."""

    name, type = "count", "test"

    def __init__(self, failing: int = -1, dying: int = -1) -> None:
        super().__init__()
        self.failing, self.dying = failing, dying

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        if rank == self.dying:
            os._exit(9)
        secret = "nobody may read this in a log"
        if rank == self.failing:
            raise ValueError(len(secret))
        self.stat_update("ranks", value=rank)
        yield from ()


def recipe(**keys: object) -> CorpusRecipe:
    return CorpusRecipe(inputs=["x"], tokenizer="x", output_dir=Path("x"), **({"workers": 2} | keys))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_counts_what_its_tasks_count_and_runs_each_once(tmp_path: Path, workers: int) -> None:
    done: list[int] = []
    for _ in range(2):
        run_tasks(recipe(workers=workers), [Count()], 5, tmp_path, done.append)
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert step_counts(tmp_path)["ranks"] == 10
    seconds, peak = step_usage(tmp_path)
    assert seconds >= 0
    assert peak > 10
    assert completed_tasks(tmp_path) == set(range(5))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_task_leaves_no_values_in_logs(
    tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="29"):
        run_tasks(recipe(workers=workers), [Count(failing=3)], 4, tmp_path, lambda _: None)
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "nobody may read" not in written + "".join(capfd.readouterr())
    run_tasks(recipe(workers=workers), [Count()], 4, tmp_path, lambda _: None)
    assert completed_tasks(tmp_path) == set(range(4))


def test_a_killed_worker_ends_the_build_instead_of_hanging_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a worker process was killed"):
        run_tasks(recipe(), [Count(dying=1)], 3, tmp_path, lambda _: None)
    run_tasks(recipe(), [Count()], 3, tmp_path, lambda _: None)
    assert completed_tasks(tmp_path) == {0, 1, 2}


def test_progress_is_logged_with_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run_step("name", [Count()], sizes=[3, 4], unit="posts", recipe=recipe(workers=1), logging_dir=tmp_path)
    assert "name: 7 posts in" in caplog.text
    assert "/s)" in caplog.text


def test_without_slurm_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in ("sbatch", "squeue"):  # also where an earlier try has submitted a job
        with pytest.raises(UserError, match=rf"no SLURM here \({command}"):
            run_tasks(recipe(executor="slurm"), [Count()], 2, tmp_path, lambda _: None)
        (tmp_path / executors.JOB_NAME).write_text("42")


def test_a_refused_job_is_told_in_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UserError, match="sbatch refused the job"):
        run_tasks(recipe(executor="slurm"), [Count()], 2, tmp_path / "log", lambda _: None)


def test_a_busy_slurm_controller_is_not_taken_for_the_end_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`squeue` fails, then forgets the job once, then knows it again; the tasks end after that."""
    log, calls = tmp_path / "log", tmp_path / "calls"
    squeue = tmp_path / "squeue"
    squeue.write_text(
        f"""#!/bin/sh
        echo >> {calls}
        case $(wc -l < {calls}) in
            1|2|3|4) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1;;
            5) exit 0;;
            6) echo "42 main";;
            *) mkdir -p {log}/completions; touch {log}/completions/00000 {log}/completions/00001; exit 0;;
        esac
        """
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(executors.SlurmTasks, "launch_job", lambda self: setattr(self, "job_id", "42"))
    for name in ("SECONDS_BETWEEN_QUEUE_CHECKS", "SECONDS_BETWEEN_CHECKS"):
        monkeypatch.setattr(executors, name, 0.05)
    run_tasks(recipe(executor="slurm"), [Count()], 2, log, lambda _: None)
    assert completed_tasks(log) == {0, 1}
    assert len(calls.read_text()) >= 7


@pytest.mark.parametrize("script", ["exit 0", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"])
def test_a_job_that_slurm_forgets_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(executors.SlurmTasks, "launch_job", lambda self: setattr(self, "job_id", "42"))
    for name in ("SECONDS_BETWEEN_QUEUE_CHECKS", "SECONDS_BETWEEN_CHECKS"):
        monkeypatch.setattr(executors, name, 0.01)
    with pytest.raises(UserError, match="2 of 2 tasks ended without being complete"):
        run_tasks(recipe(executor="slurm"), [Count()], 2, tmp_path / "log", lambda _: None)


@pytest.mark.parametrize("still_there", [True, False])
def test_a_job_that_an_interrupted_build_submitted_is_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, still_there: bool
) -> None:
    """Its tasks go on although their driver was killed; only if the job has ended is another one submitted."""
    log, submitted = tmp_path / "log", []
    answer = "Invalid job id specified" if not still_there else "Unable to contact slurm controller"
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho 'slurm_load_jobs error: {answer}' >&2; exit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def complete() -> None:
        (log / "completions").mkdir(parents=True, exist_ok=True)
        for rank in range(2):
            (log / "completions" / f"{rank:05d}").touch()

    def launch(self: executors.SlurmTasks) -> None:
        submitted.append(self.job_name)
        self.job_id = "43"
        complete()

    monkeypatch.setattr(executors.SlurmTasks, "launch_job", launch)
    monkeypatch.setattr(executors, "SECONDS_BETWEEN_CHECKS", 0.01)
    monkeypatch.setattr(executors, "SECONDS_BETWEEN_QUEUE_CHECKS", 0.01)
    log.mkdir()
    (log / executors.JOB_NAME).write_text("42")
    timer = threading.Timer(0.2, complete)
    timer.start()
    run_tasks(recipe(executor="slurm"), [Count()], 2, log, lambda _: None)
    timer.join()
    assert submitted == ([] if still_there else ["mindshift-log"])
    assert (log / executors.JOB_NAME).read_text() == ("42" if still_there else "43")


def test_ray_is_told_to_report_its_use_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise RuntimeError(os.environ["RAY_USAGE_STATS_ENABLED"])

    ray = type(sys)("ray")
    ray.is_initialized, ray.init = lambda: False, init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    with pytest.raises(RuntimeError, match="1"):  # whoever asks for it gets it
        run_tasks(recipe(executor="ray"), [Count()], 2, tmp_path, lambda _: None)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    with pytest.raises(RuntimeError, match="0"):
        run_tasks(recipe(executor="ray"), [Count()], 2, tmp_path, lambda _: None)


def test_finished_tasks_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(executors, "completed_tasks", lambda folder: calls.append(folder) or set(range(50)))
    run_tasks(recipe(), [Count()], 50, tmp_path, lambda _: None)
    assert len(calls) == 1


def test_without_ray_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="needs Ray"):
        run_tasks(recipe(executor="ray"), [Count()], 2, tmp_path, lambda _: None)


def test_a_build_is_resumed_by_another_executor(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = tmp_path / "RS.jsonl"
    dump.write_bytes(pack_lines(make_post(number) for number in range(60)))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="needs Ray"):
        build([dump], executor="ray", slurm_partition="long")
    corpus = build([dump], executor="local")
    assert read_manifest(corpus).recipe["executor"] == "local"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_ray_gives_the_same_bytes(build: Build, tmp_path: Path, tokenizer_dir: Path) -> None:
    pytest.importorskip("ray", reason="needs pip install -e '.[ray]'")
    dumps = []
    for part in range(3):
        dumps.append(tmp_path / f"RS_{part}.jsonl")
        dumps[-1].write_bytes(pack_lines(make_post(number) for number in range(part * 100, part * 100 + 100)))
    expected = hashes(build(dumps, "local", chunk_documents=60))
    # In a process of its own: Ray leaves threads and sockets behind.
    command = [sys.executable, "-m", "corpus.build_corpus", "--inputs", str([str(path) for path in dumps])]
    command += ["--tokenizer", str(tokenizer_dir), "--output_dir", str(tmp_path / "ray"), "--chunk_documents", "60"]
    command += ["--keys_dir", str(tmp_path / "keys"), "--workers", "2", "--held_out_share", "0.2"]
    command += ["--executor", "ray", "--task_memory_gb", "1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr[-3000:]
    assert hashes(tmp_path / "ray") == expected
