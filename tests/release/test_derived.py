"""Classifiers and adapters go the same way and inherit the terms of the encoder they are built from."""

import json
import shutil

import numpy as np
import pytest
from tiny_release import finish, make_card, make_release, mindshift, save_encoder, write_evidence

from release.audits.label_membership import audit_label_membership
from release.inheritance import Restrictions, inherit, read_parent, restriction_reasons

FIELDS = {"Name": "text", "I agree": "checkbox"}


@pytest.fixture
def derived(chain, tmp_path):
    """The chain's encoder released as chain/built; a classifier on it, with its own chain, in chain/classifier."""
    assert make_card(chain) == 0
    assert make_release(chain) == 0
    return chain


def make_derived(chain, kind):
    """Write the folder of a classifier or adapter with its audits; returns its own little chain."""
    from safetensors.torch import save_file
    from transformers import BertConfig, BertForSequenceClassification

    own = chain / kind
    task = own / "task"
    task.mkdir(parents=True)
    (task / "labels.json").write_text('{"type": "binary", "labels": ["no", "yes"]}')
    folder = own / "model"
    if kind == "classifier":
        BertForSequenceClassification(BertConfig.from_pretrained(chain / "model")).save_pretrained(folder)
    else:
        import torch

        folder.mkdir()
        values = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": str(chain / "model")}
        (folder / "adapter_config.json").write_text(json.dumps(values))
        (folder / "adapter_base.json").write_text(json.dumps({"model": str(chain / "model"), "head": "cls"}))
        save_file({"lora_A": torch.ones(2, 2)}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(chain / "model" / name, folder / name)
    (folder / "decision.json").write_text('{"labels": ["no", "yes"]}')
    (folder / "metrics.json").write_text('{"test": {"macro_f1": 0.75}}')
    finish(folder, "finetune", {"model": chain / "model", "task": task})
    write_evidence(own / "audits", folder, task)
    return own


@pytest.mark.parametrize("kind", ["classifier", "adapter"])
def test_a_derived_model_inherits_licence_gate_and_forbidden_uses(derived, kind):
    own = make_derived(derived, kind)
    parent = str(derived / "built")
    assert write_card(own, parent) == 0
    assert make_release(own, "built", "--parent_dir", parent) == 0
    release = json.loads((own / "built" / "repository" / "release.json").read_text())
    terms = release["restrictions"]
    assert terms["licence"] == "cc-by-nc-4.0"
    assert terms["gate"] == "manual"
    assert terms["gate_fields"] == FIELDS
    assert terms["forbidden_uses"] == ["Everything else.", "Scoring people."]
    assert release["built_from"]["name"] == "tiny-mind"
    text = (own / "built" / "repository" / "README.md").read_text()
    assert "inherits its licence, its gate and its forbidden uses" in text
    assert "Everything else." in text
    assert str(derived) not in "".join(p.read_text() for p in (own / "built" / "repository").rglob("*.json"))


def write_card(own, parent, **changes):
    terms = {"licence": "", "gate_prompt": "", "gate_fields": {}, "forbidden_uses": ["Scoring people."]}
    return make_card(own, parent_dir=parent, **(terms | changes))


@pytest.mark.parametrize("kind", ["classifier", "adapter"])
def test_a_derived_model_does_not_go_without_its_encoders_release(derived, capsys, kind):
    own = make_derived(derived, kind)
    write_card(own, str(derived / "built"))
    assert make_release(own) == 2
    assert "the release of the encoder it is built from is not given" in capsys.readouterr().err


def test_a_weaker_licence_is_refused(derived, capsys):
    own = make_derived(derived, "classifier")
    write_card(own, str(derived / "built"), licence="mit")
    assert make_release(own, "built", "--parent_dir", derived / "built") == 2
    assert "the licence is mit, but tiny-mind is under cc-by-nc-4.0" in capsys.readouterr().err


def test_another_encoders_release_is_no_parent(derived, capsys):
    own = make_derived(derived, "classifier")
    path = own / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["model"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    shutil.rmtree(own / "audits")
    write_evidence(own / "audits", own / "model", own / "task")
    write_card(own, str(derived / "built"))
    assert make_release(own, "built", "--parent_dir", derived / "built") == 2
    assert "not built from tiny-mind" in capsys.readouterr().err


def test_a_downloaded_repository_is_a_parent_too(derived):
    assert read_parent(derived / "built") == read_parent(derived / "built" / "repository")


def test_terms_can_only_get_stricter(derived):
    parent = read_parent(derived / "built")
    own = Restrictions("", "manual", "", {"Phone": "text"}, ["Own."])
    joined = inherit(own, parent)
    assert restriction_reasons(joined, parent) == []
    assert joined.gate_fields == {**FIELDS, "Phone": "text"}
    weaker = Restrictions("mit", "auto", "", {}, [])
    assert len(restriction_reasons(weaker, parent)) == 4


def test_a_folder_without_a_release_is_no_parent(chain, capsys):
    assert make_card(chain, parent_dir=str(chain / "model")) == 2
    assert "no release here" in capsys.readouterr().err


# ---- the audit of a classifier ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Random labels on random texts: nothing can be learned, only remembered."""
    folder, rng = tmp_path_factory.mktemp("task"), np.random.default_rng(0)
    for split, count in (("train", 240), ("test", 240)):
        rows = [
            {
                "id": f"{split}{i}",
                "text": " ".join(f"w{n}" for n in rng.integers(40, size=8)),
                "labels": [["no", "yes"][rng.integers(2)]],
            }
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def fit_classifier(folder, task, epochs):
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(40))]
    save_encoder(folder, words=words)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = BertConfig.from_pretrained(folder, hidden_size=64, intermediate_size=128, hidden_dropout_prob=0.0)
    config.id2label = {0: "no", 1: "yes"}
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    rows = [json.loads(line) for line in (task / "train.jsonl").read_text().splitlines()]
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([["no", "yes"].index(row["labels"][0]) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def audited(folder, task):
    options = {"count": 2000, "max_tokens": 32, "batch_tokens": 1024, "samples": 200, "seed": 0}
    return audit_label_membership(folder, task, **options)


def test_a_classifier_that_learned_by_heart_is_found(tmp_path, task):
    fit_classifier(tmp_path / "model", task, epochs=120)
    result = audited(tmp_path / "model", task)
    assert result.measure("auc").low > 0.6
    assert result.counts == {"members": 240, "non_members": 240}


def test_a_classifier_that_learned_little_is_not(tmp_path, task):
    fit_classifier(tmp_path / "model", task, epochs=2)
    assert 0.4 < audited(tmp_path / "model", task).measure("auc").estimate < 0.6


def test_the_command_audits_a_classifier(derived, task, capsys):
    own = make_derived(derived, "classifier")
    shutil.rmtree(own / "audits")
    shutil.copytree(task, own / "task", dirs_exist_ok=True)
    (own / "model" / "manifest.json").unlink()
    finish(own / "model", "finetune", {"model": derived / "model", "task": own / "task"})
    words = ("--model_dir", own / "model", "--base_model", derived / "model", "--data_dir", own / "task")
    more = ("--output_dir", own / "audits", "--max_tokens", 32, "--bootstrap_samples", 200)
    assert mindshift("release", "audit", *words, *more) == 0
    assert "label_membership" in capsys.readouterr().out
