"""`training.html`: a run's curves and figures as one self-contained page beside the model.

Drawn from `metrics.jsonl` and `evaluation.json` as plain SVG. It holds figures and names of subreddits, never a text.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.page import escape, page, table
from configs.run_folder import write_atomically
from pretrain.metrics import read_metrics
from pretrain.privacy_accounting import describe

TRAINING_PAGE = "training.html"
STYLE = "figure{width:29rem}svg{width:100%}text{font-size:11px;fill:var(--quiet)}line{stroke:var(--line)}"
COLOURS = ("var(--blue)", "var(--orange)", "var(--green)")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 460, 200, 62, 22, 8
PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Loss",
        (("loss", "training"), ("held_out_loss", "held out"), ("general_loss", "held out, general text")),
    ),
    ("Real tokens a second", (("tokens_per_second", ""),)),
    ("Learning rate", (("learning_rate", ""),)),
    ("Gradient norm, before clipping", (("gradient_norm", ""),)),
    ("Share of padding", (("padding_share", ""),)),
    ("Share of the tokens that are masked", (("mlm_probability", ""),)),
    ("Losses on whole texts", (("contrastive_loss", "contrastive"), ("anchor_loss", "anchor"))),
    ("Model FLOP utilisation", (("mfu", ""),)),
    ("Privacy spent, ε", (("epsilon", ""),)),
)
MOST_POINTS = 600
TOP_SUBREDDITS = 30
MOST_TICKS = 4


def write_training_page(folder: Path, result: dict[str, Any]) -> None:
    """Write the page of a run.

    Args:
        folder: the working folder, with `metrics.jsonl`.
        result: the content of `evaluation.json`.
    """
    lines = read_metrics(folder)
    figures = [_panel(title, _series(lines, keys)) for title, keys in PANELS]
    parts = [
        '<h1>Pretraining</h1><p class="note">Figures only, no texts. A lower loss says that the model predicts words '
        "of this corpus better; it is no measure of anybody's health and no diagnosis.</p>",
        f"<p>{result['steps']:,} steps, {result['tokens']:,} tokens, {result['skipped_steps']} steps skipped, "
        f"{result['rewinds']} times gone back to a checkpoint.</p>",
        f"<p>{escape(describe(result['privacy']))}. Held-out figures are of other people and stand outside it.</p>"
        if "privacy" in result
        else "",
        *figures,
        "<h2>Held out</h2>",
        _scores(result),
        "<h2>By subreddit</h2>",
        _subreddits(result),
    ]
    write_atomically(folder / TRAINING_PAGE, page("Pretraining", parts, style=STYLE))


def _series(
    lines: list[dict[str, Any]], keys: Sequence[tuple[str, str]]
) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return (name, points) of each key that was written; at most `MOST_POINTS` points, evenly chosen."""
    found = []
    for key, name in keys:
        points = [(line["step"], line[key]) for line in lines if line.get(key) is not None and math.isfinite(line[key])]
        stride = -(-len(points) // MOST_POINTS) or 1
        if points:
            found.append((name, points[::stride]))
    return found


def _panel(title: str, series: list[tuple[str, list[tuple[float, float]]]]) -> str:
    if not series:
        return ""
    steps = [step for _, points in series for step, _ in points]
    values = [value for _, points in series for _, value in points]
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def place(step: float, value: float) -> str:
        x = LEFT + (step - first) / (last - first) * (WIDTH - LEFT - 6)
        y = HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)
        return f"{x:.1f},{y:.1f}"

    drawn = []
    ticks = [low + (high - low) * number / MOST_TICKS for number in range(MOST_TICKS + 1)]
    for value, label in zip(ticks, _labels(ticks), strict=True):
        x, y = place(first, value).split(",")
        drawn.append(f'<line x1="{x}" x2="{WIDTH - 6}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text x="{LEFT - 5}" y="{float(y) + 4:.1f}" text-anchor="end">{label}</text>')
    drawn.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{first:,}</text>')
    drawn.append(f'<text x="{WIDTH - 6}" y="{HEIGHT - 6}" text-anchor="end">step {last:,}</text>')
    for (_, points), colour in zip(series, COLOURS, strict=False):
        line = " ".join(place(step, value) for step, value in points)
        drawn.append(f'<polyline points="{line}" fill="none" style="stroke:{colour}" stroke-width="1.6"/>')
    legend = " ".join(
        f'<span style="color:{colour}">{escape(name)}</span>'
        for (name, _), colour in zip(series, COLOURS, strict=False)
        if name
    )
    caption = f"<figcaption>{escape(title)} {legend}</figcaption>"
    return f'<figure>{caption}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}</svg></figure>'


def _labels(ticks: list[float]) -> list[str]:
    """Return the numbers with as many digits as it takes to tell them apart."""
    for digits in range(3, 8):
        labels = [f"{value:.{digits}g}" for value in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels


def _scores(result: dict[str, Any]) -> str:
    rows = [("corpus, before", result["before"]["overall"]), ("corpus, after", result["after"]["overall"])]
    if "general" in result:
        general = result["general"]
        rows += [(f"general text, {when}", general[when]["overall"]) for when in ("before", "after")]
    cells = [[name, *_figures(score)] for name, score in rows]
    return table(["text", "loss", "perplexity", "accuracy", "masked tokens"], cells)


def _subreddits(result: dict[str, Any]) -> str:
    before, after = result["before"]["by_subreddit"], result["after"]["by_subreddit"]
    largest = sorted(after, key=lambda name: (-after[name]["masked_tokens"], name))[:TOP_SUBREDDITS]
    cells = [[name, f"{before[name]['loss']:.4f}", *_figures(after[name])] for name in largest]
    return table(["subreddit", "loss before", "loss", "perplexity", "accuracy", "masked tokens"], cells)


def _figures(score: dict[str, Any]) -> list[str]:
    return [
        f"{score['loss']:.4f}",
        f"{score['perplexity']:,.2f}",
        f"{score['accuracy']:.3f}",
        f"{score['masked_tokens']:,}",
    ]
