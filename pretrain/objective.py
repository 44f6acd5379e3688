"""What a step minimises: the cross entropy of its masked tokens, and the losses on whole texts that a recipe adds.

M = predictions, V = vocabulary.
"""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pretrain.batches import MicroBatch
from pretrain.config import PretrainRecipe
from pretrain.distributed import Backend
from pretrain.encoder import PackedMaskedLM
from pretrain.hashing import mix_integers
from pretrain.losses import summed_cross_entropy
from pretrain.sentence_losses import SentenceObjective, ViewSampler
from pretrain.training_data import TrainingData


class Objective:
    """The losses of a recipe. Build it before the model is trained: the anchor keeps a copy.

    Args:
        recipe: which losses, and their weights.
        data: the training documents, for views of them.
        tokenizer: its special tokens stand around each view.
        model: the model as it starts.
        autocast_dtype: what the model computes in.
        device: where it does.

    Attributes:
        on_whole_texts: whether there are losses beside masked language modelling.
    """

    def __init__(
        self,
        recipe: PretrainRecipe,
        data: TrainingData,
        tokenizer: PreTrainedTokenizerBase,
        model: PreTrainedModel,
        *,
        autocast_dtype: torch.dtype | None,
        device: torch.device,
    ) -> None:
        self.on_whole_texts = recipe.contrastive_weight > 0 or recipe.anchor_weight > 0
        self._device, self._seed = device, recipe.seed
        if not self.on_whole_texts:
            return
        encoder = None
        if recipe.anchor_weight > 0:
            frozen = copy.deepcopy(model).requires_grad_(False).to(device)
            encoder = PackedMaskedLM(frozen, autocast_dtype=autocast_dtype).eval()
        self._sentences = SentenceObjective(recipe, ViewSampler(data.shards, tokenizer, recipe), encoder)

    def add_gradients(
        self,
        backend: Backend,
        numbered: Sequence[tuple[int, MicroBatch]],
        *,
        place: int,
        masked: int,
        micro_batches: int,
    ) -> Tensor:
        """Run this process's micro-batches of a step forward and backward.

        Args:
            backend: the prepared model.
            numbered: the micro-batches and their numbers in the step.
            place: what the step's random numbers depend on.
            masked: masked tokens of the step, over all processes.
            micro_batches: how many make the step, over all processes.

        Returns:
            (3,) losses for the record, summed: of masked tokens, contrastive and anchor.
        """
        losses_3 = torch.zeros(3, dtype=torch.float64, device=self._device)
        for number, batch in numbered:
            # Dropout depends on the batch's place in the run, not on who computes it or what came before.
            torch.manual_seed(mix_integers(self._seed, place, number))
            with backend.accumulating(last=number == numbered[-1][0]):
                loss, parts_3 = self._loss(
                    backend.module, batch, place=place, number=number, masked=masked, micro_batches=micro_batches
                )
                backend.backward(loss)
            losses_3 += parts_3
        return losses_3

    def _loss(
        self, module: nn.Module, batch: MicroBatch, *, place: int, number: int, masked: int, micro_batches: int
    ) -> tuple[Tensor, Tensor]:
        """Return a micro-batch's part of the step's loss, and (3,) its summed losses for the record.

        Masked-token losses are averaged over the step's masked tokens, those on whole texts over its micro-batches.
        """
        if not self.on_whole_texts:
            summed = summed_loss(module, batch)
            return summed / max(1, masked), torch.stack([summed.detach(), *summed.new_zeros(2)]).double()
        views = self._sentences.draw(place, number, self._device)
        logits_MV, vectors = module(batch.input_ids, batch.position_ids, batch.lengths, batch.asked, views)
        summed = summed_cross_entropy(logits_MV, batch.labels)
        found = self._sentences.losses(vectors, views)
        loss = summed / max(1, masked) + self._sentences.weighted(found) / micro_batches
        parts = [summed, found.contrastive, found.anchor]
        return loss, torch.stack([part.detach() for part in parts]).double()


def summed_loss(module: nn.Module, batch: MicroBatch) -> Tensor:
    """Return the cross entropy summed over a micro-batch's masked tokens, in fp32."""
    logits_MV = module(batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
    return summed_cross_entropy(cast(Tensor, logits_MV), batch.labels)
