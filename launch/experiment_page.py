"""The page of an experiment: every figure read from the folders that the steps left, none typed by hand."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.manifest import MANIFEST_NAME, read_manifest, sha256_file
from configs.run_folder import write_atomically
from corpus.shards import TokenShards
from finetune.benchmark_report import pooled_sentence, text_report
from launch.experiment_plots import write_plots
from pretrain.run_evaluate import SCORES_NAME

HOURS_NAME = "hours.json"
HEAD = """\
# Does adaptation help {base}?

Written by `mindshift reproduce`; every figure is read from the manifests and results of the runs. Scores are agreement
with annotators of short posts, not a diagnosis of anyone.
"""

HELD_OUT = """\
Masked-LM loss on held-out texts, the same texts and masks for all; a text that stands in the training part of any of
these corpora is left out:"""


def render_page(
    path: Path,
    *,
    folder: Path,
    corpora: Path,
    base: str,
    arms: list[list[str]],
    caps: str,
    encoders: dict[str, Path],
    held_out: Path,
    benchmarks: dict[str, Path],
    survivors: list[str],
    planned_seeds: int,
    share: float,
) -> None:
    """Write the page.

    Args:
        path: the markdown file.
        folder: the experiment's.
        corpora: the folder of its corpora.
        base: the encoder that was adapted, as the recipe names it.
        arms: name, recipe, corpus and start of each.
        caps: how much of the tasks' data is read.
        encoders: the folders of the head and the arms by name.
        held_out: the folder of the losses of the compared encoders on every corpus.
        benchmarks: the folders of the benchmarks by title, the comparison last.
        survivors: the arms that were compared in full.
        planned_seeds: the seeds of the comparison's recipe.
        share: how much of the full experiment was paid for.
    """
    parts = [HEAD.format(base=base).rstrip()]
    if share < 1:
        parts.append(
            f"**Scaled down** to {100 * share:.0f} % of the full experiment's steps and seeds by `--budget_hours`."
        )
    comparison = _read(list(benchmarks.values())[-1] / "benchmark.json")
    if len(comparison["seeds"]) < planned_seeds:
        parts.append(f"**Not finished**: {len(comparison['seeds'])} of {planned_seeds} seeds have been run.")
    plots = write_plots(path.with_suffix(""), encoders=encoders, summary=comparison)
    parts += [_headline(comparison), *(f"![{plot.stem}]({plot.parent.name}/{plot.name})" for plot in plots)]
    parts += ["## Design", _table(["arm", "what", "reads", "starts from"], arms)]
    parts += [f"Base: the untouched encoder {base}. {caps} Arms are chosen on validation splits; test chooses nothing."]
    parts += ["## Corpora", _corpora_table(corpora), "## Pretraining", _encoder_table(encoders), HELD_OUT]
    parts.append(_held_out_table(_read(held_out / SCORES_NAME)))
    for title, benchmark in benchmarks.items():
        summary = _read(benchmark / "benchmark.json")
        parts += [f"## {title}", "```text\n" + text_report(summary) + "\n```"]
        if title == "Screening":
            parts += [
                "The choice was made by macro-F1 on validation splits, percent:",
                _validation_table(summary),
            ]
            parts.append(f"Compared in full: {', '.join(survivors)}.")
    steps = encoders | {path.name: path for path in [held_out, *benchmarks.values()]}
    parts += ["## Hours", _hours(folder, corpora, steps), "## Hashes", _hashes(corpora, encoders, benchmarks)]
    write_atomically(path, "\n\n".join(parts) + "\n")


def _headline(summary: dict[str, Any]) -> str:
    """Say the pooled effects in words."""
    seeds = summary["seeds"]
    lines = [f"- {pooled_sentence(comparison, seeds)}." for comparison in summary["comparisons"]]
    for size, comparisons in summary["few_label_comparisons"].items():
        lines += ["", f"Trained on about {size} rows a task:", ""]
        lines += [f"- {pooled_sentence(comparison, seeds)}." for comparison in comparisons]
    reading = (
        "A p-value is the larger of a bootstrap over test texts and seeds and of random signs over tasks and seeds,\n"
        "corrected for all comparisons of this page (Holm); with tasks as units there are as few signs as tasks, and "
        "no correction."
    )
    heading = "Macro-F1 on test splits, trained on all rows that the caps below leave:"
    return "\n".join(["## Result", "", heading, "", *lines, "", reading])


def _corpora_table(corpora: Path) -> str:
    """Say how large the training parts are and what they share: a control may be a part of what it is compared with."""
    parts = {folder.name: TokenShards(folder, "train") for folder in _finished_corpora(corpora).values()}
    ids = {name: set(shards.ids) for name, shards in parts.items()}
    headings = ["training part", "documents", "tokens", *(f"documents that stand in {name} too" for name in parts)]
    rows = [
        [name, f"{len(shards):,}", f"{shards.total_tokens:,}"]
        + ["" if name == other else f"{len(ids[name] & ids[other]):,}" for other in parts]
        for name, shards in parts.items()
    ]
    return _table(headings, rows)


def _encoder_table(encoders: dict[str, Path]) -> str:
    headings = ["", "steps", "real tokens", "hours of training", "loss on its own held-out texts, before", "after"]
    rows = []
    for name, encoder in encoders.items():
        found = _read(encoder / "evaluation.json")
        cells = [name, f"{found['steps']:,}", f"{found['tokens']:,}", f"{_training_hours(encoder):.2f}"]
        rows.append([*cells, *(f"{found[when]['overall']['loss']:.4f}" for when in ("before", "after"))])
    return _table(headings, rows)


def _held_out_table(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    corpora = list(next(iter(scores.values())))
    rows = [[name, *(f"{by_corpus[corpus]['loss']:.4f}" for corpus in corpora)] for name, by_corpus in scores.items()]
    return _table(["", *corpora], rows)


def _validation_table(summary: dict[str, Any]) -> str:
    by_task: dict[str, dict[str, float]] = summary["baselines_on_validation"]
    rows = []
    for system in next(iter(by_task.values())):
        scores = [by_system[system] for by_system in by_task.values()]
        rows.append([system, *(f"{100 * score:.1f}" for score in [*scores, sum(scores) / len(scores)])])
    return _table(["", *by_task, "mean"], rows)


def _training_hours(encoder: Path) -> float:
    """Return the hours that the steps themselves took, interruptions left out; 0 for what was not trained."""
    path, hours, before = encoder / "metrics.jsonl", 0.0, 0
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        record = json.loads(line)
        if "tokens_per_second" not in record:  # an evaluation, or a rewind
            continue
        hours += (record["tokens"] - before) / record["tokens_per_second"] / 3600
        before = record["tokens"]
    return hours


def _hours(folder: Path, corpora: Path, steps: dict[str, Path]) -> str:
    """Return the hours of every step, and of those that commands of their own have run."""
    hours = _read(folder / HOURS_NAME) if (folder / HOURS_NAME).is_file() else {}
    for name, path in (_finished_corpora(corpora) | steps).items():
        if name not in hours:
            hours[f"{name}, by its own command"] = _training_hours(path) or _hours_by_manifest(path)
    rows = [[name, f"{value:.2f}"] for name, value in hours.items()]
    return _table(["step", "hours"], [*rows, ["all", f"{sum(hours.values()):.2f}"]])


def _hours_by_manifest(folder: Path) -> float:
    """Return the hours from start to end, interruptions included."""
    manifest = read_manifest(folder)
    start, end = (datetime.fromisoformat(moment) for moment in (manifest.started_at, manifest.finished_at))
    return (end - start).total_seconds() / 3600


def _finished_corpora(folder: Path) -> dict[str, Path]:
    return {f"corpus {path.name}": path for path in sorted(folder.iterdir()) if (path / MANIFEST_NAME).is_file()}


def _hashes(corpora: Path, encoders: dict[str, Path], benchmarks: dict[str, Path]) -> str:
    folders = _finished_corpora(corpora) | encoders | {path.name: path for path in benchmarks.values()}
    rows = [
        [name, f"`{sha256_file(path / MANIFEST_NAME)[:16]}`", f"`{(read_manifest(path).code_revision or '')[:10]}`"]
        for name, path in folders.items()
        if (path / MANIFEST_NAME).is_file()
    ]
    return _table(["folder", "sha256 of its manifest", "code"], rows)


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
