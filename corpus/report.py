"""The build's report: one self-contained page of counts, never a text."""

import html
from typing import Any

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .8rem;border-bottom:1px solid #dde3ea}
td:last-child{text-align:right;font-variant-numeric:tabular-nums}"""


def render_report(counts: dict[str, Any]) -> str:
    """Return the page for the counts of a build."""
    read, kept = counts["read"], counts["kept"]
    sections = [
        _table("From raw to kept", {"read": read, **counts["quarantined"], **counts["dropped"], "kept": kept}),
        _table("Documents", counts["documents"]),
        _table("Tokens", counts["tokens"]),
        _table("Identifiers masked, by kind", counts["identifiers"]),
        _table("Subreddits", counts["subreddits"]),
        _table("Months", counts["months"]),
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Corpus report</title><style>{STYLE}</style>"
        f"<h1>Corpus report</h1><p>Counts only. De-identified is not anonymous, and nothing here is a diagnosis.</p>"
        f"{''.join(sections)}</html>\n"
    )


def _table(title: str, rows: dict[str, int]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{count:,}</td></tr>" for name, count in rows.items())
    return f"<h2>{html.escape(title)}</h2><table>{cells}</table>"
