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


def run_id(folder: Path) -> str:
    return (folder / "tracker_id").read_text()


def test_tensorboard_files_hold_the_figures(tmp_path):
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path, step=0, report_to="tensorboard", run_name="run") as log:
        log.write(LINE)
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
        f"with log:\n    log.write({LINE!r})"
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
    assert [(run, step) for run, step, _ in rows] == [(f"run-{run_id(tmp_path)}", 3)]
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
        with MetricsLog(tmp_path, step=0, report_to=None, run_name="run") as log:
            log.write(LINE)
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
        name = f"{run}-{run_id(folder)}"
        assert rows == [(name, 1), (name, 2)]
        environment = os.environ | {"TRACKIO_DIR": str(folder / "trackio")}
        command = [sys.executable, "-m", "trackio.cli", "list", "runs", "--project", "mindshift"]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert name in shown.stdout
        verify_folder(folder, stage="pretrain")


WANDB_RUN = """
import sys
from pathlib import Path
from configs.console import start_console
from configs.manifest import now, write_manifest
from configs.recipe import StageRecipe
from pretrain.metrics import MetricsLog

start_console()
folder, ends = Path(sys.argv[1]), sys.argv[2] == "ends"
with MetricsLog(folder, step=0, report_to="wandb", run_name="encoder") as log:
    log.write({"step": 1, "loss": 2.5})
    if not ends:
        raise SystemExit(75)
write_manifest(folder, stage="pretrain", recipe=StageRecipe(output_dir=folder), inputs={}, counts={}, started_at=now())
"""


def test_what_wandb_leaves_does_not_change_behind_the_manifest_and_a_requeue_is_one_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    environment |= {"PYTHONPATH": str(ROOT), "WANDB_CACHE_DIR": str(tmp_path / "cache"), "WANDB_SILENT": "true"}
    run = tmp_path / "run"
    run.mkdir()
    for end, code in (("stops", 75), ("ends", 0)):
        command = [sys.executable, "-c", WANDB_RUN, str(run), end]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr[-2000:]
    verify_folder(run, stage="pretrain")
    assert [path for path in run.rglob("*") if path.is_symlink() or path.suffix == ".log"] == []
    # wandb joins pieces of one id.
    assert {path.name for path in run.glob("wandb/offline-run-*/*.wandb")} == {f"run-{run_id(run)}.wandb"}


def test_runs_of_one_name_stay_apart_in_a_shared_database_and_a_resumed_one_together(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "shared"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    for place in ("a", "b", "a"):
        (tmp_path / place).mkdir(exist_ok=True)
        with MetricsLog(tmp_path / place, step=3, report_to="trackio", run_name="encoder") as log:
            log.write(LINE)
    with sqlite3.connect(tmp_path / "shared" / "mindshift.db") as database:
        rows = database.execute("select run_name, count(distinct run_id), count(*) from metrics group by 1").fetchall()
    names = [f"encoder-{run_id(tmp_path / place)}" for place in ("a", "b")]
    assert sorted(rows) == sorted([(names[0], 1, 2), (names[1], 1, 1)])


def test_a_stopped_run_finishes_its_tracker(workspace, interrupt, monkeypatch):
    """What a tracker still holds when the process ends is lost."""
    finished = []

    class Tracker:
        def log(self, values, step):
            pass

        def finish(self):
            finished.append(True)

    monkeypatch.setattr("pretrain.metrics.start_tracker", lambda *arguments: Tracker())
    interrupt(workspace.arguments(), at_step=3)
    assert finished == [True]
