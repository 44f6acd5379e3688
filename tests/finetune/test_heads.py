"""Heads are put on encoders whose top layers may start anew."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from configs.base_models import resolve_model
from configs.errors import UserError
from finetune.config import FinetuneRecipe
from finetune.heads import Head, build_classifier, load_classifier
from finetune.tasks import LabelSet, TaskType

LABELS = LabelSet(TaskType.BINARY, ("no", "yes"))


def layer_weights(model: torch.nn.Module) -> list[torch.Tensor]:
    """The query matrices of the layers."""
    return [weight for name, weight in model.named_parameters() if name.endswith("attention.self.query.weight")]


@pytest.mark.parametrize("head", ["mean", "cls", "label_attention"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_encoders_own_layers_start_anew(head: Head, count: int, tiny_encoder: Path) -> None:
    source = resolve_model(str(tiny_encoder))
    built = build_classifier(source, LABELS, head=head, hidden_dropout=0.0, reinitialized=count)
    before, after = layer_weights(AutoModelForMaskedLM.from_pretrained(tiny_encoder)), layer_weights(built)
    kept = [torch.equal(old, new) for old, new in zip(before, after, strict=False)]
    assert kept == [True] * (2 - count) + [False] * count
    if head == "mean":  # the layer on top is the pooling: it attends to all tokens alike, whatever starts anew
        assert len(after) == 3
        assert not built.bert.encoder.layer[2].attention.self.key.weight.any()


@pytest.mark.parametrize("head", ["mean", "label_attention"])
def test_more_layers_than_there_are_cannot_start_anew(head: Head, tiny_encoder: Path) -> None:
    with pytest.raises(UserError, match="the encoder has 2 layers; 3 cannot"):
        build_classifier(resolve_model(str(tiny_encoder)), LABELS, head=head, hidden_dropout=0.0, reinitialized=3)


def test_no_layers_start_anew_under_a_4_bit_adapter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reinitialize_layers is 1; allowed: 0 with adapter: qlora"):
        FinetuneRecipe(task="x", output_dir=tmp_path, adapter="qlora", reinitialize_layers=1)


def test_a_head_of_our_own_leaves_no_weights_untrained(tiny_encoder: Path) -> None:
    source = resolve_model(str(tiny_encoder))
    model = build_classifier(source, LABELS, head="label_attention", hidden_dropout=0.0)
    batch = torch.ones((2, 8), dtype=torch.int64)
    model(input_ids=batch, attention_mask=batch).logits.sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_a_classifier_that_was_saved_with_a_pooler_loads(tiny_encoder: Path, tmp_path: Path) -> None:
    model = build_classifier(resolve_model(str(tiny_encoder)), LABELS, head="label_attention", hidden_dropout=0.0)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    older = {"encoder.pooler.dense.weight": torch.ones(64, 64), "encoder.pooler.dense.bias": torch.ones(64)}
    save_file(weights | older, tmp_path / "model.safetensors", {"format": "pt"})
    batch = {name: torch.ones((2, 8), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    assert torch.equal(load_classifier(tmp_path)(**batch).logits, model.eval()(**batch).logits)
