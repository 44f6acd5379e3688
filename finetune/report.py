"""`report.html`: one self-contained page with a run's figures and plots, to read without any program.

It holds ids, labels and counts, never a text. Plots are inline SVG drawn by matplotlib.
"""

import io
from collections.abc import Sequence
from typing import Any

from configs.page import escape, page, table
from finetune.score_table import TITLES

NOT_A_DIAGNOSIS = (
    "Labels are annotators' opinions about texts and a model's guess at them. They are no diagnosis, and must not be "
    "used to decide anything about a person."
)


def render_report(metrics: dict[str, Any], evidence: dict[str, Any]) -> str:
    """Return the page.

    Args:
        metrics: the contents of `metrics.json`.
        evidence: what `finetune.evidence` collected on test.
    """
    task, test = metrics["task"], metrics["test"]
    sizes = ", ".join(f"{count:,} {split}" for split, count in task["rows"].items())
    parts = [
        f"<h1>{escape(task['name'])}</h1>",
        f'<p class="note">{escape(task["type"])}, {len(task["labels"])} labels; {sizes}.<br>{NOT_A_DIAGNOSIS}</p>',
        "<h2>Test</h2>",
        _systems(test),
        _intervals(evidence),
        "<h2>Label by label</h2>",
        _labels(test["classifier"]["per_label"]),
        "<h2>Plots</h2>",
        *_plots(metrics, evidence),
        "<h2>Confusion</h2>",
        _confusion(evidence["confusion"], task["labels"]),
        "<h2>Slices of test</h2>",
        table(
            ["slice", "rows", "micro F1", "all labels right"],
            [
                [f"{row['kind']}: {row['slice']}", row["rows"], percent(row["micro_f1"]), percent(row["accuracy"])]
                for row in evidence["slices"]
            ],
        ),
        f"<h2>Errors</h2><p>The {len(evidence['errors'])} surest, by id.</p>",
        table(
            ["id", "annotated", "given", "confidence"],
            [
                [row["id"], ", ".join(row["annotated"]) or "–", ", ".join(row["given"]) or "–", row["confidence"]]
                for row in evidence["errors"]
            ],
        ),
    ]
    return page(f"mindshift: {task['name']}", parts)


def percent(value: float | None) -> str:
    """Return a fraction in percent, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def figure_svg(figure: Any) -> str:
    """Return a matplotlib figure as inline SVG, and close it."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def _systems(test: dict[str, Any]) -> str:
    rows = []
    for name, title in TITLES.items():
        if name in test:
            macro = test[name]["macro"]
            values = [macro["precision"], macro["recall"], macro["f1"], test[name]["micro"]["f1"]]
            values += [test[name]["accuracy"], macro["roc_auc"], macro["average_precision"]]
            rows.append([title, *map(percent, values)])
    headings = ["percent", "macro P", "macro R", "macro F1", "micro F1", "accuracy", "ROC-AUC", "average precision"]
    return table(headings, rows)


def _intervals(evidence: dict[str, Any]) -> str:
    rows = [
        [name.replace("_", " "), percent(value), f"{percent(low)} to {percent(high)}"]
        for name, (value, low, high) in evidence["intervals"].items()
    ]
    error, chance = (evidence["calibration"][key] for key in ("expected_calibration_error", "error_if_perfect"))
    return (
        f"<p>95 % intervals of a bootstrap over {evidence['clusters']:,} clusters of texts:</p>"
        + table(["", "percent", "interval"], rows)
        + f"<p>Expected calibration error: {error:.3f}; perfect probabilities of as many texts would have "
        f"{chance:.3f} by chance.</p>"
    )


def _labels(per_label: dict[str, Any]) -> str:
    keys = ("precision", "recall", "f1", "roc_auc", "average_precision")
    return table(
        ["label", "precision", "recall", "F1", "ROC-AUC", "average precision", "positive rows"],
        [[name, *(percent(f[key]) for key in keys), f["support"]] for name, f in per_label.items()],
    )


def _confusion(confusion: dict[str, Any], labels: Sequence[str]) -> str:
    if "matrix" in confusion:
        rows = [[name, *row] for name, row in zip(labels, confusion["matrix"], strict=True)]
        return table(["annotated ↓ given →", *labels], rows)
    kinds = ("true_positive", "false_positive", "false_negative", "true_negative")
    rows = [[name, *(counts[kind] for kind in kinds)] for name, counts in confusion["per_label"].items()]
    return table(["label", *(kind.replace("_", " ") for kind in kinds)], rows)


def _plots(metrics: dict[str, Any], evidence: dict[str, Any]) -> list[str]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    reliability, axis = plt.subplots(figsize=(4.2, 3.6))
    bins = evidence["calibration"]["bins"]
    axis.plot([0, 1], [0, 1], color="#bbb", linewidth=1)
    axis.plot([b["predicted"] for b in bins], [b["observed"] for b in bins], marker="o", markersize=4)
    axis.set(xlabel="predicted probability", ylabel="observed rate", title="Calibration on test")
    scores, axis = plt.subplots(figsize=(5.2, 0.6 + 0.26 * len(metrics["task"]["labels"])))
    per_label = metrics["test"]["classifier"]["per_label"]
    names = list(per_label)[::-1]
    axis.barh(names, [per_label[name]["f1"] for name in names])
    axis.set(xlim=(0, 1), title="F1 on test")
    svgs = [figure_svg(reliability), figure_svg(scores)]
    if metrics["training"]:
        curve, axis = plt.subplots(figsize=(4.2, 3.6))
        epochs = [record["epoch"] for record in metrics["training"]]
        axis.plot(epochs, [record["train_loss"] for record in metrics["training"]], label="training loss")
        axis.plot(
            epochs,
            [record["validation_average_precision"] for record in metrics["training"]],
            label="validation average precision",
        )
        axis.set(xlabel="epoch", title="Training")
        axis.legend()
        svgs.append(figure_svg(curve))
    return svgs
