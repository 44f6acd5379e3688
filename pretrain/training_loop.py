"""The run itself: evaluate, train, checkpoint, evaluate, save.

It is a loop of our own on accelerate rather than the Trainer, for three reasons: an exact loss under accumulation
and several processes, resuming in constant time, and DeepSpeed on CPUs.
"""

import copy
import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from configs.console import Progress
from configs.run_folder import write_atomically
from pretrain.batches import MicroBatch
from pretrain.checkpoint import TrainingState, load_newest_checkpoint, save_checkpoint
from pretrain.config import PretrainRecipe
from pretrain.distributed import accumulation_steps, prepare
from pretrain.encoder import PackedMaskedLM, freeze_encoder, set_dropout
from pretrain.evaluation import Evaluation, evaluate
from pretrain.flops import utilisation
from pretrain.gradient_guard import GradientGuard
from pretrain.hashing import mix_integers
from pretrain.losses import summed_cross_entropy
from pretrain.metrics import Interval, MetricsLog
from pretrain.optimization import build_optimizer, learning_rate_factor, mlm_probability
from pretrain.sentence_losses import SentenceObjective, ViewSampler
from pretrain.stopping import Interrupted, StopRequest
from pretrain.training_data import TrainingData
from pretrain.training_page import write_training_page

EVALUATION_FILE = "evaluation.json"
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
        self._micro_batches = accumulation_steps(recipe, accelerator.num_processes) * accelerator.num_processes
        self._data = TrainingData(recipe, tokenizer, self._micro_batches)
        self.total_steps = self._data.count_steps(self._micro_batches)
        self.step, self.tokens, self._interval = 0, 0, Interval()
        self._guard = GradientGuard(recipe.spike_factor, tells=accelerator.is_main_process)
        self._before: dict[str, Evaluation] | None = None
        self.stop_request = StopRequest()
        self._autocast_dtype = torch.bfloat16 if recipe.mixed_precision == "bf16" else None
        self._base_weights: dict[str, Tensor] = {}
        if recipe.soup_base_share > 0:
            names = model.base_model.named_parameters(prefix=model.base_model_prefix)
            self._base_weights = {name: weight.detach().clone() for name, weight in names}
        self._sentences = self._start_sentences()
        self._start_model()

    def _start_sentences(self) -> SentenceObjective | None:
        """Return the losses on whole texts, if the recipe asks for any; the model must not have been trained yet."""
        recipe = self.recipe
        if recipe.contrastive_weight == 0 and recipe.anchor_weight == 0:
            return None
        encoder = None
        if recipe.anchor_weight > 0:
            frozen = copy.deepcopy(self.model).requires_grad_(False).to(self.accelerator.device)
            encoder = PackedMaskedLM(frozen, autocast_dtype=self._autocast_dtype).eval()
        return SentenceObjective(recipe, ViewSampler(self._data.shards, self._tokenizer, recipe), encoder)

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
            "tokens": self.tokens,
            "interval": dataclasses.asdict(self._interval),
            "before": {name: found.as_json() for name, found in (self._before or {}).items()},
            "planner": self._data.planner.state_dict(),
            "guard": self._guard.state_dict(),
        }

    def _restore_progress(self, state: TrainingState) -> None:
        progress = state.progress
        self.step, self.tokens = state.step, progress["tokens"]
        self._interval = Interval(**progress["interval"])
        self._before = {name: Evaluation.from_json(values) for name, values in progress["before"].items()}
        self._data.planner.load_state_dict(progress["planner"])
        self._guard.load_state_dict(progress["guard"])

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
        recipe, last_line = self.recipe, time.monotonic()
        self._backend.module.train()
        while self.step < self.total_steps:
            learning_rate = recipe.learning_rate * learning_rate_factor(self.step, self.total_steps, recipe)
            gradient_norm, stop = self._train_step(learning_rate)
            self.step += 1
            bar.advance(1, loss=f"{self._interval.mean_loss:.3f}")
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
        probability = mlm_probability(self.step, self.total_steps, self.recipe)
        mine = list(enumerate(self._data.planner.next_step()))[rank::world_size]
        batches = [self._data.build(draws, probability, accelerator.device) for _, draws in mine]
        masked = sum(batch.masked_count for batch in batches)
        real = sum(batch.real_tokens for batch in batches)
        sums = torch.tensor([masked, real, self.stop_request.asked], dtype=torch.float64, device=accelerator.device)
        all_masked, all_real, stop = (int(value) for value in accelerator.reduce(sums, reduction="sum").tolist())
        losses_3 = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # masked, contrastive, anchor
        for (number, _), batch in zip(mine, batches, strict=True):
            # Dropout depends on the batch's place in the run, not on who computes it or what came before.
            torch.manual_seed(mix_integers(self.recipe.seed, self.step, number))
            with self._backend.accumulating(last=batch is batches[-1]):
                loss, parts_3 = self._loss(batch, number, all_masked)
                self._backend.backward(loss)
            losses_3 += parts_3
        gradient_norm = self._backend.step(learning_rate, self._guard.limit)
        losses = cast(Tensor, accelerator.reduce(losses_3, reduction="sum")).tolist()
        self._guard.record(self.step, gradient_norm)
        room = self._micro_batches * self.recipe.micro_batch_tokens
        self._interval.add(losses, masked=all_masked, real=all_real, room=room, views=self._micro_batches)
        self.tokens += all_real
        return gradient_norm, stop > 0

    def _loss(self, batch: MicroBatch, number: int, all_masked: int) -> tuple[Tensor, Tensor]:
        """Return a micro-batch's part of the step's loss, and (3,) its summed losses for the record.

        Masked-token losses are averaged over the step's masked tokens, those on whole texts over its micro-batches.
        """
        if self._sentences is None:
            summed = summed_loss(self._backend.module, batch)
            return summed / max(1, all_masked), torch.stack([summed.detach(), *summed.new_zeros(2)]).double()
        views = self._sentences.draw(self.step, number, self.accelerator.device)
        logits_MV, vectors = self._backend.module(
            batch.input_ids, batch.position_ids, batch.lengths, batch.asked, views
        )
        summed = summed_cross_entropy(logits_MV, batch.labels)
        found = self._sentences.losses(vectors, views)
        loss = summed / max(1, all_masked) + self._sentences.weighted(found) / self._micro_batches
        parts = [summed, found.contrastive, found.anchor]
        return loss, torch.stack([part.detach() for part in parts]).double()

    def _write_line(
        self, metrics: MetricsLog | None, learning_rate: float, gradient_norm: float, *, seconds: float
    ) -> None:
        interval, self._interval = self._interval, Interval()
        if metrics is None:
            return
        line: dict[str, Any] = {
            "step": self.step,
            "epoch": self._data.planner.epoch,
            "tokens": self.tokens,
            "loss": interval.mean_loss,
            "learning_rate": learning_rate,
            "mlm_probability": mlm_probability(self.step - 1, self.total_steps, self.recipe),
            "gradient_norm": gradient_norm,
            "skipped_steps": self._guard.skipped,
            "tokens_per_second": round(interval.real_tokens / max(seconds, 1e-9), 1),
            "padding_share": round(1 - interval.real_tokens / max(1, interval.room_tokens), 5),
        }
        if self._sentences is not None:
            line |= interval.mean_sentence_losses
        if self.accelerator.device.type == "cuda":
            line["mfu"] = utilisation(
                self.model.config,
                torch.cuda.get_device_name(self.accelerator.device),
                line["tokens_per_second"] / self.accelerator.num_processes,
                mean_keys=self._data.mean_keys,
                mlm_probability=line["mlm_probability"],
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
        """Return the content of `evaluation.json`; the weights are averaged with the base's here, if asked for."""
        after, soup = self._evaluate_all(), {}
        if self.recipe.soup_base_share > 0:
            soup = {"before_soup": {name: found.as_json() for name, found in after.items()}}
            self._backend.blend(self._base_weights, self.recipe.soup_base_share)
            after = self._evaluate_all()
        for name, found in after.items():
            log.info(
                "held-out loss of %s text after: %.4f (before: %.4f)",
                name,
                found.overall.loss,
                before[name].overall.loss,
            )
        general = {}
        if "general" in after:
            general = {"general": {"before": before["general"].as_json(), "after": after["general"].as_json()}}
        return {
            "steps": self.step,
            "tokens": self.tokens,
            "skipped_steps": self._guard.skipped,
            "before": before["domain"].as_json(),
            "after": after["domain"].as_json(),
            **general,
            **soup,
        }

    def _evaluate_all(self) -> dict[str, Evaluation]:
        """Score the held-out parts of the corpus and, if there is one, of the general corpus."""
        found = {}
        for name in self._data.held_out_names:
            batches, subreddits = self._data.held_out(
                name,
                rank=self.accelerator.process_index,
                world_size=self.accelerator.num_processes,
                device=self.accelerator.device,
            )
            found[name] = evaluate(self._backend.module, batches, subreddits, self.accelerator)
        return found

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


def summed_loss(module: torch.nn.Module, batch: MicroBatch) -> Tensor:
    """Return the cross entropy summed over a micro-batch's masked tokens, in fp32."""
    logits_MV = module(batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
    return summed_cross_entropy(logits_MV, batch.labels)
