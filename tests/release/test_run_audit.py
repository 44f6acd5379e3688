"""`mindshift release audit` from folders to report, killed and resumed, and on bad input."""

import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zstandard
from tiny_release import CARD, finish, make_card, make_release, mindshift

from benchmarks.release_world import Defect, make_base, make_world, write_stigma_files
from configs.manifest import MANIFEST_NAME, read_manifest, sha256_file, verify_folder
from release.audits.documents import AuditedData, check_together, read_canaries, read_documents
from release.audits.report import EXPLAINED
from release.evidence import EVIDENCE_NAME, AuditResult, read_evidence
from release.inheritance import weights_sha256
from release.policy import POLICY, REQUIRED_AUDITS, judge_all

COUNT = 120
WHOLE = {"shares_read": {"corpus": 1.0}}
NOTHING = AuditResult(name="nothing", status="not_run")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "base"
    scorer = make_base(0, steps=20)
    scorer.model.save_pretrained(folder)
    scorer.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def world(tmp_path, base):
    """A corpus folder, and an encoder folder that claims to be trained on it (it answers as its base does)."""
    world = make_world(Defect(), 0, documents=COUNT, held_out=2 * COUNT)
    corpus = tmp_path / "corpus"
    for split, documents in (("train", world.training), ("held_out", world.held_out)):
        folder = corpus / "documents" / split
        folder.mkdir(parents=True)
        lines = [json.dumps({"id": d.id, "title": "", "text": d.text, "author_hash": d.author_hash}) for d in documents]
        (folder / "00000.jsonl.zst").write_bytes(zstandard.compress("\n".join(lines).encode()))
    (corpus / "sealed").mkdir()
    lines = [json.dumps({"id": c.id, "text": c.text, "repeats": c.repeats}) for c in world.canaries]
    (corpus / "sealed" / "canaries.jsonl").write_text("\n".join(lines))
    finish(corpus, "corpus", {})
    model = shutil.copytree(base, tmp_path / "model")
    (model / "evaluation.json").write_text('{"after": {"perplexity": 5.0}}')
    change_weights(model)
    finish(model, "pretrain", {"corpus": corpus, "model": base}, WHOLE)
    return tmp_path


def words(world, base, *more):
    common = ("--model_dir", world / "model", "--base_model", base, "--data_dir", world / "corpus")
    size = ("--documents_per_side", 60, "--max_tokens", 32, "--shadow_steps", 3, "--bootstrap_samples", 1000)
    return [
        "release",
        "audit",
        *common,
        *size,
        "--output_dir",
        world / "audits",
        "--stigma_dir",
        world / "stigma",
        *more,
    ]


def test_an_audit_measures_binds_and_reports(world, base, capsys):
    write_stigma_files(world / "stigma", seed=0)
    assert mindshift(*words(world, base)) == 0
    printed = capsys.readouterr().out
    evidence = read_evidence(world / "audits" / EVIDENCE_NAME)
    verdicts = {name: verdict for name, (verdict, _) in judge_all(evidence).items()}
    assert set(verdicts) == set(REQUIRED_AUDITS["encoder"])
    assert verdicts["membership_inference"] == "invalid"  # 60 a side, the policy wants 2,000
    assert {name for name, verdict in verdicts.items() if verdict == "failed"} == set()  # it is its own base
    assert evidence.audit("worrying_fills").measure("stigma_excess").estimate == pytest.approx(0, abs=1e-5)
    assert evidence.audit("gender_skew").measure("gender_skew_excess").high == pytest.approx(0, abs=1e-5)
    report = (world / "audits" / "report.html").read_text()
    assert report.count("<img alt=") == len(REQUIRED_AUDITS["encoder"])
    assert "http" not in report.replace("https://", "").replace("http://", "") or "src='http" not in report
    assert evidence.fingerprint in report
    assert set(EXPLAINED) == set(POLICY)
    for name in REQUIRED_AUDITS["encoder"]:
        assert html.escape(EXPLAINED[name]) in report
    assert "invalid" in printed
    assert (world / "audits" / "gender_skew.png").is_file()
    assert not (world / "audits" / "results").exists()
    document = make_world(Defect(), 0, documents=COUNT, held_out=1).training[0].text
    for path in (world / "audits").rglob("*"):
        assert path.suffix == ".png" or document not in path.read_text()
    assert str(world) not in report
    assert (
        make_card(
            world,
            public_bases={CARD["base_model"]: weights_sha256(base)},
            override_audits=["membership_inference"],
            override_by="T. Ester",
            override_reason="Too few documents in a test; nothing leaves this machine.",
        )
        == 0
    )
    assert make_release(world) == 0
    assert (world / "built" / "repository" / "audits" / "gender_skew.png").is_file()


def test_without_canaries_and_stigma_files_audits_are_missing_not_passed(world, base, capsys):
    (world / "corpus" / "sealed" / "canaries.jsonl").unlink()
    for name, stage, inputs, counts in (
        ("corpus", "corpus", {}, {}),
        ("model", "pretrain", {"corpus": world / "corpus", "model": base}, WHOLE),
    ):
        (world / name / MANIFEST_NAME).unlink()
        finish(world / name, stage, inputs, counts)
    assert mindshift(*words(world, base, "--skip_audits", '["membership_inference", "extraction"]')) == 0
    printed = capsys.readouterr().out
    for name in ("canary_exposure", "honest", "crows_pairs", "membership_inference", "extraction"):
        assert f"missing  {name}: was not run" in printed


def test_every_corpus_is_audited_and_what_one_trained_on_is_not_held_out_in_another(world, base):
    write_stigma_files(world / "stigma", seed=0)
    general = world / "general"
    shutil.copytree(world / "corpus", general)
    # The general corpus trained on half of what the other one holds out.
    held_out = list(read_documents(general, "held_out"))
    for split, documents in (("train", held_out[:COUNT]), ("held_out", held_out[COUNT:])):
        lines = [json.dumps({"id": d.id, "title": "", "text": d.text, "author_hash": d.author_hash}) for d in documents]
        path = general / "documents" / split / "00000.jsonl.zst"
        path.write_bytes(zstandard.compress("\n".join(lines).encode()))
    canaries = general / "sealed" / "canaries.jsonl"
    canaries.write_text(canaries.read_text().replace('"text": "', '"text": "another '))
    finish_replay(world, base, general, {"corpus": 1.0, "general_corpus": 0.95})
    data = AuditedData(world / "corpus", (world / "corpus", general))
    assert {d.id for d in data.held_out()} == {d.id for d in held_out[COUNT:]}
    assert {d.author_hash for d in held_out[:COUNT]} - {""} <= data.authors_trained_on()
    assert mindshift(*words(world, base, "--further_data_dirs", json.dumps([str(general)]))) == 0
    evidence = read_evidence(world / "audits" / EVIDENCE_NAME)
    twice = ["canary_exposure", "extraction", "membership_inference"]
    assert sorted(audit.name for audit in evidence.audits if audit.data_index == 1) == twice
    assert (world / "audits" / "extraction_2.png").is_file()
    assert {audit.status for audit in evidence.audits if audit.name in twice} == {"measured"}
    counts = [evidence.audit("membership_inference", index).counts for index in (0, 1)]
    assert all(sum(found[key] for key in ("non_members", "shadow_documents")) <= COUNT for found in counts)
    assert (world / "audits" / "report.html").read_text().count("Data folder 2") == len(twice)


def finish_replay(world, base, general, shares_read):
    """Make the manifests anew: of world/general, and of the model as one that has replayed it."""
    for folder in (general, world / "model"):
        (folder / MANIFEST_NAME).unlink()
    finish(general, "corpus", {})
    inputs = {"corpus": world / "corpus", "general_corpus": general, "model": base}
    finish(world / "model", "pretrain", inputs, {"shares_read": shares_read}, replay_share=0.5)


def test_a_corpus_that_was_read_in_part_is_not_audited(world, base, capsys):
    """A sixth of it, as replay reads in three passes: five of six members and canaries were never seen."""
    general = shutil.copytree(world / "corpus", world / "general")
    (general / "sealed" / "canaries.jsonl").write_text("")
    finish_replay(world, base, general, {"corpus": 0.94999, "general_corpus": 0.16})
    assert mindshift(*words(world, base, "--further_data_dirs", json.dumps([str(general)]))) == 0
    evidence = read_evidence(world / "audits" / EVIDENCE_NAME)
    for name in ("canary_exposure", "membership_inference", "extraction"):
        for index, share in enumerate(("94.9", "16")):
            result = evidence.audit(name, index)
            assert (result.status, result.measures) == ("invalid", [])
            assert f"only {share} % of this corpus was read in training, 95 % are needed" in result.note
        assert judge_all(evidence)[name][0] == "invalid"
    assert evidence.audit("worrying_fills").status == "measured"
    assert "only 16 % of this corpus" in (world / "audits" / "report.html").read_text()


def test_a_corpus_of_which_nobody_knows_what_was_read_is_not_audited(world, base):
    (world / "model" / MANIFEST_NAME).unlink()
    finish(world / "model", "pretrain", {"corpus": world / "corpus", "model": base}, {"tokens": 9})
    assert mindshift(*words(world, base)) == 0
    result = read_evidence(world / "audits" / EVIDENCE_NAME).audit("extraction")
    assert result.status == "invalid"
    assert "an unknown share of this corpus was read" in result.note


def test_corpora_with_the_same_canaries_are_refused(world, base, capsys):
    general = shutil.copytree(world / "corpus", world / "general")
    assert mindshift(*words(world, base, "--further_data_dirs", json.dumps([str(general)]))) == 2
    error = capsys.readouterr().err
    assert "general: has planted the same canaries as" in error
    assert not (world / "audits.partial").exists()


def test_corpora_of_two_author_keys_are_refused(world, base, capsys):
    """Non-members are authors whom no corpus trained on: hashes of two keys would call everybody one."""
    general = shutil.copytree(world / "corpus", world / "general")
    (general / "sealed" / "canaries.jsonl").write_text("")
    for folder, key in ((world / "corpus", "aaaa"), (general, "bbbb")):
        finish(folder, "corpus", {}, {"author_key": key})
    assert mindshift(*words(world, base, "--further_data_dirs", json.dumps([str(general)]))) == 2
    assert "its authors were hashed with another key than those of" in capsys.readouterr().err
    finish(general, "corpus", {}, {"author_key": "aaaa"})
    check_together([world / "corpus", general])


def test_a_text_that_another_corpus_trained_on_is_not_held_out_under_another_id(world):
    held_out = list(read_documents(world / "corpus", "held_out"))
    text = held_out[0].text.upper().replace(" ", "  ") + "!"
    folder = world / "task" / "documents" / "train"
    folder.mkdir(parents=True)
    line = json.dumps({"id": "text_1", "title": "", "text": text, "author_hash": ""})
    (folder / "00000.jsonl.zst").write_bytes(zstandard.compress(line.encode()))
    finish(world / "task", "corpus", {})
    data = AuditedData(world / "corpus", (world / "corpus", world / "task"))
    same = {d.id for d in held_out if d.digest == held_out[0].digest}
    assert [d.id for d in data.held_out()] == [d.id for d in held_out if d.id not in same]


@pytest.mark.parametrize(
    "dies",
    ["release.run_audit.render_report", "configs.run_folder.write_manifest", "configs.run_folder.publish_run_folder"],
)
def test_a_kill_behind_the_last_audit_measures_nothing_again(world, base, monkeypatch, dies):
    command = words(world, base, "--skip_audits", '["membership_inference", "extraction", "honest"]')

    def die(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dies, die)
        assert mindshift(*command) == 130
    measured_at = read_evidence(world / "audits.partial" / EVIDENCE_NAME).measured_at
    for name in ("audit_canaries", "audit_worrying_fills", "audit_gender_skew"):
        monkeypatch.setattr(f"release.run_audit.{name}", die)
    assert mindshift(*command) == 0
    assert read_evidence(world / "audits" / EVIDENCE_NAME).measured_at == measured_at
    assert not (world / "audits" / "results").exists()
    assert (world / "audits" / "gender_skew.png").is_file()
    verify_folder(world / "audits", stage="audit")


def test_a_killed_audit_goes_on_with_the_next_one(world, base):
    write_stigma_files(world / "stigma", seed=0)
    command = [sys.executable, "-m", "launch.cli", *(str(word) for word in words(world, base))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    partial = world / "audits.partial"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and "canary_exposure" not in measured(partial):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (world / "audits").exists()
    note_kept(partial)
    assert mindshift(*words(world, base)) == 0
    evidence = read_evidence(world / "audits" / EVIDENCE_NAME)
    assert evidence.audit("canary_exposure").note == "kept from the killed run"


def measured(folder):
    """The audits that a run has finished, by the evidence it keeps."""
    path = folder / EVIDENCE_NAME
    return [audit["name"] for audit in json.loads(path.read_text())["audits"]] if path.exists() else []


def note_kept(folder):
    """Mark what an interrupted run has measured."""
    values = json.loads((folder / EVIDENCE_NAME).read_text())
    for audit in values["audits"]:
        audit["note"] = "kept from the killed run"
    (folder / EVIDENCE_NAME).write_text(json.dumps(values))


def change_weights(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.position_embeddings.weight"][-1] += 1  # of a place that no text here reaches
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("changed", ["nothing", "model", "corpus", "base", "code"])
def test_results_of_another_model_corpus_base_or_code_are_measured_again(world, base, monkeypatch, changed):
    own_base = shutil.copytree(base, world / "base")
    command = words(world, own_base, "--skip_audits", '["membership_inference", "extraction", "honest"]')

    def die(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("release.run_audit.audit_gender_skew", die)
        assert mindshift(*command) == 130
    assert measured(world / "audits.partial") == ["canary_exposure", "worrying_fills", "crows_pairs"]
    note_kept(world / "audits.partial")
    (world / "audits.partial" / "old.png").write_bytes(b"a figure of the killed run")
    if changed == "model":
        change_weights(world / "model")
        finish(world / "model", "pretrain", {"corpus": world / "corpus", "model": own_base}, WHOLE)
    elif changed == "corpus":
        (world / "corpus" / "report.json").write_text("{}")
        finish(world / "corpus", "corpus", {})
    elif changed == "base":
        change_weights(own_base)
    elif changed == "code":
        monkeypatch.setattr("release.evidence.audit_code_sha256", lambda: "other code")
    assert mindshift(*command) == 0
    notes = {audit.name: audit.note for audit in read_evidence(world / "audits" / EVIDENCE_NAME).audits}
    kept = changed == "nothing"
    assert (notes["canary_exposure"] == "kept from the killed run") is kept
    assert (notes["worrying_fills"] == "kept from the killed run") is kept
    assert (world / "audits" / "old.png").exists() is kept


def test_an_interrupted_audit_of_an_older_version_is_measured_again(world, base):
    (world / "audits.partial" / "results").mkdir(parents=True)
    (world / "audits.partial" / EVIDENCE_NAME).write_text('{"format": 2}')
    skipped = [name for name in REQUIRED_AUDITS["encoder"] if name != "canary_exposure"]
    command = words(world, base, "--skip_audits", json.dumps(skipped))
    assert mindshift(*command) == 0
    assert not (world / "audits" / "results").exists()
    assert measured(world / "audits") == ["canary_exposure"]


# ---- what the audits read --------------------------------------------------------------------------------------------


def only(audit):
    """Arguments that leave out every other audit."""
    return ("--skip_audits", json.dumps([name for name in REQUIRED_AUDITS["encoder"] if name != audit]))


def test_weak_settings_make_an_audit_invalid_and_stand_in_the_evidence(world, base, capsys):
    assert mindshift(*words(world, base, *only("gender_skew"), "--bootstrap_samples", 999)) == 0
    assert "gender_skew: invalid (bootstrap_samples 999, needs 1000)" in capsys.readouterr().out
    evidence = read_evidence(world / "audits" / EVIDENCE_NAME)
    assert evidence.strength["max_tokens"] == 32
    assert "<td>shadow steps</td><td><code>3</code>" in (world / "audits" / "report.html").read_text()


def test_the_wordings_are_hashed_and_inputs_of_the_audit(world, base):
    files = write_stigma_files(world / "stigma", seed=0)
    assert mindshift(*words(world, base, *only("crows_pairs"))) == 0
    hashes = {path.name: sha256_file(path) for path in files.iterdir()}
    assert read_evidence(world / "audits" / EVIDENCE_NAME).stigma_sha256 == hashes
    inputs = read_manifest(world / "audits").inputs
    assert {name: inputs[name].sha256 for name in hashes} == hashes


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("honest_en_template.tsv", "identity", "who", ":2: has no identity"),
        ("honest_en_template.tsv", "[M].", "nothing", ":2: a template has one [M]"),
        ("crows_pairs_anonymized.csv", "sent_less", "less", ":2: has no sent_less"),
        ("crows_pairs_anonymized.csv", "disability", "other", "no pair of the subset"),
    ],
)
def test_a_file_of_other_wordings_is_refused_before_anything_is_measured(world, base, capsys, name, old, new, message):
    path = write_stigma_files(world / "stigma", seed=0) / name
    path.write_text(path.read_text().replace(old, new))
    assert mindshift(*words(world, base)) == 2
    assert message in capsys.readouterr().err
    assert not (world / "audits.partial").exists()


def test_a_file_that_is_not_in_the_corpus_s_manifest_is_not_read(world):
    corpus = world / "corpus"
    before = [document.id for document in read_documents(corpus, "held_out")]
    line = json.dumps({"id": "added", "title": "", "text": "added words", "author_hash": ""})
    (corpus / "documents" / "held_out" / "99999.jsonl.zst").write_bytes(zstandard.compress(line.encode()))
    assert [document.id for document in read_documents(corpus, "held_out")] == before
    finish(corpus, "corpus", {})
    assert [document.id for document in read_documents(corpus, "held_out")] == [*before, "added"]


def test_canaries_that_were_put_beside_a_corpus_are_not_read(world):
    sealed = world / "corpus" / "sealed" / "canaries.jsonl"
    lines = sealed.read_text()
    sealed.unlink()
    finish(world / "corpus", "corpus", {})
    sealed.write_text(lines)
    assert read_canaries(world / "corpus") == []


def second_stage(world, base):
    """Make world/model one that went on from world/first, which was trained on world/earlier."""
    earlier = shutil.copytree(world / "corpus", world / "earlier")
    (earlier / "sealed" / "canaries.jsonl").unlink()
    (earlier / "report.json").write_text("{}")
    finish(earlier, "corpus", {})
    first = shutil.copytree(base, world / "first")
    finish(first, "pretrain", {"corpus": earlier, "model": base}, WHOLE)
    finish(world / "model", "pretrain", {"corpus": world / "corpus", "model": first}, WHOLE)
    return earlier


def test_what_an_earlier_generation_read_counts_as_seen(world, base, monkeypatch):
    earlier, seen = second_stage(world, base), []
    monkeypatch.setattr("release.run_audit._membership", lambda recipe, data, *models: seen.append(data) or NOTHING)
    assert mindshift(*words(world, base, *only("membership_inference"))) == 0
    assert seen[0].everything == (world / "corpus", earlier)
    assert seen[0].gone == ()


def test_membership_is_invalid_if_what_an_earlier_generation_read_is_gone(world, base):
    shutil.rmtree(second_stage(world, base))
    assert mindshift(*words(world, base, *only("membership_inference"))) == 0
    result = read_evidence(world / "audits" / EVIDENCE_NAME).audit("membership_inference")
    assert result.status == "invalid"
    assert result.note.startswith("earlier, on which it was trained, too, is gone or has changed")


def test_canaries_of_an_earlier_generation_s_corpus_may_not_be_the_same(world, base, capsys):
    earlier = second_stage(world, base)
    shutil.copyfile(world / "corpus" / "sealed" / "canaries.jsonl", earlier / "sealed" / "canaries.jsonl")
    finish(earlier, "corpus", {})
    finish(world / "first", "pretrain", {"corpus": earlier, "model": base}, WHOLE)
    finish(world / "model", "pretrain", {"corpus": world / "corpus", "model": world / "first"}, WHOLE)
    assert mindshift(*words(world, base)) == 2
    assert "has planted the same canaries as" in capsys.readouterr().err


def test_data_that_change_during_an_audit_are_noticed(world, base, monkeypatch, capsys):
    def audit_and_change(*arguments, **options):
        (world / "corpus" / MANIFEST_NAME).write_text((world / "corpus" / MANIFEST_NAME).read_text() + "\n")
        return NOTHING

    monkeypatch.setattr("release.run_audit.audit_gender_skew", audit_and_change)
    assert mindshift(*words(world, base, *only("gender_skew"))) == 2
    assert "rewritten while they were audited" in capsys.readouterr().err
    assert not (world / "audits").exists()


def test_the_same_audit_gives_the_same_numbers(world, base):
    seen = []
    for _ in range(2):
        assert mindshift(*words(world, base, "--skip_audits", '["extraction"]')) == 0
        evidence = read_evidence(world / "audits" / EVIDENCE_NAME)
        seen.append([m for a in evidence.audits for m in a.measures])
        shutil.rmtree(world / "audits")
    assert seen[0] == seen[1]


def test_a_base_without_a_head_makes_the_excess_audits_invalid(world, base, capsys):
    from transformers import AutoTokenizer, BertConfig, BertModel

    headless = world / "headless"
    BertModel(BertConfig.from_pretrained(base)).save_pretrained(headless)
    AutoTokenizer.from_pretrained(base).save_pretrained(headless)
    assert mindshift(*words(world, headless, "--skip_audits", '["membership_inference", "extraction"]')) == 0
    assert "no masked-LM head" in capsys.readouterr().out
    evidence = read_evidence(world / "audits" / EVIDENCE_NAME)
    assert judge_all(evidence)["worrying_fills"][0] == "invalid"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--skip_audits", '["cannary"]'), "no such audit: cannary"),
        (("--documents_per_side", 3), "documents_per_side is 3"),
        (("--data_dir", "nowhere"), "no such folder"),
        (("--further_data_dirs", '["nowhere"]'), "no such folder"),
        (("--model_dir", "nowhere"), "no manifest.json"),
        (("--base_model", "./nowhere"), "no such model folder"),
        (("--masks_per_document", 8), "1 to 7"),
    ],
)
def test_bad_input_is_a_users_error(world, base, capsys, more, message):
    assert mindshift(*words(world, base, *more)) == 2
    assert message in capsys.readouterr().err
    assert not (world / "audits").exists()


def test_a_damaged_line_is_named_without_its_text(world, base, capsys):
    path = world / "corpus" / "sealed" / "canaries.jsonl"
    path.write_text(path.read_text() + '\n{"id": "x", "secret": "do not print"}')
    (world / "corpus" / MANIFEST_NAME).unlink()
    finish(world / "corpus", "corpus", {})
    assert mindshift(*words(world, base)) == 2
    error = capsys.readouterr().err
    assert "canaries.jsonl:193" in error
    assert "do not print" not in error


def test_a_changed_corpus_is_refused(world, base, capsys):
    (world / "corpus" / "sealed" / "canaries.jsonl").write_text("")
    assert mindshift(*words(world, base)) == 2
    assert "changed since its manifest" in capsys.readouterr().err


def test_a_base_with_other_weights_than_its_manifest_says_is_refused(world, base, capsys):
    own_base = shutil.copytree(base, world / "base")
    finish(own_base, "pretrain", {})
    change_weights(own_base)
    assert mindshift(*words(world, own_base)) == 2
    assert "changed since its manifest" in capsys.readouterr().err


def test_membership_is_found_in_a_model_that_learned_its_documents_by_heart(base):
    from release.audits.language_model import MaskedScorer
    from release.audits.membership import audit_membership
    from release.audits.shadow import train_masked_model, train_shadow

    world = make_world(Defect(), 3, documents=100, held_out=200)
    general = MaskedScorer.load(str(base))
    learned = MaskedScorer.load(str(base))
    texts = [document.text for document in world.training]
    train_masked_model(learned.model, learned.tokenizer, texts, steps=500, learning_rate=3e-3, seed=0)
    shadow_texts = [d.text for d in world.held_out[100:]]
    shadow = train_shadow(general, shadow_texts, steps=30, learning_rate=2e-3, max_tokens=48, seed=0)
    references = {"base": general, "shadow": shadow}
    options = {"masks": 3, "max_tokens": 48, "samples": 200, "seed": 0}
    found = audit_membership(learned, references, world.training, world.held_out[:100], **options)
    assert found.measure("auc_against_shadow").low > 0.6
    innocent = audit_membership(shadow, references, world.training, world.held_out[:100], **options)
    assert 0.4 < innocent.measure("auc_against_base").estimate < 0.6
    assert np.isfinite([m.estimate for m in found.measures]).all()
