"""Classifiers and adapters go the same way and inherit the terms of the encoder they are built from."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from tiny_release import WORDS, finish, make_card, make_release, mindshift, save_encoder, write_evidence

from configs.errors import UserError
from configs.manifest import read_manifest, sha256_file
from release.audits import label_membership
from release.audits.classifier_model import TextReader
from release.audits.label_membership import LabelNames, audit_label_membership, label_name, rows_trained_on
from release.card_rules import split_card
from release.evidence import EVIDENCE_NAME, read_evidence
from release.inheritance import Restrictions, inherit, read_parent, restriction_reasons
from release.model_card import METRIC_ROWS, read_metrics
from release.override import NO_OVERRIDE, EarlierOverride, override_reasons

LONG_TEXTS = {"max_seq_length": 32, "policy": "head_tail", "max_windows": 4}
FIELDS = {"Name": "text", "I agree": "checkbox"}


def figures(f1):
    """Return what `finetune.metrics.score` does, every figure with a value of its own."""
    labels = {"no": {"precision": f1 + 0.01, "recall": f1 + 0.02, "f1": f1 + 0.03, "support": 9, "roc_auc": None}}
    labels["yes"] = labels["no"] | {"f1": f1 + 0.04}
    averages = {name: {"precision": f1, "recall": f1, "f1": f1} for name in ("micro", "macro", "weighted")}
    return {"rows": 20, "per_label": labels} | averages | {"accuracy": f1, "positive": {"label": "yes", "f1": f1}}


TUNED = {"macro_f1_at_default_thresholds": 0.1, "expected_calibration_error": 0.05}
METRICS = {
    "validation": {"classifier": figures(0.9) | TUNED, "majority": figures(0.3)},
    "test": {
        "classifier": figures(0.7) | TUNED | {"intervals": {"macro_f1": [0.7, 0.65, 0.75]}},
        "majority": figures(0.2),
        "tfidf_logistic_regression": figures(0.6),
    },
    "training": [{"epoch": 1, "train_loss": 0.5}],
    "task": {"name": "made up", "rows": {"train": 100, "validation": 20, "test": 20}, "labels": ["no", "yes"]},
    "augmentation": {},
}
"""The layout of `finetune.evaluation`."""


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
        config = BertConfig.from_pretrained(chain / "model", id2label={0: "no", 1: "yes"})
        BertForSequenceClassification(config).save_pretrained(folder)
    else:
        import torch

        folder.mkdir()
        values = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": str(chain / "model")}
        (folder / "adapter_config.json").write_text(json.dumps(values))
        (folder / "adapter_base.json").write_text(json.dumps({"model": str(chain / "model"), "head": "cls"}))
        save_file({"lora_A": torch.ones(2, 2)}, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(chain / "model" / name, folder / name)
    (folder / "decision.json").write_text(json.dumps({"labels": ["no", "yes"], "long_texts": LONG_TEXTS}))
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    finish(folder, "finetune", {"model": chain / "model", "task": task})
    write_evidence(own / "audits", folder, task)
    return own


@pytest.mark.parametrize("kind", ["classifier", "adapter"])
def test_a_derived_model_inherits_licence_gate_and_forbidden_uses(derived, kind):
    own = make_derived(derived, kind)
    parent = str(derived / "built")
    assert write_card(own, parent) == 0
    assert make_release(own) == 0
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


def test_the_card_of_a_classifier_shows_its_test_figures_overall_ones_first(derived):
    own = make_derived(derived, "classifier")
    metrics = read_metrics(own / "model")
    names = list(metrics)
    assert all(name.startswith("test.") for name in names)
    assert metrics["test.classifier.macro.f1"] == 0.7
    assert metrics["test.classifier.positive.f1"] == 0.7
    assert metrics["test.classifier.intervals.macro_f1.low"] == 0.65
    assert metrics["test.classifier.intervals.macro_f1.high"] == 0.75
    assert metrics["test.tfidf_logistic_regression.macro.f1"] == 0.6
    assert metrics["test.majority.accuracy"] == 0.2
    assert names[-2:] == ["test.classifier.per_label.no.f1", "test.classifier.per_label.yes.f1"]
    assert sum("per_label" in name for name in names) == 2
    assert write_card(own, str(derived / "built")) == 0
    text = (own / "card" / "README.md").read_text()
    assert "| test.classifier.macro.f1 | 0.7 |" in text
    assert "validation." not in text


@pytest.mark.parametrize("labels", [28, 300])
def test_a_card_of_many_labels_keeps_the_overall_figures(tmp_path, labels):
    test = json.loads(json.dumps(METRICS["test"]))
    for found in test.values():
        found["per_label"] = {f"label{n}": found["per_label"]["yes"] for n in range(labels)}
    (tmp_path / "metrics.json").write_text(json.dumps({"test": test}))
    names = list(read_metrics(tmp_path))
    assert len(names) <= METRIC_ROWS
    assert {f"test.{system}.macro.f1" for system in test} <= set(names)
    assert "test.classifier.per_label.label27.f1" in names


def write_card(own, parent, **changes):
    terms = {"licence": "", "gate_prompt": "", "gate_fields": {}, "forbidden_uses": ["Scoring people."]}
    return make_card(own, parent_dir=parent, **(terms | changes))


def test_an_override_follows_into_what_is_built_from_the_model(chain, capsys):
    reason = "The board saw that no corpus has canaries, and accepts it."
    override = {"override_audits": ["canary_exposure"], "override_reason": reason, "override_by": "Dr. B. Board"}
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus", change=lambda results: results[1:])
    assert make_card(chain, **override) == 0
    assert make_release(chain) == 0
    expected = [EarlierOverride("tiny-mind 1.0.0", ["canary_exposure"], reason, "Dr. B. Board")]
    assert read_parent(chain / "built").overrides == expected

    own, parent = make_derived(chain, "classifier"), str(chain / "built")
    assert write_card(own, parent) == 0
    path = own / "card" / "README.md"
    card = path.read_text()
    assert "built from tiny-mind 1.0.0, which\n> was released in spite of canary_exposure, overridden by Dr. B." in card
    assert "Released in spite of its audits" not in card
    assert make_release(own) == 0
    assert read_parent(own / "built").overrides == expected  # and on into what is built from that

    path.write_text(card.replace(reason, ""))
    manifest = json.loads((own / "card" / "manifest.json").read_text())
    manifest["outputs"]["README.md"] = {"sha256": sha256_file(path), "size_bytes": path.stat().st_size}
    (own / "card" / "manifest.json").write_text(json.dumps(manifest))
    assert make_release(own, "silent") == 2
    assert "the override of tiny-mind 1.0.0, which it is built from, is not shown" in capsys.readouterr().err


def test_a_push_wants_the_overrides_of_earlier_releases_in_the_card():
    earlier = EarlierOverride("tiny-mind 1.0.0", ["honest"], "Because of this and that.", "Dr. B. Board")
    told = "tiny-mind 1.0.0, overridden by Dr. B. Board: Because of this and that."
    assert override_reasons(NO_OVERRIDE, [earlier], told) == []
    for word in ("tiny-mind", "Board", "that."):
        assert len(override_reasons(NO_OVERRIDE, [earlier], told.replace(word, ""))) == 1


@pytest.mark.parametrize("kind", ["classifier", "adapter"])
def test_a_derived_model_does_not_go_without_its_encoders_release(derived, capsys, kind):
    own = make_derived(derived, kind)
    make_card(own)
    assert make_release(own) == 2
    assert "the release of the encoder it is built from is not given" in capsys.readouterr().err


def test_a_weaker_licence_is_refused(derived, capsys):
    own = make_derived(derived, "classifier")
    write_card(own, str(derived / "built"), licence="mit")
    assert make_release(own) == 2
    assert "the licence is mit, but tiny-mind is under cc-by-nc-4.0" in capsys.readouterr().err


def release_under_own_licence(chain, text="Share nothing."):
    """Release the chain's encoder under a licence of its own; returns the release."""
    (chain / "terms.txt").write_text(text)
    licence = {"licence": "other", "licence_name": "House licence", "licence_file": str(chain / "terms.txt")}
    assert make_card(chain, **licence) == 0
    assert make_release(chain) == 0
    return chain / "built"


def test_an_inherited_licence_brings_its_name_and_text(chain):
    parent = str(release_under_own_licence(chain))
    own = make_derived(chain, "classifier")
    assert write_card(own, parent) == 0
    metadata, _ = split_card((own / "card" / "README.md").read_text())
    assert (metadata["license"], metadata["license_name"]) == ("other", "House licence")
    assert metadata["license_link"] == "LICENSE.txt"
    assert make_release(own) == 0
    assert (own / "built" / "repository" / "LICENSE.txt").read_text() == "Share nothing."
    assert read_parent(own / "built").restrictions.licence_sha256 == sha256_file(chain / "terms.txt")


def test_another_text_under_the_same_word_is_another_licence(chain, capsys):
    parent = str(release_under_own_licence(chain))
    own = make_derived(chain, "classifier")
    (chain / "weaker.txt").write_text("Share everything.")
    weaker = {"licence": "other", "licence_name": "House licence", "licence_file": str(chain / "weaker.txt")}
    assert write_card(own, parent, **weaker) == 0
    assert make_release(own) == 2
    assert "the licence has another name or text than that of tiny-mind" in capsys.readouterr().err


def test_a_release_of_before_licences_were_hashed_has_that_of_its_file(chain):
    release = release_under_own_licence(chain) / "repository" / "release.json"
    values = json.loads(release.read_text())
    del values["restrictions"]["licence_name"], values["restrictions"]["licence_sha256"]
    release.write_text(json.dumps(values))
    parent = read_parent(chain / "built")
    assert parent.restrictions.licence_sha256 == sha256_file(chain / "terms.txt")
    assert restriction_reasons(inherit(Restrictions("", "manual", "", {}, []), parent), parent) == []


def test_a_parent_whose_files_have_changed_is_refused(derived, capsys):
    own = make_derived(derived, "classifier")
    repository = derived / "built" / "repository"
    values = json.loads((repository / "config.json").read_text()) | {"more": 1}
    (repository / "config.json").write_text(json.dumps(values))
    assert write_card(own, str(derived / "built")) == 2
    assert "config.json has changed" in capsys.readouterr().err


def test_a_parent_that_another_key_signed_is_refused(signed, capsys):
    from release.signing import create_key_pair

    own, parent, keys = make_derived(signed, "classifier"), str(signed / "built"), signed / "keys"
    assert write_card(own, parent) == 0
    assert "the signature of tiny-mind was NOT checked" in capsys.readouterr().out
    shutil.rmtree(own / "card")
    assert write_card(own, parent, parent_public_key=str(create_key_pair(keys / "other.pem"))) == 2
    assert "the signature does not hold" in capsys.readouterr().err
    assert write_card(own, parent, parent_public_key=str(keys / "key.pem.pub")) == 0
    assert make_release(own) == 0


def test_a_release_is_built_with_the_parent_that_its_card_was_written_with(derived, capsys):
    own = make_derived(derived, "classifier")
    parent = shutil.copytree(derived / "built" / "repository", derived / "download")
    assert write_card(own, str(parent)) == 0
    values = json.loads((parent / "release.json").read_text())
    values["restrictions"]["forbidden_uses"] = []
    (parent / "release.json").write_text(json.dumps(values))
    assert make_release(own) == 2
    assert "the card was written for another release of its parent" in capsys.readouterr().err


def test_a_released_adapter_names_a_base_that_can_be_loaded(derived, capsys):
    own, parent = make_derived(derived, "adapter"), str(derived / "built")
    assert write_card(own, parent, base_model="tiny-mind") == 2
    assert "OWNER/NAME" in capsys.readouterr().err
    assert write_card(own, parent) == 0
    assert make_release(own) == 0
    repository = own / "built" / "repository"
    assert json.loads((repository / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/tiny-mind"
    assert json.loads((repository / "adapter_base.json").read_text())["model"] == "owner/tiny-mind"


def test_another_encoders_release_is_no_parent(derived, capsys):
    own = make_derived(derived, "classifier")
    path = own / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["model"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    shutil.rmtree(own / "audits")
    write_evidence(own / "audits", own / "model", own / "task")
    write_card(own, str(derived / "built"))
    assert make_release(own) == 2
    assert "not built from tiny-mind" in capsys.readouterr().err


def test_a_downloaded_repository_is_a_parent_too(derived):
    assert read_parent(derived / "built") == read_parent(derived / "built" / "repository")


def test_terms_can_only_get_stricter(derived):
    parent = read_parent(derived / "built")
    own = Restrictions("", "manual", "", {"Phone": "text"}, ["Own."])
    joined = inherit(own, parent)
    assert restriction_reasons(joined, parent) == []
    assert joined.gate_fields == {**FIELDS, "Phone": "text"}
    assert (
        inherit(Restrictions("", "manual", "More.", {}, []), parent).gate_prompt == "You agree to test only.\n\nMore."
    )
    weaker = Restrictions("mit", "auto", "", {}, [])
    assert len(restriction_reasons(weaker, parent)) == 5
    other_type = inherit(Restrictions("", "manual", "", {"I agree": "text"}, []), parent)
    (reason,) = restriction_reasons(other_type, parent)
    assert "other types than tiny-mind's: I agree" in reason
    (reason,) = restriction_reasons(dataclasses.replace(joined, gate_prompt="Take it."), parent)
    assert "gate_prompt" in reason


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
    (folder / "decision.json").write_text(json.dumps({"labels": ["no", "yes"], "long_texts": LONG_TEXTS}))


def audited(folder, task, trained_rows=240):
    options = {"count": 2000, "batch_tokens": 1024, "samples": 200, "seed": 0}
    return audit_label_membership(folder, task, trained_rows=trained_rows, **options)


def test_a_classifier_that_learned_by_heart_is_found(tmp_path, task):
    fit_classifier(tmp_path / "model", task, epochs=120)
    result = audited(tmp_path / "model", task)
    assert result.measure("auc").low > 0.6
    assert result.counts == {"members": 240, "non_members": 240}


def test_a_classifier_that_learned_little_is_not(tmp_path, task):
    fit_classifier(tmp_path / "model", task, epochs=2)
    assert 0.4 < audited(tmp_path / "model", task).measure("auc").estimate < 0.6


@pytest.mark.parametrize("policy", ["head", "head_tail", "windows"])
@pytest.mark.parametrize("max_windows", [1, 3])
def test_texts_are_cut_as_in_fine_tuning(tmp_path, policy, max_windows):
    from transformers import AutoTokenizer

    from finetune.long_texts import TextEncoder

    save_encoder(tmp_path)
    tokenizer, stated = AutoTokenizer.from_pretrained(tmp_path), {"policy": policy, "max_windows": max_windows}
    stated["max_seq_length"] = 9
    (tmp_path / "decision.json").write_text(json.dumps({"long_texts": stated}))
    texts = [" ".join(WORDS[5 + i % 11] for i in range(count)) for count in (0, 1, 7, 8, 15, 40)]
    reader = TextReader.of(tmp_path, tokenizer)
    assert [reader.windows(text) for text in texts] == TextEncoder(tokenizer, **stated).encode(texts).windows


def test_a_classifier_that_does_not_say_how_it_reads_is_refused(tmp_path):
    (tmp_path / "decision.json").write_text("{}")
    with pytest.raises(UserError, match="does not say how long texts were cut"):
        TextReader.of(tmp_path, None)


def test_what_was_learned_by_heart_from_the_ends_of_long_texts_is_found(tmp_path, task):
    """The beginnings are all alike: an attack that reads them alone sees nothing."""
    for name, words in (("long", 60), ("cut", 3)):  # of 13 tokens, three are of the head and eight of the tail
        (tmp_path / name).mkdir()
        for split in ("train", "test"):
            rows = [json.loads(line) for line in (task / f"{split}.jsonl").read_text().splitlines()]
            rows = [row | {"text": "w0 " * words + row["text"]} for row in rows]
            (tmp_path / name / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    fit_classifier(tmp_path / "model", tmp_path / "cut", epochs=120)
    decision = {"labels": ["no", "yes"], "long_texts": {"max_seq_length": 13, "policy": "head_tail", "max_windows": 1}}
    (tmp_path / "model" / "decision.json").write_text(json.dumps(decision))
    assert audited(tmp_path / "model", tmp_path / "long").measure("auc").low > 0.6


def test_a_test_text_that_stands_anywhere_in_training_is_no_non_member(tmp_path, fitted, task):
    own = shutil.copytree(task, tmp_path / "task")
    rows = [json.loads(line) for line in (own / "train.jsonl").read_text().splitlines()]
    copies = [row | {"text": row["text"].upper().replace(" ", "  ") + "!"} for row in rows[:200]]
    with (own / "test.jsonl").open("a") as file:
        file.write("\n" + "\n".join(json.dumps(row) for row in copies))
    options = {"count": 60, "batch_tokens": 1024, "samples": 200, "seed": 0}
    read = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_membership, "attack_measures", lambda *_, **__: [])
        patch.setattr(label_membership, "blind_measure", lambda texts, *_, **__: read.extend(texts))
        label_membership.audit_label_membership(fitted, own, trained_rows=240, **options)
    assert len(read) == 120
    assert not any(text.endswith("!") for text in read)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, task):
    folder = tmp_path_factory.mktemp("fitted") / "model"
    fit_classifier(folder, task, epochs=1)
    return folder


@pytest.mark.parametrize("trained_rows", [227, 60, None])
def test_rows_that_were_not_trained_on_make_the_attack_invalid(fitted, task, trained_rows):
    result = audited(fitted, task, trained_rows=trained_rows)
    assert result.status == "invalid"
    assert "of the 240 rows in the training split were trained on" in result.note
    assert audited(fitted, task, trained_rows=228).status == "measured"  # cleaning takes out a few


@pytest.mark.parametrize(
    ("counts", "recipe", "rows"),
    [
        ({"rows": {"train": 400, "test": 100}}, {}, 400),
        ({"rows": {"train": 400}}, {"epochs": 3.0}, 400),
        ({"rows": {"train": 400}}, {"epochs": 0.5}, 200),
        ({"rows": {"train": 400}}, {"epochs": None}, 400),
        ({"tokens": 1}, {}, None),
    ],
)
def test_the_manifest_says_how_many_rows_were_trained_on(derived, counts, recipe, rows):
    manifest = read_manifest(derived / "model")
    assert rows_trained_on(dataclasses.replace(manifest, counts=counts, recipe=recipe)) == rows


def write_rows(folder, labels, split="train"):
    folder.mkdir()
    for name in ("train", "test"):
        rows = [{"id": i, "text": f"w{i} w{i + 1}", "labels": ["no"]} for i in range(20)]
        if name == split:
            rows[3]["labels"] = labels
            rows[3]["text"] = "secret words"
        (folder / f"{name}.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows))
    return folder


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("yes", "labels is not a list"),
        (None, "labels is not a list"),
        ({"yes": 1}, "labels is not a list"),
        (["maybe"], "a label is none of the model's"),
        ([], "exactly one label, not 0"),
        (["no", "yes"], "exactly one label, not 2"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_that_the_model_cannot_have_are_refused_by_line(tmp_path, fitted, labels, message, split):
    with pytest.raises(UserError, match=message) as error:
        audited(fitted, write_rows(tmp_path / "task", labels, split), trained_rows=20)
    assert f"{split}.jsonl:7" in str(error.value)
    assert "secret" not in str(error.value)


def test_labels_are_named_as_in_fine_tuning():
    from finetune.label_formats import label_name as finetune_name

    for value in (2, 2.0, "2", "2.0", " 2 ", 2.5, "a.0", " two words ", True, 0, 0.0):
        assert label_name(value) == finetune_name(value)
    labels = LabelNames(("1", "2"), is_multi_label=False, parents={})
    assert [labels.read([value], where="") for value in (2, 2.0, "2.0", " 2")] == [frozenset({"2"})] * 4


def test_a_label_brings_the_broader_ones_as_in_fine_tuning():
    from finetune.tasks import LabelSet

    stated = {"type": "multi_label", "labels": ["distress", "fear", "panic"]}
    stated |= {"parents": {"panic": "fear", "fear": "distress"}}
    labels = LabelNames(tuple(stated["labels"]), is_multi_label=True, parents=stated["parents"])
    targets = LabelSet.from_dict(stated, where="").multi_hot([["panic"]])
    assert [float(name in labels.read(["panic"], where="")) for name in labels.names] == targets[0].tolist()
    assert labels.read([], where="") == frozenset()


def test_the_command_audits_a_classifier(derived, task, capsys):
    own = make_derived(derived, "classifier")
    shutil.rmtree(own / "audits")
    shutil.copytree(task, own / "task", dirs_exist_ok=True)
    (own / "model" / "manifest.json").unlink()
    inputs = {"model": derived / "model", "task": own / "task"}
    finish(own / "model", "finetune", inputs, {"rows": {"train": 240, "test": 240}})
    words = ("--model_dir", own / "model", "--base_model", derived / "model", "--data_dir", own / "task")
    more = ("--output_dir", own / "audits", "--bootstrap_samples", 200)
    assert mindshift("release", "audit", *words, *more) == 0
    assert "label_membership" in capsys.readouterr().out
    result = read_evidence(own / "audits" / EVIDENCE_NAME).audit("label_membership")
    assert result.status == "measured"
    assert result.counts == {"members": 240, "non_members": 240}
