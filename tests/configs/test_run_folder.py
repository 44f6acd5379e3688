import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from configs.errors import UserError
from configs.manifest import read_manifest, record_input, verify_folder
from configs.recipe import StageRecipe
from configs.run_folder import (
    finish_run_folder,
    open_run_folder,
    publish_run_folder,
    time_taken,
    working_folder,
    write_atomically,
)
from finetune.benchmark_config import BenchmarkRecipe

NOW = datetime.now(UTC).replace(microsecond=0)


def ago(hours):
    return (NOW - timedelta(hours=hours)).isoformat()


def test_a_run_works_aside_and_is_renamed_when_complete(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "deep" / "run")
    working = open_run_folder(recipe)
    assert working.name == "run.partial"
    (working / "manifest.json").write_text("{}")
    publish_run_folder(recipe)
    assert not working.exists()
    assert (recipe.output_dir / "recipe.yaml").is_file()


def test_a_finished_run_is_not_overwritten(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    recipe.output_dir.mkdir()
    (recipe.output_dir / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a finished run"):
        open_run_folder(recipe)


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is no run of mindshift"):
        open_run_folder(StageRecipe(output_dir=tmp_path))


def test_an_interrupted_run_is_resumed_by_the_same_recipe_only(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    working = open_run_folder(recipe)
    (working / "half").write_text("done")
    assert open_run_folder(recipe) == working
    assert (working / "half").exists()
    with pytest.raises(UserError, match="differs in seed"):
        open_run_folder(StageRecipe(output_dir=tmp_path / "run", seed=99))


def test_how_an_interrupted_run_works_may_change(tmp_path):
    keys = {"tasks": ["a"], "models": ["x=y"], "output_dir": tmp_path / "run"}
    working = open_run_folder(BenchmarkRecipe(**keys, jobs=1, most_new_runs=2))
    (working / "half").write_text("done")
    assert open_run_folder(BenchmarkRecipe(**keys, jobs=8)) == working
    assert yaml.safe_load((working / "recipe.yaml").read_text())["jobs"] == 8
    with pytest.raises(UserError, match=r"differs in seeds\)"):
        open_run_folder(BenchmarkRecipe(**keys, jobs=4, seeds=[7]))
    assert yaml.safe_load((working / "recipe.yaml").read_text())["jobs"] == 8


def test_a_run_that_has_done_nothing_yet_may_be_asked_otherwise(tmp_path):
    open_run_folder(StageRecipe(output_dir=tmp_path / "run"))
    working = open_run_folder(StageRecipe(output_dir=tmp_path / "run", seed=99))
    assert yaml.safe_load((working / "recipe.yaml").read_text())["seed"] == 99


def test_a_run_does_not_go_on_with_other_inputs(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    corpus, words = tmp_path / "corpus", tmp_path / "words.txt"
    corpus.mkdir()
    (corpus / "manifest.json").write_text("{}")
    words.write_text("one")
    inputs = {"corpus": corpus, "masking_lexicon": words}
    working = open_run_folder(recipe, inputs)
    (working / "half").write_text("done")
    assert open_run_folder(recipe, inputs) == working
    (corpus / "manifest.json").write_text('{"erased": 1}')
    with pytest.raises(UserError, match=r"began with another corpus\n"):
        open_run_folder(recipe, inputs)
    words.write_text("two")
    with pytest.raises(UserError, match="began with another corpus and masking_lexicon"):
        open_run_folder(recipe, inputs)
    (working / "inputs.json").unlink()  # begun before inputs were noted
    assert open_run_folder(recipe, inputs) == working


def test_an_empty_output_folder_is_fine(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    recipe.output_dir.mkdir()
    (open_run_folder(recipe) / "manifest.json").write_text("{}")
    publish_run_folder(recipe)
    assert (recipe.output_dir / "manifest.json").is_file()


def test_a_file_in_the_way_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create"):
        open_run_folder(StageRecipe(output_dir=tmp_path / "file" / "run"))


def test_a_run_without_manifest_is_never_renamed(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    open_run_folder(recipe)
    with pytest.raises(RuntimeError, match="without a manifest"):
        publish_run_folder(recipe)
    assert working_folder(recipe.output_dir).exists()


def test_a_full_disk_leaves_the_earlier_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_atomically(path, "old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("configs.run_folder.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_an_output_folder_without_a_name_is_refused(name):
    with pytest.raises(UserError, match="needs a name of its own"):
        open_run_folder(StageRecipe(output_dir=Path(name)))


def test_an_input_that_is_gone_is_another_input(tmp_path):
    recipe, words = StageRecipe(output_dir=tmp_path / "run"), tmp_path / "words.txt"
    words.write_text("one")
    (open_run_folder(recipe, {"masking_lexicon": words}) / "half").write_text("done")
    words.unlink()
    with pytest.raises(UserError, match="began with another masking_lexicon"):
        open_run_folder(recipe, {"masking_lexicon": words})


def test_a_run_that_starts_anew_forgets_what_the_attempt_before_noted(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    working = open_run_folder(recipe, {"corpus": corpus}, accepted=["corpus/a: changed"], started_at=ago(1))
    other = StageRecipe(output_dir=tmp_path / "run", seed=99)
    assert open_run_folder(other, started_at=ago(0)) == working
    assert {path.name for path in working.iterdir()} == {"recipe.yaml", "attempts.json"}
    finish_run_folder(other, stage="x", inputs={}, counts={})
    manifest = read_manifest(other.output_dir)
    assert (manifest.accepted, manifest.started_at) == ([], ago(0))


def test_a_manifest_says_what_all_attempts_at_the_run_have_read(tmp_path):
    source = tmp_path / "source"
    source.write_text("first")
    recipe = StageRecipe(output_dir=tmp_path / "run")
    first = record_input(source).sha256
    (open_run_folder(recipe, {"task": source}, accepted=["a: changed"]) / "half").write_text("")
    open_run_folder(recipe, {"task": source}, accepted=["b: missing"])
    open_run_folder(recipe, {"task": source})
    source.write_text("second")
    finish_run_folder(recipe, stage="x", inputs={"task": source}, counts={"rows": 3})
    manifest = read_manifest(recipe.output_dir)
    assert manifest.inputs["task"].sha256 == first
    assert manifest.accepted == ["a: changed", "b: missing", f"{source}: changed while the run read it"]
    assert manifest.counts == {"rows": 3}
    assert set(manifest.outputs) == {"half", "recipe.yaml"}
    assert {path.name for path in recipe.output_dir.iterdir()} == {"half", "recipe.yaml", "manifest.json"}
    assert verify_folder(recipe.output_dir) == []


def test_a_kill_before_the_final_name_keeps_what_the_attempts_noted(tmp_path, monkeypatch):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    open_run_folder(recipe, accepted=["a: changed"])
    with monkeypatch.context() as patch:
        patch.setattr("configs.run_folder.publish_run_folder", lambda recipe: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finish_run_folder(recipe, stage="x", inputs={}, counts={})
    open_run_folder(recipe)
    finish_run_folder(recipe, stage="x", inputs={}, counts={})
    assert read_manifest(recipe.output_dir).accepted == ["a: changed"]


def test_the_time_of_a_run_is_that_of_its_attempts_without_the_pauses(tmp_path, monkeypatch):
    """Ten hours ago it began, and wrote last two hours later; the second attempt began an hour ago."""
    monkeypatch.setattr("configs.run_folder.now", lambda: ago(0))
    recipe = StageRecipe(output_dir=tmp_path / "run")
    working = open_run_folder(recipe, started_at=ago(10))
    (working / "checkpoint").write_text("weights")
    os.utime(working / "checkpoint", (datetime.fromisoformat(ago(8)).timestamp(),) * 2)
    os.utime(working / "recipe.yaml", (datetime.fromisoformat(ago(10)).timestamp(),) * 2)
    (working / "written by this attempt").write_text("")
    open_run_folder(recipe, started_at=ago(1))
    assert time_taken(working) == (ago(10), 3)
    open_run_folder(recipe, started_at=ago(0))
    assert [attempt.get("ended_at") for attempt in json.loads((working / "attempts.json").read_text())] == [
        ago(8),
        ago(1),  # a kill before anything was written
        None,
    ]
    finish_run_folder(recipe, stage="x", inputs={}, counts={})
    assert read_manifest(recipe.output_dir).seconds == 2 * 3600
