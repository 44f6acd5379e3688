import dataclasses
import json

import pytest

from configs.errors import UserError
from configs.manifest import read_manifest, sha256_file, verify_folder, write_manifest
from configs.recipe import StageRecipe, recipe_sha256


@pytest.fixture
def finished(tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("input")
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"\0\1")
    (folder / "sub" / "b.txt").write_text("b")
    recipe = StageRecipe(output_dir=folder)
    write_manifest(
        folder, stage="corpus", recipe=recipe, inputs={"source": source}, counts={"kept": 3}, started_at="2020"
    )
    return folder


def test_manifest_binds_recipe_inputs_and_outputs(finished):
    manifest = read_manifest(finished)
    assert manifest.stage == "corpus"
    assert manifest.counts == {"kept": 3}
    assert manifest.recipe_sha256 == recipe_sha256(StageRecipe(output_dir=finished))
    assert set(manifest.outputs) == {"a.bin", "sub/b.txt"}
    assert manifest.outputs["a.bin"].sha256 == sha256_file(finished / "a.bin")
    assert manifest.outputs["a.bin"].size_bytes == 2
    assert manifest.inputs["source"].sha256 == sha256_file(finished.parent / "source.txt")
    assert len(manifest.code_sha256) == 64
    assert "torch" in manifest.versions


def test_an_input_folder_is_bound_by_its_own_manifest(finished, tmp_path):
    later = tmp_path / "later"
    later.mkdir()
    write_manifest(
        later, stage="x", recipe=StageRecipe(output_dir=later), inputs={"c": finished}, counts={}, started_at=""
    )
    record = read_manifest(later).inputs["c"]
    assert record.has_manifest
    assert record.sha256 == sha256_file(finished / "manifest.json")


def test_a_run_records_what_it_read_not_what_lies_there_when_it_ends(finished, tmp_path):
    """As when a corpus is erased from while a model trains on it."""
    before = {"c": sha256_file(finished / "manifest.json")}
    later = tmp_path / "later"
    later.mkdir()
    options = {"stage": "x", "recipe": StageRecipe(output_dir=later), "counts": {}, "started_at": ""}
    write_manifest(later, inputs={"c": finished}, began_with=before, **options)
    assert read_manifest(later).accepted == []
    (finished / "manifest.json").write_text((finished / "manifest.json").read_text() + "\n")
    write_manifest(later, inputs={"c": finished}, began_with=before, accepted=["other"], **options)
    manifest = read_manifest(later)
    assert manifest.inputs["c"].sha256 == before["c"]
    assert manifest.accepted == ["other", f"{finished}: changed while the run read it"]


def test_an_untouched_folder_verifies(finished):
    assert verify_folder(finished, stage="corpus") == []


def test_a_changed_or_missing_file_is_refused_or_recorded(finished):
    (finished / "a.bin").write_bytes(b"\0\2")
    (finished / "sub" / "b.txt").unlink()
    with pytest.raises(UserError, match=r"a\.bin: changed since .* \(and 1 more\)"):
        verify_folder(finished)
    accepted = verify_folder(finished, accept_changes=True)
    assert [line.rsplit(": ", 1)[1] for line in accepted] == ["changed since its manifest was written", "missing"]


def test_another_stages_folder_is_refused(finished):
    with pytest.raises(UserError, match="output of stage 'corpus', not of 'pretrain'"):
        verify_folder(finished, stage="pretrain")


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        verify_folder(tmp_path)


@pytest.mark.parametrize("change", [lambda v: v.pop("outputs"), lambda v: v.update(extra=1), lambda v: v.clear()])
def test_a_foreign_manifest_is_refused(finished, change):
    path = finished / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="not a manifest of mindshift"):
        read_manifest(finished)


def test_manifest_survives_its_file(finished):
    manifest = read_manifest(finished)
    assert json.loads((finished / "manifest.json").read_text()) == json.loads(json.dumps(dataclasses.asdict(manifest)))
