"""Charts as inline SVG: no library in the page, colours from its style sheet, a text for those who cannot see them.

Every chart has a title and stands beside, or can open, the table of its numbers.
"""

import html
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 34
TICKS = 5

Points = Sequence[tuple[float, float]]


def line_chart(title: str, series: Mapping[str, Points], *, x: str, y: str, diagonal: bool = False) -> str:
    """Return lines over a shared pair of axes.

    Args:
        title: what a screen reader says.
        series: name → points (x, y).
        x: name of the horizontal axis.
        y: name of the vertical axis.
        diagonal: draw the line of perfect calibration, on axes from 0 to 1.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    x_low, x_high = (0.0, 1.0) if diagonal else _range([p[0] for p in points])
    y_low, y_high = (0.0, 1.0) if diagonal else _range([p[1] for p in points])

    def place(point: tuple[float, float]) -> str:
        across = LEFT + (point[0] - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (point[1] - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts = _axes(x_low, x_high, y_low, y_high, x, y)
    if diagonal:
        start, end = place((0, 0)).split(","), place((1, 1)).split(",")
        parts.append(f'<line class="diagonal" x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"/>')
    for number, line in enumerate(series.values()):
        coordinates = [place(point) for point in line]
        parts.append(f'<polyline class="line series-{number % 4}" points="{" ".join(coordinates)}"/>')
        if len(line) <= 30:
            parts += [
                f'<circle class="dot series-{number % 4}" cx="{c.split(",")[0]}" cy="{c.split(",")[1]}" r="3"/>'
                for c in coordinates
            ]
    legend = "".join(
        f'<li><span class="key series-{number % 4}"></span>{html.escape(name)}</li>'
        for number, name in enumerate(series)
    )
    return _figure(title, parts, f'<ul class="legend">{legend}</ul>' if len(series) > 1 else "")


def bar_table(
    title: str, rows: Sequence[tuple[str, float, str]], *, heading: str, unit: str, full: float | None = None
) -> str:
    """Return a table whose numbers are bars as well: it reads the same with eyes and ears.

    Args:
        title: the caption.
        rows: name, value (0 or more), the value as shown.
        heading: what the names are.
        unit: what the values are.
        full: value of a whole bar; without it the largest.
    """
    largest = full or max((value for _, value, _ in rows), default=0) or 1
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td class="number">{html.escape(shown)}</td>'
        f'<td class="bar" aria-hidden="true"><svg viewBox="0 0 100 8" preserveAspectRatio="none">'
        f'<rect class="track" width="100" height="8"/>'
        f'<rect class="fill" width="{100 * value / largest:.2f}" height="8"/></svg></td></tr>'
        for name, value, shown in rows
    )
    return (
        f'<table class="bars"><caption>{html.escape(title)}</caption><thead><tr>'
        f'<th scope="col">{html.escape(heading)}</th><th scope="col" class="number">{html.escape(unit)}</th><td></td>'
        f"</tr></thead><tbody>{body}</tbody></table>"
    )


def _axes(x_low: float, x_high: float, y_low: float, y_high: float, x: str, y: str) -> list[str]:
    parts = []
    for value in _ticks(y_low, y_high):
        down = HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{down + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in _ticks(x_low, x_high):
        across = LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        anchor = "end" if across > WIDTH - RIGHT - 12 else "middle"
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{_short(value)}</text>')
    parts.append(f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">{html.escape(x)}</text>')
    middle = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{html.escape(y)}</text>'
    )
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Return round values between `low` and `high`, a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _figure(title: str, parts: Sequence[str], below: str) -> str:
    return (
        f'<figure class="chart"><figcaption>{html.escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title, quote=True)}">'
        f"{''.join(parts)}</svg>{below}</figure>"
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    return low - 0.04 * spread, high + 0.04 * spread


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k"
    if value and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 6):g}"
