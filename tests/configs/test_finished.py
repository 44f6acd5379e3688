"""A finished folder is what is asked for, or the keys in which it differs are named."""

import json
from pathlib import Path

import pytest

from configs.finished import differences
from configs.manifest import now, record_input, write_manifest
from configs.recipe import StageRecipe
from finetune.config import FinetuneRecipe
from pretrain.config import PretrainRecipe


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A finished pretraining on a corpus folder, its paths relative to the present folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "base", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "corpus" / "manifest.json").write_text("{}")
    (tmp_path / "base" / "config.json").write_text("{}")
    recipe = asked()
    inputs = {"corpus": recipe.corpus, "model": Path(recipe.model)}
    write_manifest(recipe.output_dir, stage="pretrain", recipe=recipe, inputs=inputs, counts={}, started_at=now())
    return recipe.output_dir


def asked(**keys):
    values = {"output_dir": "run", "corpus": "corpus", "model": "base", "max_steps": 5} | keys
    for key in ("output_dir", "corpus", "masking_lexicon"):
        values |= {key: Path(values[key])} if key in values else {}
    return PretrainRecipe(**values)


def test_the_same_recipe_and_what_does_not_count(made):
    assert differences(made, asked()) == []
    assert differences(made, asked(logging_steps=3, save_steps=7, accept_changed_inputs=True)) == []


@pytest.mark.parametrize(
    ("keys", "differs"),
    [
        ({"learning_rate": 3e-3}, ["learning_rate"]),
        ({"model": "package:minilm"}, ["model"]),
        ({"masking_lexicon": "corpus/manifest.json"}, ["masking_lexicon"]),
        ({"seed": 1, "max_steps": 6}, ["seed", "max_steps"]),
        ({"corpus": "gone"}, ["corpus"]),
    ],
)
def test_another_value_is_named(keys, differs, made):
    assert differences(made, asked(**keys)) == differs


def test_an_input_counts_by_its_content_and_not_by_its_place(made, tmp_path):
    (tmp_path / "corpus").rename(tmp_path / "moved")
    assert differences(made, asked(corpus="moved")) == []
    (tmp_path / "moved" / "manifest.json").write_text('{"built": "anew"}')
    assert differences(made, asked(corpus="moved")) == ["corpus"]
    (tmp_path / "base" / "weights").touch()
    assert differences(made, asked(corpus="moved")) == ["corpus", "model"]


def test_a_manifest_of_older_code_is_read_with_today_s_defaults(made):
    values = json.loads((made / "manifest.json").read_text())
    del values["recipe"]["max_rewinds"]
    values["recipe"]["soup_base_share"] = 0.0  # there is no such key any more
    (made / "manifest.json").write_text(json.dumps(values))
    assert differences(made, asked()) == []
    assert differences(made, asked(max_rewinds=1)) == ["max_rewinds"]


def test_what_a_run_has_accepted_is_accepted_again_or_not(made):
    values = json.loads((made / "manifest.json").read_text())
    values["recipe"]["accept_changed_inputs"], values["accepted"] = True, ["corpus/a: changed"]
    (made / "manifest.json").write_text(json.dumps(values))
    assert differences(made, asked()) == ["accept_changed_inputs"]
    assert differences(made, asked(accept_changed_inputs=True)) == []


def test_files_that_a_pattern_finds_count_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dumps").mkdir()
    (tmp_path / "dumps" / "a.zst").write_text("1")
    recipe = FinetuneRecipe(output_dir=tmp_path, task="./dumps/*.zst")
    dump = next(tmp_path.glob("dumps/*")).relative_to(tmp_path)
    write_manifest(tmp_path, stage="x", recipe=recipe, inputs={str(dump): dump}, counts={}, started_at=now())
    assert record_input(dump).path == "dumps/a.zst"
    assert differences(tmp_path, recipe) == []
    (tmp_path / "dumps" / "b.zst").write_text("2")
    assert differences(tmp_path, recipe) == ["task"]


def test_a_key_without_default_that_the_manifest_lacks_differs(tmp_path):
    write_manifest(tmp_path, stage="x", recipe=StageRecipe(output_dir=tmp_path), inputs={}, counts={}, started_at=now())
    assert "corpus" in differences(tmp_path, asked())
