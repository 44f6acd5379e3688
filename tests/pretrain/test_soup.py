"""The mean of encoders: the weights by hand, its evaluation, and what is refused."""

import json

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForMaskedLM

from configs.errors import UserError
from configs.manifest import now, write_manifest
from configs.recipe import StageRecipe
from corpus.shards import split_folder, write_shard
from pretrain.run_mlm import main as pretrain
from pretrain.run_soup import main

from .conftest import VOCABULARY, make_documents, write_corpus


@pytest.fixture
def encoders(workspace):
    for name, seed, steps in (("first", 1, 4), ("second", 2, 3)):
        pretrain(workspace.arguments(name, seed=seed, max_steps=steps), "mindshift pretrain")
    return [workspace.folder / "first", workspace.folder / "second"]


def cook(workspace, models, **keys):
    values = {"output_dir": workspace.folder / "soup", "corpus": workspace.corpus, "max_seq_length": 64} | keys
    words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    main(["--models", json.dumps([str(model) for model in models]), *words], "mindshift pretrain soup")
    return values["output_dir"]


def test_the_mean_is_weighted_and_loads_in_plain_transformers(workspace, encoders):
    soup = cook(workspace, encoders, shares="[0.25, 0.75]")
    first, second, mean = (load_file(folder / "model.safetensors") for folder in (*encoders, soup))
    assert set(mean) == set(first)
    for name, weight in mean.items():
        assert_close(weight, 0.25 * first[name] + 0.75 * second[name])
    AutoModelForMaskedLM.from_pretrained(soup)
    found = json.loads((soup / "evaluation.json").read_text())
    trained = json.loads((encoders[0] / "evaluation.json").read_text())
    assert found["before"]["overall"]["loss"] == pytest.approx(trained["after"]["overall"]["loss"], rel=0.02)  # bf16
    assert found["after"] != found["before"]
    assert found["steps"] == 3  # the second's: the first is where it started


def test_what_its_members_may_have_replayed_is_not_scored(workspace, encoders, tmp_path):
    """The general corpus trains on half of what the domain holds out."""
    general, held_out = write_corpus(tmp_path / "general", first_seed=40), make_documents(20, 99)
    write_shard(split_folder(general, "train"), 2, held_out[::2], len(VOCABULARY))
    (general / "manifest.json").unlink()
    recipe = StageRecipe(output_dir=general)
    write_manifest(general, stage="corpus", recipe=recipe, inputs={}, counts={}, started_at=now())
    found = [
        json.loads((cook(workspace, encoders, **keys) / "evaluation.json").read_text())["after"]["overall"]
        for keys in ({"output_dir": tmp_path / "alone"}, {"output_dir": tmp_path / "both", "general_corpus": general})
    ]
    unseen, all_tokens = (sum(len(text.token_ids) for text in texts) for texts in (held_out[1::2], held_out))
    assert found[1]["masked_tokens"] / found[0]["masked_tokens"] == pytest.approx(unseen / all_tokens, abs=0.1)


@pytest.mark.parametrize("shares", ["[0.5, 0.6]", "[1.0]", "[1.5, -0.5]"])
def test_impossible_shares_are_refused(workspace, shares):
    with pytest.raises(UserError, match="shares"):
        cook(workspace, ["a", "b"], shares=shares)


def test_one_encoder_has_no_mean(workspace):
    with pytest.raises(UserError, match="models"):
        cook(workspace, ["a"])


def test_what_is_no_encoder_is_refused(workspace, encoders):
    with pytest.raises(UserError, match="stage 'corpus'"):
        cook(workspace, [encoders[0], workspace.corpus])
    assert not (workspace.folder / "soup").exists()
