"""`mindshift reproduce`: does adaptation help? The whole experiment behind one command, resumed wherever it stopped.

Corpora, a warmed-up head that every arm starts from, arms of the same number of steps, a cheap screening of the arms,
a benchmark of the survivors against their controls, and a page with every figure. Each step is a stage of its own with
its own recipe and manifest; a finished one is left as it is.
"""

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.console import start_console
from configs.errors import UserError, run_program
from configs.recipe import load_recipe, require
from configs.run_folder import write_atomically
from finetune.benchmark_config import BenchmarkRecipe
from launch.chain import Step, run_step
from launch.experiment_page import HOURS_NAME, render_page

logger = logging.getLogger("reproduce")
MINDSHIFT = [sys.executable, "-m", "launch.cli"]

FEWEST_SEEDS = 2


@dataclasses.dataclass(kw_only=True)
class ExperimentRecipe:
    """Train every arm for the same number of steps, screen them, and compare the best with their controls."""

    output_dir: Path
    """Folder of the experiment; every step gets a folder below it."""
    page: Path
    """Markdown page that is written at the end, its plots beside it."""
    corpora: dict[str, Path]
    """Corpus recipes by name; arms read OUTPUT_DIR/corpus/NAME."""
    head: Path
    """Pretraining recipe whose encoder every arm starts from: a warmed-up masked-LM head is no adaptation."""
    arms: dict[str, Path]
    """Pretraining recipes by name. Their corpus, model and output_dir are replaced where `sources` says so."""
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    """What an arm reads and starts from, as CORPUS or CORPUS from ARM. Default: domain, from the head."""
    control: str = "general"
    """The arm trained on general text: what it gains is mere extra training."""
    screening: Path | None = None
    """Benchmark recipe of the first round; its models are replaced. Without it every arm survives."""
    benchmark: Path
    """Benchmark recipe of the comparison; its models are replaced by base, control and survivors."""
    survivors: int = 2
    """Arms that go from the screening to the benchmark."""
    steps: int = 2000
    """Optimizer steps of each arm."""
    expected_hours: float = 12.0
    """Hours that all of it took on the machine of the recipe's head comment."""
    budget_hours: float | None = None
    """Scale steps and seeds down so that it takes about this long. The page says so."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(self.control in self.arms, "control", self.control, f"one of the arms: {', '.join(self.arms)}")
        require(self.survivors >= 1, "survivors", self.survivors, "1 or more")
        require(self.budget_hours is None or self.budget_hours > 0, "budget_hours", self.budget_hours, "more than 0")
        for arm, source in self.sources.items():
            require(arm in self.arms, "sources", arm, f"one of the arms: {', '.join(self.arms)}")
            corpus, start = split_source(source)
            require(corpus in self.corpora, "sources", source, f"a corpus of {', '.join(self.corpora)}")
            earlier = list(self.arms)[: list(self.arms).index(arm)]
            require(start in ("head", *earlier), "sources", source, "an arm that stands before it")

    @property
    def share(self) -> float:
        """How much of the full experiment the budget pays for."""
        return 1.0 if self.budget_hours is None else min(1.0, self.budget_hours / self.expected_hours)


def split_source(source: str) -> tuple[str, str]:
    """Return the corpus and the start (`head` or an arm) that `CORPUS [from ARM]` names."""
    corpus, _, start = source.partition(" from ")
    return corpus.strip(), start.strip() or "head"


def main(arguments: Sequence[str], program: str) -> None:
    """Run or resume the experiment and write its page."""
    recipe = load_recipe(ExperimentRecipe, arguments, program)
    experiment = Experiment(recipe)
    experiment.pretrain()
    survivors = experiment.screen()
    experiment.compare(survivors)
    write_page(experiment, survivors)


class Experiment:
    """The steps of an experiment, in the order in which they run."""

    def __init__(self, recipe: ExperimentRecipe) -> None:
        self.recipe, self.folder = recipe, recipe.output_dir.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.steps = max(1, round(recipe.steps * recipe.share))

    def corpus(self, name: str) -> Path:
        """Return the folder of a corpus."""
        return self.folder / "corpus" / name

    def encoder(self, name: str) -> Path:
        """Return the folder of an arm's encoder, or of the `head`."""
        return self.folder / "encoder" / name

    def pretrain(self) -> None:
        """Build the corpora, warm the head up, train the arms."""
        recipe = self.recipe
        for name, path in recipe.corpora.items():
            # One folder of keys: a post that one corpus holds out is held out of all.
            options = _options(output_dir=self.corpus(name), keys_dir=self.folder / "keys")
            self._run(f"corpus {name}", ["corpus", "build", str(path), *options], self.corpus(name))
        general = split_source(recipe.sources.get(recipe.control, "general"))[0]
        options = _options(corpus=self.corpus(general), output_dir=self.encoder("head"))
        self._run("head", ["pretrain", str(recipe.head), *options], self.encoder("head"))
        for name, path in recipe.arms.items():
            self._run(f"arm {name}", ["pretrain", str(path), *self._arm_options(name, general)], self.encoder(name))

    def _arm_options(self, name: str, general: str) -> list[str]:
        corpus, start = split_source(self.recipe.sources.get(name, "domain"))
        options = _options(corpus=self.corpus(corpus), model=self.encoder(start), output_dir=self.encoder(name))
        return [*options, *_options(general_corpus=self.corpus(general), max_steps=self.steps)]

    def screen(self) -> list[str]:
        """Return the arms that go on: the best of a cheap round, the control apart."""
        candidates = [name for name in self.recipe.arms if name != self.recipe.control]
        if self.recipe.screening is None:
            return candidates
        folder = self._benchmark("screening", self.recipe.screening, candidates, share=1.0)
        scores = screening_scores(json.loads((folder / "benchmark.json").read_text(encoding="utf-8")))
        best = sorted(candidates, key=lambda name: -scores[name])[: self.recipe.survivors]
        logger.info("screening: %s", ", ".join(f"{name} {100 * scores[name]:.1f}" for name in candidates))
        return best

    def compare(self, survivors: list[str]) -> None:
        """Compare the survivors with the base and the control."""
        self._benchmark("benchmark", self.recipe.benchmark, survivors, share=self.recipe.share)

    def _benchmark(self, name: str, path: Path, arms: list[str], *, share: float) -> Path:
        """Run a benchmark of the base, the control and `arms`, and return its folder."""
        settings = load_recipe(BenchmarkRecipe, [str(path)], f"mindshift reproduce: {path}")
        seeds = settings.seeds[: max(FEWEST_SEEDS, round(len(settings.seeds) * share))]
        models = [f"base={self.encoder('head')}"]
        models += [f"{arm}={self.encoder(arm)}" for arm in (self.recipe.control, *arms)]
        folder = self.folder / name
        options = _options(models=json.dumps(models), reference=self.recipe.control, seeds=json.dumps(seeds))
        self._run(name, ["benchmark", str(path), *options, *_options(output_dir=folder)], folder)
        return folder

    def _run(self, name: str, words: list[str], folder: Path) -> None:
        started = time.monotonic()
        if not run_step(Step(name, [*MINDSHIFT, *words], folder)):
            return
        path = self.folder / HOURS_NAME
        hours: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        hours[name] = round((time.monotonic() - started) / 3600, 4)
        write_atomically(path, json.dumps(hours, indent=1) + "\n")


def screening_scores(summary: dict[str, Any]) -> dict[str, float]:
    """Return each model's mean over tasks of its fine-tuned macro-F1."""
    by_model: dict[str, list[float]] = {}
    for scores in summary["scores"].values():
        for model, score in scores.items():
            by_model.setdefault(model, []).append(score["mean"])
    return {model: sum(values) / len(values) for model, values in by_model.items()}


def write_page(experiment: Experiment, survivors: list[str]) -> None:
    """Write the page from what the steps left."""
    recipe = experiment.recipe
    names = ["head", *recipe.arms]
    for name in names:
        if not (experiment.encoder(name) / "evaluation.json").is_file():
            raise UserError("no evaluation of this arm is here", where=experiment.encoder(name))
    render_page(
        recipe.page,
        folder=experiment.folder,
        encoders={name: experiment.encoder(name) for name in names},
        benchmarks=[name for name in ("screening", "benchmark") if (experiment.folder / name).is_dir()],
        control=recipe.control,
        survivors=survivors,
        share=recipe.share,
    )
    logger.info("the page is %s", recipe.page)


def _options(**values: object) -> list[str]:
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift reproduce")))
