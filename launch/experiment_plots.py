"""The plots of an experiment, as SVG files beside its page: effects with intervals, losses, learning curves."""

import io
import json
from pathlib import Path
from typing import Any

from configs.run_folder import write_atomically

SMOOTHED_STEPS = 5


def write_plots(folder: Path, *, encoders: dict[str, Path], summary: dict[str, Any]) -> list[Path]:
    """Write every plot there is something to show in.

    Args:
        folder: where the SVG files go.
        encoders: the folders of the arms by name.
        summary: the content of the comparison's `benchmark.json`.

    Returns:
        the files.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"effects": _effects(summary["comparisons"]), "losses": _losses(encoders)}
    for size, comparisons in summary["few_label_comparisons"].items():
        plots[f"effects-{size}-rows"] = _effects(comparisons)
    if summary["learning_curves"]:
        plots["learning-curves"] = _learning_curves(summary["learning_curves"])
    return [_save(figure, folder / f"{name}.svg") for name, figure in plots.items() if figure is not None]


def _effects(comparisons: list[dict[str, Any]]) -> Any:
    """Draw each comparison's gain by task, and pooled over tasks, with 95 % intervals."""
    import matplotlib.pyplot as plt

    if not comparisons:
        return None
    figure, axes = plt.subplots(
        1, len(comparisons), figsize=(2.2 + 1.9 * len(comparisons), 3.6), sharex=True, sharey=True, squeeze=False
    )
    for axis, comparison in zip(axes[0], comparisons, strict=True):
        found = {task: (values["mean"], values["low"], values["high"]) for task, values in comparison["tasks"].items()}
        found["all tasks"] = (comparison["pooled_mean"], comparison["pooled_low"], comparison["pooled_high"])
        for row, (mean, low, high) in enumerate(found.values()):
            colour = "tab:red" if row == len(found) - 1 else "tab:blue"
            axis.plot([100 * low, 100 * high], [row, row], color=colour)
            axis.plot([100 * mean], [row], "o", markersize=4, color=colour)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(xlabel="points of macro-F1", title=f"{comparison['model']}\nover {comparison['reference']}")
        axis.title.set_fontsize(9)
        axis.set_yticks(range(len(found)), list(found))
    axes[0][0].invert_yaxis()
    return figure


def _losses(encoders: dict[str, Path]) -> Any:
    """Draw each arm's training loss over its tokens."""
    import matplotlib.pyplot as plt

    if not encoders:
        return None
    figure, axis = plt.subplots(figsize=(5.4, 3.6))
    for name, encoder in encoders.items():
        if not (encoder / "metrics.jsonl").is_file():  # a soup was not trained
            continue
        lines = [json.loads(line) for line in (encoder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        points = [(line["tokens"] / 1e6, line["loss"]) for line in lines if line.get("loss") is not None]
        chunks = [points[start : start + SMOOTHED_STEPS] for start in range(0, len(points), SMOOTHED_STEPS)]
        axis.plot(
            [chunk[-1][0] for chunk in chunks],
            [sum(loss for _, loss in chunk) / len(chunk) for chunk in chunks],
            label=name,
            linewidth=1,
        )
    axis.set(xlabel="million tokens", ylabel="masked-LM loss on its own corpus, training", title="Pretraining")
    axis.legend(fontsize=7)
    return figure


def _learning_curves(curves: dict[str, Any]) -> Any:
    """Draw the mean over tasks by training rows."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(4.2, 3.4))
    sizes = list(next(iter(next(iter(curves.values())).values())))
    for model in next(iter(curves.values())):
        means = [sum(100 * task[model][size]["mean"] for task in curves.values()) / len(curves) for size in sizes]
        axis.plot(sizes, means, marker="o", markersize=4, label=model)
    axis.set(xlabel="training rows", ylabel="macro-F1 on test, percent, mean over tasks")
    axis.legend(fontsize=7)
    return figure


def _save(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "mindshift"}):  # the same figures give the same file
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    write_atomically(path, "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n")
    return path
