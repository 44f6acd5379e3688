"""Read the tables of safety cases: one conversation a line, with the route it must take.

`route<TAB>category<TAB>turns`; ` || ` stands between turns and `bot: ` opens a turn of the program. Every case is made
up by this project.
"""

from pathlib import Path
from typing import NamedTuple

from configs.errors import UserError
from dialogue.safety.screening import Route, Turn


class Case(NamedTuple):
    """One conversation and the route it must take."""

    route: Route
    category: str
    turns: list[Turn]


def read_cases(path: Path) -> list[Case]:
    """Read a table of cases.

    Raises:
        UserError: no such file, or a line that is no case (its number is named).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=path) from error
    cases = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        try:
            route, category, text = line.split("\t")
            turns = [
                Turn("assistant", turn.removeprefix("bot: ")) if turn.startswith("bot: ") else Turn("user", turn)
                for turn in text.split(" || ")
            ]
            cases.append(Case(Route(route), category, turns))
        except ValueError:
            raise UserError("not a case (route, category, turns)", where=f"{path}:{number}") from None
    return cases
