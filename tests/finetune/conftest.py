"""A tiny random encoder and small synthetic tasks: seconds to train, no person's words."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

FILLERS = ["i", "feel", "like", "this", "is", "how", "things", "have", "been", "going", "lately", "and", "nothing"]
CUES = {
    "sleep": ["tired", "awake", "night"],
    "work": ["boss", "office", "deadline"],
    "family": ["mother", "brother", "cousin"],
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT 2×64 with random weights and a word-level vocabulary, saved as a masked LM (no pooler)."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny_encoder"
    folder.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted({*FILLERS, *(w for cue in CUES.values() for w in cue)}),
    ]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def make_rows(kind: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Synthetic rows whose labels show in cue words."""
    generator = random.Random(seed)
    names = list(CUES)
    rows = []
    for number in range(count):
        if kind == "multi_label":
            labels = [name for name in names if generator.random() < 0.4]
        else:
            labels = [generator.choice(names if kind == "multi_class" else names[:2])]
        words = generator.choices(FILLERS, k=generator.randint(3, 30))
        words += [generator.choice(CUES[name]) for name in labels for _ in range(3)]
        generator.shuffle(words)
        rows.append({"id": f"{seed}-{number}", "text": " ".join(words), "labels": labels})
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a task folder of a kind (multi_label, multi_class, binary)."""

    def make(kind: str = "multi_label", *, rows: int = 96, name: str = "task") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for seed, (split, count) in enumerate({"train": rows, "validation": rows // 2, "test": rows // 2}.items()):
            write_jsonl(folder / f"{split}.jsonl", make_rows(kind, count, seed))
        names = list(CUES)[: 2 if kind == "binary" else 3]
        values: dict[str, Any] = {"type": kind, "labels": names}
        if kind == "binary":
            values["positive"] = names[1]
        (folder / "labels.json").write_text(json.dumps(values), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def small_run(tiny_encoder: Path) -> list[str]:
    """Arguments that make a run take a second or two."""
    return [
        "--model", str(tiny_encoder), "--epochs", "8", "--learning_rate", "2e-3", "--patience", "8",
        "--mixed_precision", "no", "--max_seq_length", "48",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A multi-label classifier folder."""
    from launch.cli import main

    folder = tmp_path_factory.mktemp("trained")
    for seed, split in enumerate(("train", "validation", "test")):
        write_jsonl(folder / f"{split}.jsonl", make_rows("multi_label", 64, seed))
    options = ["--model", str(tiny_encoder), "--epochs", "4", "--learning_rate", "3e-3", "--mixed_precision", "no"]
    assert main(["finetune", "--task", str(folder), "--output_dir", str(folder / "run"), *options]) == 0
    return folder / "run"
