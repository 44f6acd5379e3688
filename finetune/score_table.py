"""The table a fine-tuning run prints: the classifier beside its baselines, in percent."""

from pathlib import Path
from typing import Any

from finetune.tasks import LabelSet, TaskType

TITLES = {
    "majority": "majority",
    "tfidf_logistic_regression": "TF-IDF + logistic regression",
    "classifier": "this classifier",
}


def score_table(metrics: dict[str, Any], label_set: LabelSet, folder: Path) -> str:
    """Return the test scores as text: all systems, then the classifier label by label, then the verdict."""
    test = metrics["test"]
    headings = ["macro P", "macro R", "macro F1", "micro F1", "accuracy", "ROC-AUC", "avg. prec."]
    binary = label_set.type is TaskType.BINARY
    if binary:
        headings.insert(0, f"F1 of {label_set.names[label_set.positive_index]}")
    rows = []
    for name, title in TITLES.items():
        if name in test:
            figures, macro = test[name], test[name]["macro"]
            cells = [macro["precision"], macro["recall"], macro["f1"], figures["micro"]["f1"], figures["accuracy"]]
            cells += [macro["roc_auc"], macro["average_precision"]]
            rows.append([title, *([figures["positive"]["f1"]] if binary else []), *cells])
    lines = [f"test, {test['classifier']['rows']} rows, in percent", *align([["", *headings], *rows]), ""]
    label_rows = [["label", "P", "R", "F1", "ROC-AUC", "avg. prec.", "positive"]]
    label_rows += [
        [name, f["precision"], f["recall"], f["f1"], f["roc_auc"], f["average_precision"], str(f["support"])]
        for name, f in test["classifier"]["per_label"].items()
    ]
    lines += align(label_rows)
    lines += ["", _verdict(test), f"classifier and evidence: {folder}"]
    return "\n".join(lines)


def align(rows: list[list[Any]]) -> list[str]:
    """Return the lines of a table: the first column to the left, the others to the right; numbers in percent."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]


def _verdict(test: dict[str, Any]) -> str:
    own = test["classifier"]["macro"]["f1"]
    others = {TITLES[name]: test[name]["macro"]["f1"] for name in TITLES if name in test and name != "classifier"}
    if not others:
        return "No baseline was scored."
    lost = [title for title, value in others.items() if value >= own]
    if lost:
        return f"On macro-F1 this classifier does NOT beat: {', '.join(lost)}."
    return f"On macro-F1 this classifier beats {' and '.join(others)}."


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{100 * value:.1f}"
