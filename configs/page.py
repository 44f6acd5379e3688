"""The frame of every report: one HTML page that needs no other file and no network.

Readable on a phone and in a dark room; wide tables scroll by themselves. What a room needs besides, it adds as `style`.
"""

import html
from collections.abc import Sequence
from typing import Any

STYLE = """\
:root{color-scheme:light dark;--ink:#1d2733;--quiet:#56626f;--line:#dde3ea;--ground:#fff;--panel:#f5f7fa;
--blue:#2f6f94;--orange:#b8702f;--green:#3f7f4d}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--quiet:#a5b0bb;--line:#3a434d;--ground:#15181c;--panel:#1f242a;
--blue:#6fb1d6;--orange:#dd9a5b;--green:#7cbd8a}}
body{font:15px/1.55 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--ground)}
h2{margin-top:2.2rem}.note{color:var(--quiet)}a{color:var(--blue)}code{font-size:.85em;word-break:break-all}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:.7rem 0}
td,th{padding:.25rem .9rem .25rem 0;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;
font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}
figure{display:inline-block;margin:.4rem .6rem .4rem 0;vertical-align:top;max-width:100%}figcaption{color:var(--quiet)}
svg,img{max-width:100%;height:auto}
"""


def page(title: str, parts: Sequence[str], *, style: str = "") -> str:
    """Return a whole page.

    Args:
        title: plain text, the title of the window.
        parts: HTML, one after the other.
        style: CSS beside the common one.
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return an HTML table; every cell is escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def escape(value: Any) -> str:
    """Return a value as text that HTML takes for nothing else."""
    return html.escape(str(value))
