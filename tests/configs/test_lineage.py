"""A lineage holds what every generation was trained on, no more, and says where it breaks off."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from configs.lineage import trace_lineage
from configs.manifest import read_manifest, record_input, write_manifest
from configs.recipe import StageRecipe


@dataclasses.dataclass(kw_only=True)
class Recipe(StageRecipe):
    """Keys by which a manifest tells what its run trained on."""

    model: str | None = None
    task: str | None = None
    auxiliary_tasks: list[str] = dataclasses.field(default_factory=list)
    augmentation: str = "none"
    augmentation_model: str | None = None
    replay_share: float = 0.0
    max_steps: int | None = None
    num_train_epochs: float | None = None
    dp_epsilon: float | None = None


@dataclasses.dataclass(kw_only=True)
class Soup(StageRecipe):
    shares: list[float]


class House:
    """Folders of finished runs, with names for contents."""

    def __init__(self, root: Path):
        self.root = root

    def make(self, name, stage="corpus", *, recipe=None, accepted=(), counts=None, **inputs):
        folder = self.root / name
        folder.mkdir()
        (folder / "content").write_text(name)
        recipe = recipe or Recipe(output_dir=folder)
        inputs = {key: self.root / source for key, source in inputs.items()}
        write_manifest(
            folder,
            stage=stage,
            recipe=recipe,
            inputs=inputs,
            counts=counts or {},
            started_at="",
            accepted=list(accepted),
        )
        return folder

    def trace(self, name, **options):
        return trace_lineage(read_manifest(self.root / name), **options)

    def sha256(self, name):
        return record_input(self.root / name).sha256


def names(records):
    return {Path(record.path).name for record in records.values()}


@pytest.fixture
def house(tmp_path):
    """A base without a manifest; corpora a, b, c and general; a task; two generations and a soup."""
    house = House(tmp_path)
    for name in ("a", "b", "c", "general"):
        house.make(name)
    for name in ("base", "task"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    house.make("first", "pretrain", corpus="a", general_corpus="general", masking_contrast="c", model="base")
    replay = Recipe(output_dir=tmp_path, replay_share=0.1)
    house.make("second", "pretrain", recipe=replay, corpus="b", general_corpus="general", model="first")
    soup = Soup(output_dir=tmp_path, shares=[0.5, 0.5])
    house.make("soup", "pretrain", recipe=soup, corpus="c", model_0="first", model_1="second")
    return house


def test_one_generation_has_seen_its_corpus_and_no_text_that_only_scores_or_counts(house):
    lineage = house.trace("first")
    assert names(lineage.data) == {"a"}
    assert set(lineage.ancestors) == {house.sha256("base")}
    assert lineage.gaps == ()


def test_a_second_generation_has_seen_the_first_one_s_corpus_and_what_it_replayed(house):
    lineage = house.trace("second")
    assert set(lineage.corpora) == {house.sha256(name) for name in ("a", "b", "general")}
    assert names(lineage.ancestors) == {"base", "first"}


def test_a_soup_has_seen_what_its_members_have_and_nothing_itself(house):
    lineage = house.trace("soup")
    assert names(lineage.data) == {"a", "b", "general"}
    assert names(lineage.ancestors) == {"base", "first", "second"}


def test_the_share_of_a_corpus_that_was_read_is_the_largest_that_a_run_tells(house):
    house.make("third", "pretrain", counts={"shares_read": {"corpus": 0.4}}, corpus="a", model="second")
    replay = Recipe(output_dir=house.root, replay_share=0.1, num_train_epochs=2)
    counts = {"shares_read": {"corpus": 0.7, "general_corpus": 0.2}}
    recipe = {"recipe": replay, "general_corpus": "general"}
    house.make("fourth", "pretrain", counts=counts, corpus="a", model="third", **recipe)
    assert house.trace("second").shares_read == {house.sha256(name): None for name in ("a", "b", "general")}
    found = house.trace("fourth").shares_read
    assert found == {house.sha256("a"): 0.7, house.sha256("b"): None, house.sha256("general"): 0.2}
    house.make("fifth", "pretrain", corpus="a", model="fourth", **recipe)  # of before runs told it: a pass or more
    assert house.trace("fifth").shares_read == found | {house.sha256("a"): 1.0}


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        ({"num_train_epochs": 1.0}, 1.0),
        ({"num_train_epochs": 0.5}, None),
        ({"max_steps": 10**6}, None),
        ({"num_train_epochs": 3.0, "dp_epsilon": 8.0}, None),  # draws at random, with repetition
    ],
)
def test_an_older_manifest_proves_a_whole_pass_by_its_recipe_or_not_at_all(house, keys, share):
    house.make("third", "pretrain", recipe=Recipe(output_dir=house.root, **keys), corpus="c", model="base")
    assert house.trace("third").shares_read == {house.sha256("c"): share}


def test_a_vocabulary_trains_nothing(house):
    house.make("wide", "vocabulary", corpus="c", model="first")
    assert names(house.trace("wide").data) == {"a"}


def test_a_vocabulary_publishes_words_of_its_corpus(house):
    house.make("wide", "vocabulary", corpus="c", model="first")
    house.make("third", "pretrain", corpus="b", model="wide")
    assert names(house.trace("third").vocabularies) == {"c"}
    assert house.trace("first").vocabularies == {}


@pytest.mark.parametrize("mark", ["state.json", "checksums.json", None])
def test_a_checkpoint_is_a_gap(house, mark):
    folder = house.root / ("copy" if mark else "run.partial/checkpoints/step-1")
    folder.mkdir(parents=True)
    (folder / (mark or "model.safetensors")).write_text("{}")
    house.make("third", "pretrain", corpus="a", model=folder.relative_to(house.root))
    assert house.trace("third").gaps == (
        f"{folder.name}, which the model came from, is a checkpoint: no manifest says what it has read",
    )


def test_a_downloaded_model_in_a_folder_called_checkpoints_is_none(house):
    (house.root / "checkpoints" / "public").mkdir(parents=True)
    house.make("third", "pretrain", corpus="a", model="checkpoints/public")
    assert house.trace("third").gaps == ()


def test_a_classifier_has_seen_its_tasks_and_its_encoder_s_corpora(house):
    (house.root / "other").mkdir()
    house.make("classifier", "finetune", **{"task": "task", "auxiliary task other": "other", "model": "first"})
    lineage = house.trace("classifier")
    assert names(lineage.tasks) == {"task", "other"}
    assert names(lineage.corpora) == {"a"}
    assert names(lineage.data) == {"task", "other", "a"}


def test_a_base_of_the_hub_is_known_by_its_name(house):
    house.make("third", "pretrain", recipe=Recipe(output_dir=house.root, model="OWNER/BASE"), corpus="a")
    house.make("fourth", "pretrain", recipe=Recipe(output_dir=house.root, model="ignored"), corpus="b", model="third")
    lineage = house.trace("fourth")
    assert lineage.public_names == {"OWNER/BASE"}
    assert names(lineage.ancestors) == {"third"}


def test_the_past_of_an_ancestor_can_be_left_out(house):
    lineage = house.trace("soup", stop_at={house.sha256("first")})
    assert names(lineage.data) == {"b", "general"}
    assert names(lineage.ancestors) == {"first", "second"}


@pytest.mark.parametrize("change", ["gone", "no manifest", "another manifest"])
def test_an_ancestor_that_is_not_there_as_it_was_is_a_gap(house, change):
    first = house.root / "first"
    if change == "gone":
        shutil.rmtree(first)
    elif change == "no manifest":
        (first / "manifest.json").unlink()
    else:
        (first / "manifest.json").write_text((first / "manifest.json").read_text() + "\n")
    lineage = house.trace("second")
    assert lineage.gaps == ("first, which the model came from, is gone or has another manifest now",)
    assert names(lineage.data) == {"b", "general"}
    assert house.trace("second", stop_at=set(lineage.ancestors)).gaps == ()


def test_a_base_without_a_manifest_and_a_corpus_may_go(house):
    shutil.rmtree(house.root / "base")
    shutil.rmtree(house.root / "a")
    assert house.trace("second").gaps == ()
    assert names(house.trace("second").data) == {"a", "b", "general"}


@pytest.mark.parametrize("key", ["task", "auxiliary_tasks"])
def test_a_dataset_without_a_hash_is_a_gap(house, key):
    value = "OWNER/DATASET" if key == "task" else ["OWNER/DATASET"]
    recipe = Recipe(output_dir=house.root, **{key: value})
    house.make("classifier", "finetune", recipe=recipe, model="first")
    house.make("on_top", "pretrain", corpus="b", model="classifier")
    gaps = house.trace("on_top").gaps
    assert gaps == ("classifier was trained on DATASET, of which no hash was recorded",)


def test_an_output_of_another_stage_is_a_gap(house):
    assert "stage 'corpus'" in house.trace("a").gaps[0]


def test_ancestors_that_accepted_changed_inputs_are_named(house):
    house.make("third", "pretrain", corpus="b", model="first", accepted=["first/content: changed"])
    house.make("fourth", "pretrain", corpus="b", model="third")
    assert house.trace("third").changed == ()  # its own manifest says so already
    assert house.trace("fourth").changed == ("third",)


def test_what_filled_in_words_has_passed_on_what_it_had_read(house):
    recipe = Recipe(
        output_dir=Path("x"), model="OWNER/BASE", task="task", augmentation="back_off_masking",
        augmentation_model=str(house.root / "first"),
    )  # fmt: skip
    house.make("classifier", "finetune", recipe=recipe, task="task", augmentation_model="first")
    lineage = house.trace("classifier")
    assert names(lineage.corpora) == {"a"}
    assert names(lineage.ancestors) == {"first", "base"}
    assert lineage.public_names == {"OWNER/BASE"}
    assert lineage.gaps == ()
    house.make("older", "finetune", recipe=recipe, task="task")
    assert house.trace("older").gaps == ("the model was trained on first, of which no hash was recorded",)
    public = dataclasses.replace(recipe, augmentation_model="OWNER/FILLER")
    house.make("public", "finetune", recipe=public, task="task")
    assert house.trace("public").gaps == ()
