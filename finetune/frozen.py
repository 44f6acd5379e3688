"""The frozen-encoder baseline: logistic regression on the mean of an encoder's last hidden states.

What fine-tuning adds is measured against this, not against nothing.

N = texts, H = hidden size, L = labels.
"""

from typing import Any

import numpy as np
import torch

from configs.base_models import ModelSource
from finetune.batches import collate, inference_batches
from finetune.heads import attention_implementation, load_tokenizer, longest_sequence, quiet_transformers
from finetune.linear_models import best_regression
from finetune.long_texts import TextEncoder
from finetune.tasks import FloatArray, Task

BATCH_TOKENS = 8192


def frozen_encoder_regression(task: Task, source: ModelSource, *, max_seq_length: int, seed: int) -> dict[str, Any]:
    """Score logistic regression on frozen features, per split; C and class weights chosen on validation."""
    features = {
        split: mean_states(task.texts(split), source, max_seq_length=max_seq_length)
        for split in ("train", "validation", "test")
    }
    scale_H = features["train"].std(axis=0) + 1e-6
    centre_H = features["train"].mean(axis=0)
    scaled = {split: (values - centre_H) / scale_H for split, values in features.items()}
    return best_regression(scaled, task, strengths=(0.001, 0.01, 0.1), seed=seed, description="frozen encoder")


def mean_states(texts: list[str], source: ModelSource, *, max_seq_length: int) -> FloatArray:
    """Return the mean last hidden state (N, H) of each text."""
    from transformers import AutoModel

    with quiet_transformers():
        model = AutoModel.from_pretrained(
            source.name_or_path, attn_implementation=attention_implementation(), **source.load_arguments
        ).eval()
    length = longest_sequence(model.config, max_seq_length)
    encoder = TextEncoder(load_tokenizer(source, length), max_seq_length=length, policy="head_tail")
    encoded = encoder.encode(texts)
    means_NH = np.zeros((len(texts), model.config.hidden_size))
    fast = torch.cpu._is_avx512_bf16_supported()  # the format that fine-tuning has there, too
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
        for indices in inference_batches(encoded.lengths, batch_tokens=BATCH_TOKENS):
            batch = collate(encoded, indices, encoder.pad_token_id)
            mask_BT = batch["attention_mask"]
            hidden_BTH = model(input_ids=batch["input_ids"], attention_mask=mask_BT).last_hidden_state.float()
            sums_BH = (hidden_BTH * mask_BT[..., None]).sum(dim=1)
            means_NH[indices] = (sums_BH / mask_BT.sum(dim=1, keepdim=True)).double().numpy()
    return means_NH
