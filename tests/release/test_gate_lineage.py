"""The gate looks at all that the weights have seen, and at the base that the audits compared with."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from tiny_release import (
    CARD,
    finish,
    finish_encoder,
    make_card,
    make_release,
    public_bases,
    save_encoder,
    stated,
    write_evidence,
)
from transformers import AutoConfig

from configs.base_models import PackagedModel
from configs.manifest import read_manifest
from release.audits.report import render_report
from release.evidence import EVIDENCE_NAME, read_evidence
from release.gate import gate_reasons
from release.inheritance import read_parent, weights_sha256
from release.policy import POLICY, REQUIRED_AUDITS, judge_all
from release.subject import RELEASE_KEY, read_subject


def reasons_of(chain, parent_dir=None, **changes):
    """Return what the gate says of chain/model and chain/audits."""
    parent = read_parent(parent_dir) if parent_dir else None
    evidence = read_evidence(chain / "audits" / EVIDENCE_NAME)
    audits = read_manifest(chain / "audits")
    card = stated(chain, parent=parent, **changes)
    return gate_reasons(read_subject(chain / "model"), evidence, card, parent, audits=audits)


def audit_again(chain, **options):
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", options.pop("data", chain / "corpus"), **options)


def make_corpus(chain, name):
    folder = chain / name
    folder.mkdir()
    (folder / "report.json").write_text(f'{{"name": "{name}"}}')
    finish(folder, "corpus", {})
    return folder


@pytest.fixture
def two_stages(chain):
    """A second encoder in chain/second/model: chain/model, adapted again on chain/second/corpus, with its audits."""
    second = chain / "second"
    save_encoder(second / "model", seed=2)
    shutil.copyfile(chain / "model" / "evaluation.json", second / "model" / "evaluation.json")
    corpus = make_corpus(second, "corpus")
    finish(second / "model", "pretrain", {"corpus": corpus, "model": chain / "model"}, {"tokens": 99})
    write_evidence(second / "audits", second / "model", corpus)
    return second


@pytest.fixture
def released(chain):
    """The release of chain/model in chain/built."""
    assert make_card(chain) == 0
    assert make_release(chain) == 0
    return chain / "built"


def test_the_chain_of_the_tests_may_go(chain):
    assert reasons_of(chain) == []


# ---- the base --------------------------------------------------------------------------------------------------------


def test_a_model_compared_with_itself_is_refused(chain):
    audit_again(chain, base=chain / "model")
    assert reasons_of(chain) == ["the audits compared the model with itself"]


def test_a_copy_of_the_model_without_a_manifest_is_no_base(chain):
    shutil.copytree(chain / "model", chain / "copy")
    (chain / "copy" / "manifest.json").unlink()
    audit_again(chain, base=chain / "copy")
    assert reasons_of(chain) == ["the audits compared the model with itself"]


def test_a_checkpoint_that_the_model_does_not_come_from_is_no_base(chain):
    save_encoder(chain / "checkpoint", seed=3)
    audit_again(chain, base=chain / "checkpoint")
    assert reasons_of(chain) == ["the audits compared with checkpoint, which it does not come from"]


def test_an_ancestor_that_saw_the_audited_data_is_no_base(chain):
    first = chain / "first"
    save_encoder(first, seed=3)
    finish(first, "pretrain", {"corpus": chain / "corpus", "model": chain / "base"})
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus", "model": first})
    audit_again(chain, base=first)
    assert reasons_of(chain) == ["the audits compared with first, which was trained on the audited data itself"]
    audit_again(chain, base=chain / "base")
    assert reasons_of(chain) == []


def test_a_base_of_the_hub_is_known_by_the_name_in_the_recipe(chain):
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus"})  # its recipe names `base`
    audit_again(chain, base=Path("base"))
    assert reasons_of(chain) == []
    audit_again(chain, base=Path("other"))
    assert reasons_of(chain) == ["the audits compared with other, which it does not come from"]
    audit_again(chain, base=chain / "base")  # a folder of that name is not that model
    assert reasons_of(chain) == ["the audits compared with base, which it does not come from"]


def test_a_folder_without_a_manifest_is_no_public_base_until_it_is_declared(chain):
    """It may as well be a checkpoint that read the audited corpus, copied out of its run."""
    weights = weights_sha256(chain / "base")
    (reason,) = reasons_of(chain, public_bases={})
    assert "base, which it comes from, has no manifest" in reason
    assert weights in reason
    assert len(reasons_of(chain, public_bases={CARD["base_model"]: "0" * 64})) == 1
    assert reasons_of(chain, public_bases={CARD["base_model"]: weights}) == []
    (chain / "base" / "notes.txt").write_text("added")
    assert "base, which it comes from, has changed since" in reasons_of(chain)


def test_the_card_shows_the_public_base_that_its_authors_declare(chain):
    assert make_card(chain) == 0
    card = " ".join((chain / "card" / "README.md").read_text().split())
    assert f"a local copy of `{CARD['base_model']}`, say its authors" in card
    assert weights_sha256(chain / "base") in card


def test_a_checkpoint_of_an_unfinished_run_is_no_base_whatever_is_declared(chain):
    step = chain / "earlier.partial" / "checkpoints" / "step-00000010"
    save_encoder(step, seed=3)
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus", "model": step})
    audit_again(chain, base=step)
    (reason,) = reasons_of(chain, public_bases={CARD["base_model"]: weights_sha256(step)})
    assert "step-00000010, which the model came from, is a checkpoint" in reason


def test_weights_that_a_package_carries_need_no_declaration(chain, monkeypatch):
    packaged = PackagedModel("module", "model", weights_sha256(chain / "base"), "Install it.")
    monkeypatch.setattr("release.inheritance.PACKAGED_MODELS", {"tiny": packaged})
    assert reasons_of(chain, public_bases={}) == []


def test_the_card_names_the_base_that_the_lineage_knows(chain):
    (reason,) = reasons_of(chain, base_model="roberta/other")
    assert reason == f"the card names roberta/other as its base, but it comes from {CARD['base_model']}"
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus"})  # its recipe names `base`, of the Hub
    audit_again(chain, base=Path("base"))
    assert len(reasons_of(chain, public_bases={})) == 1
    assert reasons_of(chain, public_bases={}, base_model="owner/base") == []


def test_what_is_built_from_a_release_does_not_name_that_one_s_base(two_stages, released):
    (reason,) = reasons_of(two_stages, released, base_model=CARD["base_model"])
    assert "but it is built from tiny-mind" in reason


# ---- all that the weights have seen ----------------------------------------------------------------------------------


def test_a_second_stage_needs_the_release_of_the_first(two_stages, released):
    assert reasons_of(two_stages, released) == []
    (reason,) = reasons_of(two_stages, public_bases=public_bases(two_stages.parent))
    assert reason.startswith("no audit covers corpus, which it was trained on: ")
    assert str(two_stages.parent) not in reason


def test_a_second_stage_is_built_under_the_terms_of_the_first(two_stages, released, capsys):
    terms = {"licence": "", "gate_prompt": "", "gate_fields": {}, "forbidden_uses": ["Scoring people."]}
    assert make_card(two_stages) == 0
    assert make_release(two_stages) == 2
    assert "no audit covers corpus" in capsys.readouterr().err
    shutil.rmtree(two_stages / "card")
    assert make_card(two_stages, parent_dir=str(released), **terms) == 0
    assert "the gate would let it pass" in capsys.readouterr().out
    assert make_release(two_stages) == 0


def test_data_that_was_seen_again_after_the_release_is_covered_by_no_release(chain, two_stages, released):
    third = chain / "third"
    save_encoder(third / "model", seed=4)
    finish(third / "model", "pretrain", {"corpus": chain / "corpus", "model": two_stages / "model"})
    write_evidence(third / "audits", third / "model", two_stages / "corpus", base=chain / "model")
    assert [reason.split(",")[0] for reason in reasons_of(third, released)] == ["no audit covers corpus"]


def test_replayed_general_text_is_covered_by_no_audit(chain):
    inputs = {"corpus": chain / "corpus", "general_corpus": make_corpus(chain, "general"), "model": chain / "base"}
    finish(chain / "model", "pretrain", inputs)
    audit_again(chain, base=chain / "base")
    assert reasons_of(chain) == []
    finish(chain / "model", "pretrain", inputs, replay_share=0.1)
    audit_again(chain, base=chain / "base")
    assert [reason.split(",")[0] for reason in reasons_of(chain)] == ["no audit covers general"]
    audit_again(chain, data=chain / "general")  # the other one is what no audit covers then
    assert [reason.split(",")[0] for reason in reasons_of(chain)] == ["no audit covers corpus"]


def test_replayed_general_text_is_covered_by_audits_of_its_own(chain):
    general = make_corpus(chain, "general")
    inputs = {"corpus": chain / "corpus", "general_corpus": general, "model": chain / "base"}
    finish(chain / "model", "pretrain", inputs, replay_share=0.1)
    audit_again(chain, further=[general])
    assert reasons_of(chain) == []
    assert make_card(chain) == 0
    card = (chain / "card" / "README.md").read_text()
    data = read_evidence(chain / "audits" / EVIDENCE_NAME).data_sha256
    assert all(sha256[:16] in card for sha256 in data)
    assert make_release(chain) == 0
    assert read_parent(chain / "built").data_sha256 == data


@pytest.mark.parametrize("name", [name for name in REQUIRED_AUDITS["encoder"] if POLICY[name].asks_about_data])
def test_one_data_folder_that_was_not_audited_refuses(chain, name):
    general = make_corpus(chain, "general")
    inputs = {"corpus": chain / "corpus", "general_corpus": general, "model": chain / "base"}
    finish(chain / "model", "pretrain", inputs, replay_share=0.1)

    def without_second(results):
        return [result for result in results if (result.name, result.data_index) != (name, 1)]

    audit_again(chain, further=[general], change=without_second)
    assert reasons_of(chain) == [f"{name}: data folder 2: was not run"]


def test_the_worst_data_folder_decides(chain):
    general = make_corpus(chain, "general")
    inputs = {"corpus": chain / "corpus", "general_corpus": general, "model": chain / "base"}
    finish(chain / "model", "pretrain", inputs, replay_share=0.1)

    def leak_of_the_second(results):
        for result in results:
            if result.name == "extraction":
                result.counts["prompts"] = 3 if result.data_index == 0 else 500
            if (result.name, result.data_index) == ("extraction", 1):
                result.measures = [
                    dataclasses.replace(measure, low=1, estimate=2, high=3) for measure in result.measures
                ]
        return results

    audit_again(chain, further=[general], change=leak_of_the_second)
    evidence = read_evidence(chain / "audits" / EVIDENCE_NAME)
    verdict, reason = judge_all(evidence)["extraction"]
    assert verdict == "failed"
    assert "data folder 1: invalid (3 prompts, needs 20)" in reason
    assert "data folder 2: training_only_identifiers 2 > 0" in reason
    assert reasons_of(chain) == [reason]
    report = render_report(evidence, chain / "audits")
    assert report.count("Data folder 2") == 3


def test_a_base_that_saw_one_of_the_audited_corpora_is_refused(chain):
    general, first = make_corpus(chain, "general"), chain / "first"
    save_encoder(first, seed=3)
    finish(first, "pretrain", {"corpus": general, "model": chain / "base"})
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus", "model": first})
    audit_again(chain, further=[general], base=first)
    assert reasons_of(chain) == ["the audits compared with first, which was trained on the audited data itself"]
    audit_again(chain, further=[general], base=chain / "base")
    assert reasons_of(chain) == []


def test_the_corpus_behind_a_published_vocabulary_is_audited_too(chain, capsys):
    wide, other = chain / "wide", make_corpus(chain, "other")
    save_encoder(wide, seed=3)
    finish(wide, "vocabulary", {"corpus": other, "model": chain / "base"})
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus", "model": wide}, {"privacy_statement": "ε = 8"})
    audit_again(chain, base=chain / "base")
    (reason,) = reasons_of(chain)
    assert reason.startswith("no audit covers other, whose words its tokenizer publishes")
    assert make_card(chain) == 0
    card = " ".join((chain / "card" / "README.md").read_text().split())
    assert "not what its base had read before, and not the words that the tokenizer took from 1 corpus" in card
    finish(wide, "vocabulary", {"corpus": chain / "corpus", "model": chain / "base"})
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus", "model": wide})
    audit_again(chain, base=chain / "base")
    assert reasons_of(chain) == []


def test_data_that_it_never_saw_is_no_subject_of_an_audit(chain):
    contrast = make_corpus(chain, "contrast")
    inputs = {"corpus": chain / "corpus", "masking_contrast": contrast, "model": chain / "base"}
    finish(chain / "model", "pretrain", inputs)
    audit_again(chain, data=contrast)
    reasons = reasons_of(chain)
    assert "the audits used other data than the model was trained on (data manifest differs)" in reasons
    assert any(reason.startswith("no audit covers corpus") for reason in reasons)


def test_a_gap_in_the_lineage_is_a_reason(chain, two_stages, released):
    (chain / "model" / "manifest.json").unlink()
    reasons = reasons_of(two_stages, released)
    assert reasons == [
        "its lineage cannot be followed: model, which the model came from, is gone or has another manifest now"
    ]


# ---- downloaded releases ---------------------------------------------------------------------------------------------


@pytest.fixture
def downloaded(two_stages, released):
    """The second stage, adapted from a download of the first one's release."""
    download = shutil.copytree(released / "repository", two_stages / "download")
    finish(two_stages / "model", "pretrain", {"corpus": two_stages / "corpus", "model": download})
    audit_again(two_stages, data=two_stages / "corpus")
    return two_stages


def test_a_downloaded_release_is_covered_by_itself_as_parent(downloaded, released):
    assert reasons_of(downloaded, downloaded / "download") == []
    assert reasons_of(downloaded, released) == []


def test_a_downloaded_release_must_be_the_parent(downloaded):
    assert reasons_of(downloaded) == ["it comes from the release in download, which is not the one in parent_dir"]


def test_a_downloaded_release_that_is_gone_cannot_be_ruled_out(downloaded):
    shutil.rmtree(downloaded / "download")
    assert reasons_of(downloaded) == [
        "download, which it comes from, is gone: whether that was a release cannot be told"
    ]


def test_other_weights_beside_a_release_s_record_are_not_that_release(downloaded, released):
    save_encoder(downloaded / "download", seed=5)
    assert len(reasons_of(downloaded, released)) == 2


@pytest.fixture
def from_the_hub(two_stages, released):
    """The second stage, adapted from the first one's release by its name on the Hub: no manifest has a hash of that."""
    path = two_stages / "model" / "config.json"
    config = AutoConfig.from_pretrained(released / "repository")  # as training does
    config.save_pretrained(two_stages / "model")
    assert json.loads(path.read_text())[RELEASE_KEY] == "tiny-mind 1.0.0"
    finish(two_stages / "model", "pretrain", {"corpus": two_stages / "corpus"}, model="tiny-mind")
    audit_again(two_stages, data=two_stages / "corpus", base=Path("tiny-mind"))
    return two_stages


def test_a_release_on_the_hub_is_known_by_what_its_configuration_hands_on(from_the_hub, released):
    reasons = reasons_of(from_the_hub, base_model="tiny-mind")
    assert reasons == ["its configuration says that it comes from the release tiny-mind 1.0.0 (parent_dir)"]
    assert reasons_of(from_the_hub, released, base_model="tiny-mind") == []


def test_a_downloaded_base_that_was_released_for_the_same_data_is_no_base(chain, downloaded, released):
    finish(downloaded / "model", "pretrain", {"corpus": chain / "corpus", "model": downloaded / "download"})
    audit_again(downloaded, data=chain / "corpus")
    reasons = reasons_of(downloaded, released)
    assert reasons == ["the audits compared with download, which was trained on the audited data itself"]


# ---- inputs that had changed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["the model", "the audit folder"])
def test_inputs_that_were_accepted_changed_are_refused(chain, which):
    accepted = ["corpus/report.json: changed since its manifest was written"]
    if which == "the model":
        finish_encoder(chain, accepted=accepted)
        audit_again(chain)
    else:
        audit_again(chain, accepted=accepted)
    assert reasons_of(chain) == [f"{which} was made from inputs that had changed (accept_changed_inputs)"]


def test_an_ancestor_that_accepted_changed_inputs_is_refused(chain):
    wide = chain / "wide"
    save_encoder(wide, seed=3)
    finish(wide, "vocabulary", {"model": chain / "base"}, accepted=["base/model.safetensors: changed"])
    finish(chain / "model", "pretrain", {"corpus": chain / "corpus", "model": wide})
    audit_again(chain, base=chain / "base")
    assert reasons_of(chain) == ["wide was made from inputs that had changed (accept_changed_inputs)"]


def test_an_audit_that_went_on_with_a_changed_corpus_is_refused_by_the_build(chain, capsys):
    assert make_card(chain) == 0
    audit_again(chain, accepted=["corpus/report.json: changed"])
    assert make_release(chain) == 2
    error = capsys.readouterr().err
    assert "the audit folder was made from inputs that had changed" in error
    assert "report.json" not in error
