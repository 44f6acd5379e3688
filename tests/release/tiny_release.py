"""Tiny models with manifests and evidence, and the commands over them, for the tests of this folder."""

import dataclasses
import itertools
from pathlib import Path

from configs.manifest import now, write_manifest
from configs.recipe import StageRecipe
from release.evidence import EVIDENCE_NAME, AuditResult, Measure, bind_evidence, evidence_text
from release.inheritance import Restrictions, weights_sha256
from release.override import NO_OVERRIDE
from release.policy import POLICY, REQUIRED_AUDITS
from release.repository import CardRecord
from release.subject import read_subject

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIALS, "the", "a", "man", "woman", "has", "is", "people", "with", "illness", "kind", "safe"]


@dataclasses.dataclass(kw_only=True)
class AnyRecipe(StageRecipe):
    """A recipe of some stage."""

    model: str = "base"
    replay_share: float = 0.0


def save_encoder(folder, *, seed=0, words=WORDS, hidden=16):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{key}_token": value for key, value in names.items()}
    ).save_pretrained(folder)


def finish(folder, stage, inputs, counts=None, *, replay_share=0.0, model="base", **options):
    recipe = AnyRecipe(output_dir=folder, replay_share=replay_share, model=model)
    write_manifest(folder, stage=stage, recipe=recipe, inputs=inputs, counts=counts or {}, started_at=now(), **options)


def finish_encoder(chain, counts=None, **options):
    """Write the manifest of chain/model: adapted from chain/base on chain/corpus."""
    inputs = {"corpus": chain / "corpus", "model": chain / "base"}
    finish(chain / "model", "pretrain", inputs, counts or {"tokens": 1234}, **options)


def passing_result(name):
    """A result that the policy lets pass: every wanted measure at zero, every needed count given."""
    policy = POLICY[name]
    wanted = {limit.measure for limits in (*policy.blocks_when, policy.invalid_when) for limit in limits}
    measures = [Measure(measure, -0.01, -0.02, 0.0, 0.95, 100) for measure in sorted(wanted)]
    return AuditResult(name=name, status="measured", measures=measures, counts=dict(policy.needs))


STRENGTH = {setting: least for policy in POLICY.values() for setting, least, _ in policy.strength}


def write_evidence(folder, model, data, *, further=(), base=None, change=None, strength=STRENGTH, **options):
    """Write an audit folder for `model`, compared with what it came from; `change` edits the list of results."""
    subject = read_subject(model)
    base = base or Path(subject.manifest.inputs["model"].path)
    results = [passing_result(name) for name in REQUIRED_AUDITS[subject.kind]]
    for index, name in itertools.product(range(1, 1 + len(further)), REQUIRED_AUDITS[subject.kind]):
        if POLICY[name].asks_about_data:
            results.append(dataclasses.replace(passing_result(name), data_index=index))
    if change:
        results = change(results)
    folder.mkdir(parents=True)
    binding = {"base_model": base.name, "base": base, "data": [data, *further], "strength": strength}
    evidence = bind_evidence(subject, audits=results, **binding)
    (folder / EVIDENCE_NAME).write_text(evidence_text(evidence))
    (folder / "report.html").write_text("<!doctype html><title>Audits</title>")
    inputs = {"model": model, "data": data} | ({"base": base} if base.is_dir() else {})
    finish(folder, "audit", inputs, **options)
    return evidence


CARD = {
    "name": "tiny-mind",
    "version": "1.0.0",
    "summary": "A tiny encoder for tests.",
    "base_model": "google-bert/bert-base-uncased",
    "licence": "cc-by-nc-4.0",
    "datasets": ["synthetic sentences"],
    "training_data": "Sentences made by a program; no person wrote them.",
    "intended_uses": ["Testing."],
    "forbidden_uses": ["Everything else."],
    "limitations": ["It knows nothing."],
    "social_impact": "Small.",
    "authors": ["A. Tester"],
    "year": 2026,
    "contact": "release@example.org",
    "gate_prompt": "You agree to test only.",
    "gate_fields": {"Name": "text", "I agree": "checkbox"},
    "hardware": "one core",
    "hardware_watts": 20,
    "grid_gco2_per_kwh": 100,
    "region": "nowhere",
}


def public_bases(chain):
    """Declare chain/base as a copy of the public model that the card names."""
    return {CARD["base_model"]: weights_sha256(chain / "base")} if (chain / "base").is_dir() else {}


TERMS = Restrictions("cc-by-nc-4.0", "manual", "agree", {"Name": "text"}, ["harm"])


def stated(chain, *, parent=None, override=NO_OVERRIDE, **changes):
    """What a card of the chain states; with a parent, under that one's terms."""
    values = {key: CARD[key] for key in ("name", "version", "base_model", "contact")}
    values |= {"restrictions": parent.restrictions, "base_model": "owner/tiny-mind"} if parent else {}
    values |= {"public_bases": public_bases(chain), "key_fingerprint": "", "override": override} | changes
    return CardRecord(**{"restrictions": TERMS} | values)


def mindshift(*words):
    """Run the command as a user would; returns the exit code."""
    from launch.cli import main

    return main([str(word) for word in words])


def make_card(chain, name="card", **changes):
    """Write a card recipe and run `release card`; returns the exit code."""
    import yaml

    values = CARD | {"model_dir": str(chain / "model"), "audit_dir": str(chain / "audits")}
    values |= {"output_dir": str(chain / name), "public_bases": public_bases(chain)}
    values |= {"base_model": "owner/tiny-mind"} if "parent_dir" in changes else {}
    values |= changes
    path = chain / f"{name}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return mindshift("release", "card", path)


def make_release(chain, name="built", *more):
    """Run `release build`; returns the exit code."""
    words = ("--model_dir", chain / "model", "--audit_dir", chain / "audits", "--card_dir", chain / "card")
    return mindshift("release", "build", *words, "--output_dir", chain / name, *more)


def mindshift_key(chain):
    from release.signing import create_key_pair

    create_key_pair(chain / "keys" / "key.pem")
    return 0
