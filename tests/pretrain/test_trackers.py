"""Trackers get the figures of `metrics.jsonl`, offline; one that is not installed is told in one line."""

import os
import socket
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from configs.errors import UserError
from configs.manifest import verify_folder
from pretrain.metrics import MetricsLog, read_metrics
from pretrain.run_mlm import main
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
    """trackio into TRACKIO_DIR, which may hold many runs, if it is set."""
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


def test_a_tracker_that_is_not_installed_is_told(tmp_path, monkeypatch, caplog):
    """The default does without; one that was asked for is missing."""
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(UserError, match="trackio is not installed"):
        start_tracker("trackio", tmp_path, "run")
    with caplog.at_level("INFO"):
        assert start_tracker(None, tmp_path, "run") is None
    assert caplog.messages == [
        "no tracker beside metrics.jsonl and training.html: trackio is not installed (pip install -e '.[track]')"
    ]
    assert start_tracker("none", tmp_path, "run") is None


def test_a_database_that_cannot_be_written_does_not_end_a_run(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    (tmp_path / "trackio").write_text("a file where the folder should be")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # trackio says so by itself
        log = MetricsLog(tmp_path, step=0, report_to=None, run_name="run")
        log.write(LINE)
        log.close()
    assert read_metrics(tmp_path) == [LINE]


def test_trackio_is_the_default_keeps_to_the_run_folder_and_needs_no_network(workspace, monkeypatch, capsys):
    """Two runs of one process, each with a database of its own, which looking at does not change."""
    pytest.importorskip("trackio")
    asked = []
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **keywords: asked.append(arguments))
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    for run in ("one", "two"):
        arguments = workspace.arguments(run, max_steps=2)
        place = arguments.index("--report_to")
        del arguments[place : place + 2]
        main(arguments, "mindshift pretrain")
    assert asked == []
    assert "* " not in capsys.readouterr().out  # its advertisement of its own dashboard
    for run in ("one", "two"):
        folder = workspace.folder / run
        verify_folder(folder, stage="pretrain")
        with sqlite3.connect(folder / "trackio" / "mindshift.db") as database:
            rows = database.execute("select run_name, step from metrics order by step").fetchall()
        assert rows == [(run, 1), (run, 2)]
        environment = os.environ | {"TRACKIO_DIR": str(folder / "trackio")}
        command = [sys.executable, "-m", "trackio.cli", "list", "runs", "--project", "mindshift"]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert run in shown.stdout
        verify_folder(folder, stage="pretrain")
