"""Tune the encoder's upper layers: `python -m dialogue.safety.train_encoder --cases TABLE ... [--ordinary FILE ...]`.

The lower layers stay as they are, so their output is computed once; the upper ones and a linear head over the mean of
the tokens learn the cases, a few expansions of the grammar's templates, and ordinary talk. Only tuned weights are
written; no text is. Minutes on one core; the same inputs, seed and machine write the same weights.

N = texts, T = tokens, H = hidden width, C = labels.
"""

import copy
import logging
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.base_models import resolve_model
from configs.console import start_console
from configs.errors import run_program
from dialogue.safety.cases import read_cases
from dialogue.safety.classifier import LABELS
from dialogue.safety.encoder import BASE_MODEL, ENCODER_FILE, MAXIMUM_TOKENS, TUNED_LAYERS, quantized
from dialogue.safety.grammar import TRAINING_CASES_DIR, training_cases
from dialogue.safety.spelling import plain_words
from dialogue.safety.train import LABEL_OF_CATEGORY, Row, case_rows, ordinary_rows, parse_options

LOG = logging.getLogger(__name__)
EPOCHS, BATCH_SIZE, WARMUP_STEPS = 4, 32, 50
LAYER_RATE, HEAD_RATE, WEIGHT_DECAY, DROPOUT = 2e-4, 2e-3, 0.01, 0.2
CASES_PER_TEMPLATE, GRAMMAR_WEIGHT = 3, 0.5
ORDINARY_CASES_PER_TEMPLATE, ORDINARY_SAMPLE, ORDINARY_TEXTS, ORDINARY_WEIGHT = 8, 2000, 1500, 0.4


def training_rows(cases: Sequence[Path], ordinary: Sequence[Path], seed: int) -> list[Row]:
    """Return what the encoder learns from."""
    rows = [row for path in cases for row in case_rows(read_cases(path))]
    exceptions = {"ordinary": ORDINARY_CASES_PER_TEMPLATE}
    for case in training_cases(TRAINING_CASES_DIR, CASES_PER_TEMPLATE, seed, exceptions):
        rows.append(Row(plain_words(case.text), LABEL_OF_CATEGORY[case.category], GRAMMAR_WEIGHT))
    for path in ordinary:
        rows += [
            row._replace(weight=ORDINARY_WEIGHT) for row in ordinary_rows(path, seed, ORDINARY_SAMPLE)[:ORDINARY_TEXTS]
        ]
    return rows


def lower_states(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """Return what enters the tuned layers: for each text (T, H), half precision, without padding."""
    import torch

    states: list[Any] = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            batch = tokenizer(
                [texts[index] for index in chosen],
                padding=True, truncation=True, max_length=MAXIMUM_TOKENS, return_tensors="pt",
            )  # fmt: skip
            hidden = model(**batch, output_hidden_states=True).hidden_states[-1 - TUNED_LAYERS]
            for index, length, rows in zip(chosen, batch["attention_mask"].sum(1).tolist(), hidden, strict=True):
                states[index] = rows[:length].half().clone()
    return states


def logits(layers: Any, head: Any, states: Sequence[Any], *, dropout: float = 0.0) -> Any:
    """Return (N, C) logits of texts whose lower states are given."""
    import torch

    hidden = torch.nn.utils.rnn.pad_sequence([rows.float() for rows in states], batch_first=True)  # (N, T, H)
    lengths = torch.tensor([len(rows) for rows in states])
    mask = (torch.arange(hidden.shape[1]) < lengths[:, None]).float()  # (N, T)
    hidden = through_layers(layers, hidden, mask)
    pooled = (hidden * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(-1)
    return head(torch.nn.functional.dropout(pooled, dropout, training=dropout > 0))


def through_layers(layers: Any, hidden: Any, mask: Any) -> Any:
    """Return (N, T, H) after the layers; padding is not attended to."""
    import torch

    hidden_mask = (1 - mask[:, None, None, :]) * torch.finfo(hidden.dtype).min
    for layer in layers:
        output = layer(hidden, attention_mask=hidden_mask)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


def batches(lengths: Sequence[int], generator: random.Random) -> list[list[int]]:
    """Return one epoch's batches: shuffled, and of like lengths inside a batch."""
    order = list(range(len(lengths)))
    generator.shuffle(order)
    chunks = [order[start : start + 20 * BATCH_SIZE] for start in range(0, len(order), 20 * BATCH_SIZE)]
    chunks = [sorted(chunk, key=lambda index: lengths[index]) for chunk in chunks]
    found = [chunk[start : start + BATCH_SIZE] for chunk in chunks for start in range(0, len(chunk), BATCH_SIZE)]
    generator.shuffle(found)
    return found


def tune(rows: Sequence[Row], seed: int, epochs: int = EPOCHS) -> dict[str, Any]:
    """Tune layers and head; returns their weights by name."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(seed)
    source = resolve_model(BASE_MODEL)
    model = AutoModel.from_pretrained(source.name_or_path, attn_implementation="eager", **source.load_arguments).eval()
    tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
    states = lower_states(model, tokenizer, [row.plain for row in rows])
    layers, head = copy.deepcopy(model.encoder.layer[-TUNED_LAYERS:]), torch.nn.Linear(states[0].shape[1], len(LABELS))
    labels = torch.tensor([LABELS.index(row.label) for row in rows])
    weights = torch.tensor([row.weight for row in rows])
    groups = [{"params": layers.parameters(), "lr": LAYER_RATE}, {"params": head.parameters(), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(rows) / BATCH_SIZE) + 1
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS) * max(0.0, 1 - step / steps)
    )
    generator = random.Random(seed)
    layers.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in batches([len(rows_) for rows_ in states], generator):
            scores = logits(layers, head, [states[index] for index in batch], dropout=DROPOUT)
            losses = torch.nn.functional.cross_entropy(scores, labels[batch], reduction="none") * weights[batch]
            optimizer.zero_grad()
            (losses.sum() / weights[batch].sum()).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(layers.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(losses.detach().sum())
        LOG.info("epoch %d of %d: loss %.4f", epoch + 1, epochs, total / float(weights.sum()))
    tuned = {**layers.state_dict(), **{f"head.{name}": values for name, values in head.state_dict().items()}}
    return {name: values.numpy() for name, values in tuned.items()}


def main(arguments: Sequence[str], program: str) -> None:
    """Tune from the command line."""
    options = parse_options(arguments, program, description=__doc__, output=ENCODER_FILE)
    rows = training_rows(options.cases, options.ordinary, options.seed)
    arrays: dict[str, Any] = quantized(tune(rows, options.seed))
    with options.output.open("wb") as file:
        np.savez_compressed(file, **arrays)
    LOG.info("%d rows, %.2f MB: %s", len(rows), options.output.stat().st_size / 1e6, options.output)


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "python -m dialogue.safety.train_encoder")))
