"""One figure per audit: its numbers with their intervals, beside the limits that decide."""

from pathlib import Path

from release.evidence import AuditResult, Measure
from release.policy import POLICY, Limit

PASSING, BLOCKING, PLAIN = "#1b6ca8", "#b3261e", "#667788"
DOTS_PER_INCH = 110


def draw_audit(result: AuditResult, folder: Path) -> None:
    """Draw an audit's measures, write it as KEY.png and enter it with a text alternative into the result."""
    if not result.measures:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    limits = decisive_limits(result.name)
    shown = result.measures
    figure, axes = pyplot.subplots(figsize=(7.2, 0.9 + 0.42 * len(shown)))
    for row, measure in enumerate(reversed(shown)):
        limit = limits.get(measure.name)
        color = PLAIN if limit is None else BLOCKING if getattr(measure, limit.bound) > limit.limit else PASSING
        axes.plot([measure.low, measure.high], [row, row], color=color, linewidth=2)
        axes.plot(measure.estimate, row, "o", color=color)
        if limit is not None:
            axes.plot([limit.limit, limit.limit], [row - 0.35, row + 0.35], color="black", linewidth=1.5)
    axes.set_yticks(range(len(shown)), [readable(measure.name) for measure in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.set_xlabel("estimate and interval; black bar: limit; red: beyond it")
    figure.tight_layout()
    figure.savefig(folder / f"{result.key}.png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    pyplot.close(figure)
    result.figures = {f"{result.key}.png": f"{result.key.replace('_', ' ')}: " + "; ".join(map(_words, shown[:4]))}


def decisive_limits(name: str) -> dict[str, Limit]:
    """Return the limit of each measure that can block or invalidate."""
    policy = POLICY[name]
    limits = [limit for group in (*policy.blocks_when, policy.invalid_when) for limit in group]
    return {limit.measure: limit for limit in limits}


def readable(name: str) -> str:
    """Return a measure's name for people."""
    words = name.replace("_", " ")
    for short, long in (
        ("auc", "AUC"),
        ("tpr", "TPR"),
        ("exposure 1x", "exposure at 1×"),
        ("exposure 4x", "exposure at 4×"),
    ):
        words = words.replace(short, long)
    return words


def _words(measure: Measure) -> str:
    return f"{readable(measure.name)} {measure.estimate:.3g} ({measure.low:.3g} to {measure.high:.3g})"
