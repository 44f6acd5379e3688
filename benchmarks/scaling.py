"""How the stages scale on this machine: `python -m benchmarks.scaling [--json]`.

Every run is the real program on synthetic posts made for it. Definitions:

- pretraining: real (non-padding) tokens per second, the median over the run's logged steps but the first ones, with
  the encoder, lengths and batch of the recipe that is to be run (`--recipe`): a rate holds for those alone. The global
  batch is the same whatever the number of processes; without `global_batch_tokens`, that of the most. On CPUs each
  process has one thread, so that two processes have twice the cores; on GPUs each process has one card;
- overhead of a strategy: how much slower it is than plain data parallelism on as many processes, in percent;
- beside training: seconds of a run that are not optimizer steps: imports, joining, two evaluations, writing;
- efficiency: rate at N processes over N times the rate at one;
- corpus: documents read per second of the whole build, at 1 and 2 workers, start-up included and taken off.

Rounds go through all settings in turn, so that a busy machine slows all of them alike; the median round is shown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from configs.errors import run_program
from configs.manifest import CODE_ROOT, code_revision, read_manifest
from configs.processor import usable_cores
from configs.recipe import load_recipe
from pretrain.config import PretrainRecipe

WARM_UP_LINES = 3
STRATEGIES = ("plain", "zero0", "zero1", "zero2", "zero3")
ACCELERATE = """\
compute_environment: LOCAL_MACHINE
distributed_type: DEEPSPEED
deepspeed_config:
  deepspeed_config_file: {file}
main_process_port: 0
"""


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="mindshift-scaling-") as folder:
        report = measure(Path(folder), arguments)
    print(json.dumps(report, indent=2) if arguments.json else render(report))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of corpus workers")
    parser.add_argument("--posts", type=int, default=6000, help="synthetic posts the corpus is built from")
    parser.add_argument("--steps", type=int, default=16, help="optimizer steps of each pretraining run")
    parser.add_argument("--rounds", type=int, default=2, help="times each setting is measured")
    recipe = CODE_ROOT / "configs" / "pretrain" / "sample.yaml"
    parser.add_argument("--recipe", type=Path, default=recipe, help="pretraining recipe that is to be run")
    return parser.parse_args()


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all rates of this machine."""
    import torch

    dumps = folder / "dumps"
    _run(["launch.cli", "corpus", "sample", "--output_dir", str(dumps), "--posts", str(arguments.posts)])
    recipe = load_recipe(PretrainRecipe, [str(arguments.recipe)], "benchmarks.scaling")
    corpus, pretraining = [], []
    settings = [(s, n) for n in arguments.processes for s in arguments.strategies]
    for number in range(arguments.rounds):
        for workers in arguments.workers:
            corpus.append(measure_corpus(folder / f"corpus-{workers}-{number}", dumps, workers))
        for strategy, processes in settings:
            run = folder / f"{strategy}-{processes}-{number}"
            source = folder / f"corpus-{arguments.workers[0]}-0"
            pretraining.append(measure_pretraining(run, source, strategy, processes, arguments))
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {usable_cores()} cores",
        "code_revision": code_revision(),
        "model": recipe.model,
        "max_seq_length": recipe.max_seq_length,
        "global_batch_tokens": batch_tokens(recipe, arguments.processes),
        "pretraining": with_ratios(medians(pretraining, ("strategy", "processes"))),
        "corpus": medians(corpus, ("workers",)),
    }


def measure_corpus(output_dir: Path, dumps: Path, workers: int) -> dict[str, float]:
    """Build the corpus once."""
    inputs = json.dumps([f"{dumps}/*.zst"])
    words = ["corpus", "build", "--inputs", inputs, "--tokenizer", "package:minilm", "--held_out_share", "0.1"]
    words += ["--keys_dir", str(output_dir.parent / "keys"), "--chunk_documents", "500", "--workers", str(workers)]
    seconds = _run(["launch.cli", *words, "--output_dir", str(output_dir)])
    start_up = _run(["launch.cli", "corpus", "build", "--help"])
    documents = int(read_manifest(dumps).recipe["posts"])
    return {
        "workers": workers,
        "documents_per_second": documents / (seconds - start_up),
        "seconds": seconds,
        "start_up_seconds": start_up,
    }


def batch_tokens(recipe: PretrainRecipe, processes: list[int]) -> int:
    """Return the tokens of an optimizer step, the same for all numbers of processes."""
    most = recipe.micro_batch_tokens * recipe.gradient_accumulation_steps * max(processes)
    return recipe.global_batch_tokens or most


def measure_pretraining(
    output_dir: Path, corpus: Path, strategy: str, processes: int, arguments: argparse.Namespace
) -> dict[str, float | str]:
    """Pretrain a few steps and read the rates it logged itself."""
    recipe = load_recipe(PretrainRecipe, [str(arguments.recipe)], "benchmarks.scaling")
    tokens = batch_tokens(recipe, arguments.processes)
    keys = {
        "corpus": corpus,
        "global_batch_tokens": tokens,
        "num_train_epochs": "null",
        "max_steps": arguments.steps,
        "eval_max_tokens": recipe.micro_batch_tokens,
        "logging_steps": 1,
        "save_steps": 10**6,
        "output_dir": output_dir,
    }
    keys |= {key: corpus for key in ("general_corpus", "masking_contrast") if getattr(recipe, key) is not None}
    words = [str(arguments.recipe), *(word for key, value in keys.items() for word in (f"--{key}", str(value)))]
    environment = {"MINDSHIFT_PROCESSES_PER_NODE": str(processes), "OMP_NUM_THREADS": "1"}
    if strategy != "plain":
        environment["MINDSHIFT_ACCELERATE_CONFIG"] = str(_write_accelerate(output_dir, strategy))
    script = str(CODE_ROOT / "pretrain" / "run_mlm.py")
    seconds = _run(["launch.on_node", "accelerate", "launch", script, *words], environment)
    metrics = output_dir / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "tokens_per_second" in line]
    rates = [line["tokens_per_second"] for line in lines]
    training = sum(tokens * (1 - line["padding_share"]) / line["tokens_per_second"] for line in lines)
    return {
        "strategy": strategy,
        "processes": processes,
        "tokens_per_second": statistics.median(rates[WARM_UP_LINES:]),
        "seconds_beside_training": seconds - training,
    }


def medians(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one row a setting, with the median of each figure over its rounds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    figures = [figure for figure in rows[0] if figure not in keys]
    return [
        dict(zip(keys, setting, strict=True))
        | {figure: round(statistics.median(row[figure] for row in group), 1) for figure in figures}
        for setting, group in groups.items()
    ]


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add each strategy's overhead over plain, and its efficiency over its own rate at the fewest processes."""
    plain = {row["processes"]: row["tokens_per_second"] for row in rows if row["strategy"] == "plain"}
    fewest = min(row["processes"] for row in rows)
    alone = {row["strategy"]: row["tokens_per_second"] for row in rows if row["processes"] == fewest}
    for row in rows:
        rate, processes = row["tokens_per_second"], row["processes"]
        if processes in plain:
            row["overhead_percent"] = round(100 * (plain[processes] / rate - 1), 1)
        row["efficiency"] = round(rate / alone[row["strategy"]] * fewest / processes, 3)
    return rows


def render(report: dict[str, Any]) -> str:
    """Return the report as two tables."""
    batch = f"{report['max_seq_length']} tokens, {report['global_batch_tokens']:,} a step"
    lines = [f"{report['device']}, model {report['model']}, {batch}, code {report['code_revision'][:12]}", ""]
    for title in ("pretraining", "corpus"):
        rows = report[title]
        columns = list(rows[0])
        lines += [title, "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows] + [""]
    return "\n".join(lines)


def _write_accelerate(output_dir: Path, strategy: str) -> Path:
    config = output_dir.with_name(output_dir.name + ".accelerate.yaml")
    file = CODE_ROOT / "launch" / "deepspeed" / f"{strategy}.json"
    config.write_text(ACCELERATE.format(file=file), encoding="utf-8")
    return config


def _run(words: list[str], environment: dict[str, str] | None = None) -> float:
    """Run a module of ours and return how many seconds it took."""
    started = time.monotonic()
    own = {**os.environ, "PYTHONPATH": str(CODE_ROOT), "MINDSHIFT_HOME": str(CODE_ROOT), **(environment or {})}
    done = subprocess.run([sys.executable, "-m", *words], env=own, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:3])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(run_program(main))
