"""A private run starts from no base that has read the people it protects."""

import shutil
from pathlib import Path

import pytest

from configs.errors import UserError
from configs.manifest import now, write_manifest
from configs.recipe import StageRecipe, load_recipe
from corpus.shards import TokenizedDocument, split_folder, write_shard
from pretrain.config import PretrainRecipe
from pretrain.private_base import refuse_base_that_read
from pretrain.run_mlm import main

from .conftest import write_corpus

PRIVATE = {"dp_noise_multiplier": 0.8, "dp_units_per_step": 6, "dp_unit": "document", "max_steps": 1}


def write_stage(folder: Path, stage: str, inputs: dict[str, Path], counts: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = StageRecipe(output_dir=folder)
    write_manifest(folder, stage=stage, recipe=recipe, inputs=inputs, counts=counts, started_at=now())
    return folder


def write_people(folder: Path, people: dict[str, str], key: str = "one key") -> Path:
    """A corpus of a document for each id, by the author it is given."""
    rows = [TokenizedDocument(id=name, token_ids=[9] * 5, author_hash=author) for name, author in people.items()]
    write_shard(split_folder(folder, "train"), 0, rows, 200)
    return write_stage(folder, "corpus", {}, {"author_key": key})


@pytest.fixture
def protected(tmp_path):
    return write_people(tmp_path / "protected", {"a": "ann", "b": "bob", "c": ""})


def read_by_a_base(tmp_path, people, **more):
    return write_stage(tmp_path / "base", "pretrain", {"corpus": write_people(tmp_path / "read", people, **more)}, {})


def test_a_run_on_a_base_of_the_same_posts_is_refused_and_one_of_others_is_not(workspace):
    main(workspace.arguments("same", max_steps=1), "mindshift pretrain")
    with pytest.raises(UserError, match=r"has read 120 documents and 0 authors of the protected corpus"):
        main(workspace.arguments(model=workspace.folder / "same", **PRIVATE), "mindshift pretrain")
    other = write_corpus(workspace.folder / "other", first_seed=50)
    main(workspace.arguments("apart", corpus=other, max_steps=1), "mindshift pretrain")
    main(workspace.arguments(model=workspace.folder / "apart", **PRIVATE), "mindshift pretrain")


def test_another_post_of_a_protected_author_is_enough(tmp_path, protected):
    base = read_by_a_base(tmp_path, {"x": "bob", "y": ""})
    with pytest.raises(UserError, match="0 documents and 1 authors"):
        refuse_base_that_read(protected, base)


def test_what_an_ancestor_has_read_counts(tmp_path, protected):
    first = read_by_a_base(tmp_path, {"a": "ann"})
    later = {"corpus": write_people(tmp_path / "later", {"z": "zoe"}), "model": first}
    with pytest.raises(UserError, match="1 documents and 1 authors"):
        refuse_base_that_read(protected, write_stage(tmp_path / "second", "pretrain", later, {}))


def test_others_posts_and_public_bases_are_no_obstacle(tmp_path, protected):
    refuse_base_that_read(protected, read_by_a_base(tmp_path, {"x": "xia", "y": ""}))
    (tmp_path / "public").mkdir()
    refuse_base_that_read(protected, tmp_path / "public")


@pytest.mark.parametrize("change", ["gone", "another key", "another manifest", "a task"])
def test_what_cannot_be_told_is_refused(tmp_path, protected, change):
    base = read_by_a_base(tmp_path, {"x": "xia"}, **({"key": "another"} if change == "another key" else {}))
    if change == "gone":
        shutil.rmtree(tmp_path / "read")
    elif change == "another manifest":
        write_people(tmp_path / "read", {"x": "xia", "y": "yan"})
    elif change == "a task":
        (tmp_path / "task").mkdir()
        base = write_stage(tmp_path / "tuned", "finetune", {"task": tmp_path / "task", "model": base}, {})
    with pytest.raises(UserError, match="cannot be told whether this base has read the protected corpus"):
        refuse_base_that_read(protected, base)


def test_the_private_recipe_starts_from_a_public_base_with_a_head():
    path = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "private.yaml"
    recipe = load_recipe(PretrainRecipe, [str(path)], "mindshift pretrain")
    assert recipe.is_private
    assert recipe.model == "google-bert/bert-base-uncased"
