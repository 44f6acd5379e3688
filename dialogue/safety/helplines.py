"""Helplines by country, from `helplines.tsv`.

The table was written from the lines' own published numbers and compared, where a stored copy was at hand, with other
published lists; nobody dialled them, and no line's page could be opened from the machine it was written on. Each row
holds its source and the day it was last compared; `CHECKED_ON` is the oldest of these days and is shown with the lines.
Whoever offers this program to people must call the numbers of their own country first, and again every few months.
"""

import functools
import locale as system_locale
import os
from pathlib import Path
from typing import NamedTuple

from configs.errors import UserError

HELPLINES_FILE = Path(__file__).parent / "helplines.tsv"
ANYWHERE = "ANY"
ALIASES = {"UK": "GB"}
"""Codes that people write for a country, and its own."""
KINDS = ("crisis", "abuse", "child", "emergency")


class Helpline(NamedTuple):
    """One line to call, text or open."""

    country: str
    kind: str
    name: str
    contact: str
    hours: str
    source: str
    checked: str

    def __str__(self) -> str:
        """Return the line as a person reads it."""
        return f"{self.name}: {self.contact}" + (f" ({self.hours})" if self.hours else "")


@functools.cache
def all_helplines() -> tuple[Helpline, ...]:
    """Read the table.

    Raises:
        UserError: a line without seven columns, or of an unknown kind.
    """
    helplines = []
    for number, line in enumerate(HELPLINES_FILE.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != len(Helpline._fields) or cells[1] not in KINDS:
            raise UserError(
                "not a helpline (country, kind, name, contact, hours, source, checked)", where=f"line {number}"
            )
        helplines.append(Helpline(*cells))
    return tuple(helplines)


def country_of(locale: str | None) -> str:
    """Return the country of `en_GB`, `en-GB.UTF-8` or `GB`; without one, that of the system's language settings.

    `ANY` stands for a country that the table does not hold: whoever is in danger must not meet an error.
    """
    if not locale:
        settings = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
        locale = next((value for value in settings if value), None) or system_locale.getlocale()[0] or ""
    country = locale.partition(".")[0].partition("@")[0].replace("-", "_").rpartition("_")[2].upper()
    country = ALIASES.get(country, country)
    return country if country in _countries() else ANYWHERE


def _countries() -> set[str]:
    return {helpline.country for helpline in all_helplines()}


def check_locale(locale: str | None) -> None:
    """Refuse a locale that was asked for by name and has no lines of its own; to be called before anybody writes.

    Raises:
        UserError: the table does not hold its country.
    """
    if locale and locale.upper() != ANYWHERE and country_of(locale) == ANYWHERE:
        known = ", ".join(sorted(_countries() - {ANYWHERE}))
        raise UserError(
            f"no helplines for {locale}",
            where="--locale",
            fix=f"Write it like en_GB or GB, with one of {known}; or {ANYWHERE}, which names findahelpline.com.",
        )


def helplines(kind: str, locale: str | None = None) -> list[Helpline]:
    """Return the lines of one kind for a locale, and behind them the one that finds one anywhere.

    Language settings often name another country than the one a person is in.
    """
    wanted = (country_of(locale), ANYWHERE)
    found = [helpline for helpline in all_helplines() if helpline.kind == kind and helpline.country in wanted]
    return sorted(found, key=lambda helpline: helpline.country == ANYWHERE)


CHECKED_ON = min(helpline.checked for helpline in all_helplines())
