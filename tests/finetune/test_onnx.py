"""The int8 ONNX copy: small, close to the original, refused where it is not, read by `predict`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.manifest import read_manifest, verify_folder
from finetune import task_files
from finetune.inference import Classifier
from launch.cli import main as mindshift

pytest.importorskip("onnxscript")
MakeTask = Callable[..., Path]
TEXTS = ["tired at night", "my boss and the deadline", "", "mother " * 60]


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("exported") / "onnx"
    task = str(trained.parent)  # tiny weights round badly, and 64 validation rows jump by points
    options = ["--task", task, "--most_points_lost", "5", "--output_dir", str(output)]
    assert mindshift(["export", "--model", str(trained), *options]) == 0
    return output


def test_predicts_like_the_original(trained: Path, exported: Path, tmp_path: Path) -> None:
    verify_folder(exported, stage="export")
    figures = json.loads((exported / "export.json").read_text())
    assert figures["int8_megabytes"] < figures["float32_megabytes"]
    assert b"site-packages" not in (exported / "model.onnx").read_bytes()  # the exporter's notes, with our paths
    original, small = Classifier.load(trained).predict(TEXTS), Classifier.load(exported).predict(TEXTS)
    assert np.abs(original.probabilities_NL - small.probabilities_NL).max() < 0.05
    assert not np.array_equal(original.probabilities_NL, small.probabilities_NL)  # it was the ONNX file that answered
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in enumerate(TEXTS)))
    arguments = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert mindshift(["predict", "--model", str(exported), *arguments]) == 0
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [list(row["probabilities"].values()) for row in written] == [
        pytest.approx(row, abs=1e-5) for row in small.probabilities_NL.tolist()
    ]


@pytest.mark.slow
def test_a_lossy_export_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(full: Path, small: Path) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(full))
        for tensor in graph.graph.initializer:
            if tensor.name.endswith("classifier.weight"):
                tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
        onnx.save(graph, str(small))

    monkeypatch.setattr("finetune.exporting.quantize", spoil)
    output = tmp_path / "onnx"
    arguments = ["--model", str(trained), "--task", str(trained.parent), "--output_dir", str(output)]
    assert mindshift(["export", *arguments]) == 2
    assert "points of macro-F1 on validation" in capsys.readouterr().err
    assert not output.exists()


def test_a_task_of_the_hub_is_no_input_file(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_files, "_hub_tables", lambda _: task_files._folder_tables(trained.parent))
    arguments = ["--task", "somebody/posts", "--most_points_lost", "5", "--output_dir", str(tmp_path / "onnx")]
    assert mindshift(["export", "--model", str(trained), *arguments]) == 0
    assert set(read_manifest(tmp_path / "onnx").inputs) == {"model"}


def test_another_label_set_is_refused(
    trained: Path, make_task: MakeTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = make_task("binary")
    arguments = ["--model", str(trained), "--task", str(task), "--output_dir", str(tmp_path / "onnx")]
    assert mindshift(["export", *arguments]) == 2
    assert "other labels than the classifier" in capsys.readouterr().err


def test_a_broken_file_is_named(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 1000 if path.name == "model.onnx" else None])
    assert mindshift(["predict", "--model", str(tmp_path), "--text", "tired"]) == 2
    assert "not a readable ONNX model" in capsys.readouterr().err


def test_it_stays_on_the_processor_beside_a_gpu(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Classifier.load(exported).device == torch.device("cpu")


def test_nothing_of_a_killed_export_is_shipped(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(full: Path, small: Path) -> None:
        (small.parent / "tmp1234").mkdir()  # as a kill leaves it: nothing is cleaned up
        full.rename(small.parent / "tmp1234" / "full.onnx")
        raise KeyboardInterrupt

    arguments = ["export", "--model", str(trained), "--output_dir", str(tmp_path / "onnx")]
    with monkeypatch.context() as patch:
        patch.setattr("finetune.exporting.quantize", killed)
        assert mindshift(arguments) == 130
    assert list((tmp_path / "onnx.partial").glob("tmp*/full.onnx"))
    assert mindshift(arguments) == 0
    assert not [name for name in read_manifest(tmp_path / "onnx").outputs if "/" in name]
