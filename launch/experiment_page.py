"""The page of an experiment: every figure read from the folders that the steps left, none typed by hand."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from configs.manifest import MANIFEST_NAME, read_manifest, sha256_file
from configs.run_folder import write_atomically
from corpus.shards import TokenShards
from finetune.benchmark_baselines import BASELINES
from finetune.benchmark_report import pooled_sentence, text_report
from finetune.benchmark_runs import CELLS
from launch.experiment_plots import write_plots
from pretrain.run_evaluate import SCORES_NAME

HEAD = """\
# Does adaptation help {base}?

Written by `mindshift reproduce`; every figure is read from the manifests and results of the runs. Scores are agreement
with annotators of short posts, not a diagnosis of anyone.
"""

HELD_OUT = """\
Masked-LM loss on held-out texts, the same texts and masks for all; a text that stands in the training part of any of
these corpora is left out:"""

AT_LEAST = """

At least: some runs and baselines were made before runs noted their time. A step that was interrupted counts from its
last start, an encoder at least its steps at their median rate."""


def render_page(
    path: Path,
    *,
    corpora: Path,
    base: str,
    arms: list[list[str]],
    caps: str,
    encoders: dict[str, Path],
    held_out: Path,
    benchmarks: dict[str, Path],
    survivors: list[str],
    screened_only: list[str],
    planned_seeds: int,
    steps: tuple[int, int],
) -> None:
    """Write the page.

    Args:
        path: the markdown file.
        corpora: the folder of its corpora.
        base: the encoder that was adapted, as the comparison names it.
        arms: name, recipe, corpus and start of each.
        caps: how much of the tasks' data is read.
        encoders: the folders of the head and the arms by name.
        held_out: the folder of the losses of the compared encoders on every corpus.
        benchmarks: the folders of the benchmarks by title, the comparison last.
        survivors: the arms that were compared in full.
        screened_only: the arms that no control was trained as long as.
        planned_seeds: the seeds of the comparison's recipe.
        steps: of each arm in the comparison, as they were and as the recipe has them.
    """
    parts = [HEAD.format(base=base).rstrip()]
    comparison = _read(list(benchmarks.values())[-1] / "benchmark.json")
    seeds = len(comparison["seeds"])
    if steps[0] < steps[1]:
        scale = f"{steps[0]:,} of {steps[1]:,} steps, {seeds} of {planned_seeds} seeds"
        parts.append(f"**Scaled down** by `--budget_hours`: {scale}.")
    elif seeds < planned_seeds:
        parts.append(f"**Not finished**: {seeds} of {planned_seeds} seeds have been run.")
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
            if screened_only:
                text = f"Screened only, as no control was trained for as many steps: {', '.join(screened_only)}."
                parts.append(text)
    others = _finished_corpora(corpora) | {held_out.name: held_out}
    parts += ["## Hours", _hours(others, encoders, benchmarks), "## Hashes", _hashes(corpora, encoders, benchmarks)]
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
    """Return the hours of all its steps at their median rate, so that no interruption counts; 0 if untrained."""
    path = encoder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    rates = [record["tokens_per_second"] for record in records if "tokens_per_second" in record]
    tokens: int = _read(encoder / "evaluation.json")["tokens"]
    return tokens / median(rates) / 3600 if rates else 0.0


def _hours(folders: dict[str, Path], encoders: dict[str, Path], benchmarks: dict[str, Path]) -> str:
    """Return the hours of every step, and their sum; "at least" where a run did not note its time."""
    hours = {name: (read_manifest(folder).seconds / 3600, True) for name, folder in folders.items()}
    for name, encoder in encoders.items():
        hours[name] = (max(_training_hours(encoder), read_manifest(encoder).seconds / 3600), True)
    hours |= {folder.name: _benchmark_hours(folder) for folder in benchmarks.values()}
    hours["all"] = (sum(spent for spent, _ in hours.values()), all(is_whole for _, is_whole in hours.values()))
    rows = [[name, ("" if is_whole else "at least ") + f"{spent:.2f}"] for name, (spent, is_whole) in hours.items()]
    return _table(["step", "hours"], rows) + ("" if hours["all"][1] else AT_LEAST)


def _benchmark_hours(folder: Path) -> tuple[float, bool]:
    """Return the hours of a benchmark's runs and baselines, whoever made them, and whether all of them say theirs."""
    manifest = read_manifest(folder)
    seconds, is_whole = 0.0, True
    for part, at_a_time in ((CELLS, int(manifest.recipe["jobs"])), (BASELINES, 1)):
        for path in sorted((folder / part).glob("*.json")):
            made = _read(path)
            is_whole = is_whole and "seconds" in made
            seconds += made.get("seconds", 0.0) / at_a_time
    return (seconds if is_whole else max(seconds, manifest.seconds)) / 3600, is_whole


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
