"""Fitting long texts, batching by length, pooling windows."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from finetune.batches import collate, epoch_order, forward, inference_batches, training_batches
from finetune.heads import longest_sequence
from finetune.long_texts import EncodedTexts, TextEncoder
from finetune.pooled_heads import PooledClassifierConfig
from finetune.training import automatic_epochs


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path):
    return AutoTokenizer.from_pretrained(tiny_encoder)


def words(count: int) -> str:
    return " ".join(["tired", "awake", "night", "boss", "office"][i % 5] for i in range(count))


@pytest.mark.parametrize("policy", ["head", "head_tail", "windows"])
def test_short_text_is_what_the_tokenizer_makes(tokenizer, policy: str) -> None:
    encoded = TextEncoder(tokenizer, max_seq_length=32, policy=policy).encode([words(5), ""])
    assert encoded.windows == [[tokenizer(words(5))["input_ids"]], [tokenizer("")["input_ids"]]]
    assert encoded.truncated == 0


def test_head_is_the_tokenizers_truncation(tokenizer) -> None:
    encoded = TextEncoder(tokenizer, max_seq_length=16, policy="head").encode([words(100)])
    assert encoded.windows == [[tokenizer(words(100), truncation=True, max_length=16)["input_ids"]]]
    assert encoded.truncated == 1


def test_head_tail_keeps_both_ends(tokenizer) -> None:
    ids = tokenizer(words(100), add_special_tokens=False)["input_ids"]
    (window,) = TextEncoder(tokenizer, max_seq_length=18, policy="head_tail").encode([words(100)]).windows[0]
    assert window == [tokenizer.cls_token_id, *ids[:4], *ids[-12:], tokenizer.sep_token_id]


@settings(max_examples=40)
@given(count=st.integers(0, 90), room=st.integers(1, 20), most=st.integers(1, 4))
def test_windows_cover_the_text_or_its_ends(tokenizer, count: int, room: int, most: int) -> None:
    ids = tokenizer(words(count), add_special_tokens=False)["input_ids"]
    encoder = TextEncoder(tokenizer, max_seq_length=room + 2, policy="windows", max_windows=most)
    encoded = encoder.encode([words(count)])
    windows = [window[1:-1] for window in encoded.windows[0]]
    assert 1 <= len(windows) <= most
    assert all(len(window) <= room for window in windows)
    if count <= room * most:
        assert encoded.truncated == 0
        covered = set()
        for number, window in enumerate(windows):
            start = 0 if len(windows) == 1 else round(number * (count - room) / (len(windows) - 1))
            assert window == ids[start : start + len(window)]
            covered |= set(range(start, start + len(window)))
        assert covered == set(range(count))
    else:
        assert encoded.truncated == 1
        assert room * most == 1 or windows[0][0] == ids[0]
        assert windows[-1][-1] == ids[-1]


def test_very_long_text(tokenizer) -> None:
    encoded = TextEncoder(tokenizer, max_seq_length=64, policy="windows", max_windows=3).encode(["night " * 17_000])
    assert [len(window) for window in encoded.windows[0]] == [64, 64, 64]


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), size=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_text_is_in_exactly_one_batch(lengths: list[int], size: int, seed: int) -> None:
    array, generator = np.array(lengths), np.random.default_rng(seed)
    batches = training_batches(generator.permutation(len(array)), array, batch_size=size, generator=generator)
    assert sorted(np.concatenate(batches)) == list(range(len(array)))
    assert max(map(len, batches)) <= size
    for_inference = list(inference_batches(array, batch_tokens=64))
    assert sorted(np.concatenate(for_inference)) == list(range(len(array)))
    assert all(len(batch) == 1 or len(batch) * array[batch].max() <= 64 for batch in for_inference)


def test_class_aware_sampling_repeats_only_rare_labels() -> None:
    targets = np.zeros((1000, 2))
    targets[:500, 0], targets[500:510, 1] = 1, 1
    order = epoch_order(targets, class_aware=True, generator=np.random.default_rng(0))
    counts = np.bincount(order, minlength=1000)
    assert (counts[:500] == 1).all()
    assert (counts[510:] == 1).all()
    assert counts[500:510].mean() == pytest.approx(np.sqrt(0.255 / 0.01), rel=0.15)


def test_windows_are_averaged_per_text() -> None:
    encoded = EncodedTexts([[[5, 6], [7]], [[8, 9, 10]], [[1], [2], [3]]], truncated=0)
    batch = collate(encoded, [2, 0, 1], pad_token_id=0)
    assert batch["input_ids"].shape == (6, 8)
    assert batch["owner"].tolist() == [0, 0, 0, 1, 1, 2]

    def model(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=(input_ids * attention_mask).sum(1, keepdim=True).float())

    assert forward(model, batch, 3).flatten().tolist() == [2.0, 9.0, 27.0]


def test_few_rows_and_many_labels_get_more_passes() -> None:
    assert [automatic_epochs(rows, 2) for rows in (0, 100, 600, 1500, 40_000)] == [15, 15, 6, 3, 3]
    assert [automatic_epochs(1500, labels) for labels in (2, 9, 28)] == [3, 4, 8]


@pytest.mark.parametrize(("own", "most"), [({}, 64), ({"model_type": "roberta", "pad_token_id": 1}, 62)])
def test_own_heads_keep_to_the_positions_of_their_encoder(own: dict[str, object], most: int) -> None:
    encoder = {"model_type": "bert", "max_position_embeddings": 64, "hidden_size": 32} | own
    config = PooledClassifierConfig(encoder=encoder, pooling="label_attention", num_labels=2)
    assert [longest_sequence(config, asked) for asked in (16, 256)] == [16, most]
