"""The fine-tuning stage from end to end: recipe → trained, calibrated, thresholded and scored classifier folder.

The figures come from the saved folder, loaded anew by the same code that `mindshift predict` uses, so that what is
reported is what will be predicted.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from configs.base_models import ModelSource, resolve_model
from configs.manifest import MANIFEST_NAME, now, verify_folder, write_manifest
from configs.run_folder import finish_run_folder, open_run_folder, working_folder, write_atomically
from finetune.baselines import majority, tfidf_logistic_regression
from finetune.config import FinetuneRecipe
from finetune.decisions import Decision, default_thresholds, to_probabilities, tune_temperature, tune_thresholds
from finetune.heads import build_classifier, divide_logits, load_tokenizer, longest_sequence, quiet_transformers
from finetune.inference import Classifier, Predictions
from finetune.long_texts import TextEncoder
from finetune.losses import binary_cross_entropy, cross_entropy
from finetune.metrics import score
from finetune.score_table import score_table
from finetune.task_files import Columns, read_task
from finetune.tasks import Task
from finetune.training import Trainer, TrainingData, remove_checkpoints

log = logging.getLogger("finetune")
SCORED_SPLITS = ("validation", "test")
METRICS_NAME = "metrics.json"
BASELINES_NAME = "baselines.json"


def fit_classifier(recipe: FinetuneRecipe) -> str | None:
    """Run the stage.

    Returns:
        the table of scores, on the main process.

    Raises:
        UserError: whatever the user can mend; see docs/finetuning.md.
    """
    started_at = now()
    source = resolve_model(recipe.model)
    accepted = _verify_inputs(recipe, source)
    task = load_task(recipe)
    accelerator = Accelerator(mixed_precision=number_format(recipe.mixed_precision))
    if accelerator.is_main_process:
        open_run_folder(recipe)
    accelerator.wait_for_everyone()
    working = working_folder(recipe.output_dir)
    scored = (working / METRICS_NAME).is_file()  # killed after the last figure, before the folder got its name
    if not scored:
        set_seed(recipe.seed)
        history = _train(recipe, source, task, accelerator, working)
        accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return None
    if not scored:
        metrics = _evaluate(recipe, task, working) | {"training": history, "task": _describe(task)}
        write_atomically(working / METRICS_NAME, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    metrics = json.loads((working / METRICS_NAME).read_text(encoding="utf-8"))
    if task.quarantine:
        write_atomically(working / "quarantine.jsonl", "".join(json.dumps(row) + "\n" for row in task.quarantine))
    remove_checkpoints(working)
    (working / BASELINES_NAME).unlink(missing_ok=True)
    inputs = {"task": Path(recipe.task)} if Path(recipe.task).exists() else {}
    inputs |= {"model": Path(source.name_or_path)} if source.is_local else {}
    write_manifest(
        working,
        stage="finetune",
        recipe=recipe,
        inputs=inputs,
        counts=_describe(task),
        started_at=started_at,
        accepted=accepted,
    )
    finish_run_folder(recipe)
    return score_table(metrics, task.label_set, recipe.output_dir)


def load_task(recipe: FinetuneRecipe) -> Task:
    """Read the task a recipe names."""
    columns = Columns(
        text=recipe.text_column,
        labels=recipe.label_columns,
        id=recipe.id_column,
        group=recipe.group_column,
        label_format=recipe.label_format,
        task_type=recipe.task_type,
    )
    task = read_task(
        recipe.task,
        columns,
        validation_fraction=recipe.validation_fraction,
        test_fraction=recipe.test_fraction,
        seed=recipe.seed,
    )
    sizes = ", ".join(f"{len(examples):,} {split}" for split, examples in task.splits.items())
    log.info("task %s: %s, %d labels, %s", task.name, task.label_set.type, len(task.label_set.names), sizes)
    return task


def number_format(asked: str) -> str:
    """Return the number format of the matrix products: bf16, where `auto` was asked, if the processor has it."""
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def _verify_inputs(recipe: FinetuneRecipe, source: ModelSource) -> list[str]:
    folders = [Path(source.name_or_path)] if source.is_local else []
    folders += [Path(recipe.task)]
    accepted = []
    for folder in folders:
        if (folder / MANIFEST_NAME).is_file():
            accepted += verify_folder(folder, accept_changes=recipe.accept_changed_inputs)
    return accepted


def _train(
    recipe: FinetuneRecipe, source: ModelSource, task: Task, accelerator: Accelerator, working: Path
) -> list[dict[str, float]]:
    """Train, and leave the calibrated, thresholded classifier in the working folder."""
    model = build_classifier(source, task.label_set, hidden_dropout=recipe.hidden_dropout)
    max_seq_length = longest_sequence(model.config, recipe.max_seq_length)
    tokenizer = load_tokenizer(source, max_seq_length)
    long_texts = {
        "max_seq_length": max_seq_length,
        "policy": recipe.long_texts,
        "max_windows": recipe.max_windows,
    }
    encoder = TextEncoder(tokenizer, **long_texts)  # type: ignore[arg-type]  # one dict for here and decision.json
    train, validation = (encoder.encode(task.texts(split)) for split in ("train", "validation"))
    if accelerator.is_main_process and train.truncated:
        log.info("%d of %d training texts are longer than %d tokens", train.truncated, len(train), max_seq_length)
    data = TrainingData(
        task.label_set,
        train,
        task.targets("train"),
        validation,
        task.targets("validation"),
        tokenizer.pad_token_id or 0,
    )
    loss = binary_cross_entropy if task.label_set.is_multi_label else cross_entropy
    trainer = Trainer(recipe, model, data, loss, accelerator, working)
    history = trainer.train()
    if accelerator.is_main_process:
        trainer.load_best(accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False))
        _save(accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False), tokenizer, task, long_texts, working)
    return history


def _save(model: Any, tokenizer: Any, task: Task, long_texts: dict[str, Any], working: Path) -> None:
    """Tune temperature and thresholds on validation and save everything prediction needs."""
    unset = Decision(task.label_set, default_thresholds(task.label_set), long_texts=long_texts)
    encoder = TextEncoder(tokenizer, **long_texts)
    logits_NL = Classifier(model, encoder, unset).logits(task.texts("validation"))
    targets_NL = task.targets("validation")
    temperature = tune_temperature(logits_NL, targets_NL, task.label_set)
    probabilities_NL = to_probabilities(logits_NL / temperature, task.label_set)
    thresholds = tune_thresholds(probabilities_NL, targets_NL, task.label_set)
    divide_logits(model, temperature)
    with quiet_transformers():
        model.save_pretrained(working)
    tokenizer.save_pretrained(working)
    Decision(task.label_set, thresholds, temperature, long_texts).save(working)


def _evaluate(recipe: FinetuneRecipe, task: Task, working: Path) -> dict[str, Any]:
    """Score the saved classifier, and the baselines, on validation and test; write the predictions."""
    classifier = Classifier.load(working)
    baselines = _baselines(recipe, task, working)
    metrics: dict[str, Any] = {}
    for split in SCORED_SPLITS:
        predictions = classifier.predict(task.texts(split))
        targets_NL = task.targets(split)
        unset = Decision(task.label_set, default_thresholds(task.label_set))
        figures = score(targets_NL, *predictions, task.label_set)
        figures["macro_f1_at_default_thresholds"] = score(
            targets_NL, predictions.probabilities_NL, unset.decide(predictions.probabilities_NL), task.label_set
        )["macro"]["f1"]
        metrics[split] = {"classifier": figures} | {name: by_split[split] for name, by_split in baselines.items()}
        _write_predictions(working, split, task, classifier.decision, predictions)
    return metrics


def _baselines(recipe: FinetuneRecipe, task: Task, working: Path) -> dict[str, Any]:
    if not recipe.baselines:
        return {}
    path = working / BASELINES_NAME  # kept, so that a resumed run does not fit them twice
    if not path.is_file():
        figures = {
            "majority": majority(task),
            "tfidf_logistic_regression": tfidf_logistic_regression(task, seed=recipe.seed),
        }
        write_atomically(path, json.dumps(figures))
    baselines: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return baselines


def _write_predictions(working: Path, split: str, task: Task, decision: Decision, predictions: Predictions) -> None:
    """Write `predictions/SPLIT.jsonl`: id, probabilities, labels; no texts."""
    names = decision.label_names(predictions.decisions_NL)
    lines = []
    for example, probabilities_L, labels in zip(task.splits[split], predictions.probabilities_NL, names, strict=True):
        rounded = {name: round(float(p), 6) for name, p in zip(task.label_set.names, probabilities_L, strict=True)}
        lines.append(json.dumps({"id": example.id, "probabilities": rounded, "labels": labels}, ensure_ascii=False))
    (working / "predictions").mkdir(exist_ok=True)
    write_atomically(working / "predictions" / f"{split}.jsonl", "".join(line + "\n" for line in lines))


def _describe(task: Task) -> dict[str, Any]:
    sizes = {split: len(examples) for split, examples in task.splits.items()}
    return {"name": task.name, "rows": sizes} | task.label_set.to_dict() | task.notes
