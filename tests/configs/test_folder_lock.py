import errno
import fcntl
import json
import os
import platform
import subprocess
import sys

import pytest

from configs import folder_lock
from configs.errors import UserError
from configs.recipe import StageRecipe
from configs.run_folder import open_run_folder, publish_run_folder

WORK = """
import sys, time
from pathlib import Path
from configs.recipe import StageRecipe
from configs.run_folder import open_run_folder
(open_run_folder(StageRecipe(output_dir=Path(sys.argv[1]))) / "half").touch()
print("at work", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that is at work on the run of this folder."""
    process = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_two_processes_never_work_in_one_folder(tmp_path, other):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    with pytest.raises(UserError, match=f"process {other.pid} on {platform.node()} is at work here"):
        open_run_folder(recipe)
    other.kill()
    other.wait()
    working = open_run_folder(recipe)  # the lock went with the process
    (working / "manifest.json").write_text("{}")
    publish_run_folder(recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_requeued_job_does_not_wait_for_its_own_lost_node(tmp_path, other, monkeypatch):
    holder = {"process": 1, "machine": "n1", "since": "before", "job": "5", "attempt": 0}
    (tmp_path / "run.partial.lock").write_text(json.dumps(holder))
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setattr(folder_lock, "LEASE_SECONDS", -1.0)
    with pytest.raises(UserError, match=r"process 1 on n1 is at work(?s:.)*remove .*run\.partial\.lock"):
        open_run_folder(StageRecipe(output_dir=tmp_path / "run"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert open_run_folder(StageRecipe(output_dir=tmp_path / "run")).is_dir()


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("configs.folder_lock.fcntl.flock", refuse)
    assert open_run_folder(StageRecipe(output_dir=tmp_path / "run")).is_dir()


def test_a_lock_whose_file_is_removed_meanwhile_keeps_others_out(tmp_path, monkeypatch):
    path, flock, opened = tmp_path / "run.lock", fcntl.flock, []

    def late(descriptor, operation):
        opened.append(os.fstat(descriptor).st_ino)
        if len(opened) == 1:  # whoever held it ends just after this process has opened the file
            path.rename(tmp_path / "removed")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with folder_lock.locked(tmp_path / "run"):
        assert path.stat().st_ino == opened[1] != opened[0]
    assert not path.exists()
