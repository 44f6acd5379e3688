"""Train a classifier: the loop, its evaluations, early stopping, and checkpoints that resume exactly.

Early stopping looks at the mean average precision on validation, which no threshold can distort (F1 at .5 can), and
between equal ones at the validation loss.
A checkpoint holds weights, optimizer, schedule, random states and the place in the epoch; batches are a function
of seed and epoch. So a killed run that is started again ends with the weights it would have had.

N = texts, B = texts in a batch, L = labels.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator

from configs.checkpoints import SavedState, load_checkpoint, save_best, save_checkpoint
from configs.console import Progress
from configs.errors import UserError
from finetune.batches import collate, epoch_order, forward, training_batches
from finetune.config import FinetuneRecipe
from finetune.decisions import log_loss, to_probabilities
from finetune.heads import hidden_size
from finetune.inference import predict_logits
from finetune.long_texts import EncodedTexts
from finetune.losses import Loss
from finetune.metrics import macro_average_precision
from finetune.optimization import build_optimizer
from finetune.tasks import FloatArray, LabelSet

log = logging.getLogger("finetune")
logging.getLogger("accelerate").setLevel(logging.WARNING)  # it logs five lines a checkpoint
LEARNING_RATES = {512: 1e-4, 768: 3e-5, float("inf"): 1e-5}  # by the widest encoder they are for
ADAPTER_FACTOR = 5.0


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a model is trained and selected on."""

    label_set: LabelSet
    train: EncodedTexts
    train_targets_NL: FloatArray
    validation: EncodedTexts
    validation_targets_NL: FloatArray
    pad_token_id: int
    task_N: npt.NDArray[np.int64]
    """Which task a training text is of: 0 the one that counts, others auxiliary. Batches do not mix them."""


@dataclasses.dataclass
class TrainingState(SavedState):
    """Where training is; what a checkpoint keeps beside weights and optimizer."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: tuple[float, float] = (-1.0, 0.0)
    """Validation average precision, and minus the validation loss."""
    evaluations_without_gain: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    finished: bool = False


def automatic_epochs(rows: int, labels: int) -> float:
    """Return the passes over a train split of `rows` texts: few rows, and many labels, need more of them.

    A label is learned from its own texts (docs/experiments.md); for few rows see arXiv:2006.05987.
    """
    return float(np.clip(round((3_000 + 300 * labels) / max(rows, 1)), 3, 15))


def automatic_learning_rate(hidden_size: int, *, has_adapter: bool) -> float:
    """Return a peak learning rate: the wider the encoder, the smaller; low-rank matrices learn from nothing."""
    rate = next(rate for width, rate in LEARNING_RATES.items() if hidden_size <= width)
    return rate * (ADAPTER_FACTOR if has_adapter else 1.0)


class Trainer:
    """Trains one classifier inside one run folder.

    Args:
        recipe: learning rate, batch size and so on.
        model: a classifier from `finetune.heads`.
        data: encoded train and validation texts.
        loss: over logits and targets.
        accelerator: device, processes and number format.
        working: the run folder; checkpoints go there.
    """

    def __init__(
        self,
        recipe: FinetuneRecipe,
        model: Any,
        data: TrainingData,
        loss: Loss,
        accelerator: Accelerator,
        working: Path,
    ) -> None:
        self.recipe, self.data, self.loss, self.accelerator = recipe, data, loss, accelerator
        self.working, self.state = working, TrainingState()
        rows, labels = int((data.task_N == 0).sum()), len(data.label_set.names)
        epochs = recipe.epochs if recipe.epochs is not None else automatic_epochs(rows, labels)
        self.total_steps = max(1, round(epochs * len(self._epoch_batches(0))))
        learning_rate = recipe.learning_rate or automatic_learning_rate(
            hidden_size(model.config), has_adapter=recipe.adapter != "none"
        )
        optimizer = build_optimizer(model, recipe, learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.schedule = schedule
        accelerator.register_for_checkpointing(self.state, self.schedule)

    def train(self) -> list[dict[str, float]]:
        """Train to the end, from the last checkpoint if there is one; the best weights are in `best.safetensors`.

        Returns:
            one record an evaluation: epoch, step, training loss, validation average precision.
        """
        if self._resume():
            log.info("resumed at step %d of %d", self.state.step, self.total_steps)
        with Progress(
            description="train",
            unit="steps",
            total=self.total_steps,
            initial=self.state.step,
            enabled=self.accelerator.is_main_process,
        ) as bar:
            while not self.state.finished:
                self._train_epoch(bar)
        return self.state.history

    def _resume(self) -> bool:
        """Load the last checkpoint, if there is one, and return whether there was."""
        try:
            return load_checkpoint(self.accelerator, self.working)
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise UserError(
                "an interrupted run is here that an older version of mindshift began: its model has other weights",
                where=self.working,
                fix="Remove the folder, or choose another --output_dir.",
            ) from error

    def _train_epoch(self, bar: Progress) -> None:
        state = self.state
        batches = self._epoch_batches(state.epoch)
        for indices in batches[state.batch :]:
            loss = self._step(indices)
            state.step, state.batch, state.loss_sum = state.step + 1, state.batch + 1, state.loss_sum + loss
            bar.advance(1, loss=f"{state.loss_sum / state.batch:.4f}", epoch=state.epoch + 1)
            if state.step >= self.total_steps:
                break
            if state.step % self.recipe.checkpoint_steps == 0 and state.batch < len(batches):
                save_checkpoint(self.accelerator, self.working)
        self._evaluate()
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
        state.finished = state.step >= self.total_steps or state.evaluations_without_gain >= self.recipe.patience
        save_checkpoint(self.accelerator, self.working)

    def _step(self, indices: npt.NDArray[np.int64]) -> float:
        """Take one optimizer step on the texts of one global batch; returns the loss of this process's part."""
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        mine = indices[rank::world_size]
        # A last batch smaller than the number of processes still needs a backward pass everywhere.
        weight = len(mine) * world_size / len(indices)
        mine = mine if len(mine) else indices[:1]
        batch = collate(self.data.train, mine, self.data.pad_token_id)
        batch = {key: value.to(self.accelerator.device) for key, value in batch.items()}
        targets_BL = torch.tensor(self.data.train_targets_NL[mine], dtype=torch.float32, device=self.accelerator.device)
        logits_BL = forward(self.model, batch, len(mine))
        loss = self.loss(logits_BL, targets_BL)
        self.accelerator.backward(loss * weight)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _epoch_batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        generator = np.random.default_rng([self.recipe.seed, epoch])
        class_aware = self.recipe.sampling == "class_aware"
        batches: list[npt.NDArray[np.int64]] = []
        for task in range(int(self.data.task_N.max()) + 1):
            rows = np.flatnonzero(self.data.task_N == task)
            targets_NL = self.data.train_targets_NL[rows]
            own_NL = targets_NL[:, ~np.isnan(targets_NL[0])]
            order = rows[epoch_order(own_NL, class_aware=class_aware, generator=generator)]
            batches += training_batches(
                order, self.data.train.lengths, batch_size=self.recipe.batch_size, generator=generator
            )
        if not self.data.task_N.any():
            return batches
        return [batches[number] for number in generator.permutation(len(batches))]

    def _evaluate(self) -> None:
        """Score the validation texts and keep the weights if they are the best so far."""
        state = self.state
        # Every process scores everything: validation is small, and all must agree on when to stop.
        logits_NL = predict_logits(
            self.model, self.data.validation, pad_token_id=self.data.pad_token_id, device=self.accelerator.device
        )[:, : len(self.data.label_set.names)]
        probabilities_NL = to_probabilities(logits_NL, self.data.label_set)
        average_precision = macro_average_precision(self.data.validation_targets_NL, probabilities_NL)
        validation_loss = log_loss(probabilities_NL, self.data.validation_targets_NL, self.data.label_set)
        record = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "train_loss": state.loss_sum / max(state.batch, 1),
            "validation_loss": validation_loss,
            "validation_average_precision": average_precision,
        }
        state.history.append(record)
        if self.accelerator.is_main_process:
            log.info(
                "epoch %d: loss %.4f, validation average precision %.4f",
                state.epoch + 1,
                record["train_loss"],
                average_precision,
            )
        # A ranking can be perfect long before the classifier is: the loss decides between equal ones.
        quality = (round(average_precision, 4), -validation_loss)
        if quality > tuple(state.best):
            state.best, state.evaluations_without_gain = quality, 0
            if self.accelerator.is_main_process:
                save_best(self.accelerator.unwrap_model(self.model), self.working)
        else:
            state.evaluations_without_gain += 1

    def _rate(self, step: int) -> float:
        """Rise linearly over the warm-up, then fall linearly to 0."""
        warmup = self.recipe.warmup_ratio * self.total_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (self.total_steps - step) / max(self.total_steps - warmup, 1))
