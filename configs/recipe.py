"""Load a recipe: one flat YAML per run, typed by its stage's dataclass, overridden on the command line.

Every program of mindshift is called `PROGRAM RECIPE.yaml --key value …`. jsonargparse reads types, defaults
and help texts from the dataclass and its attribute docstrings; this module adds the nearest-name suggestion
and turns every mistake into a UserError.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from configs.errors import UserError


@dataclasses.dataclass(kw_only=True)
class StageRecipe:
    """The keys every stage has."""

    HOW: ClassVar[frozenset[str]] = frozenset({"output_dir"})
    """Keys that say how or where a run works, not what comes out: an interrupted run may go on with others."""

    LATER: ClassVar[frozenset[str]] = frozenset()
    """Keys that earlier versions did not have: unset, they are no part of what identifies a run."""

    output_dir: Path
    """Folder the run is written to. While it runs it is called OUTPUT_DIR.partial; the same command resumes it."""
    seed: int = 13
    """Seed of everything random in the run."""
    accept_changed_inputs: bool = False
    """Go on although an input folder no longer matches its manifest. Recorded in this run's manifest."""


RecipeT = TypeVar("RecipeT")


class _RecipeDumper(yaml.SafeDumper):
    """Quotes the string "1e5" too: jsonargparse reads numbers as YAML 1.2 does, PyYAML writes as YAML 1.1 does."""


_RecipeDumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


def load_recipe(recipe_class: type[RecipeT], arguments: Sequence[str], program: str) -> RecipeT:
    """Build a `recipe_class` from `[RECIPE.yaml] [--key value …]`.

    Args:
        recipe_class: a dataclass with attribute docstrings.
        arguments: the command line without the program's name; the recipe file comes first.
        program: how the user called the program, for `--help` and errors.

    Raises:
        UserError: an unknown key, a wrong type, an impossible value, or a file that cannot be read.
        SystemExit: after `--help` or `--print_config`.
    """
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    keys = [f.name for f in dataclasses.fields(recipe_class)]  # type: ignore[arg-type]  # a dataclass by contract
    parser = ArgumentParser(
        prog=program,
        usage=f"{program} [RECIPE.yaml] [--key value ...]",
        exit_on_error=False,
        allow_abbrev=False,
        description=(recipe_class.__doc__ or "").split("\n\n")[0],
    )
    parser.add_argument("--recipe", action="config", help="The recipe, if it is not the first argument.")
    parser.add_class_arguments(recipe_class, None)
    arguments = list(arguments)
    if arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--recipe")
    for path in _recipe_files(arguments):
        _check_keys(path, keys)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore", DeprecationWarning)
            namespace = parser.parse_args(arguments)
    except UserError:
        raise
    except Exception as error:  # jsonargparse raises several unrelated types for a bad value
        raise UserError(_explain(error, keys), where=program, fix=f"See `{program} --help`.") from error
    values: dict[str, Any] = {key: getattr(namespace, key) for key in keys}
    recipe = recipe_class(**values)
    if isinstance(recipe, StageRecipe):
        require(0 <= recipe.seed < 2**32, "seed", recipe.seed, "0 to 4,294,967,295")
    return recipe


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Refuse an impossible value of a recipe key, naming what is allowed."""
    if not condition:
        raise UserError(f"{key} is {value!r}; allowed: {allowed}", where="recipe")


def named_entries(key: str, entries: Sequence[str]) -> dict[str, str]:
    """Return the values of a list of NAME=VALUE by name.

    Raises:
        UserError: an entry is written otherwise, or two have one name.
    """
    named: dict[str, str] = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        if not name or not value or name in named or "/" in name:
            raise UserError(f"{key} holds {entry!r}; each is NAME=VALUE with a name of its own", where="recipe")
        named[name] = value
    return named


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known name closest to `name`, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def recipe_values(recipe: object) -> dict[str, Any]:
    """Return the resolved recipe as plain YAML values, keys in their order of definition."""
    return {key: _plain(value) for key, value in dataclasses.asdict(recipe).items()}  # type: ignore[call-overload]


def identifying_values(recipe: object) -> dict[str, Any]:
    """Return the resolved recipe without unset keys of later versions: a run of before they came is the same run."""
    later = recipe.LATER if isinstance(recipe, StageRecipe) else frozenset()
    return {key: value for key, value in recipe_values(recipe).items() if value is not None or key not in later}


def recipe_sha256(recipe: object) -> str:
    """Return the hash of what was asked; where the run is written to does not count."""
    values = identifying_values(recipe)
    values.pop("output_dir", None)
    return hashlib.sha256(yaml.safe_dump(values, sort_keys=True).encode()).hexdigest()


def dump_recipe(recipe: object) -> str:
    """Return the resolved recipe as YAML that `load_recipe` reads back."""
    # Escaped, not raw: YAML reads a raw next-line character (U+0085) back as a line break.
    return yaml.dump(recipe_values(recipe), Dumper=_RecipeDumper, sort_keys=False)


def _recipe_files(arguments: Sequence[str]) -> list[Path]:
    files = [Path(after) for flag, after in itertools.pairwise(arguments) if flag == "--recipe"]
    return files + [Path(flag.partition("=")[2]) for flag in arguments if flag.startswith("--recipe=")]


def _check_keys(path: Path, keys: list[str]) -> None:
    """Refuse a recipe file that is absent, no mapping, or has a key that is unknown or stands twice."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text)
    except FileNotFoundError:
        raise UserError("no such recipe", where=path, fix="Recipes of this project are under configs/.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise UserError(f"not a readable YAML recipe ({reason})", where=path) from error
    if not isinstance(root, yaml.MappingNode):
        raise UserError("a recipe is a flat mapping of `key: value` lines", where=path)
    seen: set[str] = set()
    for node, _ in root.value:
        key, where = str(node.value), f"{path}:{node.start_mark.line + 1}"
        if key not in keys:
            raise UserError(f"unknown key {key!r}{nearest(key, keys)}", where=where)
        if key in seen:
            raise UserError(f"key {key!r} stands twice", where=where)
        seen.add(key)


def _explain(error: Exception, keys: list[str]) -> str:
    message = " ".join(str(error).split())
    unknown = message.partition("unrecognized arguments: ")[2]
    if unknown:
        name = unknown.split()[0]
        return f"unknown argument {name}{nearest(name.lstrip('-').partition('=')[0], keys)}"
    required = re.search(r'arguments are required: (\w+)|[Kk]ey "(\w+)" is required', message)
    if required:
        name = required[1] or required[2]
        return f"{name} is not given: set it in the recipe, or by --{name}"
    wrong = re.search(r'^(?:Parser )?key "(\w+)": .*(?:Got|Given) value: (.*)$', message)
    expected = _expected(message, wrong[2]) if wrong else ""
    return f"{wrong[1]} is {wrong[2]!r}; allowed: {expected}" if wrong and expected else message.removeprefix("Parser ")


ALLOWED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "dict": "a mapping, written '{key: value}'",
    "NoneType": "null",
}


def _expected(message: str, value: str) -> str:
    """Say in words what jsonargparse expected in place of `value`; empty for what no key of ours takes."""
    found = re.findall(r"Expected a (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", message)
    item = f'"{value}"' if re.fullmatch(r"[\w ./-]+", value) else '"a", "b"'
    known = ALLOWED | {"list": f"a list, written '[{item}]'"}
    kinds = [choices.replace("'", "") if choices else known.get(kind, "") for kind, choices in found]
    return " or ".join(kinds) if all(kinds) else ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
