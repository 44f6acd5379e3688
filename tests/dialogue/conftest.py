"""A tiny random decoder and synthetic conversations: seconds to train, no person's words."""

import json
import random
from pathlib import Path

import pytest
import torch

FEELINGS = {
    "joyful": ["party", "medal", "garden"],
    "afraid": ["storm", "exam", "spider"],
    "sad": ["rain", "loss", "tears"],
}
ANSWERS = {"joyful": "that sounds wonderful !", "afraid": "that must be scary .", "sad": "i am so sorry ."}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 2×32 with random weights and a byte-level vocabulary without merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny_decoder"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0} | {letter: number for number, letter in enumerate(letters, start=1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, bos_token=end).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=512, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def conversations_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty short synthetic conversations in the generic layout."""
    generator = random.Random(7)
    rows = []
    for number in range(60):
        feeling = generator.choice(list(FEELINGS))
        cue = generator.choice(FEELINGS[feeling])
        turns = [
            {"role": "user", "text": f"case {number} : the {cue} came today"},
            {"role": "assistant", "text": ANSWERS[feeling]},
            {"role": "user", "text": f"yes , the {cue}"},
            {"role": "assistant", "text": ANSWERS[feeling]},
        ]
        rows.append({"id": f"c{number}", "turns": turns, "emotion": feeling})
    path = tmp_path_factory.mktemp("data") / "conversations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
