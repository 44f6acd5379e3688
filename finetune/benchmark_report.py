"""What a benchmark prints, and its self-contained `report.html`."""

from typing import Any

from configs.page import escape, page, table
from finetune.report import NOT_A_DIAGNOSIS, figure_svg
from finetune.score_table import TITLES, align


def main_table(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows: baselines, then models with mean ± SD, one column a task, then the mean.

    One seed has no SD.
    """
    tasks = list(summary["scores"])
    rows = []
    for system in summary["baselines"][tasks[0]]:
        values = [summary["baselines"][task][system] for task in tasks]
        rows.append([TITLES.get(system, system), *(f"{100 * v:.1f}" for v in values), _mean(values)])
    for model in summary["scores"][tasks[0]]:
        cells = [summary["scores"][task][model] for task in tasks]
        shown = [_with_deviation(cell, summary["seeds"]) for cell in cells]
        rows.append([model, *shown, _mean([cell["mean"] for cell in cells])])
    return ["", *tasks, "mean"], rows


def text_report(summary: dict[str, Any]) -> str:
    """Return the tables as text."""
    headings, rows = main_table(summary)
    trained = bool(summary["ranks"])
    seeds = _over(summary["seeds"]) if trained else ""
    lines = [f"{summary['metric']}, percent{seeds}", *align([headings, *rows]), ""]
    for comparison in summary["comparisons"]:
        lines.append(pooled_sentence(comparison, summary["seeds"]))
        lines += align([["", "points", "95 % interval", "p (Holm)"], *_comparison_rows(comparison)])
    for size, comparisons in summary["few_label_comparisons"].items():
        lines += [
            "",
            f"trained on {size} rows:",
            *(pooled_sentence(comparison, summary["seeds"]) for comparison in comparisons),
        ]
    if trained:
        lines += ["", loss_sentence(summary)]
    return "\n".join(lines)


def pooled_sentence(comparison: dict[str, Any], seeds: list[int]) -> str:
    """Say one pooled comparison in words; the scatter of seeds is known from two seeds on."""
    p_value = comparison["pooled_holm_p_value"]
    verdict = "significant" if p_value < 0.05 else "not significant"
    low, high = (100 * comparison[f"pooled_{end}"] for end in ("low", "high"))
    return (
        f"{comparison['model']} against {comparison['reference']}: {100 * comparison['pooled_mean']:+.2f} points "
        f"(95 % interval {low:+.2f} to {high:+.2f}) over all tasks{' and seeds' if len(seeds) > 1 else ', one seed'}, "
        f"p = {p_value:.4f} (Holm), {verdict}; "
        f"with tasks as units p = {comparison['across_tasks_p_value']:.4f}"
    )


def loss_sentence(summary: dict[str, Any]) -> str:
    """Say where fine-tuning does not beat tuned TF-IDF."""
    lost = summary["loses_to_tfidf"]
    return (
        f"Does NOT beat tuned TF-IDF: {'; '.join(lost)}." if lost else "Every model beats tuned TF-IDF on every task."
    )


def html_report(summary: dict[str, Any]) -> str:
    """Return the page."""
    headings, rows = main_table(summary)
    parts = [
        "<h1>Benchmark</h1>",
        f'<p class="note">{text_report(summary).splitlines()[0]}.<br>',
        f"{NOT_A_DIAGNOSIS}</p>",
        table(headings, rows),
        *([f"<p>{escape(loss_sentence(summary))}</p>"] if summary["ranks"] else []),
    ]
    for comparison in summary["comparisons"]:
        title = f"{comparison['model']} against {comparison['reference']}"
        parts.append(f"<h2>{escape(title)}</h2>")
        parts.append(f"<p>{escape(pooled_sentence(comparison, summary['seeds']))}.</p>")
        parts.append(table(["task", "points", "95 % interval", "p (Holm)"], _comparison_rows(comparison)))
    for size, comparisons in summary["few_label_comparisons"].items():
        parts.append(f"<h2>Trained on {size} rows</h2>")
        sentences = [pooled_sentence(comparison, summary["seeds"]) for comparison in comparisons]
        parts += [f"<p>{escape(sentence)}.</p>" for sentence in sentences]
    if summary["ranks"]:
        parts += ["<h2>Plots</h2>", *_plots(summary), *_figure_tables(summary)]
    return page("mindshift: benchmark", parts)


def _comparison_rows(comparison: dict[str, Any]) -> list[list[str]]:
    return [
        [
            task,
            f"{100 * found['mean']:+.2f}",
            f"{100 * found['low']:+.2f} to {100 * found['high']:+.2f}",
            f"{found['holm_p_value']:.4f}",
        ]
        for task, found in comparison["tasks"].items()
    ]


def _figure_tables(summary: dict[str, Any]) -> list[str]:
    parts = []
    for task, by_model in summary["figures"].items():
        names = list(next(iter(by_model.values())))
        rows = [
            [
                model,
                *(_with_deviation(f[name], summary["seeds"]) if name in f else "–" for name in names),
            ]
            for model, f in by_model.items()
        ]
        parts += [f"<h2>{escape(task)}</h2>", table(["", *names], rows)]
    return parts


def _plots(summary: dict[str, Any]) -> list[str]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 0.8 + 0.35 * len(summary["ranks"])))
    ordered = sorted(summary["ranks"].items(), key=lambda item: -item[1])
    axis.plot([rank for _, rank in ordered], [name for name, _ in ordered], "o")
    axis.set(xlabel="mean rank over tasks (1 is best)", title="Ranks", xlim=(0.8, len(ordered) + 0.2))
    svgs = [figure_svg(figure)]
    for task, by_model in summary["learning_curves"].items():
        figure, axis = plt.subplots(figsize=(4.2, 3.4))
        for model, points in by_model.items():
            means = [100 * point["mean"] for point in points.values()]
            deviations = [100 * point["sd"] for point in points.values()]
            axis.errorbar(list(points), means, yerr=deviations, marker="o", markersize=4, capsize=2, label=model)
        axis.set(xlabel="training rows", ylabel=summary["metric"], title=task)
        axis.legend()
        svgs.append(figure_svg(figure))
    return svgs


def _over(seeds: list[int]) -> str:
    return f", mean ± SD over seeds {seeds}" if len(seeds) > 1 else f", seed {seeds[0]}"


def _with_deviation(cell: dict[str, float], seeds: list[int]) -> str:
    deviation = f" ± {100 * cell['sd']:.1f}" if len(seeds) > 1 else ""
    return f"{100 * cell['mean']:.1f}{deviation}"


def _mean(values: list[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}"
