"""Train a responder: the loop, its looks at validation, early stopping, and checkpoints that resume exactly.

The order of replies is a function of seed and epoch, and a checkpoint holds weights, optimizer, schedule, random
states and the place in the epoch: a run that was killed and started again ends with the weights it would have had.
Replies of about one length share a micro-batch, so little is padding; the loss of a step is the mean over its reply
tokens, over all processes and micro-batches.
"""

import contextlib
import dataclasses
import json
import logging
import math
import random
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from configs.checkpoints import SavedState, load_checkpoint, save_best, save_checkpoint
from configs.console import Progress
from dialogue.config import DialogueRecipe
from dialogue.examples import IGNORED, EncodedReply, collate

log = logging.getLogger("dialogue")
logging.getLogger("accelerate").setLevel(logging.WARNING)  # it logs five lines a checkpoint
METRICS_LOG = "metrics.jsonl"
SORTED_BATCHES = 20


@dataclasses.dataclass
class TrainingState(SavedState):
    """Where training is; what a checkpoint keeps beside weights and optimizer."""

    step: int = 0
    best_loss: float = math.inf
    looks_without_gain: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    finished: bool = False


def epoch_batches(examples: list[EncodedReply], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch: shuffled, sorted by length within runs of batches, batches shuffled."""
    generator = random.Random(f"{seed} {epoch}")
    order = list(range(len(examples)))
    generator.shuffle(order)
    run = batch_size * SORTED_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), run):
        part = sorted(order[start : start + run], key=lambda index: len(examples[index].input_ids))
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    generator.shuffle(batches)
    return batches


def token_losses(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Return the summed loss over a batch's reply tokens, and how many they are."""
    labels_BT = batch["labels"][:, 1:]
    logits_BTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    chosen = labels_BT != IGNORED  # only these positions pay for a softmax over the vocabulary
    loss = torch.nn.functional.cross_entropy(logits_BTV[chosen].float(), labels_BT[chosen], reduction="sum")
    return loss, int(chosen.sum())


class Trainer:
    """Trains one responder inside one run folder.

    Args:
        recipe: learning rate, batch size and so on.
        model: a causal LM, with or without an adapter.
        train: encoded replies.
        validation: encoded replies that early stopping looks at.
        pad_token_id: what fills a batch.
        accelerator: device, processes and number format.
        working: the run folder; checkpoints go there.
    """

    def __init__(
        self,
        recipe: DialogueRecipe,
        model: Any,
        train: list[EncodedReply],
        validation: list[EncodedReply],
        pad_token_id: int,
        accelerator: Accelerator,
        working: Path,
    ) -> None:
        self.recipe, self.train_replies, self.validation = recipe, train, validation
        self.pad_token_id, self.accelerator, self.working = pad_token_id, accelerator, working
        self.state = TrainingState()
        self.steps_per_epoch = len(epoch_batches(train, recipe.batch_size, recipe.seed, 0))
        steps = max(1, round(recipe.epochs * self.steps_per_epoch))
        self.total_steps = min(steps, recipe.max_steps or steps)
        matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
        vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.schedule = schedule
        accelerator.register_for_checkpointing(self.state, self.schedule)

    def train(self) -> list[dict[str, float]]:
        """Train to the end, from the last checkpoint if there is one; the best weights are in `best.safetensors`."""
        if load_checkpoint(self.accelerator, self.working):
            log.info("resumed at step %d of %d", self.state.step, self.total_steps)
        self.model.train()
        total, done = self.total_steps, self.state.step
        main = self.accelerator.is_main_process
        with Progress(description="train", unit="steps", total=total, initial=done, enabled=main) as bar:
            while not self.state.finished:
                self._train_epoch(bar)
        return self.state.history

    def validation_loss(self) -> float:
        """Return the mean loss a reply token on validation; every process computes all of it, and so agrees."""
        self.model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in self._micro_batches(list(range(len(self.validation))), self.validation):
                loss, tokens = token_losses(self.model, batch)
                total, count = total + float(loss), count + tokens
        self.model.train()
        return total / max(count, 1)

    def _train_epoch(self, bar: Progress) -> None:
        epoch, place = divmod(self.state.step, self.steps_per_epoch)
        batches = epoch_batches(self.train_replies, self.recipe.batch_size, self.recipe.seed, epoch)
        for batch in batches[place:]:
            self._advance(batch, bar)
            if self.state.finished:
                return

    def _advance(self, batch: list[int], bar: Progress) -> None:
        state, recipe = self.state, self.recipe
        state.loss_sum, state.loss_steps = state.loss_sum + self._step(batch), state.loss_steps + 1
        state.step += 1
        bar.advance(1, loss=f"{state.loss_sum / state.loss_steps:.3f}")
        is_last = state.step >= self.total_steps
        if state.step % recipe.evaluation_steps == 0 or is_last:
            self._look()
        state.finished = is_last or state.looks_without_gain >= recipe.patience
        if state.finished or state.step % recipe.checkpoint_steps == 0:
            save_checkpoint(self.accelerator, self.working)

    def _step(self, indices: list[int]) -> float:
        """Take one optimizer step on one global batch; returns the mean loss of its reply tokens."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine = indices[rank::world] or indices[:1]  # a small last batch still needs a backward pass everywhere
        weight = 1.0 if indices[rank::world] else 0.0
        lengths = [len(self.train_replies[i].input_ids) - self.train_replies[i].reply_start for i in indices]
        tokens, total = sum(lengths), 0.0
        batches = self._micro_batches(mine, self.train_replies)
        for number, batch in enumerate(batches, start=1):
            # Only the last backward pass exchanges gradients: the processes may have unequal numbers of micro-batches.
            is_last = number == len(batches)
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
                loss, _ = token_losses(self.model, batch)
                # The mean over all processes' tokens; DDP averages gradients over processes, hence `world`.
                self.accelerator.backward(loss * weight * world / tokens)
            total += float(loss.detach()) * weight
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        summed = self.accelerator.reduce(torch.tensor(total, device=self.accelerator.device), reduction="sum")
        return float(summed) / tokens

    def _micro_batches(self, indices: list[int], examples: list[EncodedReply]) -> list[dict[str, torch.Tensor]]:
        size = self.recipe.micro_batch_size
        parts = [[examples[i] for i in indices[start : start + size]] for start in range(0, len(indices), size)]
        device = self.accelerator.device
        return [{k: v.to(device) for k, v in collate(part, self.pad_token_id).items()} for part in parts]

    def _look(self) -> None:
        """Score validation, write a line of the log, keep the weights if they are the best so far."""
        state = self.state
        record = {
            "step": state.step,
            "epoch": state.step / self.steps_per_epoch,
            "train_loss": state.loss_sum / state.loss_steps,
            "validation_loss": self.validation_loss(),
            "learning_rate": float(self.schedule.get_last_lr()[0]),
        }
        state.history.append(record)
        state.loss_sum, state.loss_steps = 0.0, 0
        is_better = record["validation_loss"] < state.best_loss
        state.best_loss = min(state.best_loss, record["validation_loss"])
        state.looks_without_gain = 0 if is_better else state.looks_without_gain + 1
        if self.accelerator.is_main_process:
            lines = "".join(json.dumps(row) + "\n" for row in state.history)
            (self.working / METRICS_LOG).write_text(lines, encoding="utf-8")
            log.info("step %d: loss %.3f, validation %.3f", state.step, record["train_loss"], record["validation_loss"])
            if is_better:
                save_best(self.accelerator.unwrap_model(self.model), self.working)

    def _rate(self, step: int) -> float:
        """Rise linearly over the warm-up, then fall linearly to 0."""
        warmup = self.recipe.warmup_ratio * self.total_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (self.total_steps - step) / max(self.total_steps - warmup, 1))
