"""The run itself: evaluate, train, checkpoint, evaluate, save.

It is a loop of our own on accelerate rather than the Trainer, for three reasons: an exact loss under accumulation
and several processes, resuming in constant time, and DeepSpeed on CPUs.
"""

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from configs.console import Progress
from configs.errors import UserError
from configs.run_folder import write_atomically
from pretrain.checkpoint import (
    TrainingState,
    drop_checkpoints_after,
    load_checkpoint_before_trouble,
    load_newest_checkpoint,
    save_checkpoint,
)
from pretrain.config import PretrainRecipe, many_passes
from pretrain.distributed import prepare
from pretrain.encoder import PackedMaskedLM, freeze_encoder, set_dropout
from pretrain.evaluation import Evaluation, compare, evaluate_all
from pretrain.flops import utilisation
from pretrain.gradient_guard import GradientGuard
from pretrain.metrics import Interval, MetricsLog
from pretrain.objective import Objective
from pretrain.optimization import build_optimizer, learning_rate_factor, mlm_probability
from pretrain.private_gradient import PrivateGradient
from pretrain.stopping import Interrupted, StopRequest
from pretrain.training_data import TrainingData
from pretrain.training_page import write_training_page

EVALUATION_FILE = "evaluation.json"
SIZES = {"micro_batches": "micro-batches a step", "total_steps": "steps"}
"""What stays the same from a run's first step to its last, however often it is resumed."""
log = logging.getLogger(__name__)


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
        self._micro_batches = recipe.accumulation_steps(accelerator.num_processes) * accelerator.num_processes
        self._data = TrainingData(recipe, tokenizer, self._micro_batches)
        self.total_steps = self._data.count_steps(self._micro_batches)
        if not recipe.is_private and accelerator.is_main_process:
            passes = self._data.passes(self.total_steps, self._micro_batches)
            log.info("%s steps, about %.1f passes over the corpus", f"{self.total_steps:,}", passes)
            if warning := many_passes(passes):
                log.warning(warning)
        self._private: PrivateGradient | None = None
        if recipe.is_private:
            self._private = PrivateGradient(
                recipe, self._data, tokenizer, steps=self.total_steps, accelerator=accelerator
            )
        self.step, self.tokens, self._interval = 0, 0, Interval()
        self._learned = 0
        self._guard = GradientGuard(recipe.spike_factor, tells=accelerator.is_main_process)
        self._before: dict[str, Evaluation] | None = None
        self.stop_request = StopRequest()
        self._autocast_dtype = torch.bfloat16 if recipe.mixed_precision == "bf16" else None
        self._objective = Objective(
            recipe, self._data, tokenizer, model, autocast_dtype=self._autocast_dtype, device=accelerator.device
        )
        self._start_model()

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
        module = PackedMaskedLM(self.model, autocast_dtype=self._autocast_dtype)
        self._backend = prepare(self.accelerator, module, build_optimizer(module, self.recipe), recipe=self.recipe)
        if state is not None:
            self._backend.restore_moments(state)
            self._restore_progress(state)
            log.info("resuming at step %d of %d", self.step, self.total_steps)

    def _progress(self) -> dict[str, Any]:
        """Return everything a checkpoint keeps beside weights and moments, as JSON values."""
        return {
            **self._sizes,
            "tokens": self.tokens,
            "learned": self._learned,
            "interval": dataclasses.asdict(self._interval),
            "before": {name: found.as_json() for name, found in (self._before or {}).items()},
            "planner": self._data.planner.state_dict(),
            "guard": self._guard.state_dict(),
            "private": self._private and self._private.state_dict(),
        }

    @property
    def _sizes(self) -> dict[str, int | None]:
        """The run's `SIZES`; a private step draws units, however many processes share them."""
        micro_batches = None if self._private is not None else self._micro_batches
        return {"micro_batches": micro_batches, "total_steps": self.total_steps}

    def _refuse_other_sizes(self, progress: dict[str, Any]) -> None:
        """Refuse to go on with a larger or smaller batch: its schedule would jump, and the run might end early.

        Raises:
            UserError: the run was begun on another number of processes.
        """
        sizes = self._sizes
        # Older checkpoints do not say their sizes.
        differing = [key for key in SIZES if progress.get(key, sizes[key]) != sizes[key]]
        if differing:
            begun = " and ".join(f"{progress[key]:,} {SIZES[key]}" for key in differing)
            raise UserError(
                f"this run was begun with {begun}, and has {' and '.join(f'{sizes[key]:,}' for key in differing)} now",
                where=self.working_dir,
                fix="Resume it on as many processes as before, or start again in another --output_dir with "
                "global_batch_tokens, which allows any number.",
            )

    def _restore_progress(self, state: TrainingState) -> None:
        progress = state.progress
        self._refuse_other_sizes(progress)
        self.step, self.tokens = state.step, progress["tokens"]
        self._interval = Interval.from_json(progress["interval"])
        self._before = {name: Evaluation.from_json(values) for name, values in progress["before"].items()}
        self._data.planner.load_state_dict(progress["planner"])
        self._guard.load_state_dict(progress["guard"])
        # Older checkpoints do not count: all that was drawn was learned if no step was skipped, else nothing is sure.
        drawn = sum(int(counts.sum()) for counts in self._data.planner.count_draws())
        self._learned = progress.get("learned", 0 if self._guard.skipped else drawn)
        if self._private is not None:
            self._private.load_state_dict(progress.get("private"))

    def run(self) -> dict[str, Any]:
        """Train to the last step and write `evaluation.json` and the model.

        Returns:
            The content of `evaluation.json`.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was written.
        """
        main = self.accelerator.is_main_process
        if self._before is None:
            self._before = self._evaluate_all()
            log.info("held-out loss before: %.4f", self._before["domain"].overall.loss)
        metrics = None
        if main:
            name = self.recipe.output_dir.name
            metrics = MetricsLog(self.working_dir, step=self.step, report_to=self.recipe.report_to, run_name=name)
        with (
            self.stop_request,
            Progress(
                description="pretraining", unit="steps", total=self.total_steps, initial=self.step, enabled=main
            ) as bar,
        ):
            self._train_steps(metrics, bar)
        result = self._evaluate_result(self._before)
        if metrics is not None:
            metrics.close()
        self._write_result(result)
        return result

    def _train_steps(self, metrics: MetricsLog | None, bar: Progress) -> None:
        recipe, save_due = self.recipe, False
        self._backend.module.train()
        while self.step < self.total_steps:
            learning_rate = recipe.learning_rate * learning_rate_factor(self.step, self.total_steps, recipe)
            gradient_norm, stop = self._train_step(learning_rate)
            self.step += 1
            bar.advance(1, **(self._private or self._interval).shown)
            if self._guard.is_stuck:
                bar.advance(-self._rewind(metrics))
                save_due = False
                if stop:
                    self._exit_for_requeue()
                continue
            if self.step % recipe.logging_steps == 0 or self.step == self.total_steps:
                self._write_line(metrics, learning_rate, gradient_norm)
            if recipe.eval_steps is not None and self.step % recipe.eval_steps == 0 and self.step < self.total_steps:
                self._write_evaluation(metrics)
            # Among broken steps no checkpoint takes the place of one to go back to.
            save_due = save_due or self.step % recipe.save_steps == 0
            if stop or self.step == self.total_steps or (save_due and self._guard.in_a_row == 0):
                self._save()
                save_due = False
            if stop and self.step < self.total_steps:
                self._exit_for_requeue()

    def _exit_for_requeue(self) -> NoReturn:
        log.warning("told to stop: saved step %d; the same command goes on from there", self.step)
        raise Interrupted

    def _rewind(self, metrics: MetricsLog | None) -> int:
        """Go back to the weights from before a row of broken steps, but not to the documents that were read since.

        Returns:
            How many steps it went back. Every process goes back alike: all see the same norms and checkpoints.

        Raises:
            UserError: there is no such checkpoint, or it did so too often already.
        """
        guard, broken_at, state = self._guard, self.step, None
        # What private steps cost is spent: going back would not bring it back.
        if guard.rewinds < self.recipe.max_rewinds and self._private is None:
            state = load_checkpoint_before_trouble(self.working_dir, helped_not=guard.rewound_to)
        if state is None:
            guard.give_up(broken_at)
        counts, position = guard.state_dict(), self._data.planner.state_dict()
        self._backend.restore_weights(state)
        self._backend.restore_moments(state)
        self._restore_progress(state)
        self._data.planner.load_state_dict(position)
        guard.load_state_dict(counts)
        guard.rewind(state.progress["guard"], state.step)
        log.warning(
            "steps up to %d went back to step %d (%d of at most %d times); on with other documents",
            broken_at,
            self.step,
            guard.rewinds,
            self.recipe.max_rewinds,
        )
        if metrics is not None:
            metrics.rewind(step=self.step, rewound_from=broken_at, rewinds=guard.rewinds)
        self.accelerator.wait_for_everyone()  # all have read it
        if self.accelerator.is_main_process:
            drop_checkpoints_after(self.working_dir, self.step)
        self._save()
        return broken_at - self.step

    def _train_step(self, learning_rate: float) -> tuple[float, bool]:
        """Do one optimizer step; return the gradient norm and whether any process was told to stop."""
        if self._private is not None:
            return self._private_step(self._private, learning_rate)
        started = time.monotonic()
        accelerator, rank, world_size = self.accelerator, self.accelerator.process_index, self.accelerator.num_processes
        probability = mlm_probability(self.step, self.total_steps, self.recipe)
        plan = self._data.planner.next_step()
        mine = list(enumerate(plan))[rank::world_size]
        batches = [self._data.build(draws, probability, accelerator.device) for _, draws in mine]
        masked = sum(batch.masked_count for batch in batches)
        real = sum(batch.real_tokens for batch in batches)
        sums = torch.tensor([masked, real, self.stop_request.asked], dtype=torch.float64, device=accelerator.device)
        all_masked, all_real, stop = (int(value) for value in accelerator.reduce(sums, reduction="sum").tolist())
        losses_3 = self._objective.add_gradients(
            self._backend,
            [(number, batch) for (number, _), batch in zip(mine, batches, strict=True)],
            place=self._place,
            masked=all_masked,
            micro_batches=self._micro_batches,
        )
        gradient_norm = self._backend.step(learning_rate, self._guard.limit)
        losses = cast(Tensor, accelerator.reduce(losses_3, reduction="sum")).tolist()
        self._guard.record(self.step, gradient_norm)
        if self._guard.in_a_row == 0:
            self._learned += sum(len(draws) for draws in plan)
        room = self._micro_batches * self.recipe.micro_batch_tokens
        # Steps alone are timed: evaluations, checkpoints and stops in between are in no rate.
        seconds = time.monotonic() - started
        self._interval.add(
            losses, masked=all_masked, real=all_real, room=room, views=self._micro_batches, seconds=seconds
        )
        self.tokens += all_real
        return gradient_norm, stop > 0

    def _private_step(self, private: PrivateGradient, learning_rate: float) -> tuple[float, bool]:
        """Do one differentially private step: nothing but its noised gradient comes out, no loss and no count."""
        stop = torch.tensor([float(self.stop_request.asked)], device=self.accelerator.device)
        stop = cast(Tensor, self.accelerator.reduce(stop, reduction="sum"))
        private.fill(self._backend.module, self.step, mlm_probability(self.step, self.total_steps, self.recipe))
        gradient_norm = self._backend.step(learning_rate, self._guard.limit)
        self._guard.record(self.step, gradient_norm)
        self.tokens = private.tokens
        return gradient_norm, bool(stop > 0)

    @property
    def _place(self) -> int:
        """What random numbers of a step depend on: its number, another one after each rewind."""
        return self.step + self._guard.rewinds * self.total_steps

    def _write_line(self, metrics: MetricsLog | None, learning_rate: float, gradient_norm: float) -> None:
        interval, self._interval = self._interval, Interval()
        if metrics is None:
            return
        line: dict[str, Any] = {
            "step": self.step,
            "epoch": self._data.planner.epoch,
            "tokens": self.tokens,
            "learning_rate": learning_rate,
            "mlm_probability": mlm_probability(self.step - 1, self.total_steps, self.recipe),
            "gradient_norm": gradient_norm,
            "skipped_steps": self._guard.skipped,
        }
        if self._private is not None:
            metrics.write(line | {"epsilon": self._private.epsilon})
            return
        line |= {"loss": interval.mean_loss} | interval.rates
        if self._objective.on_whole_texts:
            line |= interval.mean_sentence_losses
        if self.accelerator.device.type == "cuda":
            line["mfu"] = utilisation(
                self.model.config,
                torch.cuda.get_device_name(self.accelerator.device),
                line["tokens_per_second"] / self.accelerator.num_processes,
                mean_keys=self._data.mean_keys,
                mlm_probability=line["mlm_probability"],
                encoder_is_frozen=self.recipe.trainable == "head",
            )
        metrics.write(line)

    def _write_evaluation(self, metrics: MetricsLog | None) -> None:
        scores = {name: found.overall for name, found in self._evaluate_all().items()}
        if metrics is not None:
            line = {
                "step": self.step,
                "held_out_loss": scores["domain"].loss,
                "held_out_accuracy": scores["domain"].accuracy,
            }
            metrics.write(line | ({"general_loss": scores["general"].loss} if "general" in scores else {}))

    def _evaluate_result(self, before: dict[str, Evaluation]) -> dict[str, Any]:
        """Return the content of `evaluation.json`."""
        private = {} if self._private is None else {"privacy": self._private.report()}
        skipped = self._guard.skipped
        shares = self._data.shares_read(self._learned) if self._private is None else self._private.shares_read(skipped)
        return {
            "steps": self.step,
            "tokens": self.tokens,
            "skipped_steps": skipped,
            "rewinds": self._guard.rewinds,
            "shares_read": shares,
            **private,
            **compare(before, self._evaluate_all()),
        }

    def _evaluate_all(self) -> dict[str, Evaluation]:
        return evaluate_all(self._backend.module, self._data, self.accelerator)

    def _save(self) -> None:
        tensors = self._backend.gather()
        if tensors is not None:
            state = TrainingState.of(self.step, tensors, self._progress())
            save_checkpoint(self.working_dir, state, self.model, keep=self.recipe.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _write_result(self, result: dict[str, Any]) -> None:
        """Write the model folder; `evaluation.json` comes last and says that it is complete."""
        tensors = self._backend.gather()
        if tensors is not None:
            weights = TrainingState.of(self.step, tensors, {}).weights
            self.model.save_pretrained(self.working_dir, state_dict=weights)
            self._tokenizer.save_pretrained(self.working_dir)
            write_training_page(self.working_dir, result)
            write_atomically(self.working_dir / EVALUATION_FILE, json.dumps(result, indent=2) + "\n")
        self.accelerator.wait_for_everyone()
