"""LoRA and QLoRA folders give the same logits in a fresh process, and refuse another base."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetune.inference import Classifier
from launch.cli import main as mindshift

MakeTask = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


def finetune(task: Path, output: Path, options: list[str]) -> int:
    return mindshift(["finetune", "--task", str(task), "--output_dir", str(output), "--baselines", "false", *options])


def logits_in_a_fresh_process(folder: Path, texts: list[str]) -> np.ndarray:
    program = (
        "import json, sys; from pathlib import Path; from finetune.inference import Classifier\n"
        "print(json.dumps(Classifier.load(Path(sys.argv[1])).logits(json.loads(sys.argv[2])).tolist()))"
    )
    arguments = [sys.executable, "-c", program, str(folder), json.dumps(texts)]
    return np.array(json.loads(subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True).stdout))


@pytest.mark.parametrize(
    ("adapter", "head"),
    [
        ("lora", "mean"),
        ("lora", "label_attention"),
        ("qlora", "cls"),
        pytest.param("qlora", "mean", marks=pytest.mark.slow),
    ],
)
def test_reloads_to_the_same_logits(
    adapter: str, head: str, make_task: MakeTask, small_run: list[str], tmp_path: Path
) -> None:
    if adapter == "qlora":
        pytest.importorskip("bitsandbytes")
    pytest.importorskip("peft")
    task, output = make_task("binary"), tmp_path / "run"
    options = [*small_run, "--adapter", adapter, "--head", head, "--learning_rate", "1e-2"]
    assert finetune(task, output, options) == 0
    texts = [json.loads(line)["text"] for line in (task / "test.jsonl").read_text().splitlines()]
    here = Classifier.load(output).logits(texts)
    assert np.abs(here).max() > 0.1
    assert np.allclose(logits_in_a_fresh_process(output, texts), here, atol=1e-5)
    assert (output / "adapter_model.safetensors").exists() == (adapter == "qlora")
    rows = [json.loads(line) for line in (output / "predictions" / "test.jsonl").read_text().splitlines()]
    given = Classifier.load(output).predict(texts)
    assert [row["labels"][0] for row in rows] == [["sleep", "work"][index] for index in given.decisions_NL.argmax(1)]


def test_adapter_learns(make_task: MakeTask, small_run: list[str], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    task = make_task("binary", rows=160)
    assert finetune(task, tmp_path / "run", [*small_run, "--adapter", "lora", "--epochs", "16"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["classifier"]["macro"]["f1"] > 0.8


@pytest.mark.slow
def test_adapter_on_another_base_is_refused(
    make_task: MakeTask, small_run: list[str], tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("peft")
    base = tmp_path / "base"
    shutil.copytree(tiny_encoder, base)
    output = tmp_path / "run"
    options = [*small_run, "--model", str(base), "--adapter", "qlora", "--epochs", "1"]
    assert finetune(make_task(), output, options) == 0
    assert mindshift(["predict", "--model", str(output), "--text", "tired"]) == 0
    from safetensors.torch import load_file, save_file

    weights = load_file(base / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"] += 0.1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    assert mindshift(["predict", "--model", str(output), "--text", "tired"]) == 2
    assert "trained on another base" in capsys.readouterr().err
