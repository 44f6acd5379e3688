import dataclasses
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from configs.errors import UserError
from configs.recipe import StageRecipe, dump_recipe, load_recipe, recipe_sha256, require


@dataclasses.dataclass(kw_only=True)
class ToyRecipe(StageRecipe):
    """A toy stage."""

    learning_rate: float = 1e-4
    """Peak learning rate, per step."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Shape of the schedule."""
    inputs: list[str] = dataclasses.field(default_factory=list)
    """Globs."""
    limit: int | None = None
    """Documents at most."""
    columns: list[str] | None = None
    """Names."""

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a positive number")


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def load(*arguments: str) -> ToyRecipe:
    return load_recipe(ToyRecipe, arguments, "toy")


def test_recipe_file_then_overrides(tmp_path):
    recipe = write(tmp_path / "r.yaml", "output_dir: out\nlearning_rate: 1e-3\ninputs: [a, b]\n")
    loaded = load(recipe, "--schedule", "cosine", "--limit", "7", "--learning_rate=2e-3")
    assert loaded == ToyRecipe(
        output_dir=Path("out"), learning_rate=2e-3, schedule="cosine", inputs=["a", "b"], limit=7
    )


def test_no_recipe_file_is_needed():
    assert load("--output_dir", "o").learning_rate == 1e-4


def test_resolved_recipe_reads_back_as_itself(tmp_path):
    recipe = load("--output_dir", "o", "--inputs", "[x, y]", "--limit", "3")
    assert load(write(tmp_path / "again.yaml", dump_recipe(recipe))) == recipe


@example(
    rate=1.0, limit=None, inputs=["\x85", "\u2028", "é", ": #", "\n", "1e5", "1E+9", "-.5", "007", "null", "~", "1_0"]
)
@given(rate=st.floats(1e-9, 1e3), limit=st.none() | st.integers(-5, 10**9), inputs=st.lists(st.text(max_size=5)))
def test_any_recipe_survives_yaml(rate, limit, inputs, tmp_path_factory):
    recipe = ToyRecipe(output_dir=Path("o"), learning_rate=rate, limit=limit, inputs=inputs)
    assert yaml.safe_load(dump_recipe(recipe))["inputs"] == inputs
    assert load(write(tmp_path_factory.mktemp("r") / "r.yaml", dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("output_dir: o\nlerning_rate: 1\n", "r.yaml:2: unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
        ("output_dir: o\nseed: 1\nseed: 2\n", "r.yaml:3: key 'seed' stands twice"),
        ("- a\n", "a flat mapping"),
        ("output_dir: [\n", "not a readable YAML"),
        ("", "a flat mapping"),
        ("output_dir: o\nlearning_rate: fast\n", "learning_rate is 'fast'; allowed: a number"),
        ("output_dir: o\nlimit: 1.5\n", "limit is '1.5'; allowed: a whole number or null"),
        ("output_dir: o\nschedule: square\n", "schedule is 'square'; allowed: linear, cosine"),
        ("output_dir: o\nlearning_rate: -1\n", "learning_rate is -1.0; allowed: a positive number"),
        ("seed: 3\n", "output_dir is not given: set it in the recipe, or by --output_dir"),
        ("output_dir: o\ninputs: dumps\n", """inputs is 'dumps'; allowed: a list, written '["dumps"]'"""),
        ("output_dir: o\ncolumns: [[a]]\n", """columns is "[['a']]"; allowed: a word or null"""),
        ("output_dir: o\ncolumns: label\n", """columns is 'label'; allowed: a list, written '["label"]' or null"""),
    ],
)
def test_a_wrong_recipe_names_key_and_place(tmp_path, text, expected):
    with pytest.raises(UserError) as error:
        load(write(tmp_path / "r.yaml", text))
    assert expected in str(error.value)


def test_a_missing_recipe_file():
    with pytest.raises(UserError, match="no such recipe"):
        load("nowhere.yaml")


def test_an_unknown_argument_suggests_the_nearest():
    with pytest.raises(UserError, match="unknown argument --schedul; did you mean 'schedule'"):
        load("--output_dir", "o", "--schedul", "linear")


def test_help_explains_each_key_with_its_default(capsys):
    with pytest.raises(SystemExit) as exit_:
        load("--help")
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert "Peak learning rate, per step." in text
    assert "0.0001" in text
    assert "Seed of everything random" in text


def test_the_hash_is_of_what_was_asked_not_of_where_it_is_written():
    first, moved = load("--output_dir", "a"), load("--output_dir", "b")
    other = load("--output_dir", "a", "--seed", "14")
    assert recipe_sha256(first) == recipe_sha256(moved) != recipe_sha256(other)
