"""The mean of encoders: the weights by hand, its evaluation, and what is refused."""

import json

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForMaskedLM

from configs.errors import UserError
from pretrain.run_mlm import main as pretrain
from pretrain.run_soup import main


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
