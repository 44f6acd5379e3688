"""Each recipe of the room loads, and impossible values are refused by name."""

import dataclasses
from pathlib import Path

import pytest

from configs.errors import UserError
from configs.recipe import load_recipe
from pretrain.config import PretrainRecipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "configs" / "pretrain").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_loads_and_names_its_own_command(path: Path):
    recipe = load_recipe(PretrainRecipe, [str(path)], "mindshift pretrain")
    assert f"configs/pretrain/{path.name}" in path.read_text(encoding="utf-8")
    assert recipe.output_dir.parts[0] == "runs"


def test_mentalbert_keeps_the_papers_protocol():
    recipe = load_recipe(PretrainRecipe, [str(RECIPES[0].with_name("mentalbert.yaml"))], "mindshift pretrain")
    assert recipe.model == "google-bert/bert-base-uncased"
    assert (recipe.max_seq_length, recipe.micro_batch_size, recipe.max_steps) == (512, 16, 624_000)
    assert (recipe.eval_steps, recipe.mlm_probability) == (1000, 0.15)


@pytest.mark.parametrize("name", ["mentalbert", "mentalroberta"])
@pytest.mark.parametrize(("rows", "processes", "micro_batches"), [(16, 4, 1), (16, 1, 4), (8, 8, 1), (4, 16, 1)])
def test_the_papers_batch_is_the_same_on_any_number_of_gpus(name, rows, processes, micro_batches):
    path = RECIPES[0].with_name(f"{name}.yaml")
    recipe = load_recipe(PretrainRecipe, [str(path), "--micro_batch_size", str(rows)], "mindshift pretrain")
    assert recipe.accumulation_steps(processes) == micro_batches
    assert recipe.global_batch_tokens == 64 * recipe.max_seq_length


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["--mlm_probability", "1.5"], "mlm_probability is 1.5"),
        (["--warmup_ratio", "-0.1"], "warmup_ratio is -0.1"),
        (["--micro_batch_size", "0"], "micro_batch_size is 0"),
        (["--learning_rate", "0"], "learning_rate is 0"),
        (["--weight_decay", "-0.1"], "weight_decay is -0.1"),
        (["--adam_beta1", "-0.1"], "adam_beta1 is -0.1"),
        (["--adam_beta1", "1.0"], "adam_beta1 is 1.0"),
        (["--adam_beta2", "1.0"], "adam_beta2 is 1.0"),
        (["--adam_epsilon", "0"], "adam_epsilon is 0"),
        (["--max_grad_norm", "-1"], "max_grad_norm is -1"),
        (["--num_train_epochs", "1"], "one of the two"),
        (["--lr_scheduler_type", "step"], "lr_scheduler_type"),
        (["--save_total_limit", "1"], "save_total_limit is 1"),
        (["--mlm_probabilty", "0.3"], "did you mean 'mlm_probability'"),
    ],
)
def test_impossible_values_are_refused_by_name(overrides, named):
    arguments = ["--output_dir", "runs/x", "--corpus", "runs/c", "--max_steps", "5", *overrides]
    with pytest.raises(UserError, match=named):
        load_recipe(PretrainRecipe, arguments, "mindshift pretrain")


def test_the_optimizers_switches_may_be_off():
    off = {"weight_decay": "0", "adam_beta1": "0", "adam_beta2": "0", "max_grad_norm": "0"}
    arguments = ["--output_dir", "runs/x", "--corpus", "runs/c", "--max_steps", "5"]
    arguments += [word for key, value in off.items() for word in (f"--{key}", value)]
    recipe = load_recipe(PretrainRecipe, arguments, "mindshift pretrain")
    assert [getattr(recipe, key) for key in off] == [0, 0, 0, 0]


def test_the_laptop_adapts_the_base_whose_head_was_warmed_up_on_the_replayed_text():
    head, adaptation = (
        load_recipe(PretrainRecipe, [str(RECIPES[0].with_name(f"{name}.yaml"))], "mindshift pretrain")
        for name in ("laptop_head", "laptop")
    )
    assert head.trainable == "head"
    assert adaptation.trainable == "all"
    assert Path(adaptation.model) == head.output_dir
    assert adaptation.general_corpus == head.corpus


def test_modern_masks_30_percent_then_15_in_the_decay():
    recipe = load_recipe(PretrainRecipe, [str(RECIPES[0].with_name("modern.yaml"))], "mindshift pretrain")
    assert (recipe.mlm_probability, recipe.final_mlm_probability, recipe.lr_scheduler_type) == (0.3, 0.15, "wsd")
    assert recipe.global_batch_tokens % (recipe.micro_batch_tokens * 4) == 0


def test_mentalroberta_differs_from_mentalbert_in_the_model_only():
    one, other = (
        dataclasses.asdict(
            load_recipe(PretrainRecipe, [str(RECIPES[0].with_name(f"{name}.yaml"))], "mindshift pretrain")
        )
        for name in ("mentalbert", "mentalroberta")
    )
    assert {key for key in one if one[key] != other[key]} == {"model", "corpus", "output_dir"}
