"""Export a classifier folder as int8 ONNX, and refuse the export if the rounding costs too much."""

import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from configs.base_models import ModelSource
from configs.errors import UserError
from configs.manifest import now, verify_folder
from configs.run_folder import finish_run_folder, open_run_folder, remove_folder, write_atomically
from finetune.adapters import is_adapter
from finetune.deployment_config import ExportRecipe
from finetune.fitting import load_task_for
from finetune.heads import load_classifier, load_tokenizer
from finetune.inference import Classifier
from finetune.metrics import score
from finetune.onnx_model import ONNX_NAME, OnnxModel, quantize, write_onnx
from finetune.tasks import Task

log = logging.getLogger("export")
TIMED_TEXTS, TIMED_ROUNDS = 64, 5


def export_classifier(recipe: ExportRecipe) -> dict[str, Any]:
    """Export, compare with the original, and return what was gained and lost.

    Raises:
        UserError: no finished classifier, one over a 4-bit base, another task's labels, or too much lost.
    """
    started_at = now()
    accepted = verify_folder(recipe.model, stage="finetune", accept_changes=recipe.accept_changed_inputs)
    classifier = Classifier.load(recipe.model)
    if is_adapter(recipe.model):
        raise UserError(
            "a 4-bit adapter has no ONNX form", where=recipe.model, fix="Train with adapter: lora, which is merged."
        )
    task = _read_task(recipe, classifier) if recipe.task else None
    working = open_run_folder(recipe, accepted=accepted, started_at=started_at)
    for leftover in working.iterdir():
        if leftover.is_dir():
            remove_folder(leftover)  # a killed export's float32 model; an export holds no folder
    with tempfile.TemporaryDirectory(dir=working) as scratch:
        full = Path(scratch) / "full.onnx"
        write_onnx(load_classifier(recipe.model), full)
        quantize(full, working / ONNX_NAME)
        classifier.decision.save(working)
        tokenizer = load_tokenizer(
            ModelSource(str(recipe.model), is_local=True), classifier.decision.long_texts["max_seq_length"]
        )
        tokenizer.save_pretrained(working)
        figures = _sizes(full, working / ONNX_NAME)
        if task is not None:
            figures |= _compare(recipe, task, classifier, full, working)
    write_atomically(working / "export.json", json.dumps(figures, indent=2) + "\n")
    inputs = {"model": recipe.model}
    inputs |= {"task": Path(recipe.task)} if recipe.task and Path(recipe.task).exists() else {}  # else of the Hub
    finish_run_folder(recipe, stage="export", inputs=inputs, counts=figures)
    return figures


def _read_task(recipe: ExportRecipe, classifier: Classifier) -> Task:
    task = load_task_for(recipe.model, str(recipe.task))
    if task.label_set.names != classifier.decision.label_set.names:
        raise UserError("this task has other labels than the classifier", where=recipe.task)
    return task


def _sizes(full: Path, small: Path) -> dict[str, Any]:
    return {
        "float32_megabytes": round(full.stat().st_size / 1e6, 1),
        "int8_megabytes": round(small.stat().st_size / 1e6, 1),
    }


def _compare(recipe: ExportRecipe, task: Task, original: Classifier, full: Path, working: Path) -> dict[str, Any]:
    """Score both on validation, and time both ONNX files in turns."""
    small = Classifier.load(working)
    texts, targets_NL = task.texts("validation"), task.targets("validation")
    predictions = [classifier.predict(texts) for classifier in (original, small)]
    before, after = (100 * score(targets_NL, *found, task.label_set)["macro"]["f1"] for found in predictions)
    if before - after > recipe.most_points_lost:
        remove_folder(working)
        raise UserError(
            f"int8 loses {before - after:.2f} points of macro-F1 on validation (allowed: {recipe.most_points_lost:g})",
            where=recipe.model,
            fix="Serve the folder itself, or allow more with --most_points_lost.",
        )
    full_classifier = small.with_model(OnnxModel(full))
    sample = texts[:TIMED_TEXTS]
    seconds: dict[str, list[float]] = {"float32": [], "int8": []}
    for _ in range(TIMED_ROUNDS):
        for name, classifier in (("float32", full_classifier), ("int8", small)):
            start = time.perf_counter()
            classifier.logits(sample)
            seconds[name].append(time.perf_counter() - start)
    ratios = [slow / fast for slow, fast in zip(seconds["float32"], seconds["int8"], strict=True)]
    return {
        "validation_macro_f1_percent": round(before, 2),
        "validation_macro_f1_percent_int8": round(after, 2),
        "labels_unchanged_percent": round(
            100 * float(np.mean(predictions[0].decisions_NL == predictions[1].decisions_NL)), 2
        ),
        "times_as_fast_as_float32_onnx": round(statistics.median(ratios), 2),
    }
