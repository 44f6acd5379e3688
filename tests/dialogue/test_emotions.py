"""The emotion figure: a classifier folder with a head of finetune's own answers as `mindshift predict` does."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from configs.errors import UserError
from dialogue.config import DialogueRecipe
from dialogue.evidence import load_emotions
from finetune.inference import Classifier
from launch.cli import main as mindshift

WORDS = {"joy": "glad", "sadness": "tears"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier of two synthetic emotions with the default head."""
    folder = tmp_path_factory.mktemp("emotions")
    encoder, task = folder / "encoder", folder / "task"
    encoder.mkdir()
    task.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "i", "see", *WORDS.values(), *"0123456789"]
    (encoder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(str(encoder / "vocab.txt")).save_pretrained(encoder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=32, **size)).save_pretrained(encoder)
    for split, count in (("train", 90), ("validation", 40), ("test", 20)):
        rows = []
        for number in range(count):
            label = list(WORDS)[number % 2]
            digits = " ".join(f"{split}{number}".encode().hex())
            rows.append({"id": f"{split}{number}", "text": f"i see {WORDS[label]} {digits}", "labels": [label]})
        (task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (task / "labels.json").write_text(json.dumps({"type": "multi_class", "labels": list(WORDS)}), encoding="utf-8")
    keys = {"task": task, "model": encoder, "output_dir": folder / "classifier", "epochs": 2, "learning_rate": 5e-3}
    keys |= {"baselines": "false", "mixed_precision": "no"}
    assert mindshift(["finetune", *(word for key, value in keys.items() for word in (f"--{key}", str(value)))]) == 0
    return folder / "classifier"


def recipe(tmp_path: Path, classifier: Path) -> DialogueRecipe:
    return DialogueRecipe(output_dir=tmp_path, conversations=["jsonl:x"], emotion_classifier=classifier)


def test_emotions_are_those_of_the_classifier(tmp_path: Path, classifier: Path) -> None:
    emotions = load_emotions(recipe(tmp_path, classifier))
    assert emotions is not None
    texts = ["i see glad glad", "i see\ntears", ""]
    probabilities = Classifier.load(classifier).predict([text or "-" for text in texts]).probabilities_NL
    found = emotions(texts)
    assert found == [list(WORDS)[row] for row in probabilities.argmax(axis=1)]
    assert found[:2] == ["joy", "sadness"]


def test_a_folder_without_a_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no classifier here"):
        load_emotions(recipe(tmp_path, tmp_path))
