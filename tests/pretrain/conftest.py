"""Synthetic corpora and tiny random models: nothing here is anybody's words."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from configs.manifest import now, write_manifest
from configs.recipe import StageRecipe
from corpus.shards import TokenizedDocument, split_folder, write_shard
from pretrain.run_mlm import main
from pretrain.training_loop import PretrainingRun

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"word{number}" for number in range(180)]
PIECES = [f"##piece{number}" for number in range(15)]
VOCABULARY = SPECIAL_TOKENS + WORDS + PIECES
SUBREDDITS = ["garden", "kitchen", ""]


def build_tokenizer(extra_words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of 200 made-up words and pieces."""
    vocabulary = {token: number for number, token in enumerate([*VOCABULARY, *extra_words])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def build_byte_level_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of all bytes and some words, spelled as its vocabulary spells them."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces, merges = sorted(pre_tokenizers.ByteLevel.alphabet()), []
    for word in words:
        for end in range(2, len(word) + 1):  # letter by letter
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    vocabulary = {token: number for number, token in enumerate([*special, *pieces])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


def make_documents(count: int, seed: int, *, longest: int = 90) -> list[TokenizedDocument]:
    """Documents with a few frequent and many rare tokens, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    documents = []
    for number in range(count):
        length = int(rng.integers(3, longest))
        token_ids = np.minimum(rng.zipf(1.5, length), 195) + len(SPECIAL_TOKENS) - 1
        documents.append(
            TokenizedDocument(
                id=f"doc{seed}-{number}",
                token_ids=token_ids.tolist(),
                title_length=min(3, length),
                subreddit=SUBREDDITS[number % len(SUBREDDITS)],
            )
        )
    return documents


def write_corpus(folder: Path, *, documents: int = 120, first_seed: int = 0, extra_words: Sequence[str] = ()) -> Path:
    """Write a corpus folder with two train shards, one held-out shard, a tokenizer and a manifest."""
    for number in range(2):
        written = make_documents(documents // 2, first_seed + number)
        write_shard(split_folder(folder, "train"), number, written, len(VOCABULARY))
    write_shard(split_folder(folder, "held_out"), 0, make_documents(20, first_seed + 99), len(VOCABULARY))
    build_tokenizer(extra_words).save_pretrained(folder / "tokenizer")
    write_manifest(
        folder, stage="corpus", recipe=StageRecipe(output_dir=folder), inputs={}, counts={}, started_at=now()
    )
    return folder


@dataclasses.dataclass(frozen=True)
class Workspace:
    """A folder with a corpus and a model to adapt to it."""

    folder: Path
    corpus: Path
    model: Path

    def arguments(self, name: str = "run", **overrides: object) -> list[str]:
        """Command-line arguments of a small fp32 run; `overrides` are recipe keys."""
        values: dict[str, object] = {
            "output_dir": self.folder / name,
            "corpus": self.corpus,
            "model": self.model,
            "max_seq_length": 64,
            "micro_batch_size": 4,
            "max_steps": 6,
            "learning_rate": 1e-3,
            "mixed_precision": "no",
            "save_steps": 2,
            "logging_steps": 1,
            "report_to": "none",  # importing a tracker takes longer than the run
        }
        values |= overrides
        return [word for key, value in values.items() for word in (f"--{key}", str(value))]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Start the stage and end it at a step, as a kill would."""

    def run(arguments: list[str], *, at_step: int) -> None:
        train_step = PretrainingRun._train_step

        def die(self: PretrainingRun, learning_rate: float) -> tuple[float, bool]:
            if self.step == at_step:
                raise MemoryError("as good as a kill")
            return train_step(self, learning_rate)

        with monkeypatch.context() as patch:
            patch.setattr(PretrainingRun, "_train_step", die)
            with pytest.raises(MemoryError):
                main(arguments, "mindshift pretrain")

    return run


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that tests only read."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers with the corpus's tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, corpus_dir: Path, model_dir: Path) -> Workspace:
    """A place for runs over the shared corpus and model."""
    return Workspace(tmp_path, corpus_dir, model_dir)
