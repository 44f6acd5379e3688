"""Trackers get the figures of `metrics.jsonl`, offline; one that is not installed is told in one line."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import UserError
from pretrain.metrics import MetricsLog
from pretrain.trackers import start_tracker

ROOT = Path(__file__).resolve().parents[2]
LINE = {"step": 3, "loss": 2.5, "note": "no number"}


def test_tensorboard_files_hold_the_figures(tmp_path):
    pytest.importorskip("tensorboard")
    log = MetricsLog(tmp_path, step=0, report_to="tensorboard", run_name="run")
    log.write(LINE)
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 2.5)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_writes_local_files_only(tmp_path, name):
    pytest.importorskip(name)
    program = (
        "from pathlib import Path; from configs.console import start_console; from pretrain.metrics import MetricsLog\n"
        f"start_console(); log = MetricsLog(Path({str(tmp_path)!r}), step=0, report_to={name!r}, run_name='run')\n"
        f"log.write({LINE!r}); log.close()"
    )
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    environment |= {
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "PYTHONPATH": str(ROOT),
        "http_proxy": "http://localhost:9",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    if name == "wandb":
        assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
        return
    with sqlite3.connect(tmp_path / "trackio" / "mindshift.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    assert [(run, step) for run, step, _ in rows] == [("run", 3)]
    assert "2.5" in str(rows[0][2])


def test_a_tracker_that_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match="trackio is not installed"):
        start_tracker("trackio", tmp_path, "run")
    assert start_tracker("none", tmp_path, "run") is None
