"""What the report pages show: each function turns a run's figures into ready cells, bars and charts.

Only figures are read, never a document, a post or a prediction's text.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from configs.errors import UserError
from pretrain.metrics import METRICS_FILE
from release.evidence import EVIDENCE_NAME, read_evidence
from release.policy import POLICY, judge_all
from studio.charts import bar_table, line_chart
from studio.run_folders import Run, read_json, read_lines

SYSTEM_TITLES = {
    "classifier": "this classifier",
    "majority": "most frequent label",
    "tfidf_logistic_regression": "TF-IDF + logistic regression",
}
VERDICT_WORDS = {"passed": "passed", "failed": "failed", "invalid": "cannot tell", "missing": "not run"}


class Section(NamedTuple):
    """A heading, one sentence on how to read it, and ready HTML."""

    title: str
    note: str
    body: str


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """Return a table; the first column heads its row, every cell is escaped."""
    head = "".join(
        f'<th scope="col"{" class=number" if place else ""}>{html.escape(cell)}</th>'
        for place, cell in enumerate(headings)
    )
    body = "".join(
        f'<tr><th scope="row">{html.escape(str(row[0]))}</th>'
        + "".join(f'<td class="number">{html.escape(str(cell))}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    # A wide table scrolls by itself, also by keyboard, instead of widening the page.
    name = html.escape(caption or " ".join(headings), quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def percent(value: float | None) -> str:
    """Return a fraction in percent, or a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"


def corpus_sections(run: Run, figures: dict[str, Any]) -> list[Section]:
    """Return what was read, dropped and kept."""
    counts = figures.get("counts", figures)
    dropped = counts.get("dropped", {})
    documents, tokens = counts.get("documents", {}), counts.get("tokens", {})
    flow = [
        ("read", counts.get("read", 0)),
        ("dropped", sum(dropped.values())),
        ("unreadable", sum(counts.get("quarantined", {}).values())),
        ("kept", counts.get("kept", 0)),
    ]
    sizes = [[split, f"{documents[split]:,}", f"{tokens.get(split, 0):,}"] for split in sorted(documents)]
    return [
        Section("From read to kept", "Posts and comments, before documents are split.", _bars("Records", flow, "step")),
        Section("Kept", "What the next stage reads.", table(["part", "documents", "tokens"], sizes)),
        Section("Why records were dropped", "", _bars("Dropped", _sorted(dropped), "reason")),
        Section("Identifiers masked", "", _bars("Masked", _sorted(counts.get("identifiers", {})), "kind")),
        Section("Communities", "", _bars("Documents", _sorted(counts.get("subreddits", {})), "community")),
        Section(
            "Months",
            "Where a post is dated.",
            _bars("Documents", sorted(counts.get("months", {}).items()), "month"),
        ),
    ]


def training_sections(run: Run, figures: dict[str, Any] | None) -> list[Section]:
    """Return the curves of a run that trains or has trained, and where it stands."""
    rows = read_lines(run.path / METRICS_FILE)
    sections = []
    if rows:
        last = rows[-1]
        curves = {
            "training": _points(rows, "loss") or _points(rows, "train_loss"),
            "held out": _points(rows, "held_out_loss") or _points(rows, "validation_loss"),
        }
        chart = line_chart("Loss by step", {k: v for k, v in curves.items() if v}, x="step", y="loss")
        where = f"Step {last.get('step', 0):,}. " + ("Finished." if run.is_finished else "Still running.")
        sections.append(Section("Loss", where, chart))
        rates = line_chart("Learning rate by step", {"rate": _points(rows, "learning_rate")}, x="step", y="rate")
        sections.append(Section("Learning rate", "", rates))
    if figures and "before" in figures and "after" in figures:
        before, after = figures["before"]["overall"], figures["after"]["overall"]
        cells = [
            [key.replace("_", " "), f"{before[key]:,.3f}", f"{after[key]:,.3f}"]
            for key in ("loss", "perplexity", "accuracy")
            if key in before
        ]
        note = "On held-out text. A base without a masked-LM head starts at chance."
        sections.append(Section("Before and after", note, table(["", "before", "after"], cells)))
    return sections


def evaluation_sections(run: Run, figures: dict[str, Any]) -> list[Section]:
    """Return a classifier's scores with bars, calibration and confusion."""
    test = figures["test"]
    systems = [
        [title, *(percent(test[name]["macro"].get(key)) for key in ("precision", "recall", "f1", "roc_auc"))]
        for name, title in SYSTEM_TITLES.items()
        if name in test
    ]
    labels = test["classifier"]["per_label"]
    bars = [(name, float(row["f1"]), percent(row["f1"])) for name, row in labels.items()]
    sections = [
        Section(
            "Beside the baselines",
            "Averages over labels on the test part, which nothing was tuned on.",
            table(["", "precision", "recall", "F1", "ROC-AUC"], systems),
        ),
        Section(
            "F1 label by label", "", bar_table("F1 of each label on test", bars, heading="label", unit="F1", full=1.0)
        ),
        Section("All figures", "", _label_table(labels)),
    ]
    evidence = read_json(run.path / EVIDENCE_NAME) or figures.get("evidence") or {}
    if "calibration" in evidence:
        error = evidence["calibration"]["expected_calibration_error"]
        points = [(part["predicted"], part["observed"]) for part in evidence["calibration"]["bins"]]
        chart = line_chart(
            "Probability given, and how often it was right",
            {"this classifier": points},
            x="probability given",
            y="share that was right",
            diagonal=True,
        )
        note = f"On the dashed line a probability means what it says. Expected calibration error {error:.3f}."
        sections.append(Section("Calibration", note, chart))
    if "confusion" in evidence:
        sections.append(Section("Confusion", "", _confusion(evidence["confusion"], list(labels))))
    return sections


def benchmark_sections(run: Run, figures: dict[str, Any]) -> list[Section]:
    """Return the models × tasks table, and how far apart they are."""
    scores: Mapping[str, Mapping[str, Any]] = figures.get("scores", {})
    baselines: Mapping[str, Mapping[str, float]] = figures.get("baselines", {})
    models = sorted({model for row in scores.values() for model in row})
    others = sorted({name for row in baselines.values() for name in row})
    cells = [
        [
            task,
            *(_mean_sd(scores[task].get(model)) for model in models),
            *(percent(baselines.get(task, {}).get(name)) for name in others),
        ]
        for task in sorted(scores)
    ]
    titles = [SYSTEM_TITLES.get(name, name) for name in others]
    metric = str(figures.get("metric", "score"))
    sections = [
        Section("Scores", f"{metric}; mean and spread over seeds.", table(["task", *models, *titles], cells, metric))
    ]
    ranks = figures.get("ranks", {})
    if ranks:
        rows = [(name, float(rank), f"{rank:.2f}") for name, rank in sorted(ranks.items(), key=lambda item: item[1])]
        sections.append(
            Section("Mean rank", "1 is best.", bar_table("Mean rank", rows, heading="model", unit="mean rank"))
        )
    return sections


def audit_sections(run: Run, figures: dict[str, Any]) -> list[Section]:
    """Return every audit's question and verdict; the verdict is computed anew from the numbers."""
    evidence = read_evidence(run.path / EVIDENCE_NAME)
    verdicts = judge_all(evidence)
    blocked = [name for name, (verdict, _) in verdicts.items() if verdict != "passed"]
    summary = (
        "Every required audit passed. That is no proof of safety."
        if not blocked
        else f"The gate refuses this model: {len(blocked)} of {len(verdicts)} required audits did not pass."
    )
    items = "".join(
        f'<li class="audit"><div><h3>{html.escape(name.replace("_", " "))}</h3>'
        f"<p>{html.escape(POLICY[name].question)}</p>"
        f'<p class="quiet">{html.escape(reason.removeprefix(f"{name}: "))}</p></div>'
        f'<span class="verdict {verdict}">{VERDICT_WORDS[verdict]}</span></li>'
        for name, (verdict, reason) in verdicts.items()
    )
    return [Section("Verdict", summary, f'<ul class="audits">{items}</ul>')]


def dialogue_sections(run: Run, figures: dict[str, Any]) -> list[Section]:
    """Return a responder's evidence beside its base."""
    from dialogue.report import CAUTION, SYSTEMS, evidence_rows

    cells = table(["", *SYSTEMS.values(), "better"], evidence_rows(figures))
    return [Section("Beside the base", CAUTION, cells), *training_sections(run, None)]


REPORTS: dict[str, Callable[[Run, dict[str, Any]], list[Section]]] = {
    "corpus": corpus_sections,
    "pretrain": training_sections,
    "finetune": evaluation_sections,
    "benchmark": benchmark_sections,
    "audit": audit_sections,
    "dialogue": dialogue_sections,
}


def sections_of(run: Run) -> tuple[list[Section], str]:
    """Return a run's sections, or none and why there are none."""
    figures = run.figures()
    try:
        if run.stage in ("pretrain", "dialogue") and figures is None:
            sections = training_sections(run, None)
        elif figures is None:
            sections = []
        else:
            sections = REPORTS[run.stage](run, figures)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [], f"The figures of this run are not in the form this version writes ({type(error).__name__})."
    except UserError as error:
        return [], str(error)
    sections = [section for section in sections if section.body]
    if not sections:
        return [], "This run has not written any figures yet." if not run.is_finished else "This run has no figures."
    return sections, ""


def _bars(title: str, rows: Sequence[tuple[str, int]], heading: str) -> str:
    shown = [(str(name), float(count), f"{count:,}") for name, count in rows]
    return bar_table(title, shown, heading=heading, unit="count") if shown else ""


def _sorted(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[key])) for row in rows if key in row and "step" in row]


def _label_table(labels: Mapping[str, Mapping[str, Any]]) -> str:
    keys = {"precision": "precision", "recall": "recall", "f1": "F1", "roc_auc": "ROC-AUC"}
    rows = [[name, *(percent(row.get(key)) for key in keys), row.get("support", "")] for name, row in labels.items()]
    return table(["label", *keys.values(), "rows"], rows, "Every label on test")


def _confusion(confusion: Mapping[str, Any], names: list[str]) -> str:
    if "matrix" in confusion:
        rows = [[name, *row] for name, row in zip(names, confusion["matrix"], strict=True)]
        return table(["annotated ↓ given →", *names], rows, "Confusion")
    kinds = ("true_positive", "false_positive", "false_negative", "true_negative")
    rows = [[name, *(counts[kind] for kind in kinds)] for name, counts in confusion["per_label"].items()]
    return table(["label", *(kind.replace("_", " ") for kind in kinds)], rows, "Confusion")


def _mean_sd(values: Any) -> str:
    if isinstance(values, dict):
        return f"{100 * values['mean']:.1f} ± {100 * values['sd']:.1f}"
    if isinstance(values, list) and values:
        return percent(sum(values) / len(values))
    return "–"
