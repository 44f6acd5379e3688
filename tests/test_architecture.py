"""The house's rules that a machine can check: who may import whom, module names, file sizes of the data we ship."""

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "configs": set(),
    "corpus": {"configs"},
    "pretrain": {"configs", "corpus"},
    "finetune": {"configs"},
    "dialogue": {"configs"},
    "release": {"configs"},
    "studio": {"configs", "corpus", "pretrain", "finetune", "dialogue", "release"},
    "launch": {"configs", "corpus", "pretrain", "finetune", "dialogue", "release", "studio"},
    "benchmarks": {"configs", "corpus", "pretrain", "finetune", "dialogue", "release", "studio", "launch"},
}
SOURCES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names & MAY_IMPORT.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_import_points_upward(path):
    room = path.relative_to(ROOT).parts[0]
    assert imported_rooms(path) <= MAY_IMPORT[room] | {room}


def test_no_module_hides_the_standard_library_or_a_dependency():
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    rooms = set(MAY_IMPORT)
    hidden = {path.relative_to(ROOT).as_posix() for path in SOURCES if path.stem in taken - rooms - {"__init__"}}
    assert hidden == set()


def test_no_module_has_a_name_that_says_nothing():
    assert {path.stem for path in SOURCES} & {"utils", "common", "helpers", "misc"} == set()


def test_every_module_says_what_it_is_for():
    assert [p for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))] == []
