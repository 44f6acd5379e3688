r"""Undo what typing and Reddit's editor do to identifiers: Markdown escapes, hyphens and spaces of other kinds.

Reddit's editor writes `jane\_doe` for jane_doe, phones turn `-` into a dash, and pasted numbers hold spaces that
do not break. The recognizers read the plain spelling; spans are mapped back, so the text itself is never changed.
"""

import re

# Brackets are left out: what stands between them may be a placeholder.
_ESCAPE = re.compile(r"\\(?=[_.#@+~*()-])")
_SPACES_AND_HYPHENS = str.maketrans(
    dict.fromkeys("\N{NO-BREAK SPACE}\N{FIGURE SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}", " ")
    | dict.fromkeys("\N{HYPHEN}\N{NON-BREAKING HYPHEN}", "-")
)
# A dash joins numbers; between words it is punctuation and ends an identifier.
_DASH = re.compile(
    "(?<=[0-9)])[\N{FIGURE DASH}\N{EN DASH}](?=[0-9])|(?<=[0-9)] )[\N{FIGURE DASH}\N{EN DASH}](?= [0-9])"
)


def plain_spelling(text: str) -> tuple[str, list[int] | None]:
    """Return the text as the recognizers read it.

    Returns:
        The plain text, and for each of its characters the place in `text`; None if no place has changed.
    """
    plain = text if text.isascii() else _DASH.sub("-", text.translate(_SPACES_AND_HYPHENS))
    dropped = {match.start() for match in _ESCAPE.finditer(plain)} if "\\" in plain else ()
    if not dropped:
        return plain, None
    places = [place for place in range(len(plain)) if place not in dropped]
    return "".join(plain[place] for place in places), places
