"""Card and repository: complete, nothing private, nothing that runs code; changed bytes are found."""

import json
import pickle
import shutil

import pytest
import yaml
from tiny_release import CARD, finish, finish_encoder, make_card, make_release, mindshift, write_evidence

from configs.manifest import MANIFEST_NAME
from release.card_rules import REQUIRED_SECTIONS, card_reasons, card_sections, privacy_reasons, split_card
from release.evidence import Measure
from release.helplines import COUNTRIES
from release.subject import unsafe_files


def card_text(chain):
    return (chain / "card" / "README.md").read_text()


def test_the_card_has_complete_metadata(chain):
    assert make_card(chain) == 0
    metadata, body = split_card(card_text(chain))
    assert metadata["license"] == "cc-by-nc-4.0"
    assert metadata["base_model"] == CARD["base_model"]
    assert metadata["pipeline_tag"] == "fill-mask"
    assert metadata["extra_gated_fields"] == CARD["gate_fields"]
    assert metadata["extra_gated_prompt"] == CARD["gate_prompt"]
    assert metadata["co2_eq_emissions"]["emissions"] >= 0
    results = metadata["model-index"][0]["results"]
    values = {m["type"]: m["value"] for result in results for m in result["metrics"]}
    assert values["after.perplexity"] == 5.25
    assert "exposure_1x" in values
    assert set(REQUIRED_SECTIONS) <= set(card_sections(body))
    assert "988" in body
    assert "116 123" in body
    assert "does not diagnose" in body


def test_letters_of_a_picture_are_no_user_name_but_text_beside_it_is():
    picture = "<img src='data:image/png;base64,iVBORw0KGgo+u/abcd/tmp/x=='>"
    assert privacy_reasons(picture, contact="", where="report") == []
    assert privacy_reasons(picture + " by u/somebody", contact="", where="report") == [
        "report holds a Reddit user name"
    ]


def test_the_card_and_the_safety_layer_name_the_same_helplines(chain):
    from dialogue.safety.helplines import ANYWHERE, CHECKED_ON, all_helplines

    assert make_card(chain) == 0
    body = split_card(card_text(chain))[1]
    crisis = [line for line in all_helplines() if line.kind == "crisis" and line.country != ANYWHERE]
    assert {line.country for line in crisis} == set(COUNTRIES)
    for line in crisis:
        assert COUNTRIES[line.country] in body
        assert f"{line.name}, {line.contact}" in body
    assert CHECKED_ON in body


def test_the_card_says_what_a_private_run_promises(chain):
    statement = "Differential privacy of each author of the training texts: ε = 8.000 at δ = 1.00e-05"
    finish_encoder(chain, {"privacy_statement": statement})
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus")
    assert make_card(chain) == 0
    assert f"\n{statement}.\n" in (chain / "card" / "README.md").read_text()


def test_emissions_are_hours_times_power_times_intensity(chain):
    path = chain / "model" / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["started_at"], manifest["finished_at"] = "2026-01-01T00:00:00+00:00", "2026-01-01T10:00:00+00:00"
    path.write_text(json.dumps(manifest))
    assert make_card(chain, hardware_watts=500, grid_gco2_per_kwh=300) == 0
    metadata, body = split_card(card_text(chain))
    assert metadata["co2_eq_emissions"]["emissions"] == 10 * 0.5 * 300
    assert "1.500 kg" in body


def test_emissions_count_all_attempts_of_a_run_and_no_pause_between_them(chain):
    finish_encoder(chain, hours=30.0)
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus")
    assert make_card(chain, hardware_watts=500, grid_gco2_per_kwh=300) == 0
    metadata, body = split_card(card_text(chain))
    assert metadata["co2_eq_emissions"]["emissions"] == 30 * 0.5 * 300
    assert "Trained for 30.00 hours" in body


def test_the_card_says_how_hard_the_audits_tried(chain):
    assert make_card(chain) == 0
    assert "How hard they tried: bootstrap samples 1000, max tokens 64," in card_text(chain)


def test_a_card_of_an_older_version_is_to_be_written_anew(chain, capsys):
    assert make_card(chain) == 0
    path = chain / "card" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"evidence_sha256": "0" * 64}))
    finish(chain / "card", "card", {"model": chain / "model", "audits": chain / "audits"})
    assert make_release(chain) == 2
    assert "Write it anew with `mindshift release card`" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["summary", "training_data", "social_impact", "contact", "region", "hardware"])
def test_a_blank_is_refused(chain, capsys, key):
    assert make_card(chain, **{key: "[More Information Needed]"}) == 2
    assert "blank" in capsys.readouterr().err
    assert not (chain / "card").exists()


@pytest.mark.parametrize("key", ["limitations", "datasets", "gate_fields"])
def test_an_empty_part_is_refused(chain, capsys, key):
    assert make_card(chain, **{key: {} if key == "gate_fields" else []}) == 2
    assert "lacks metadata" in (error := capsys.readouterr().err) or "is empty" in error


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /home/someone/data", "local path"),
        ("kept in ~/corpora", "local path"),
        ("token hf_abcdefghijklmnop", "access token"),
        ("posts of u/someone_there", "Reddit user name"),
        ("http://10.1.2.3/data", "internal address"),
        ("http://cluster-head:8080/x", "internal address"),
        ("write to private.person@example.com", "e-mail address"),
    ],
)
def test_nothing_private_stands_in_the_card(chain, capsys, text, what):
    assert make_card(chain, training_data=f"Sentences made by a program, {text}.") == 2
    assert what in capsys.readouterr().err


def test_public_addresses_are_no_private_ones():
    text = "See https://huggingface.co/google-bert/bert-base-uncased and https://arxiv.org/abs/1802.08232, ask a@b.org"
    assert privacy_reasons(text, contact="a@b.org", where="the card") == []


def test_card_reasons_name_a_missing_section(chain):
    make_card(chain)
    text = card_text(chain).replace("## Limitations", "## Limits")
    assert any("'Limitations'" in reason for reason in card_reasons(text, contact=CARD["contact"]))
    assert card_reasons("# No metadata", contact="") == ["the card has no metadata block"]


def test_a_model_without_evaluation_gets_no_card(chain, capsys):
    (chain / "model" / "evaluation.json").unlink()
    finish_again(chain)
    assert make_card(chain) == 2
    assert "no evaluation" in capsys.readouterr().err


def finish_again(chain):
    """Make manifest and audits anew after a change of the model folder."""
    (chain / "model" / MANIFEST_NAME).unlink()
    finish_encoder(chain)
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus")


def test_the_repository_holds_what_it_should_and_no_more(chain):
    (chain / "model" / "metrics.jsonl").write_text('{"step": 1}\n')
    (chain / "model" / "training.html").write_text("<p>curves</p>")
    finish_again(chain)
    assert make_card(chain) == 0
    assert make_release(chain) == 0
    repository = chain / "built" / "repository"
    names = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert names == {
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("audits/evidence.json", "audits/report.html", "release.json", "sbom.cdx.json"),
    }
    text = "".join(path.read_text() for path in repository.rglob("*.json")) + (repository / "README.md").read_text()
    assert str(chain) not in text
    release = json.loads((repository / "release.json").read_text())
    assert set(release["verdicts"].values()) == {"passed"}
    assert set(release["files"]) == names - {"release.json"}


def test_the_bill_of_materials_names_model_and_libraries(chain):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    make_card(chain)
    make_release(chain)
    text = (chain / "built" / "repository" / "sbom.cdx.json").read_text()
    bom = json.loads(text)
    assert bom["specVersion"] == "1.6"
    assert bom["metadata"]["component"]["type"] == "machine-learning-model"
    assert bom["metadata"]["component"]["name"] == "tiny-mind"
    names = {component["name"] for component in bom["components"]}
    assert {"torch", "transformers", "model.safetensors"} <= names
    try:
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    except ImportError:
        return  # the validator's own extra is not installed; the assertions above stand
    assert error is None


def test_a_recorded_path_is_replaced_by_the_public_base(chain):
    path = chain / "model" / "config.json"
    values = json.loads(path.read_text()) | {"_name_or_path": str(chain / "somewhere")}
    path.write_text(json.dumps(values))
    finish_again(chain)
    assert make_card(chain) == 0
    assert make_release(chain) == 0
    released = json.loads((chain / "built" / "repository" / "config.json").read_text())
    assert released["_name_or_path"] == CARD["base_model"]


def test_a_private_path_in_another_file_refuses(chain, capsys):
    path = chain / "model" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trained_in": "/home/someone/corpus"}))
    finish_again(chain)
    make_card(chain)
    assert make_release(chain) == 2
    assert "tokenizer_config.json holds a local path" in capsys.readouterr().err
    assert not (chain / "built").exists()


def put_pickle(model):
    (model / "optimizer.pt").write_bytes(pickle.dumps({"step": 1}))


def put_hidden_pickle(model):
    (model / "notes.txt").write_bytes(pickle.dumps({"step": 1}))


def put_torch_zip(model):
    import torch

    torch.save({"weight": torch.zeros(2)}, model / "extra.dat")


def put_code(model):
    (model / "modeling_custom.py").write_text("print('hello')")


def put_link(model):
    (model / "outside.json").symlink_to("/etc/hostname")


def put_remote_code(model):
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "x.Y"}}))


def put_nan(model):
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    tensors["bert.embeddings.LayerNorm.weight"][0] = float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def put_note(model):
    from safetensors.torch import load_file, save_file

    save_file(load_file(model / "model.safetensors"), model / "model.safetensors", metadata={"made_by": "someone"})


def put_damage(model):
    (model / "model.safetensors").write_bytes(b"\x10" * 64)


def drop_weights(model):
    (model / "model.safetensors").unlink()


def test_weights_are_no_pickle_whatever_the_length_of_their_header(tmp_path):
    (tmp_path / "model.safetensors").write_bytes((640).to_bytes(8, "little") + b"{}")  # 0x80 0x02, as pickles begin
    assert unsafe_files(tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (put_pickle, "may be a pickle"),
        (put_hidden_pickle, "may be a pickle"),
        (put_torch_zip, "may be a pickle"),
        (put_code, "is code"),
        (put_link, "symbolic link"),
        (put_remote_code, "auto_map"),
        (put_nan, "NaN"),
        (put_note, "carries notes"),
        (put_damage, "not a readable safetensors"),
        (drop_weights, "no weights in safetensors"),
    ],
)
def test_an_unsafe_folder_is_refused(chain, capsys, spoil, message):
    assert make_card(chain) == 0
    spoil(chain / "model")
    (chain / "model" / MANIFEST_NAME).unlink()
    finish_encoder(chain)
    assert make_release(chain) == 2
    assert message in capsys.readouterr().err
    assert not (chain / "built").exists()


def test_a_model_without_manifest_is_refused(chain, capsys):
    (chain / "model" / MANIFEST_NAME).unlink()
    assert make_release(chain) == 2
    assert "no manifest.json" in capsys.readouterr().err


def test_audits_of_another_corpus_are_refused(chain, capsys):
    other = chain / "other"
    other.mkdir()
    (other / "report.json").write_text('{"kept": 4}')
    finish(other, "corpus", {})
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", other)
    make_card(chain)
    assert make_release(chain) == 2
    assert "data manifest differs" in capsys.readouterr().err


def test_a_card_of_other_audits_is_refused(chain, capsys):
    make_card(chain)
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus", change=lambda results: results[::-1])
    assert make_release(chain) == 2
    assert "the card was written for other audits" in capsys.readouterr().err


def fail_gender(results):
    for result in results:
        if result.name == "gender_skew":
            others = [m for m in result.measures if m.name != "gender_skew_excess"]
            result.measures = [*others, Measure("gender_skew_excess", 0.5, 0.2, 0.8, 0.99, 100)]
    return results


def test_a_failed_audit_refuses_and_an_override_shows_in_the_card(chain, capsys):
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus", change=fail_gender)
    assert make_card(chain) == 0
    assert "would refuse" in capsys.readouterr().out
    assert make_release(chain) == 2
    assert "gender_skew_excess" in capsys.readouterr().err
    shutil.rmtree(chain / "card")
    reason = "The board saw the skew and accepts it for this study."
    override = {"override_audits": ["gender_skew"], "override_reason": reason, "override_by": "Dr. B. Board"}
    assert make_card(chain, **override) == 0
    text = card_text(chain)
    assert reason in text
    assert "failed, overridden" in text
    assert make_release(chain) == 0


def test_an_audit_without_numbers_can_be_overridden(chain):
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus", change=lambda results: results[1:])
    reason = "None of the corpora had canaries; the board accepts it for this study."
    override = {"override_audits": ["canary_exposure"], "override_reason": reason, "override_by": "Dr. B. Board"}
    assert make_card(chain, **override) == 0
    assert "| no numbers (was not run) |" in card_text(chain)
    assert make_release(chain) == 0


@pytest.mark.parametrize("value", ["- None\n", "\n> None\n", "| a | None | b |", "key: None\n", "from `None`"])
def test_a_value_that_was_left_out_is_a_blank_but_the_word_is_not(chain, value):
    assert make_card(chain, limitations=["None of this was tested.", "For none of these; and None are known."]) == 0
    assert card_reasons(card_text(chain), contact=CARD["contact"]) == []
    assert card_reasons(f"{card_text(chain)}\n{value}", contact=CARD["contact"]) == ["the card has a blank (None)"]


def test_the_numbers_of_two_corpora_stand_under_two_names(chain):
    shutil.copytree(chain / "corpus", chain / "further")
    shutil.rmtree(chain / "audits")
    write_evidence(chain / "audits", chain / "model", chain / "corpus", further=[chain / "further"])
    assert make_card(chain) == 0
    metadata, _ = split_card(card_text(chain))
    names = [result["dataset"]["name"] for result in metadata["model-index"][0]["results"]]
    assert {"audit extraction", "audit extraction_2"} <= set(names)


def test_an_override_without_a_reason_is_refused(chain, capsys):
    assert make_card(chain, override_audits=["gender_skew"], override_by="me") == 2
    assert "written reason" in capsys.readouterr().err


def test_a_killed_build_is_finished_by_the_same_command(chain, monkeypatch):
    make_card(chain)

    def die(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("release.repository.write_sbom", die)
        assert make_release(chain) == 130
    assert not (chain / "built").exists()
    (chain / "built.partial" / "repository" / "left_over.json").write_text("{}")
    assert make_release(chain) == 0
    assert not (chain / "built" / "repository" / "left_over.json").exists()


# ---- signature and verification --------------------------------------------------------------------------------------


def check(signed, folder=None):
    folder = folder or signed / "built"
    return mindshift("release", "verify", "--folder", folder, "--public_key", signed / "keys" / "key.pem.pub")


def test_a_signed_release_verifies(signed, capsys):
    assert check(signed) == 0
    assert "as it was released" in capsys.readouterr().out


def test_a_download_with_the_hubs_own_files_verifies(signed):
    copy = shutil.copytree(signed / "built" / "repository", signed / "download")
    (copy / ".gitattributes").write_text("*.safetensors filter=lfs")
    (copy / ".cache" / "huggingface").mkdir(parents=True)
    (copy / ".cache" / "huggingface" / "x.metadata").write_text("1")
    assert check(signed, copy) == 0


def test_a_download_in_the_hub_clients_cache_is_named_as_such(signed, capsys):
    """`hf download` without --local-dir makes links into blobs/; each of them was called a symbolic link before."""
    blobs, snapshot = signed / "cache" / "blobs", signed / "cache" / "snapshots" / "0123abcd"
    shutil.copytree(signed / "built" / "repository", blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert check(signed, snapshot) == 2
    error = capsys.readouterr().err
    assert "the Hub's download cache, whose files are links" in error
    assert "--local-dir" in error
    assert "symbolic" not in error
    assert "--local-dir" in (signed / "built" / "repository" / "README.md").read_text()


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "config.json", "audits/evidence.json", "model.sig"])
def test_verify_finds_one_changed_byte(signed, capsys, name):
    path = signed / "built" / "repository" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert check(signed) == 2
    error = capsys.readouterr().err
    assert name in error or "signature" in error


def test_verify_finds_a_missing_and_an_added_file(signed, capsys):
    repository = signed / "built" / "repository"
    (repository / "tokenizer.json").unlink()
    (repository / "extra.json").write_text("{}")
    assert check(signed) == 2
    error = capsys.readouterr().err
    assert "tokenizer.json is missing" in error
    assert "extra.json was added" in error


def test_a_forged_list_of_hashes_does_not_get_past_the_signature(signed, capsys):
    from release.repository import file_records

    repository = signed / "built" / "repository"
    (repository / "README.md").write_text((repository / "README.md").read_text() + "\nmore")
    values = json.loads((repository / "release.json").read_text())
    values["files"] = file_records(repository)
    (repository / "release.json").write_text(json.dumps(values))
    assert mindshift("release", "verify", "--folder", signed / "built") == 0  # hashes alone cannot see it
    assert "NOT checked" in capsys.readouterr().out
    assert check(signed) == 2
    assert "signature" in capsys.readouterr().err


def test_another_key_does_not_verify(signed, capsys):
    from release.signing import create_key_pair

    other = create_key_pair(signed / "keys" / "other.pem")
    assert mindshift("release", "verify", "--folder", signed / "built", "--public_key", other) == 2
    assert "does not hold" in capsys.readouterr().err


def test_the_private_key_is_the_owners_alone_and_never_replaced(signed, capsys):
    key = signed / "keys" / "key.pem"
    assert key.stat().st_mode & 0o077 == 0
    before = key.read_bytes()
    words = ("--release_dir", signed / "built", "--private_key", key, "--create_key", "true")
    assert mindshift("release", "sign", *words) == 0
    assert key.read_bytes() == before


@pytest.mark.parametrize(("content", "message"), [(None, "no such key"), (b"nonsense", "not a readable PEM key")])
def test_a_bad_key_is_a_users_error(signed, capsys, content, message):
    key = signed / "bad.pem"
    if content:
        key.write_bytes(content)
    assert mindshift("release", "sign", "--release_dir", signed / "built", "--private_key", key) == 2
    assert message in capsys.readouterr().err


def test_a_key_that_the_card_does_not_state_is_refused(signed, capsys):
    from release.signing import create_key_pair

    create_key_pair(signed / "keys" / "other.pem")
    words = ("--release_dir", signed / "built", "--private_key", signed / "keys" / "other.pem")
    assert mindshift("release", "sign", *words) == 2
    assert "another key" in capsys.readouterr().err


def test_every_recipe_of_this_room_loads():
    from pathlib import Path

    from configs.recipe import load_recipe
    from release import config

    classes = {"card": config.CardRecipe, "build": config.BuildRecipe, "sign": config.SignRecipe}
    classes |= {"verify": config.VerifyRecipe, "push": config.PushRecipe, "access": config.AccessRecipe}
    folder = Path(__file__).parents[2] / "configs" / "release"
    for name, recipe_class in classes.items():
        assert load_recipe(recipe_class, [str(folder / f"{name}.yaml")], name)
    values = yaml.safe_load((folder / "card.yaml").read_text())
    assert "forbidden_uses" in values


def test_what_the_recipes_of_this_room_read_is_written_by_others():
    from pathlib import Path

    from launch.demo import DemoRecipe, chain

    configs = Path(__file__).parents[2] / "configs"
    written = {str(yaml.safe_load(path.read_text()).get("output_dir")) for path in configs.glob("*/*.yaml")}
    written |= {str(step.folder.absolute().relative_to(Path.cwd())) for step in chain(DemoRecipe.output_dir)}
    for path in (configs / "release").glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        read = [values.get(key) for key in ("model_dir", "data_dir", "audit_dir", "card_dir", "release_dir")]
        assert set(read) - {None} <= written, path.name
