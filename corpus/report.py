"""The build's report: one self-contained page of counts and plots, never a text."""

from typing import Any

from configs.page import escape, page

STYLE = """.bars{border-collapse:collapse;width:100%}.bars td,.bars th{border:0}
.bars th{font-weight:400;white-space:nowrap;padding:.1rem .8rem .1rem 0;width:1%}
.bars td.count{white-space:nowrap;padding:0 0 0 .8rem;width:1%}
.bar{height:1.05rem;background:var(--blue);border-radius:2px;min-width:1px}.bar.loss{background:var(--orange)}
svg{width:100%}svg rect{fill:var(--blue)}svg text{font-size:11px;fill:var(--quiet)}"""
TOP_SUBREDDITS = 30
COLUMN_WIDTH, COLUMNS_HEIGHT = 9, 150
DUPLICATES = ("duplicate_id", "exact_duplicate", "near_duplicate")
WHOLE_CORPUS = ("erased", "contaminated", *DUPLICATES, "author_cap", "author_in_held_out")


def render_report(counts: dict[str, Any]) -> str:
    """Return the page for the counts of a build."""
    dropped, subreddits = counts["dropped"], counts["subreddits"]
    top = dict(sorted(subreddits.items(), key=lambda item: (-item[1], item[0]))[:TOP_SUBREDDITS])
    lengths = {int(band): count for band, count in counts["lengths"].items()}
    sections = [
        _section("From raw to kept", _bars(funnel(counts)), "Records that are left after each group of rules."),
        _section("Dropped, by reason", _bars(_by_size(dropped), loss=True), "The first rule a post breaks counts it."),
        _section("Quarantined, by reason", _bars(_by_size(counts["quarantined"]), loss=True)),
        _section("Removed against each task", _bars(counts["contaminated_by_task"], loss=True)),
        _section("Clusters of near duplicates, by size", _columns(_numbered(counts["near_duplicate_clusters"]))),
        _section("Identifiers masked, by kind", _bars(_by_size(counts["identifiers"]))),
        _section("Documents", _bars(counts["documents"])),
        _section("Tokens", _bars(counts["tokens"])),
        _section("Length in tokens", _columns({f"{band}+": lengths[band] for band in sorted(lengths)})),
        _section("Months", _columns(counts["months"])),
        _section(f"Subreddits (the largest {len(top)} of {len(subreddits)})", _bars(top)),
        _section("CPU seconds by step", _bars(counts["cpu_seconds"])),
    ]
    caution = (
        '<h1>Corpus report</h1><p class="note">Counts only, no texts. De-identified is not anonymous, and nothing here '
        "is a diagnosis.</p>"
    )
    return page("Corpus report", [caution, *sections], style=STYLE)


def funnel(counts: dict[str, Any]) -> dict[str, int]:
    """Return how many records are left after each group of rules."""
    dropped, left = counts["dropped"], counts["read"]
    stages = {"read": left}
    groups = {
        "readable": sum(counts["quarantined"].values()),
        "pass the rules": sum(count for reason, count in dropped.items() if reason not in WHOLE_CORPUS),
        "not erased": dropped.get("erased", 0),
        "no text of a task": dropped.get("contaminated", 0),
        "no duplicate": sum(dropped.get(reason, 0) for reason in DUPLICATES),
        "kept, after caps and splits": dropped.get("author_cap", 0) + dropped.get("author_in_held_out", 0),
    }
    for name, loss in groups.items():
        left -= loss
        stages[name] = left
    return stages


def _section(title: str, plot: str, note: str = "") -> str:
    if not plot:
        return ""
    return f"<h2>{escape(title)}</h2>{f'<p class=note>{note}</p>' if note else ''}{plot}"


def _bars(rows: dict[str, Any], *, loss: bool = False) -> str:
    """Horizontal bars, one row each."""
    longest = max(rows.values(), default=0)
    if not longest:
        return ""
    kind = "bar loss" if loss else "bar"
    lines = (
        f"<tr><th>{escape(name)}</th><td><div class='{kind}' style='width:{100 * count / longest:.2f}%'></div>"
        f"</td><td class=count>{count:,}</td></tr>"
        for name, count in rows.items()
    )
    return f"<table class=bars>{''.join(lines)}</table>"


def _columns(rows: dict[str, int]) -> str:
    """Vertical columns, for what has an order; a label wherever there is room for one."""
    highest = max(rows.values(), default=0)
    if not highest:
        return ""
    width = max(COLUMN_WIDTH, 600 // len(rows))
    every = max(1, 70 // width)
    parts = []
    for place, (name, count) in enumerate(rows.items()):
        height = max(1.0, COLUMNS_HEIGHT * count / highest)
        parts.append(
            f"<rect x={place * width} y={COLUMNS_HEIGHT - height:.1f} width={width - 1} height={height:.1f}>"
            f"<title>{escape(name)}: {count:,}</title></rect>"
        )
        if place % every == 0:
            parts.append(f"<text x={place * width} y={COLUMNS_HEIGHT + 14}>{escape(name)}</text>")
    size = f"0 0 {width * len(rows) + 60} {COLUMNS_HEIGHT + 20}"
    return f"<svg viewBox='{size}' role=img>{''.join(parts)}</svg><p class=note>Highest: {highest:,}.</p>"


def _by_size(rows: dict[str, int]) -> dict[str, int]:
    return dict(sorted(rows.items(), key=lambda item: (-item[1], item[0])))


def _numbered(rows: dict[str, int]) -> dict[str, int]:
    return {name: rows[name] for name in sorted(rows, key=int)}
