"""A private run starts from no base that has read the people it protects."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from configs.errors import UserError
from configs.manifest import now, read_manifest, write_manifest
from configs.recipe import StageRecipe, load_recipe
from corpus.shards import TokenizedDocument, read_shard, split_folder, write_shard
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
    return write_people(tmp_path / "protected", {"t3_a": "ann", "t3_b": "bob", "t1_c": ""})


def read_by_a_base(tmp_path, people, **more):
    return write_stage(tmp_path / "base", "pretrain", {"corpus": write_people(tmp_path / "read", people, **more)}, {})


def write_reddit_posts(folder: Path, seed: int) -> Path:
    """A corpus whose documents have Reddit's ids and no author."""
    write_corpus(folder, first_seed=seed)
    for number in range(2):
        rows = [
            dataclasses.replace(document, id=f"t3_{document.id}") for document in read_shard(folder, "train", number)
        ]
        write_shard(split_folder(folder, "train"), number, rows, 200)
    (folder / "manifest.json").unlink()
    return write_stage(folder, "corpus", {}, {})


def test_a_run_on_a_base_of_the_same_posts_is_refused(workspace):
    corpus = write_reddit_posts(workspace.folder / "corpus", 0)
    main(workspace.arguments("same", corpus=corpus, max_steps=1), "mindshift pretrain")
    with pytest.raises(UserError, match=r"has read 120 documents and 0 authors of the protected corpus"):
        main(workspace.arguments(corpus=corpus, model=workspace.folder / "same", **PRIVATE), "mindshift pretrain")


def test_another_post_of_a_protected_author_is_enough(tmp_path, protected):
    base = read_by_a_base(tmp_path, {"t3_x": "bob", "t3_y": ""})
    with pytest.raises(UserError, match="0 documents and 1 authors"):
        refuse_base_that_read(protected, base)


def test_what_an_ancestor_has_read_counts(tmp_path, protected):
    first = read_by_a_base(tmp_path, {"t3_a": "ann"})
    later = {"corpus": write_people(tmp_path / "later", {"t3_z": "zoe"}), "model": first}
    with pytest.raises(UserError, match="1 documents and 1 authors"):
        refuse_base_that_read(protected, write_stage(tmp_path / "second", "pretrain", later, {}))


def test_others_posts_and_public_bases_are_no_obstacle(tmp_path, protected):
    assert refuse_base_that_read(protected, read_by_a_base(tmp_path, {"text_x": "xia", "t3_y": "", "t1_z": ""})) == 2
    (tmp_path / "public").mkdir()
    assert refuse_base_that_read(protected, tmp_path / "public") == 0


def test_a_checkpoint_of_an_unfinished_run_is_no_public_base(tmp_path, protected):
    for folder in (tmp_path / "run.partial" / "checkpoints" / "step-10", tmp_path / "moved"):
        folder.mkdir(parents=True)
    (tmp_path / "moved" / "state.json").write_text("{}")
    for folder in (tmp_path / "run.partial" / "checkpoints" / "step-10", tmp_path / "moved"):
        with pytest.raises(UserError, match="no manifest says whether it has read the protected corpus"):
            refuse_base_that_read(protected, folder)


@pytest.mark.parametrize("which", ["read", "protected"])
def test_texts_without_author_under_ids_of_their_own_cannot_be_told_apart(tmp_path, protected, which):
    """The same post is `t3_a` in one corpus and `text_1` in the other."""
    unnamed = write_people(tmp_path / "unnamed", {"text_1": "", "text_2": "", "text_3": "eve"})
    read, corpus = (unnamed, protected) if which == "read" else (protected, unnamed)
    base = write_stage(tmp_path / "base", "pretrain", {"corpus": read}, {})
    with pytest.raises(UserError, match=r"2 documents of .*unnamed have no author and no id of Reddit's to compare"):
        refuse_base_that_read(corpus, base)


def test_the_statement_counts_what_the_base_read_of_unknown_authors(workspace):
    """Posts of deleted accounts: one of the protected people may have written them."""
    other = write_reddit_posts(workspace.folder / "other", 50)
    main(workspace.arguments("apart", corpus=other, max_steps=1), "mindshift pretrain")
    protected = write_reddit_posts(workspace.folder / "protected", 60)
    settings = PRIVATE | {"corpus": protected, "model": workspace.folder / "apart"}
    main(workspace.arguments(**settings), "mindshift pretrain")
    counts = read_manifest(workspace.folder / "run").counts
    assert counts["privacy"]["base_without_author"] == 120
    assert "The base had read 120 documents of unknown authors, whom it does not cover" in counts["privacy_statement"]


@pytest.mark.parametrize("change", ["gone", "another key", "another manifest", "a task"])
def test_what_cannot_be_told_is_refused(tmp_path, protected, change):
    base = read_by_a_base(tmp_path, {"t3_x": "xia"}, **({"key": "another"} if change == "another key" else {}))
    if change == "gone":
        shutil.rmtree(tmp_path / "read")
    elif change == "another manifest":
        write_people(tmp_path / "read", {"t3_x": "xia", "t3_y": "yan"})
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
