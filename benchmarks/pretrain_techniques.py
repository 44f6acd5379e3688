"""What each technique of the pretraining engine is worth: `python -m benchmarks.pretrain_techniques [--json]`.

One model trains the same micro-batches with everything on, and with one technique at a time replaced by the plain
way. Rounds alternate; the gain is the plain way's CPU time over ours, the median over rounds. That each pair computes
the same is what tests/pretrain shows (test_encoder, test_attention). Beside them: the CPU time it takes to choose and
corrupt the tokens of a full micro-batch of 32 x 512, for each kind of masking.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pretrain_contenders import build_recipe, load_model
from benchmarks.pretrain_throughput import ROOT, build_corpus
from configs.base_models import ModelSource
from configs.errors import run_program
from configs.processor import keep_freed_memory
from corpus.shards import TokenShards
from pretrain import attention
from pretrain.batches import MicroBatch, build_masker, build_packer, to_device
from pretrain.encoder import PackedMaskedLM, load_tokenizer, set_dropout
from pretrain.last_layer import Asked
from pretrain.losses import summed_cross_entropy
from pretrain.masking import IGNORED_LABEL, MaskingKind
from pretrain.optimization import build_optimizer
from pretrain.packing import StepPlanner

Loss = Callable[[PackedMaskedLM, MicroBatch], Tensor]


def ours(module: PackedMaskedLM, batch: MicroBatch) -> Tensor:
    """Return the stage's own loss."""
    logits_MV: Any = module(batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
    return summed_cross_entropy(logits_MV, batch.labels) / batch.masked_count


def whole_head(module: PackedMaskedLM, batch: MicroBatch) -> Tensor:
    """Ask for every position, as BERT's own forward does."""
    everywhere = Asked(torch.arange(len(batch.input_ids)), batch.lengths)
    labels = torch.full_like(batch.input_ids, IGNORED_LABEL)
    real = batch.labels != IGNORED_LABEL
    labels[batch.asked.positions[real]] = batch.labels[real]
    logits_MV: Any = module(batch.input_ids, batch.position_ids, batch.lengths, everywhere)
    return summed_cross_entropy(logits_MV, labels) / batch.masked_count


def whole_last_layer(module: PackedMaskedLM, batch: MicroBatch) -> Tensor:
    """Compute the last layer everywhere and pick the masked positions behind it."""
    narrowed = module._encode

    def encode(input_ids: Tensor, position_ids: Tensor, lengths: list[int], asked: Asked) -> Tensor:
        everywhere = Asked(torch.arange(len(input_ids)), lengths)
        return narrowed(input_ids, position_ids, lengths, everywhere)[asked.positions]

    with mock.patch.object(module, "_encode", encode):
        return ours(module, batch)


def fused_attention(module: PackedMaskedLM, batch: MicroBatch) -> Tensor:
    """Attend by torch's fused kernel, one call a sequence."""

    def sdpa(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], asked: list[int], *rest: Any) -> Tensor:
        scaling, dropout, _ = rest
        sizes = ((query, asked), (key, lengths), (value, lengths))
        parts = zip(*(torch.split(tensor, size, dim=2) for tensor, size in sizes), strict=True)
        outputs = [F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling) for q, k, v in parts]
        return torch.cat([output.transpose(1, 2) for output in outputs], dim=1)

    with mock.patch.object(attention, "matrix_attention", sdpa):
        return ours(module, batch)


def plain_loss(module: PackedMaskedLM, batch: MicroBatch) -> Tensor:
    """Take torch's cross entropy over fp32 logits."""
    logits_MV: Any = module(batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
    return F.cross_entropy(logits_MV.float(), batch.labels, ignore_index=IGNORED_LABEL)


TECHNIQUES: dict[str, Loss] = {
    "masked-only head and last layer": whole_head,
    "last layer on masked positions only": whole_last_layer,
    "attention by matrix products": fused_attention,
    "cross entropy kept in bf16": plain_loss,
}


class Bench:
    """A model in training, and its micro-batches."""

    def __init__(self, corpus: Path, model: str) -> None:
        keep_freed_memory()
        self.recipe = build_recipe(corpus, 1e-5, 1, rows=8)
        tokenizer = load_tokenizer(ModelSource(str(corpus / "tokenizer"), is_local=True))
        self._masked_lm = load_model(model, corpus / "tokenizer", attention.PACKED_ATTENTION).train()
        self._packer = build_packer(TokenShards(corpus, "train"), tokenizer, self.recipe)
        self._masker = build_masker(tokenizer, 0)
        size = self.recipe.micro_batch_tokens
        self._planner = StepPlanner(self._packer.sequence_lengths, micro_batches=1, micro_batch_tokens=size, seed=0)
        self._optimizer = build_optimizer(self._masked_lm, self.recipe)
        self._in = {dtype: PackedMaskedLM(self._masked_lm, autocast_dtype=dtype) for dtype in (torch.bfloat16, None)}

    def batch(self) -> MicroBatch:
        """Return the next micro-batch."""
        packed = self._packer.pack(self._planner.next_step()[0], self.recipe.micro_batch_tokens)
        return to_device(packed, self._masker.mask(packed, 0.15), torch.device("cpu"))

    def cpu_seconds(self, loss: Loss, batch: MicroBatch, *, bf16: bool = True, dropout: float = 0.0) -> float:
        """Do one optimizer step and return the CPU time it took."""
        set_dropout(self._masked_lm, dropout)
        started = time.process_time()
        torch.autograd.backward(loss(self._in[torch.bfloat16 if bf16 else None], batch))
        self._optimizer.step()
        self._optimizer.zero_grad()
        return time.process_time() - started


def measure(corpus: Path, model: str, rounds: int) -> dict[str, float]:
    """Return the median gain of each technique."""
    bench = Bench(corpus, model)
    variants: dict[str, dict[str, Any]] = {name: {"loss": loss} for name, loss in TECHNIQUES.items()}
    variants["bf16"] = {"loss": ours, "bf16": False}
    variants["no dropout, over 0.1"] = {"loss": ours, "dropout": 0.1}
    gains: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        batch = bench.batch()
        for name, settings in variants.items():
            plain = bench.cpu_seconds(**settings, batch=batch)
            gain = plain / bench.cpu_seconds(ours, batch)
            if number > 0:  # the first round builds kernels
                gains[name].append(gain)
    return {name: statistics.median(found) for name, found in gains.items()}


def masking_milliseconds(corpus: Path, calls: int = 40) -> dict[str, float]:
    """Return the median CPU time of masking a micro-batch of 16,384 tokens, by kind."""
    recipe = build_recipe(corpus, 1e-5, 1, rows=32)
    tokenizer = load_tokenizer(ModelSource(str(corpus / "tokenizer"), is_local=True))
    packer = build_packer(TokenShards(corpus, "train"), tokenizer, recipe)
    size = recipe.micro_batch_tokens
    planner = StepPlanner(packer.sequence_lengths, micro_batches=1, micro_batch_tokens=size, seed=0)
    packed = packer.pack(planner.next_step()[0], size)
    medians = {}
    for kind in get_args(MaskingKind):
        masker, seconds = build_masker(tokenizer, 0, kind), []
        for _ in range(calls + 1):
            started = time.process_time()
            masker.mask(packed, 0.15)
            seconds.append(time.process_time() - started)
        medians[kind] = statistics.median(seconds[1:]) * 1e3
    return medians


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrain_techniques")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of each pair")
    parser.add_argument("--model", default="package:minilm", help="a model, or bert-base for random weights")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "benchmarks", help="where the corpus is kept")
    options = parser.parse_args(arguments)
    corpus = build_corpus(options.work_dir)
    masking = masking_milliseconds(corpus)
    gains = measure(corpus, options.model, options.rounds)
    result = {"model": options.model, "threads": torch.get_num_threads(), "masking_ms": masking, "gains": gains}
    lines = [f"masking, {kind}: {milliseconds:.2f} ms" for kind, milliseconds in masking.items()]
    lines += [f"{name}: {gain:.2f}x" for name, gain in gains.items()]
    print(json.dumps(result, indent=2) if options.json else "\n".join(lines))


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
