"""Encoders side by side: the figures that pretraining itself gave, the same masks for all, and what is refused."""

import json

import pytest

from configs.errors import UserError
from pretrain.run_evaluate import main
from pretrain.run_mlm import main as pretrain


def score(workspace, **keys):
    values = {"output_dir": workspace.folder / "scores", "max_seq_length": 64} | keys
    words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    main(words, "mindshift pretrain evaluate")
    return json.loads((workspace.folder / "scores" / "held_out.json").read_text())


def test_scores_are_those_of_pretraining_itself(workspace, capsys):
    pretrain(workspace.arguments("adapted", seed=1, max_steps=3), "mindshift pretrain")
    capsys.readouterr()
    adapted = workspace.folder / "adapted"
    models = json.dumps([f"adapted={adapted}", f"posts={adapted}"])  # the second has the corpus's name
    found = score(workspace, models=models, corpora=json.dumps([f"posts={workspace.corpus}"]))
    after = json.loads((adapted / "evaluation.json").read_text())["after"]["overall"]
    assert found["adapted"]["posts"] == found["posts"]["posts"]
    inputs = json.loads((workspace.folder / "scores" / "manifest.json").read_text())["inputs"]
    assert set(inputs) == {"corpus posts", "model adapted", "model posts"}
    assert found["adapted"]["posts"]["loss"] == pytest.approx(after["loss"], rel=1e-2)  # bfloat16 here
    assert found["adapted"]["posts"]["masked_tokens"] == after["masked_tokens"]
    assert f"adapted on posts: loss {found['adapted']['posts']['loss']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("models", "message"), [("[]", "models"), ('["tiny"]', "NAME=VALUE"), ('["a=x", "a=y"]', "a name of its own")]
)
def test_impossible_lists_are_refused(workspace, models, message):
    with pytest.raises(UserError, match=message):
        score(workspace, models=models, corpora=json.dumps([f"posts={workspace.corpus}"]))
    assert not (workspace.folder / "scores").exists()
