"""The fine-tuning stage from end to end: recipe → trained, calibrated, thresholded and scored classifier folder.

Everything that decides (stopping, temperature, thresholds) looks at validation or at out-of-fold predictions of
train and validation. Test is scored once, by the saved folder.
"""

import dataclasses
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from configs.base_models import ModelSource, resolve_model
from configs.checkpoints import load_best, remove_checkpoints
from configs.manifest import now, read_manifest, verify_inputs
from configs.processor import keep_freed_memory, tell_deepspeed_of_cpus, use_own_cores
from configs.run_folder import (
    finish_run_folder,
    open_run_folder,
    remove_folder,
    working_folder,
    write_atomically,
)
from finetune.adapters import add_adapter, merge_adapter, quantization, save_base
from finetune.augmentation import Augmented, back_off_masking
from finetune.config import FinetuneRecipe
from finetune.decisions import (
    Decision,
    default_thresholds,
    to_probabilities,
    tune_abstention,
    tune_temperature,
    tune_thresholds,
)
from finetune.evaluation import EVIDENCE_NAME, evaluate
from finetune.heads import build_classifier, divide_logits, load_tokenizer, longest_sequence, quiet_transformers
from finetune.inference import predict_logits
from finetune.long_texts import TextEncoder
from finetune.multi_task import (
    AuxiliaryTask,
    build_multi_task_loss,
    combine,
    keep_main_labels,
    leave_out,
    read_auxiliary_tasks,
)
from finetune.report import render_report
from finetune.score_table import score_table
from finetune.splitting import cut, stratified_folds
from finetune.task_checks import balance_advice, check_labels, clean_task
from finetune.task_files import Columns, read_task
from finetune.tasks import Example, FloatArray, LabelSet, Task, TaskType
from finetune.training import Trainer, TrainingData

log = logging.getLogger("finetune")
METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"
OUT_OF_FOLD_NAME = "out_of_fold.npz"
TASK_KEYS = (
    "seed", "text_column", "label_columns", "id_column", "group_column", "slice_columns", "label_format", "task_type",
    "positive_label",
    "validation_fraction", "test_fraction", "conflicting_duplicates", "drop_leaked", "train_rows", "validation_rows",
    "test_rows",
)  # fmt: skip
"""Keys of the recipe that say what `load_task` makes of the files of a task."""


class Fitted(NamedTuple):
    """A trained model with the best weights, how it reads texts, its evaluations, and what augmentation counted."""

    model: Any
    encoder: TextEncoder
    long_texts: dict[str, Any]
    history: list[dict[str, float]]
    augmentation: dict[str, int]


def fit_classifier(recipe: FinetuneRecipe) -> str | None:
    """Run the stage.

    Returns:
        the table of scores, on the main process.

    Raises:
        UserError: whatever the user can mend; see docs/finetuning.md.
    """
    started_at = now()
    keep_freed_memory()
    source = resolve_model(recipe.model)
    accepted = verify_inputs(input_paths(recipe, source).values(), accept_changes=recipe.accept_changed_inputs)
    task = load_task(recipe)
    accelerator = new_accelerator(recipe)
    if accelerator.is_main_process:
        open_run_folder(recipe, input_paths(recipe, source), accepted=accepted, started_at=started_at)
    accelerator.wait_for_everyone()
    working = working_folder(recipe.output_dir)
    if not (working / METRICS_NAME).is_file():  # else killed after the last figure, before the folder got its name
        auxiliary = read_auxiliary_tasks(recipe.auxiliary_tasks, task, seed=recipe.seed)
        out_of_fold = _out_of_fold(recipe, source, task, auxiliary, working) if recipe.folds else None
        fitted = train_model(
            recipe, source, task.label_set, task.splits["train"], task.splits["validation"], working, auxiliary
        )
        if accelerator.is_main_process:
            _save(recipe, fitted, task, out_of_fold, working)
            metrics = evaluate(recipe, task, working) | {"training": fitted.history, "task": describe(task)}
            metrics |= {"augmentation": fitted.augmentation}
            evidence = json.loads((working / EVIDENCE_NAME).read_text(encoding="utf-8"))
            write_atomically(working / REPORT_NAME, render_report(metrics, evidence))
            write_atomically(working / METRICS_NAME, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    # The other processes leave at once: scoring and the baselines may take longer than a barrier waits.
    return _finish(recipe, source, task, working) if accelerator.is_main_process else None


def read_recipe_task(recipe: FinetuneRecipe) -> Task:
    """Read the task a recipe names as it is on disk, before any cleaning."""
    columns = Columns(
        text=recipe.text_column,
        labels=recipe.label_columns,
        id=recipe.id_column,
        group=recipe.group_column,
        slices=recipe.slice_columns,
        label_format=recipe.label_format,
        task_type=TaskType(recipe.task_type) if recipe.task_type else None,
        positive_label=recipe.positive_label,
    )
    return read_task(
        recipe.task,
        columns,
        validation_fraction=recipe.validation_fraction,
        test_fraction=recipe.test_fraction,
        seed=recipe.seed,
    )


def load_task(recipe: FinetuneRecipe) -> Task:
    """Read and clean the task a recipe names, and say what it holds."""
    task = clean_task(read_recipe_task(recipe), conflicts=recipe.conflicting_duplicates, drop_leaked=recipe.drop_leaked)
    # Which texts are scored must not depend on the seed: runs are compared text by text.
    task = _draw(task, "train", recipe.train_rows, seed=recipe.seed)
    task = _draw(task, "validation", recipe.validation_rows, seed=0)
    task = _draw(task, "test", recipe.test_rows, seed=0)
    check_labels(task)  # of the rows that are left: few drawn ones may lack a label that the file has
    sizes = ", ".join(f"{len(examples):,} {split}" for split, examples in task.splits.items())
    log.info("task %s: %s, %d labels, %s", task.name, task.label_set.type, len(task.label_set.names), sizes)
    for advice in balance_advice(task):
        log.info("balance: %s", advice)
    return task


def load_task_for(folder: Path, task: str) -> Task:
    """Read a task for a classifier as the run that made it did: the same columns, cuts and draws.

    So what that run trained on does not stand in its validation or test.

    Args:
        folder: the classifier.
        task: the task's folder, file or Hub name.
    """
    made = read_manifest(folder).recipe
    keys: dict[str, Any] = {key: made[key] for key in TASK_KEYS if key in made}
    return load_task(FinetuneRecipe(task=task, output_dir=folder, **keys))


def _draw(task: Task, split: str, rows: int | None, *, seed: int) -> Task:
    """Return the task with about `rows` rows of a split, where that is fewer than it has."""
    if rows is None or rows >= len(task.splits[split]):
        return task
    drawn = cut(task.splits[split], task.label_set, fraction=rows / len(task.splits[split]), seed=seed)[1]
    return dataclasses.replace(task, splits=task.splits | {split: drawn})


def describe(task: Task) -> dict[str, Any]:
    """Return what a task is, for metrics and manifest."""
    sizes = {split: len(examples) for split, examples in task.splits.items()}
    return {"name": task.name, "rows": sizes} | task.label_set.to_dict() | task.notes


def new_accelerator(recipe: FinetuneRecipe) -> Accelerator:
    """Return an Accelerator with the recipe's number format: bf16, where `auto` was asked, if the processor has it."""
    tell_deepspeed_of_cpus()
    use_own_cores()
    number_format = recipe.mixed_precision
    if number_format == "auto":
        if torch.cuda.is_available():
            number_format = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            number_format = "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
    # Apple's GPU has no float64, which losses and figures are summed in.
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=number_format)


def train_model(
    recipe: FinetuneRecipe,
    source: ModelSource,
    label_set: LabelSet,
    train: list[Example],
    validation: list[Example],
    folder: Path,
    auxiliary: Sequence[AuxiliaryTask] = (),
) -> Fitted:
    """Train one model, resuming from the checkpoint in `folder` if there is one; returns it with its best weights."""
    accelerator = new_accelerator(recipe)
    set_seed(recipe.seed)
    settings = recipe.adapter_settings
    augmented = _augment(recipe, source, label_set, train)
    combined = combine(label_set, augmented.examples, auxiliary)
    model = build_classifier(
        source,
        combined.label_set,
        head=recipe.head,
        hidden_dropout=recipe.hidden_dropout,
        reinitialized=recipe.reinitialize_layers,
        quantization_config=quantization(settings),
    )
    max_seq_length = longest_sequence(model.config, recipe.max_seq_length)
    model = add_adapter(model, settings, head=recipe.head)
    long_texts = {"max_seq_length": max_seq_length, "policy": recipe.long_texts, "max_windows": recipe.max_windows}
    encoder = TextEncoder(load_tokenizer(source, max_seq_length), **long_texts)  # type: ignore[arg-type]
    data = TrainingData(
        label_set,
        encoder.encode([example.text for example in combined.examples]),
        combined.targets_NL,
        encoder.encode([example.text for example in validation]),
        label_set.multi_hot([example.labels for example in validation]),
        encoder.pad_token_id,
        combined.task_N,
    )
    if accelerator.is_main_process and data.train.truncated:
        log.info("%d of %d training texts lose tokens (%s)", data.train.truncated, len(data.train), long_texts)
    loss = build_multi_task_loss(recipe.loss, combined, label_set, auxiliary)
    trainer = Trainer(recipe, model, data, loss, accelerator, folder)
    history = trainer.train()
    model = accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    load_best(model, trainer.working)
    model = merge_adapter(model, settings)
    keep_main_labels(model, label_set)
    return Fitted(model.eval(), encoder, long_texts, history, augmented.counts)


def _augment(recipe: FinetuneRecipe, source: ModelSource, label_set: LabelSet, train: list[Example]) -> Augmented:
    if recipe.augmentation == "none":
        return Augmented(train, {})
    return back_off_masking(
        train,
        label_set,
        _filler(recipe) or source,
        target=recipe.augmentation_target,
        seed=recipe.seed,
        max_length=recipe.max_seq_length,
    )


def _filler(recipe: FinetuneRecipe) -> ModelSource | None:
    """Return the masked LM that fills words into training texts, if it is another than the encoder itself."""
    is_used = recipe.augmentation != "none" and recipe.augmentation_model is not None
    return resolve_model(str(recipe.augmentation_model)) if is_used else None


def _out_of_fold(
    recipe: FinetuneRecipe, source: ModelSource, task: Task, auxiliary: Sequence[AuxiliaryTask], working: Path
) -> tuple[FloatArray, FloatArray]:
    """Return logits (N, L) of train and validation texts by models that never saw them, and their targets."""
    accelerator = new_accelerator(recipe)
    examples = task.splits["train"] + task.splits["validation"]
    folds = stratified_folds(examples, task.label_set, shares=[1 / recipe.folds] * recipe.folds, seed=recipe.seed)
    logits_NL = np.zeros((len(examples), len(task.label_set.names)))
    for number, held_out in enumerate(folds):
        folder = working / f"fold-{number}"
        path = folder / OUT_OF_FOLD_NAME
        if not path.is_file():
            folder.mkdir(exist_ok=True)
            outside = set(held_out)
            rest = [example for index, example in enumerate(examples) if index not in outside]
            train, stop_on = cut(rest, task.label_set, fraction=recipe.validation_fraction, seed=recipe.seed)
            unseen = [examples[index] for index in held_out]
            others = leave_out(auxiliary, [*unseen, *stop_on])
            fitted = train_model(recipe, source, task.label_set, train, stop_on, folder, others)
            accelerator.wait_for_everyone()  # all processes have read the best weights, which are removed now
            if accelerator.is_main_process:
                contents = io.BytesIO()
                np.savez(contents, logits=_logits(fitted, unseen))
                write_atomically(path, contents.getvalue())
                remove_checkpoints(folder)
            accelerator.wait_for_everyone()
        logits_NL[held_out] = np.load(path)["logits"]
    return logits_NL, task.label_set.multi_hot([example.labels for example in examples])


def _logits(fitted: Fitted, examples: list[Example]) -> FloatArray:
    encoded = fitted.encoder.encode([example.text for example in examples])
    device = next(fitted.model.parameters()).device
    return predict_logits(fitted.model, encoded, pad_token_id=fitted.encoder.pad_token_id, device=device)


def _save(
    recipe: FinetuneRecipe,
    fitted: Fitted,
    task: Task,
    out_of_fold: tuple[FloatArray, FloatArray] | None,
    working: Path,
) -> None:
    """Tune temperature, thresholds and abstention, and save everything prediction needs."""
    label_set = task.label_set
    logits_NL, targets_NL = _logits(fitted, task.splits["validation"]), task.targets("validation")
    temperature = tune_temperature(logits_NL, targets_NL, label_set)
    probabilities_NL = to_probabilities(logits_NL / temperature, label_set)
    if out_of_fold is not None:
        fold_logits_NL, targets_NL = out_of_fold
        # The folds' models have a scale of their own.
        fold_temperature = tune_temperature(fold_logits_NL, targets_NL, label_set)
        probabilities_NL = to_probabilities(fold_logits_NL / fold_temperature, label_set)
    thresholds = default_thresholds(label_set)
    if recipe.tune_thresholds:
        thresholds = tune_thresholds(probabilities_NL, targets_NL, label_set)
    decision = Decision(label_set, thresholds, temperature, fitted.long_texts)
    least_confidence = None
    if recipe.abstention_precision is not None:
        decisions_NL = decision.decide(probabilities_NL)
        least_confidence = tune_abstention(
            probabilities_NL, targets_NL, decisions_NL, precision=recipe.abstention_precision
        )
        if least_confidence is None:
            percent = 100 * recipe.abstention_precision
            log.warning("no confidence reaches a precision of %g %%: no text is kept from a human", percent)
            least_confidence = 1.0 + 1e-9
    divide_logits(fitted.model, temperature)
    with quiet_transformers():
        fitted.model.save_pretrained(working)
    if recipe.adapter == "qlora":
        save_base(working, recipe.model, resolve_model(recipe.model), recipe.head)
    fitted.encoder.tokenizer.save_pretrained(working)
    Decision(label_set, thresholds, temperature, fitted.long_texts, least_confidence).save(working)


def input_paths(recipe: FinetuneRecipe, source: ModelSource) -> dict[str, Path]:
    """Return what a run reads, by name; a dataset or model of the Hub is no path."""
    inputs = {"task": Path(recipe.task)} if Path(recipe.task).exists() else {}
    return inputs | further_inputs(recipe) | ({"model": Path(source.name_or_path)} if source.is_local else {})


def further_inputs(recipe: FinetuneRecipe) -> dict[str, Path]:
    """Return what a run reads besides its task and its encoder, by name."""
    inputs = {f"auxiliary task {folder}": Path(folder) for folder in recipe.auxiliary_tasks if Path(folder).exists()}
    filler = _filler(recipe)
    return inputs | ({"augmentation_model": Path(filler.name_or_path)} if filler and filler.is_local else {})


def _finish(recipe: FinetuneRecipe, source: ModelSource, task: Task, working: Path) -> str:
    """Write the manifest, give the folder its name, and return the table of scores."""
    metrics = json.loads((working / METRICS_NAME).read_text(encoding="utf-8"))
    if task.quarantine:
        write_atomically(working / "quarantine.jsonl", "".join(json.dumps(row) + "\n" for row in task.quarantine))
    remove_checkpoints(working)
    for fold in working.glob("fold-*"):
        remove_folder(fold)
    finish_run_folder(recipe, stage="finetune", inputs=input_paths(recipe, source), counts=describe(task))
    return score_table(metrics, task.label_set, recipe.output_dir)
