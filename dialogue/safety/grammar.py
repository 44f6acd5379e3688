"""Write out the safety classifier's synthetic training cases from a small grammar.

The tables in `training_cases/` hold one template a line: `category<TAB>template`. `{a|b|}` chooses one
alternative (it may nest, and an alternative may be empty), `$NAME` stands for a macro of `macros.tsv`. Every
case is made up by this project; none is a person's post. The same seed writes the same cases.
"""

import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from configs.errors import UserError

TRAINING_CASES_DIR = Path(__file__).parent / "training_cases"
MACRO_FILE = "macros.tsv"
MAXIMUM_TRIES_PER_CASE = 4


class TrainingCase(NamedTuple):
    """One synthetic message."""

    category: str
    text: str
    weight: float
    """1 / sqrt(cases of its template): a template with many slots must not drown the others."""


def read_table(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, first and second column of a table; blank lines and `#` comments are skipped.

    Raises:
        UserError: a line that has not exactly two columns.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != 2:
            raise UserError(f"expected 2 tab-separated columns, found {len(columns)}", where=f"{path}:{number}")
        yield number, columns[0], columns[1]


def training_cases(
    folder: Path, cases_per_template: int, seed: int, exceptions: Mapping[str, int] | None = None
) -> list[TrainingCase]:
    """Expand every template of `folder` into at most `cases_per_template` distinct messages.

    `exceptions` gives categories another number of cases a template.
    """
    macros = {name: "{" + body + "}" for _, name, body in read_table(folder / MACRO_FILE)}
    cases: list[TrainingCase] = []
    for path in sorted(folder.glob("*.tsv")):
        if path.name == MACRO_FILE:
            continue
        for number, category, template in read_table(path):
            generator = random.Random(f"{seed} {path.name} {template}")
            count = (exceptions or {}).get(category, cases_per_template)
            texts = _expansions(template, macros, count, generator, where=f"{path}:{number}")
            cases += [TrainingCase(category, text, len(texts) ** -0.5) for text in texts]
    return cases


def _expansions(template: str, macros: dict[str, str], count: int, generator: random.Random, where: str) -> list[str]:
    texts: dict[str, None] = {}
    for _ in range(count * MAXIMUM_TRIES_PER_CASE):
        text = expand(template, macros, generator, where)
        texts.setdefault(re.sub(r"\s+([',.?!])", r"\1", " ".join(text.split())))
        if len(texts) == count:
            break
    return list(texts)


def expand(template: str, macros: dict[str, str], generator: random.Random, where: str) -> str:
    """Choose one alternative in every pair of braces, innermost first inside the chosen branch only.

    Raises:
        UserError: an unknown macro or unbalanced braces.
    """
    names = set(re.findall(r"\$([A-Z]+)", template))
    if names - macros.keys():
        raise UserError(f"unknown macro ${min(names - macros.keys())}", where=where)
    parts: list[str] = []
    for piece in re.split(r"(\$[A-Z]+)", template):
        parts.append(macros[piece[1:]] if piece[1:] in macros and piece.startswith("$") else piece)
    text, position = _sequence("".join(parts), 0, generator, where)
    if position != len("".join(parts)):
        raise UserError("a closing brace too many", where=where)
    return expand(text, macros, generator, where) if re.search(r"\$[A-Z]+", text) else text


def _sequence(text: str, position: int, generator: random.Random, where: str) -> tuple[str, int]:
    """Read up to the end, or to the `|` or `}` that closes the enclosing choice."""
    output: list[str] = []
    while position < len(text) and text[position] not in "|}":
        if text[position] == "{":
            chosen, position = _choice(text, position + 1, generator, where)
            output.append(chosen)
        else:
            output.append(text[position])
            position += 1
    return "".join(output), position


def _choice(text: str, position: int, generator: random.Random, where: str) -> tuple[str, int]:
    alternatives: list[str] = []
    while True:
        alternative, position = _sequence(text, position, generator, where)
        alternatives.append(alternative)
        if position == len(text):
            raise UserError("a brace is not closed", where=where)
        position += 1
        if text[position - 1] == "}":
            return generator.choice(alternatives), position
