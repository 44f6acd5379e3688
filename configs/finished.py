"""Is a finished folder what is asked for now? Its manifest against the recipe, key by key, and its inputs by hash.

Whoever goes on from a folder that somebody else filled must know that it holds what he would have made himself. Where
things lie does not count: a path stands for the content that lies there, by the hash that the manifest recorded. Files
that a pattern found (a corpus's dumps) are compared by name alone: they may be terabytes.
"""

import dataclasses
import fnmatch
import glob
from pathlib import Path
from typing import Any

from configs.manifest import Manifest, read_manifest, record_input
from configs.recipe import StageRecipe, recipe_values


def differences(folder: Path, recipe: StageRecipe) -> list[str]:
    """Return the keys in which a finished run differs from what is asked; empty if the folder holds just that.

    Args:
        folder: the finished run. A key that its manifest lacks, because it was made before there was one, has its
            default; a key that there is no more is passed over.
        recipe: what would be run now; its paths count from the present folder.
    """
    manifest, asked = read_manifest(folder), recipe_values(recipe)
    passed_over = set(recipe.HOW)
    if recipe.accept_changed_inputs or not manifest.accepted:
        passed_over.add("accept_changed_inputs")  # nothing was accepted that is not accepted now
    made = {key: value for key, value in _defaults(recipe).items() if key in asked} | manifest.recipe
    return [
        key
        for key, value in asked.items()
        if key not in passed_over and not _is_same(made.get(key), value, getattr(recipe, key), manifest)
    ]


def _defaults(recipe: StageRecipe) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def _is_same(made: Any, asked: Any, typed: Any, manifest: Manifest) -> bool:
    """Return whether two plain values mean the same; `typed` is the asked one as the recipe holds it."""
    if isinstance(made, list) and isinstance(asked, list):
        return len(made) == len(asked) and all(
            _is_same(before, now, as_typed, manifest) for before, now, as_typed in zip(made, asked, typed, strict=True)
        )
    if not isinstance(made, str) or not isinstance(asked, str):
        return bool(made == asked)
    (name_before, before), (name_now, now) = _named_path(made), _named_path(asked)
    recorded = {record.path: record.sha256 for record in manifest.inputs.values()}
    if glob.has_magic(now):
        found = {str(Path(name)) for name in glob.glob(now)}  # noqa: PTH207  # absolute patterns, too
        known = set(fnmatch.filter(recorded, str(Path(before))))
        return made == asked and not (known and found - known)
    if str(Path(before)) in recorded:
        is_there = name_before == name_now and Path(now).exists()
        return is_there and record_input(Path(now)).sha256 == recorded[str(Path(before))]
    return made == asked or isinstance(typed, Path)


def _named_path(text: str) -> tuple[str, str]:
    """Split NAME=PATH; a plain path has no name."""
    name, equals, path = text.partition("=")
    return (name, path) if equals else ("", text)
