"""Fine-tune models × tasks × seeds, compare them with tuned baselines and each other, behind a leakage gate.

mindshift benchmark configs/finetune/benchmark.yaml
"""

import json
import logging
import sys
from collections.abc import Sequence

from configs.console import start_console
from configs.errors import run_program
from configs.manifest import now, verify_inputs
from configs.recipe import load_recipe
from configs.run_folder import finish_run_folder, open_run_folder, remove_folder, write_atomically
from finetune.benchmark_baselines import score_baselines
from finetune.benchmark_config import BenchmarkRecipe
from finetune.benchmark_gate import close_gate_once, keep_gate
from finetune.benchmark_report import html_report, text_report
from finetune.benchmark_runs import RUNNING, read_folders, run_cells
from finetune.benchmark_tables import summarize

log = logging.getLogger("benchmark")


def main(arguments: Sequence[str], program: str) -> None:
    """Run the benchmark, or the next piece of it; print its tables when it is whole."""
    recipe = load_recipe(BenchmarkRecipe, arguments, program)
    started_at = now()
    inputs = {name.removeprefix("model "): folder for name, folder in read_folders(recipe).items()}
    accepted = verify_inputs(inputs.values(), accept_changes=recipe.accept_changed_inputs)
    leaks, record = close_gate_once(recipe)
    working = open_run_folder(recipe, accepted=accepted, started_at=started_at)
    keep_gate(working, record)
    if not run_cells(recipe, working):
        log.info("stopped after %d new runs: the same command goes on", recipe.most_new_runs)
        return
    summary = summarize(recipe, working, score_baselines(recipe, working)) | {"leaks_dropped": leaks}
    write_atomically(working / "benchmark.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    write_atomically(working / "report.html", html_report(summary))
    remove_folder(working / RUNNING)
    finish_run_folder(recipe, stage="benchmark", inputs=inputs, counts={"leaks": leaks})
    print(text_report(summary))
    print(f"tables, cells and report: {recipe.output_dir}")


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift benchmark")))
