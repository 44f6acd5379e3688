"""Held-out loss, perplexity and accuracy of masked predictions, overall and by subreddit, in constant memory.

Always 15 % fixed masks (`held_out.py`), so figures compare across recipes. The loss is the mean over masked tokens.

M = predictions, V = vocabulary, G = subreddits.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from configs.processor import tell_deepspeed_of_cpus
from corpus.shards import TokenShards
from pretrain.config import PretrainRecipe
from pretrain.encoder import PackedMaskedLM
from pretrain.held_out import HeldOutTexts
from pretrain.masking import IGNORED_LABEL

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Score:
    """Masked-token figures of one group of documents."""

    loss: float
    perplexity: float
    accuracy: float
    masked_tokens: int

    @classmethod
    def of(cls, sums: Tensor) -> "Score":
        """Build from (summed loss, correct, count)."""
        loss_sum, correct, count = sums.tolist()
        loss = loss_sum / max(count, 1.0)
        return cls(loss, math.exp(min(loss, 700.0)), correct / max(count, 1.0), int(count))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A held-out evaluation: everything together, and by subreddit."""

    overall: Score
    by_subreddit: dict[str, Score]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for `evaluation.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Evaluation":
        """Build from what `as_json` returned."""
        groups = {name: Score(**score) for name, score in values["by_subreddit"].items()}
        return cls(Score(**values["overall"]), groups)


@torch.no_grad()
def evaluate(model: nn.Module, texts: HeldOutTexts, accelerator: Accelerator) -> Evaluation:
    """Score the model on its processes' shares of held-out texts; an empty subreddit counts as `(none)`.

    Args:
        model: a `PackedMaskedLM`, prepared.
        texts: what is held out.
        accelerator: adds up over processes.
    """
    names, group_of = np.unique(np.array([name or "(none)" for name in texts.subreddits]), return_inverse=True)
    groups = torch.from_numpy(group_of.astype(np.int64)).to(accelerator.device)
    sums_G3 = torch.zeros(len(names), 3, dtype=torch.float64, device=accelerator.device)
    was_training = model.training
    model.eval()
    rank, world_size = accelerator.process_index, accelerator.num_processes
    for batch in texts.batches(rank=rank, world_size=world_size, device=accelerator.device):
        logits_MV = model(batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
        sums_M3 = _score_predictions(logits_MV, batch.labels)
        sums_G3.index_add_(0, groups[batch.documents.clamp(min=0)], sums_M3)
    model.train(was_training)
    sums_G3 = accelerator.reduce(sums_G3, reduction="sum")
    by_subreddit = {str(name): Score.of(sums) for name, sums in zip(names, sums_G3, strict=True) if sums[2] > 0}
    return Evaluation(Score.of(sums_G3.sum(dim=0)), by_subreddit)


def evaluate_all(
    model: nn.Module, held_out: Mapping[str, HeldOutTexts], accelerator: Accelerator
) -> dict[str, Evaluation]:
    """Score the held-out texts of each corpus, by its name."""
    return {name: evaluate(model, texts, accelerator) for name, texts in held_out.items()}


def texts_to_score(
    corpus: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    trained: Iterable[TokenShards],
    max_seq_length: int,
    eval_max_tokens: int | None,
) -> HeldOutTexts:
    """Return a corpus's held-out texts for a model outside of a run.

    Args:
        corpus: its folder.
        tokenizer: the corpus's.
        trained: training parts of other corpora; what stands in them is not scored.
        max_seq_length: tokens of a sequence.
        eval_max_tokens: held-out tokens read at most; None reads all.
    """
    settings = PretrainRecipe(
        output_dir=corpus,  # nothing is written
        corpus=corpus,
        max_seq_length=max_seq_length,
        eval_max_tokens=eval_max_tokens,
        max_steps=1,
    )
    return HeldOutTexts(corpus, tokenizer, settings, trained)


def held_out_scorer(
    model: PreTrainedModel, held_out: Mapping[str, HeldOutTexts]
) -> Callable[[], dict[str, Evaluation]]:
    """Return what scores a model outside of a run, with the weights that it then has, as `evaluate_all` does.

    Args:
        model: a masked language model; its last layer is narrowed to what is asked of it.
        held_out: from `texts_to_score`, by the corpora's names.
    """
    tell_deepspeed_of_cpus()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())  # as `start_accelerator`: no Apple GPU
    module = PackedMaskedLM(model, autocast_dtype=torch.bfloat16).to(accelerator.device)
    return functools.partial(evaluate_all, module, held_out, accelerator)


def compare(before: dict[str, Evaluation], after: dict[str, Evaluation]) -> dict[str, Any]:
    """Return what `evaluation.json` says of the held-out texts, and log the losses."""
    for name, found in after.items():
        losses = found.overall.loss, before[name].overall.loss
        log.info("held-out loss of %s text after: %.4f (before: %.4f)", name, *losses)
    values: dict[str, Any] = {"before": before["domain"].as_json(), "after": after["domain"].as_json()}
    if "general" in after:
        values["general"] = {"before": before["general"].as_json(), "after": after["general"].as_json()}
    return values


def _score_predictions(logits_MV: Tensor, labels_M: Tensor) -> Tensor:
    """Return (M, 3): loss, whether it is right, and 1, all 0 where the label is padding."""
    real = labels_M != IGNORED_LABEL
    loss = F.cross_entropy(logits_MV.float(), labels_M, reduction="none", ignore_index=IGNORED_LABEL)
    correct = (logits_MV.argmax(dim=-1) == labels_M) & real
    return torch.stack([loss.double(), correct.double(), real.double()], dim=1)
