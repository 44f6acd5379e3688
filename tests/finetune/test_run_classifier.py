"""The stage end to end: a folder that plain transformers loads, the same labels everywhere, exact resume."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from configs.manifest import now, read_manifest, verify_folder, write_manifest
from configs.recipe import StageRecipe
from finetune import fitting, pooled_heads, training
from finetune.inference import Classifier
from launch.cli import main as mindshift

MakeTask = Callable[..., Path]


def finetune(task: Path, output: Path, options: list[str]) -> int:
    return mindshift(["finetune", "--task", str(task), "--output_dir", str(output), *options])


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["multi_label", "multi_class", "binary"])
def test_one_program_for_every_type(
    kind: str, make_task: MakeTask, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, output = make_task(kind, rows=160), tmp_path / "run"
    assert finetune(task, output, small_run) == 0
    verify_folder(output, stage="finetune")
    metrics = json.loads((output / "metrics.json").read_text())
    test = metrics["test"]
    assert test["classifier"]["macro"]["f1"] > test["majority"]["macro"]["f1"] + 0.1  # it learned the cue words
    assert set(test) == {"classifier", "majority", "tfidf_logistic_regression"}
    assert set(test["classifier"]["per_label"]) == set(json.loads((task / "labels.json").read_text())["labels"])
    printed = capsys.readouterr().out
    assert "TF-IDF + logistic regression" in printed
    assert "majority" in printed
    assert not (output / "checkpoint").exists()
    assert not (output / "best.safetensors").exists()
    assert 0 <= read_manifest(output).hours < 1


@pytest.mark.parametrize("kind", ["multi_label", "multi_class"])
def test_a_label_that_train_lacks(kind: str, make_task: MakeTask, small_run: list[str], tmp_path: Path) -> None:
    task, output = make_task(kind), tmp_path / "run"
    rows = [row for row in read_jsonl(task / "train.jsonl") if "family" not in row["labels"]]
    (task / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert finetune(task, output, [*small_run, "--epochs", "1"]) == 0
    test = json.loads((output / "metrics.json").read_text())["test"]
    assert test["tfidf_logistic_regression"]["per_label"]["family"]["f1"] == 0


def test_folder_loads_with_plain_transformers(make_task: MakeTask, small_run: list[str], tmp_path: Path) -> None:
    """In a process that never imports mindshift, `pipeline` gives the probabilities that the run wrote."""
    task, output = make_task(), tmp_path / "run"
    assert finetune(task, output, small_run) == 0
    program = (
        "import json, sys\n"
        "from transformers import pipeline\n"
        "classify = pipeline('text-classification', model=sys.argv[1], top_k=None, truncation=True)\n"
        "rows = [json.loads(line) for line in open(sys.argv[2])]\n"
        "out = {r['id']: {d['label']: d['score'] for d in classify([r['text']])[0]} for r in rows}\n"
        "assert 'finetune' not in sys.modules\n"
        "print(json.dumps(out))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(output), str(task / "test.jsonl")],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    by_pipeline = json.loads(run.stdout)
    for row in read_jsonl(output / "predictions" / "test.jsonl"):
        assert by_pipeline[row["id"]] == pytest.approx(row["probabilities"], abs=2e-5)


@pytest.mark.parametrize("kind", ["multi_label", "binary"])
def test_predict_gives_the_labels_of_the_in_process_model(
    kind: str, make_task: MakeTask, small_run: list[str], tmp_path: Path
) -> None:
    task, output, predictions = make_task(kind), tmp_path / "run", tmp_path / "predictions.jsonl"
    assert finetune(task, output, small_run) == 0
    arguments = ["--model", str(output), "--input", str(task / "test.jsonl"), "--output", str(predictions)]
    assert mindshift(["predict", *arguments]) == 0
    rows = read_jsonl(task / "test.jsonl")
    given = Classifier.load(output).predict([row["text"] for row in rows])
    written = read_jsonl(predictions)
    assert [row["id"] for row in written] == [row["id"] for row in rows]
    assert [set(row) for row in written] == [{"id", "probabilities", "labels"}] * len(rows)
    names = json.loads((task / "labels.json").read_text())["labels"]
    assert np.allclose(
        [[row["probabilities"][name] for name in names] for row in written], given.probabilities_NL, atol=1e-5
    )
    assert [[name in row["labels"] for name in names] for row in written] == given.decisions_NL.tolist()
    assert written == read_jsonl(output / "predictions" / "test.jsonl")


def test_killed_run_resumes_to_the_same_weights(make_task: MakeTask, small_run: list[str], tmp_path: Path) -> None:
    task = make_task(rows=400)
    options = [*small_run, "--checkpoint_steps", "5", "--baselines", "false", "--epochs", "4"]
    assert finetune(task, tmp_path / "whole", options) == 0
    output = tmp_path / "killed"
    arguments = [
        sys.executable,
        "-m",
        "launch.cli",
        "finetune",
        "--task",
        str(task),
        "--output_dir",
        str(output),
        *options,
    ]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        arguments, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "killed.partial" / "checkpoint"
    deadline = time.monotonic() + 120
    while not checkpoint.is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    assert not output.exists()
    assert finetune(task, output, options) == 0
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", output))
    assert all(whole[name].equal(resumed[name]) for name in whole)
    assert json.loads((output / "metrics.json").read_text()) == json.loads(
        (tmp_path / "whole" / "metrics.json").read_text()
    )


def test_killed_between_the_last_figure_and_the_final_name(
    make_task: MakeTask, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, output = make_task(), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("configs.run_folder.write_manifest", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert finetune(task, output, small_run) == 130
    weights = (tmp_path / "run.partial" / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("finetune.fitting.train_model", lambda *_: pytest.fail("trained again"))
        assert finetune(task, output, small_run) == 0
    assert (output / "model.safetensors").read_bytes() == weights


def test_a_killed_run_does_not_go_on_from_another_encoder(
    make_task: MakeTask, small_run: list[str], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    task, output, encoder = make_task(), tmp_path / "run", tmp_path / "encoder"
    shutil.copytree(tiny_encoder, encoder)

    def killed(*arguments: object) -> None:
        (tmp_path / "run.partial" / "checkpoint").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.fitting.train_model", killed)
    options = [*small_run, "--model", str(encoder)]
    assert finetune(task, output, options) == 130
    (encoder / "trained_anew").write_text("")
    (task / "labels.json").write_text((task / "labels.json").read_text() + " ")
    assert finetune(task, output, options) == 2
    assert "began with another task and model" in capsys.readouterr().err


def test_finished_run_is_not_overwritten(
    make_task: MakeTask, small_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, output = make_task(), tmp_path / "run"
    assert finetune(task, output, [*small_run, "--epochs", "1"]) == 0
    before = (output / "model.safetensors").read_bytes()
    assert finetune(task, output, small_run) == 2
    assert "already holds a finished run" in capsys.readouterr().err
    assert (output / "model.safetensors").read_bytes() == before


def test_full_disk_keeps_what_is_done(
    make_task: MakeTask, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    task, output = make_task(), tmp_path / "run"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(output))

    with monkeypatch.context() as patch:
        patch.setattr("configs.run_folder.write_manifest", full)
        assert finetune(task, output, small_run) == 2
    assert "disk is full" in capsys.readouterr().err
    assert finetune(task, output, small_run) == 0


def finished_folder(folder: Path) -> Path:
    """Give a folder a manifest, as if a stage had written it."""
    write_manifest(folder, stage="made", recipe=StageRecipe(output_dir=folder), inputs={}, counts={}, started_at=now())
    return folder


def test_all_that_a_run_reads_is_verified_and_recorded(
    make_task: MakeTask, small_run: list[str], tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra, filler = make_task("binary", name="extra"), tmp_path / "filler"
    shutil.copytree(tiny_encoder, filler)
    options = [*small_run, "--epochs", "1", "--baselines", "false", "--auxiliary_tasks", json.dumps([str(extra)])]
    options += ["--augmentation", "back_off_masking", "--augmentation_model", str(filler)]
    task, output = make_task(), tmp_path / "run"
    for folder, file in ((extra, "labels.json"), (filler, "config.json")):
        finished_folder(folder)
        content = (folder / file).read_text()
        (folder / file).write_text(content + " ")
        assert finetune(task, output, options) == 2
        assert f"{folder / file}: changed since its manifest was written" in capsys.readouterr().err
        (folder / file).write_text(content)
    assert finetune(task, output, options) == 0
    manifest = read_manifest(output)
    assert set(manifest.inputs) == {"task", f"auxiliary task {extra}", "augmentation_model", "model"}
    assert manifest.inputs["augmentation_model"].path == str(filler)


def test_what_an_earlier_attempt_accepted_is_told(
    make_task: MakeTask, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, output = finished_folder(make_task()), tmp_path / "run"
    labels = (task / "labels.json").read_text()
    (task / "labels.json").write_text(labels + " ")
    options = [*small_run, "--epochs", "1", "--accept_changed_inputs", "true"]
    with monkeypatch.context() as patch:
        patch.setattr("configs.run_folder.write_manifest", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert finetune(task, output, options) == 130
    (task / "labels.json").write_text(labels)
    assert finetune(task, output, options) == 0
    assert read_manifest(output).accepted == [f"{task / 'labels.json'}: changed since its manifest was written"]


def test_a_checkpoint_with_other_weights_is_refused(
    make_task: MakeTask, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    task, output = make_task(), tmp_path / "run"
    options = [*small_run, "--epochs", "1", "--head", "label_attention"]
    save_checkpoint = training.save_checkpoint

    def save_and_end(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pooled_heads.nn, "Identity", lambda: torch.nn.Linear(64, 64))  # older versions had a pooler here
        patch.setattr(training, "save_checkpoint", save_and_end)
        assert finetune(task, output, options) == 130
    assert finetune(task, output, options) == 2
    assert "an interrupted run is here that an older version of mindshift began" in capsys.readouterr().err


def test_other_processes_do_not_wait_for_the_figures(
    make_task: MakeTask, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    wait, evaluate = Accelerator.wait_for_everyone, fitting.evaluate
    monkeypatch.setattr(Accelerator, "wait_for_everyone", lambda self: happened.append("wait") or wait(self))
    monkeypatch.setattr(fitting, "evaluate", lambda *args: happened.append("evaluate") or evaluate(*args))
    assert finetune(make_task(), tmp_path / "run", [*small_run, "--epochs", "1"]) == 0
    assert "wait" in happened
    assert happened[-1] == "evaluate"


def test_a_head_of_our_own_trains_on_two_processes(make_task: MakeTask, small_run: list[str], tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(root / "launch" / "accelerate" / "cpu_2.yaml")]
    options = [*small_run, "--epochs", "1", "--head", "label_attention"]
    options += ["--task", str(make_task()), "--output_dir", str(tmp_path / "run")]
    command = [sys.executable, *launch, str(root / "finetune" / "run_classifier.py"), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    verify_folder(tmp_path / "run", stage="finetune")
