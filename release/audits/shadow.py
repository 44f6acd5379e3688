"""A shadow model: the base adapted like the audited model, but on other people's words (held-out documents).

It knows the domain and none of the members, so what the audited model knows beyond it about a member is memory.
Plain masked-LM training (BERT, arXiv:1810.04805): 15 % of tokens, 80/10/10, AdamW, linear decay.

R = rows, T = tokens per row.
"""

import copy
from typing import Any

import numpy as np
import torch

from configs.console import Progress
from release.audits.language_model import MaskedScorer

MASK_SHARE = 0.15
WARMUP_SHARE = 0.1


def train_masked_model(
    model: Any,
    tokenizer: Any,
    texts: list[str],
    *,
    steps: int,
    learning_rate: float,
    rows: int = 16,
    max_tokens: int = 64,
    seed: int = 0,
    description: str = "shadow model",
) -> None:
    """Train `model` in place on texts drawn without replacement, epoch by epoch."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    encoded = [tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"] for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    warmup = max(1, int(WARMUP_SHARE * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
    )
    special, order = sorted(tokenizer.all_special_ids), np.empty(0, dtype=np.int64)
    model.train()
    with Progress(description=description, unit="steps", total=steps) as bar:
        for _ in range(steps):
            while len(order) < rows:
                order = np.concatenate([order, rng.permutation(len(encoded))])
            chosen, order = order[:rows], order[rows:]
            batch = corrupt([encoded[i] for i in chosen], tokenizer, special, rng)
            loss = model(**{key: value.to(model.device) for key, value in batch.items()}).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.advance(1, loss=f"{loss.item():.3f}")
    model.eval()


def corrupt(
    rows: list[list[int]], tokenizer: Any, special: list[int], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Return padded, masked (R, T) inputs with labels, -100 where nothing is asked."""
    length = max(len(row) for row in rows)
    ids_RT = np.full((len(rows), length), tokenizer.pad_token_id or 0)
    attention_RT = np.zeros((len(rows), length), dtype=np.int64)
    for number, row in enumerate(rows):
        ids_RT[number, : len(row)] = row
        attention_RT[number, : len(row)] = 1
    asked = (rng.random(ids_RT.shape) < MASK_SHARE) & (attention_RT == 1) & ~np.isin(ids_RT, special)
    labels_RT = np.where(asked, ids_RT, -100)
    fate = rng.random(ids_RT.shape)
    masked_RT = np.where(asked & (fate < 0.8), tokenizer.mask_token_id, ids_RT)
    masked_RT = np.where(asked & (fate >= 0.9), rng.integers(len(tokenizer), size=ids_RT.shape), masked_RT)
    arrays = {"input_ids": masked_RT, "attention_mask": attention_RT, "labels": labels_RT}
    return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


def train_shadow(
    base: MaskedScorer, texts: list[str], *, steps: int, learning_rate: float, max_tokens: int, seed: int
) -> MaskedScorer:
    """Return a copy of the base adapted on `texts`."""
    model = copy.deepcopy(base.model)
    train_masked_model(
        model, base.tokenizer, texts, steps=steps, learning_rate=learning_rate, max_tokens=max_tokens, seed=seed
    )
    return MaskedScorer(model, base.tokenizer, batch_tokens=base.batch_tokens)
