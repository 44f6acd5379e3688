"""Pretraining speed against Hugging Face's own path: `python -m benchmarks.pretrain_throughput [--json]`.

Both sides start from the same weights, read the same documents and count real (non-padding) tokens. Rounds of the
contenders alternate, so that whatever else the machine does hits all of them; figures are medians over rounds.

- speed: real tokens per second, and per second of CPU time (steadier on a busy machine; use 1 thread for it);
- ratio: ours over the contender, round by round, median;
- share of matmul rate: model FLOP per second (6 × encoder weights + attention + head on the masked tokens, forward and
  backward, real tokens only) over the rate of a large bf16 product measured in the same run;
- quality: held-out loss of both sides after the same number of real tokens, at the same learning rate.

The corpus is built from `../shared/data/dumps` when it is there, else from the embedded sample.
"""

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.pretrain_contenders import CONTENT_LENGTH, ROWS, Contender, Round, load_model, work
from configs.errors import run_program
from corpus.shards import TokenShards
from pretrain.flops import flops_per_token, matmul_flops, model_size

ROOT = Path(__file__).resolve().parents[1]
DUMPS_DIR = ROOT.parent / "shared" / "data" / "dumps"
DUMPS = [DUMPS_DIR / "RS_2017.zst", DUMPS_DIR / "RC_2017.zst"]
"""Posts and comments of one year: their lengths are those of the whole collection."""
REDDIT = {
    "ours": Contender("ours", dense=False, bf16=True, dropout=0.0),
    "hf line_by_line bf16, no dropout": Contender("hf", dense=False, bf16=True, dropout=0.0),
    "hf line_by_line as shipped (fp32, dropout 0.1)": Contender("hf", dense=False, bf16=False, dropout=None),
}
DENSE = {
    "ours": Contender("ours", dense=True, bf16=True, dropout=0.0),
    "hf group_texts bf16, no dropout": Contender("hf", dense=True, bf16=True, dropout=0.0),
}
AS_SHIPPED = {"hf group_texts as shipped (fp32, dropout 0.1)": Contender("hf", dense=True, bf16=False, dropout=None)}
SETTINGS: dict[str, tuple[str, dict[str, Contender]]] = {
    "reddit lengths, 6x384": ("package:minilm", REDDIT),
    "dense 512, 6x384": ("package:minilm", DENSE | AS_SHIPPED),
    "dense 512, BERT-base": ("bert-base", DENSE),
}
TARGETS = {
    ("reddit lengths, 6x384", "hf line_by_line bf16, no dropout"): (2.5, 4.0),
    ("reddit lengths, 6x384", "hf line_by_line as shipped (fp32, dropout 0.1)"): (8.0, 20.0),
    ("dense 512, 6x384", "hf group_texts bf16, no dropout"): (1.7, 2.2),
    ("dense 512, BERT-base", "hf group_texts bf16, no dropout"): (1.25, 1.6),
}


class Worker:
    """A contender in its own process."""

    def __init__(self, contender: Contender, corpus: Path, model: str, learning_rate: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe: Connection
        self._pipe, other = context.Pipe()
        arguments = (other, contender, corpus, model, learning_rate, 10**6)
        self._process = context.Process(target=work, args=arguments, daemon=True)
        self._process.start()
        if self._pipe.recv() != "ready":
            raise RuntimeError("the worker did not start")

    def ask(self, request: Any) -> Any:
        """Send a request and wait for its answer."""
        self._pipe.send(request)
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def build_corpus(folder: Path) -> Path:
    """Build the benchmark's corpus unless an earlier run left it."""
    from corpus.build_corpus import main

    has_dumps = all(dump.is_file() for dump in DUMPS)
    output_dir = folder / ("dumps_2017" if has_dumps else "sample")
    if not (output_dir / "manifest.json").is_file():
        arguments = [str(ROOT / "configs" / "corpus" / "sample.yaml"), "--output_dir", str(output_dir)]
        arguments += ["--keys_dir", str(folder / "keys")]
        if has_dumps:
            arguments += ["--inputs", json.dumps([str(dump) for dump in DUMPS])]
        main(arguments, "corpus build")
    return output_dir


def measure(name: str, corpus: Path, *, rounds: int, steps: int) -> dict[str, Any]:
    """Alternate the contenders of one setting and compare them."""
    model, contenders = SETTINGS[name]
    workers = {key: Worker(contender, corpus, model, 1e-4) for key, contender in contenders.items()}
    for worker in workers.values():
        worker.ask(1)  # first shapes, first allocations
    records: dict[str, list[Round]] = {key: [] for key in workers}
    rates = []
    for _ in range(rounds):
        for key, worker in workers.items():
            records[key].append(worker.ask(steps))
        rates.append(matmul_flops())
    for worker in workers.values():
        worker.close()
    result: dict[str, Any] = {"contenders": {key: _summary(found) for key, found in records.items()}, "ratios": {}}
    for key in [key for key in workers if key != "ours"]:
        pairs = list(zip(records["ours"], records[key], strict=True))
        ratio = statistics.median(_rate(a) / _rate(b) for a, b in pairs)
        cpu_ratio = statistics.median(_cpu_rate(a) / _cpu_rate(b) for a, b in pairs)
        must, aim = TARGETS.get((name, key), (None, None))
        result["ratios"][key] = {"wall": ratio, "cpu": cpu_ratio, "must": must, "aim": aim}
    size = model_size(load_model(model, corpus / "tokenizer", "sdpa").config)
    mean_keys = 512.0 if "dense" in name else _mean_square_length(corpus)
    flops = flops_per_token(size, mean_keys=mean_keys, mlm_probability=0.15)
    result["matmul_gflops"] = max(rates) / 1e9
    # CPU time over threads, not wall time: a share taken from us by other programs is not ours to explain.
    speed = result["contenders"]["ours"]["tokens_per_cpu_second"] * torch.get_num_threads()
    result["share_of_matmul_rate"] = flops * speed / max(rates)
    return result


def _mean_square_length(corpus: Path) -> float:
    lengths = TokenShards(corpus, "train").lengths.clip(max=CONTENT_LENGTH).astype(float) + 2
    return float((lengths**2).sum() / lengths.sum())


def _rate(done: Round) -> float:
    return done.real_tokens / done.seconds


def _cpu_rate(done: Round) -> float:
    return done.real_tokens / done.cpu_seconds


def _summary(rounds: list[Round]) -> dict[str, float]:
    return {
        "tokens_per_second": statistics.median(map(_rate, rounds)),
        "tokens_per_cpu_second": statistics.median(map(_cpu_rate, rounds)),
        "peak_gb": max(done.peak_bytes for done in rounds) / 1e9,
    }


def quality(corpus: Path, *, model: str, tokens: int, seeds: int) -> dict[str, Any]:
    """Train both sides on the same number of real tokens, from the same weights, and compare their held-out losses."""
    # A row of line_by_line is mostly padding: so many of our full rows hold the real tokens of a step of theirs.
    lengths = TokenShards(corpus, "train").lengths.clip(max=CONTENT_LENGTH) + 2
    rows = max(1, round(ROWS * float(lengths.mean()) / (CONTENT_LENGTH + 2)))
    contenders = {
        "ours": dataclasses.replace(REDDIT["ours"], rows=rows),
        "hf": REDDIT["hf line_by_line bf16, no dropout"],
    }
    losses: dict[str, list[float]] = {key: [] for key in contenders}
    for seed in range(seeds):
        for key, contender in contenders.items():
            worker, read = Worker(dataclasses.replace(contender, seed=seed), corpus, model, 2e-4), 0
            while read < tokens:
                read += worker.ask(1).real_tokens
            losses[key].append(worker.ask("evaluate"))
            print(f"quality, seed {seed}, {key}: {losses[key][-1]:.4f} after {read:,} tokens", file=sys.stderr)
            worker.close()
    ratios = [ours / theirs for ours, theirs in zip(losses["ours"], losses["hf"], strict=True)]
    return {"model": model, "tokens": tokens, "held_out_loss": losses, "ours_over_hf": statistics.mean(ratios)}


def memory(corpus: Path, *, steps: int) -> dict[str, Any]:
    """Train ours for many steps and report its resident memory along the way."""
    worker = Worker(REDDIT["ours"], corpus, "package:minilm", 1e-4)
    resident = [worker.ask(max(1, steps // 10)).resident_bytes / 1e9 for _ in range(10)]
    worker.close()
    return {"steps": steps, "resident_gb": resident}


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrain_throughput")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of the contenders")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps a round")
    parser.add_argument("--quality_tokens", type=int, default=60_000, help="real tokens of the quality gate; 0: none")
    parser.add_argument("--quality_seeds", type=int, default=3, help="runs a side of the quality gate")
    parser.add_argument("--quality_model", default="package:minilm", help="where both sides start")
    parser.add_argument("--memory_steps", type=int, default=0, help="steps of the memory check; 0: none")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), help="which settings to measure")
    parser.add_argument("--work_dir", type=Path, default=ROOT / "runs" / "benchmarks", help="where the corpus is kept")
    options = parser.parse_args(arguments)
    corpus = build_corpus(options.work_dir)
    lengths = TokenShards(corpus, "train").lengths.clip(max=CONTENT_LENGTH) + 2
    result: dict[str, Any] = {
        "corpus": corpus.name,
        "documents": len(lengths),
        "mean_tokens": float(lengths.mean()),
        "threads": torch.get_num_threads(),
    }
    result["settings"] = {}
    for name in options.settings:
        result["settings"][name] = measure(name, corpus, rounds=options.rounds, steps=options.steps)
        print(f"{name}: {json.dumps(result['settings'][name]['ratios'])}", file=sys.stderr)  # minutes before the rest
    if options.quality_tokens:
        result["quality"] = quality(
            corpus, model=options.quality_model, tokens=options.quality_tokens, seeds=options.quality_seeds
        )
    if options.memory_steps:
        result["memory"] = memory(corpus, steps=options.memory_steps)
    print(json.dumps(result, indent=2) if options.json else _lines(result))


def _lines(result: dict[str, Any]) -> str:
    lines = [f"corpus: {result['corpus']}, {result['threads']} threads"]
    for name, setting in result["settings"].items():
        share = setting["share_of_matmul_rate"]
        lines.append(f"{name}: {share:.0%} of the matmul rate ({setting['matmul_gflops']:.0f} GFLOP/s)")
        for key, found in setting["contenders"].items():
            lines.append(f"  {key}: {found['tokens_per_second']:.0f} tokens/s, peak {found['peak_gb']:.2f} GB")
        for key, ratio in setting["ratios"].items():
            asked = f" (must {ratio['must']}x, aim {ratio['aim']}x)" if ratio["must"] else ""
            lines.append(f"  over {key}: {ratio['wall']:.2f}x wall, {ratio['cpu']:.2f}x CPU{asked}")
    lines += [f"{key}: {result[key]}" for key in ("quality", "memory") if key in result]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
