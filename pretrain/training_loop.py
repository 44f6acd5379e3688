"""The run itself: evaluate, train, checkpoint, evaluate, save.

It is a loop of our own on accelerate rather than the Trainer, for three reasons: an exact loss under accumulation
and several processes, resuming in constant time, and DeepSpeed on CPUs.
"""

import dataclasses
import json
import logging
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from configs.console import Progress
from configs.run_folder import write_atomically
from corpus.shards import TokenShards
from pretrain.batches import (
    MicroBatch,
    build_masker,
    build_packer,
    evaluation_masker,
    held_out_batches,
    to_device,
)
from pretrain.checkpoint import TrainingState, load_newest_checkpoint, save_checkpoint
from pretrain.config import PretrainRecipe
from pretrain.distributed import accumulation_steps, prepare
from pretrain.encoder import PackedMaskedLM, freeze_encoder, set_dropout
from pretrain.evaluation import Evaluation, evaluate
from pretrain.hashing import mix_integers
from pretrain.losses import summed_cross_entropy
from pretrain.metrics import MetricsLog
from pretrain.optimization import build_optimizer, learning_rate_factor
from pretrain.packing import StepPlanner

EVALUATION_FILE = "evaluation.json"
REQUEUE_EXIT_CODE = 75
"""After SIGTERM or SIGUSR1 and a checkpoint (EX_TEMPFAIL): run the same command again."""

log = logging.getLogger(__name__)


class Interrupted(SystemExit):
    """The run was told to stop, has saved, and can be resumed."""

    def __init__(self) -> None:
        super().__init__(REQUEUE_EXIT_CODE)


@dataclasses.dataclass
class _Interval:
    """Sums since the last line of `metrics.jsonl`, over all processes."""

    loss: float = 0.0
    masked_tokens: int = 0
    real_tokens: int = 0
    room_tokens: int = 0


class PretrainingRun:
    """One run on one process of the group.

    Args:
        recipe: what was asked.
        working_dir: the run's folder.
        accelerator: joined already.
        model: the masked language model to train.
        tokenizer: the corpus's tokenizer, which fits the model.
    """

    def __init__(
        self,
        recipe: PretrainRecipe,
        working_dir: Path,
        accelerator: Accelerator,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.recipe, self.working_dir, self.accelerator, self.model = recipe, working_dir, accelerator, model
        self._tokenizer = tokenizer
        self._train = build_packer(TokenShards(recipe.corpus, "train"), tokenizer, recipe)
        self._held_out_shards = TokenShards(recipe.corpus, "held_out")
        self._held_out = build_packer(self._held_out_shards, tokenizer, recipe)
        self._masker, self._evaluation_masker = build_masker(tokenizer, recipe.seed), evaluation_masker(tokenizer)
        self._micro_batches = accumulation_steps(recipe, accelerator.num_processes) * accelerator.num_processes
        self._planner = StepPlanner(
            self._train.sequence_lengths,
            micro_batches=self._micro_batches,
            micro_batch_tokens=recipe.micro_batch_tokens,
            seed=recipe.seed,
        )
        self.total_steps = self._count_steps()
        self.step, self.tokens, self._interval = 0, 0, _Interval()
        self._before: dict[str, Any] | None = None
        self._stop_asked = False
        self._start_model()

    def _count_steps(self) -> int:
        if self.recipe.max_steps is not None:
            return self.recipe.max_steps
        epochs = self.recipe.num_train_epochs or 0.0
        tokens: float = epochs * int(self._train.sequence_lengths.sum())
        return max(1, int(tokens / self._micro_batches / self.recipe.micro_batch_tokens + 0.5))

    def _start_model(self) -> None:
        """Put the newest checkpoint, if there is one, into the model, and prepare it for training."""
        if self.recipe.dropout is not None:
            set_dropout(self.model, self.recipe.dropout)
        if self.recipe.trainable == "head":
            freeze_encoder(self.model)
        state = load_newest_checkpoint(self.working_dir)
        if state is not None:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(state.weights[name])
        bf16 = self.recipe.mixed_precision == "bf16"
        module = PackedMaskedLM(self.model, autocast_dtype=torch.bfloat16 if bf16 else None)
        self._backend = prepare(self.accelerator, module, build_optimizer(module, self.recipe), recipe=self.recipe)
        if state is not None:
            self._backend.restore_moments(state)
            self.step, self.tokens = state.step, state.progress["tokens"]
            self._interval = _Interval(**state.progress["interval"])
            self._before = state.progress["before"]
            self._planner.load_state_dict(state.progress["planner"])
            log.info("resuming at step %d of %d", self.step, self.total_steps)

    def run(self) -> dict[str, Any]:
        """Train to the last step and write `evaluation.json` and the model.

        Returns:
            The content of `evaluation.json`.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was written.
        """
        main = self.accelerator.is_main_process
        if self._before is None:
            self._before = self._evaluate().as_json()
            if main:
                log.info("held-out loss before: %.4f", self._before["overall"]["loss"])
        metrics = None
        if main:
            name = self.recipe.output_dir.name
            metrics = MetricsLog(self.working_dir, step=self.step, report_to=self.recipe.report_to, run_name=name)
        with (
            _stop_signals(self),
            Progress(
                description="pretraining", unit="steps", total=self.total_steps, initial=self.step, enabled=main
            ) as bar,
        ):
            self._train_steps(metrics, bar)
        after = self._evaluate().as_json()
        if main:
            log.info(
                "held-out loss after: %.4f (before: %.4f)", after["overall"]["loss"], self._before["overall"]["loss"]
            )
        if metrics is not None:
            metrics.close()
        result = {"steps": self.step, "tokens": self.tokens, "before": self._before, "after": after}
        self._write_result(result)
        return result

    def _train_steps(self, metrics: MetricsLog | None, bar: Progress) -> None:
        recipe, last_line = self.recipe, time.monotonic()
        self._backend.module.train()
        while self.step < self.total_steps:
            learning_rate = recipe.learning_rate * learning_rate_factor(self.step, self.total_steps, recipe)
            gradient_norm, stop = self._train_step(learning_rate)
            self.step += 1
            bar.advance(1, loss=f"{self._interval.loss / max(1, self._interval.masked_tokens):.3f}")
            if self.step % recipe.logging_steps == 0 or self.step == self.total_steps:
                now = time.monotonic()
                self._write_line(metrics, learning_rate, gradient_norm, seconds=now - last_line)
                last_line = now
            if recipe.eval_steps is not None and self.step % recipe.eval_steps == 0 and self.step < self.total_steps:
                self._write_evaluation(metrics)
                last_line = time.monotonic()
            if stop or self.step % recipe.save_steps == 0 or self.step == self.total_steps:
                self._save()
            if stop and self.step < self.total_steps:
                log.warning("told to stop: saved step %d; the same command goes on from there", self.step)
                raise Interrupted

    def _train_step(self, learning_rate: float) -> tuple[float, bool]:
        """Do one optimizer step; return the gradient norm and whether any process was told to stop."""
        accelerator, rank, world_size = self.accelerator, self.accelerator.process_index, self.accelerator.num_processes
        mine = list(enumerate(self._planner.next_step()))[rank::world_size]
        batches = [self._build(draws) for _, draws in mine]
        masked = sum(batch.masked_count for batch in batches)
        real = sum(batch.real_tokens for batch in batches)
        sums = torch.tensor([masked, real, self._stop_asked], dtype=torch.float64, device=accelerator.device)
        all_masked, all_real, stop = (int(value) for value in accelerator.reduce(sums, reduction="sum").tolist())
        loss_sum = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        for (number, _), batch in zip(mine, batches, strict=True):
            # Dropout depends on the batch's place in the run, not on who computes it or what came before.
            torch.manual_seed(mix_integers(self.recipe.seed, self.step, number))
            with self._backend.accumulating(last=batch is batches[-1]):
                loss = summed_loss(self._backend.module, batch)
                self._backend.backward(loss / max(1, all_masked))
            loss_sum += loss.detach()
        gradient_norm = self._backend.step(learning_rate)
        self._interval.loss += float(accelerator.reduce(loss_sum, reduction="sum"))
        self._interval.masked_tokens += all_masked
        self._interval.real_tokens += all_real
        self._interval.room_tokens += self._micro_batches * self.recipe.micro_batch_tokens
        self.tokens += all_real
        return gradient_norm, stop > 0

    def _build(self, draws: Any) -> MicroBatch:
        packed = self._train.pack(draws, self.recipe.micro_batch_tokens)
        masked = self._masker.mask(packed, self.recipe.mlm_probability)
        return to_device(packed, masked, self.accelerator.device)

    def _write_line(
        self, metrics: MetricsLog | None, learning_rate: float, gradient_norm: float, *, seconds: float
    ) -> None:
        interval, self._interval = self._interval, _Interval()
        if metrics is None:
            return
        metrics.write(
            {
                "step": self.step,
                "epoch": self._planner.epoch,
                "tokens": self.tokens,
                "loss": interval.loss / max(1, interval.masked_tokens),
                "learning_rate": learning_rate,
                "gradient_norm": gradient_norm,
                "tokens_per_second": round(interval.real_tokens / max(seconds, 1e-9), 1),
                "padding_share": round(1 - interval.real_tokens / max(1, interval.room_tokens), 5),
            }
        )

    def _write_evaluation(self, metrics: MetricsLog | None) -> None:
        score = self._evaluate().overall
        if metrics is not None:
            metrics.write({"step": self.step, "held_out_loss": score.loss, "held_out_accuracy": score.accuracy})

    def _evaluate(self) -> Evaluation:
        batches = held_out_batches(
            self._held_out,
            self._evaluation_masker,
            self.recipe,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            device=self.accelerator.device,
        )
        return evaluate(self._backend.module, batches, self._held_out_shards.subreddits, self.accelerator)

    def _save(self) -> None:
        tensors = self._backend.gather()
        if tensors is not None:
            progress = {
                "tokens": self.tokens,
                "interval": dataclasses.asdict(self._interval),
                "before": self._before,
                "planner": self._planner.state_dict(),
            }
            state = TrainingState.of(self.step, tensors, progress)
            save_checkpoint(self.working_dir, state, self.model, keep=self.recipe.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _write_result(self, result: dict[str, Any]) -> None:
        """Write the model folder; `evaluation.json` comes last and says that it is complete."""
        tensors = self._backend.gather()
        if tensors is not None:
            weights = TrainingState.of(self.step, tensors, {}).weights
            self.model.save_pretrained(self.working_dir, state_dict=weights)
            self._tokenizer.save_pretrained(self.working_dir)
            write_atomically(self.working_dir / EVALUATION_FILE, json.dumps(result, indent=2) + "\n")
        self.accelerator.wait_for_everyone()

    def ask_to_stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Stop after the step in progress: a signal handler."""
        self._stop_asked = True


def summed_loss(module: torch.nn.Module, batch: MicroBatch) -> Tensor:
    """Return the cross entropy summed over a micro-batch's masked tokens, in fp32."""
    logits_MV = module(batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
    return summed_cross_entropy(logits_MV, batch.labels)


class _stop_signals:  # used as a context, like contextlib.suppress
    """Turn SIGTERM and SIGUSR1 into a request to stop while a run trains."""

    def __init__(self, run: PretrainingRun) -> None:
        self._run = run

    def __enter__(self) -> None:
        signals = (signal.SIGTERM, signal.SIGUSR1)
        self._earlier = {number: signal.signal(number, self._run.ask_to_stop) for number in signals}

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
