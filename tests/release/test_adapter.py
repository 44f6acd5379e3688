"""A QLoRA adapter of `mindshift finetune` goes the whole way: audit, card, gate; and inherits its encoder's terms."""

import json

import numpy as np
import pytest
from tiny_release import WORDS, make_card, make_release, mindshift, save_encoder

from release.audits.classifier_model import load_classifier
from release.evidence import EVIDENCE_NAME, read_evidence

pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="module")
def encoder_template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide_template") / "model"
    save_encoder(folder, hidden=64)  # 4-bit layers come in blocks
    return folder


def write_task(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    (folder / "labels.json").write_text('{"type": "multi_class", "labels": ["no", "yes", "both"]}')
    for split, count in (("train", 240), ("validation", 30), ("test", 220)):
        rows = [
            {
                "id": f"{split}{i}",
                "text": " ".join(rng.choice(WORDS[5:], size=12)),
                "labels": [["no", "yes", "both"][rng.integers(3)]],
            }
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(params=["cls", pytest.param("mean", marks=pytest.mark.slow)])
def adapter(request, chain):
    """The chain's encoder released as chain/built, and a QLoRA adapter on it in chain/adapter/model."""
    assert make_card(chain) == 0
    assert make_release(chain) == 0
    task = write_task(chain / "task")
    options = {
        "task": task,
        "model": chain / "model",
        "output_dir": chain / "adapter" / "model",
        "adapter": "qlora",
        "head": request.param,
        "epochs": 1,
        "batch_size": 16,
        "max_seq_length": 32,
        "baselines": "false",
    }
    assert mindshift("finetune", *(word for key, value in options.items() for word in (f"--{key}", value))) == 0
    return chain / "adapter"


def audit(adapter, **more):
    words = {
        "model_dir": adapter / "model",
        "base_model": adapter.parent / "model",
        "data_dir": adapter.parent / "task",
        "output_dir": adapter / "audits",
        "bootstrap_samples": 1000,
    } | more
    return mindshift("release", "audit", *(word for key, value in words.items() for word in (f"--{key}", value)))


def test_an_adapter_is_audited_carded_and_built_under_its_encoders_terms(adapter):
    from finetune.inference import Classifier

    texts = ["the man has a kind illness", "people is safe"]
    model, tokenizer = load_classifier(adapter / "model")
    logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.detach().numpy()
    assert np.abs(logits).max() > 0
    assert np.allclose(logits, Classifier.load(adapter / "model").logits(texts), atol=1e-5)

    assert audit(adapter) == 0
    result = read_evidence(adapter / "audits" / EVIDENCE_NAME).audit("label_membership")
    assert result.status == "measured"
    assert 0.3 < result.measure("auc").estimate < 0.7

    parent = str(adapter.parent / "built")
    inherited = {"licence": "", "gate_prompt": "", "gate_fields": {}, "forbidden_uses": ["Scoring people."]}
    override = {
        "override_audits": ["label_membership"],
        "override_by": "T. Ester",
        "override_reason": "Too few texts in a test; nothing leaves this machine.",
    }
    assert make_card(adapter, parent_dir=parent, **inherited, **override) == 0
    assert make_release(adapter) == 0
    release = json.loads((adapter / "built" / "repository" / "release.json").read_text())
    assert release["restrictions"]["licence"] == "cc-by-nc-4.0"
    assert release["restrictions"]["gate"] == "manual"
    assert release["restrictions"]["forbidden_uses"] == ["Everything else.", "Scoring people."]
    published = {path.name for path in (adapter / "built" / "repository").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "adapter_base.json"} <= published
    for path in (adapter / "built" / "repository").rglob("*.json"):
        assert str(adapter.parent) not in path.read_text()


def test_an_adapter_on_another_base_is_not_audited(adapter, capsys):
    from safetensors.torch import load_file, save_file

    path = adapter.parent / "model" / "model.safetensors"
    weights = load_file(path)
    weights["bert.embeddings.word_embeddings.weight"] += 0.1
    save_file(weights, path, metadata={"format": "pt"})
    assert audit(adapter) == 2
    assert "changed since its manifest" in capsys.readouterr().err
    assert audit(adapter, accept_changed_inputs="true") == 2
    assert "trained on another base" in capsys.readouterr().err
