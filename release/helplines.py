"""Where people find help, printed in every card: the crisis lines of the safety layer's own table.

`dialogue/safety/helplines.tsv` is the one place where numbers stand, each with its source and the day it was last
compared. It is read here as data: no code of that room is needed. Numbers change: call those of your own country
before a release.
"""

import functools
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "dialogue" / "safety" / "helplines.tsv"
EMERGENCY = (
    "In immediate danger: your local emergency number (911 in North America, 112 in Europe, 999 in the UK, 000 in "
    "Australia)."
)
ANYWHERE = "Anywhere: [findahelpline.com](https://findahelpline.com) lists free helplines by country."
COUNTRIES = {
    **{"US": "United States", "CA": "Canada", "GB": "United Kingdom", "IE": "Ireland", "AU": "Australia"},
    **{"NZ": "New Zealand", "IN": "India", "ZA": "South Africa", "SG": "Singapore", "DE": "Germany", "AT": "Austria"},
    **{"CH": "Switzerland", "FR": "France", "BE": "Belgium", "NL": "Netherlands", "ES": "Spain", "IT": "Italy"},
    **{"SE": "Sweden", "NO": "Norway", "DK": "Denmark", "FI": "Finland", "BR": "Brazil", "MX": "Mexico"},
    **{"JP": "Japan", "KR": "South Korea"},
}
"""Names of the table's countries, in the order of the card."""


@functools.cache
def card_helplines() -> tuple[str, ...]:
    """Return the lines of the card, one a country."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    by_country: dict[str, list[str]] = {}
    for country, kind, name, contact, hours, *_ in rows:
        if kind == "crisis" and country in COUNTRIES:
            by_country.setdefault(country, []).append(f"{name}, {contact}" + (f" ({hours})" if hours else ""))
    lines = [f"{COUNTRIES[country]}: {'; '.join(by_country[country])}." for country in COUNTRIES]
    checked = min(row[-1] for row in rows)
    return EMERGENCY, ANYWHERE, *lines, f"These numbers were last compared with published lists on {checked}."
