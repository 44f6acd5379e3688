import errno
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs import run_folder
from configs.errors import UserError
from configs.recipe import StageRecipe
from configs.run_folder import finish_run_folder, open_run_folder, working_folder, write_atomically
from finetune.benchmark_config import BenchmarkRecipe


def test_a_run_works_aside_and_is_renamed_when_complete(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "deep" / "run")
    working = open_run_folder(recipe)
    assert working.name == "run.partial"
    (working / "manifest.json").write_text("{}")
    finish_run_folder(recipe)
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
    finish_run_folder(recipe)
    assert (recipe.output_dir / "manifest.json").is_file()


def test_a_file_in_the_way_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create"):
        open_run_folder(StageRecipe(output_dir=tmp_path / "file" / "run"))


def test_a_run_without_manifest_is_never_renamed(tmp_path):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    open_run_folder(recipe)
    with pytest.raises(RuntimeError, match="without a manifest"):
        finish_run_folder(recipe)
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
    working = open_run_folder(recipe, {"corpus": corpus})
    run_folder.note_accepted(working, ["corpus/a: changed"])
    assert open_run_folder(StageRecipe(output_dir=tmp_path / "run", seed=99)) == working
    assert {path.name for path in working.iterdir()} == {"recipe.yaml"}


WORK = """
import sys, time
from pathlib import Path
from configs.recipe import StageRecipe
from configs.run_folder import open_run_folder
(open_run_folder(StageRecipe(output_dir=Path(sys.argv[1]))) / "half").touch()
print("at work", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that is at work on the run of this folder."""
    process = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_two_processes_never_work_in_one_folder(tmp_path, other):
    recipe = StageRecipe(output_dir=tmp_path / "run")
    with pytest.raises(UserError, match=f"process {other.pid} on {platform.node()} is at work on this run"):
        open_run_folder(recipe)
    other.kill()
    other.wait()
    working = open_run_folder(recipe)  # the lock went with the process
    (working / "manifest.json").write_text("{}")
    finish_run_folder(recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_requeued_job_does_not_wait_for_its_own_lost_node(tmp_path, other, monkeypatch):
    holder = {"process": 1, "machine": "n1", "since": "before", "job": "5", "attempt": 0}
    (tmp_path / "run.partial.lock").write_text(json.dumps(holder))
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setattr(run_folder, "LEASE_SECONDS", -1.0)
    with pytest.raises(UserError, match=r"process 1 on n1 is at work(?s:.)*remove .*run\.partial\.lock"):
        open_run_folder(StageRecipe(output_dir=tmp_path / "run"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert open_run_folder(StageRecipe(output_dir=tmp_path / "run")).is_dir()


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("configs.run_folder.fcntl.flock", refuse)
    assert open_run_folder(StageRecipe(output_dir=tmp_path / "run")).is_dir()
