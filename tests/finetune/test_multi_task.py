"""Auxiliary tasks: batches of one task, losses of its own columns, nothing of them in the saved folder."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs.base_models import ModelSource
from finetune import fitting
from finetune.config import FinetuneRecipe
from finetune.inference import Classifier
from finetune.losses import build_loss
from finetune.multi_task import AuxiliaryTask, build_multi_task_loss, combine
from finetune.tasks import Example, LabelSet, TaskType
from launch.cli import main as mindshift
from tests.finetune.conftest import make_rows, write_jsonl

MakeTask = Callable[..., Path]
MAIN = LabelSet(TaskType.BINARY, ("no", "yes"), positive="yes")
OTHER = LabelSet(TaskType.MULTI_LABEL, ("a", "b", "no"))
TRAIN = [Example("1", "one", ("no",)), Example("2", "two", ("yes",))]
EXTRA = AuxiliaryTask("other", OTHER, [Example("1", "three", ("a", "no")), Example("2", "four", ())])


def test_columns_and_losses_of_each_task() -> None:
    combined = combine(MAIN, TRAIN, [EXTRA])
    assert combined.label_set.names == ("no", "yes", "other/a", "other/b", "other/no")
    assert combined.task_N.tolist() == [0, 0, 1, 1]
    known = ~np.isnan(combined.targets_NL)
    assert known.tolist() == [[True] * 2 + [False] * 3] * 2 + [[False] * 2 + [True] * 3] * 2
    loss = build_multi_task_loss("auto", combined, MAIN, [EXTRA])
    logits = torch.randn(2, 5, requires_grad=True)
    for rows, part, label_set in (([0, 1], slice(0, 2), MAIN), ([2, 3], slice(2, 5), OTHER)):
        targets = torch.tensor(combined.targets_NL[rows])
        value = loss(logits.double(), targets)
        alone = build_loss("auto", combined.targets_NL[rows][:, part], label_set)
        assert value.item() == pytest.approx(alone(logits[:, part].double(), targets[:, part]).item())
        (gradient,) = torch.autograd.grad(value, logits)
        assert math.isfinite(gradient.sum())
        outside = [column for column in range(5) if not part.start <= column < part.stop]
        assert not gradient[:, outside].any()


@pytest.mark.parametrize("head", ["mean", "label_attention"])
def test_auxiliary_task_helps_a_small_one_and_leaves_no_trace(
    head: str, make_task: MakeTask, small_run: list[str], tmp_path: Path
) -> None:
    main, extra = make_task("binary", rows=40), make_task("multi_label", rows=120, name="extra")
    leaked = [json.loads(line) for line in (main / "test.jsonl").read_text().splitlines()]
    rows = make_rows("multi_label", 120, 7) + [row | {"labels": []} for row in leaked]
    write_jsonl(extra / "train.jsonl", rows)
    options = ["--auxiliary_tasks", json.dumps([str(extra)]), "--head", head, "--epochs", "2", "--baselines", "false"]
    output = tmp_path / "run"
    assert mindshift(["finetune", "--task", str(main), "--output_dir", str(output), *small_run, *options]) == 0
    classifier = Classifier.load(output)
    assert classifier.logits(["tired", ""]).shape == (2, 2)
    assert classifier.decision.label_set.names == ("sleep", "work")
    config = json.loads((output / "config.json").read_text())
    assert list(config["id2label"].values()) == ["sleep", "work"]
    steps = json.loads((output / "metrics.json").read_text())["training"][0]["step"]
    # 40 main texts in 3 batches; 120 + 60 + 60 of the other task, the leaked ones left out, in 15.
    assert steps == 3 + 15


def test_auxiliary_tasks_train_in_every_fold_without_its_held_out_texts(
    make_task: MakeTask, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_model, trained = fitting.train_model, []

    def note(recipe, source, label_set, train, stop_on, folder, auxiliary=()):
        trained.append(({example.text for example in train}, auxiliary))
        return train_model(recipe, source, label_set, train, stop_on, folder, auxiliary)

    monkeypatch.setattr(fitting, "train_model", note)
    main, extra = make_task("binary", rows=40), make_task("multi_label", rows=40, name="extra")
    own = [json.loads(line) for line in (main / "train.jsonl").read_text().splitlines()]
    write_jsonl(extra / "train.jsonl", make_rows("multi_label", 40, 7) + [row | {"labels": []} for row in own])
    options = ["--auxiliary_tasks", json.dumps([str(extra)]), "--folds", "2", "--epochs", "1", "--baselines", "false"]
    output = ["--output_dir", str(tmp_path / "run")]
    assert mindshift(["finetune", "--task", str(main), *output, *small_run, *options]) == 0
    assert len(trained) == 3
    texts = {row["text"] for row in own}
    for train, (task,) in trained:
        assert {example.text for example in task.examples} & texts == train & texts


def test_only_the_main_process_writes_the_logits_of_a_fold(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = FinetuneRecipe(task=str(make_task("binary", rows=40)), output_dir=tmp_path / "run", folds=2)
    waited = []

    def wait() -> None:  # meanwhile the main process writes
        waited.append(True)
        for number in range(2):
            if (tmp_path / f"fold-{number}").is_dir():
                np.savez(tmp_path / f"fold-{number}" / fitting.OUT_OF_FOLD_NAME, logits=np.ones(2))

    other = SimpleNamespace(is_main_process=False, wait_for_everyone=wait)
    monkeypatch.setattr(fitting, "new_accelerator", lambda _: other)
    monkeypatch.setattr(fitting, "train_model", lambda *_: None)
    monkeypatch.setattr(fitting, "_logits", lambda *_: pytest.fail("not the main process"))
    source = ModelSource("unused", is_local=True)
    logits, targets = fitting._out_of_fold(recipe, source, fitting.load_task(recipe), [], tmp_path)
    assert len(waited) == 4
    assert logits.shape == targets.shape
    assert (logits == 1).all()


def test_qlora_is_refused(make_task: MakeTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--auxiliary_tasks", "[x]", "--adapter", "qlora", "--output_dir", str(tmp_path / "run")]
    assert mindshift(["finetune", "--task", "x", *options]) == 2
    assert "together with auxiliary_tasks" in capsys.readouterr().err
