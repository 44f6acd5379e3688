"""`mindshift reproduce`: does adaptation help? The whole experiment behind one command, resumed wherever it stopped.

Corpora, a warmed-up head that every arm starts from, short arms, a cheap screening of them by frozen states, long arms
for those that survive and for the controls, a benchmark of these, and a page with every figure. Each step is a stage of
its own with its own recipe and manifest; a finished one is left as it is.
"""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.console import start_console
from configs.errors import UserError, run_program
from configs.manifest import MANIFEST_NAME, read_manifest
from configs.recipe import StageRecipe, load_recipe, named_entries
from corpus.config import CorpusRecipe
from finetune.benchmark_config import FROZEN, BenchmarkRecipe
from launch.chain import Step, run_step
from launch.experiment_config import SOUP, ExperimentRecipe, describe_arms, describe_caps, split_source
from launch.experiment_page import render_page
from pretrain.config import PretrainRecipe
from pretrain.run_evaluate import EvaluateRecipe
from pretrain.run_soup import SoupRecipe

logger = logging.getLogger("reproduce")
MINDSHIFT = [sys.executable, "-m", "launch.cli"]
RECIPES: dict[str, type[StageRecipe]] = {
    "corpus build": CorpusRecipe,
    "pretrain": PretrainRecipe,
    "pretrain soup": SoupRecipe,
    "pretrain evaluate": EvaluateRecipe,
    "benchmark": BenchmarkRecipe,
}
"""What each command of a step is asked."""
BASE = "base"


def main(arguments: Sequence[str], program: str) -> None:
    """Run or resume the experiment and write its page."""
    recipe = load_recipe(ExperimentRecipe, arguments, program)
    experiment = Experiment(recipe)
    experiment.prepare()
    survivors = experiment.screen()
    experiment.compare(survivors)
    write_page(experiment, survivors)


class Experiment:
    """The steps of an experiment, in the order in which they run."""

    def __init__(self, recipe: ExperimentRecipe) -> None:
        self.recipe, self.folder = recipe, recipe.output_dir.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.general = split_source(recipe.sources.get(recipe.controls[0], "general"))[0]
        self.benchmark = load_recipe(
            BenchmarkRecipe, [str(recipe.benchmark)], f"mindshift reproduce: {recipe.benchmark}"
        )
        self.plan = recipe.plan(len(self.benchmark.seeds))
        self.steps = max(1, round(recipe.steps * self.plan.share))
        screening_steps = recipe.screening_steps or recipe.steps
        self.screening_steps = max(1, round(screening_steps * self.plan.share))
        self.corpora = (recipe.corpora_of or recipe.output_dir).absolute()
        self.held_out = self.folder / f"held-out-{self.steps}"
        self.benchmarks: dict[str, Path] = {}  # by the title of their part of the page

    def corpus(self, name: str) -> Path:
        """Return the folder of a corpus."""
        return self.corpora / "corpus" / name

    def encoder(self, name: str, steps: int) -> Path:
        """Return the folder of an arm's encoder after so many steps, or of the `head`."""
        return self.folder / "encoder" / (name if name == "head" else f"{name}-{steps}")

    def prepare(self) -> None:
        """Build the corpora and warm the head up."""
        for name, path in self.recipe.corpora.items():
            # One folder of keys: a post has one id in all corpora, by which none is scored that an arm was trained on.
            options = _options(output_dir=self.corpus(name), keys_dir=self.corpora / "keys")
            self._run(f"corpus {name}", "corpus build", [str(path), *options])
        head = self.encoder("head", 0)
        options = _options(model=self.recipe.base_model, corpus=self.corpus(self.general), output_dir=head)
        self._run("head", "pretrain", [str(self.recipe.head), *options])

    def screen(self) -> list[str]:
        """Return the arms that go on, the controls apart: those of `always`, and the best of a cheap round.

        An arm without a control of as many steps is screened only.
        """
        candidates, always = self.recipe.candidates, self.recipe.always
        if self.recipe.screening is None:
            return candidates
        self._train(list(self.recipe.arms), self.screening_steps)
        names = [*self.recipe.controls, *candidates]
        folder = self.folder / f"screening-{self.screening_steps}"
        self._benchmark(self.recipe.screening, folder, names, self.screening_steps)
        self.benchmarks["Screening"] = folder
        scores = screening_scores(json.loads((folder / "benchmark.json").read_text(encoding="utf-8")))
        logger.info("screening: %s", ", ".join(f"{name} {100 * score:.1f}" for name, score in scores.items()))
        ordered = sorted(self.recipe.comparable, key=lambda name: -scores[name])
        return [*always, *[name for name in ordered if name not in always][: self.recipe.survivors]]

    def compare(self, survivors: list[str]) -> None:
        """Train the survivors and their controls in full and compare them, with each other and with the base."""
        wanted = {self.recipe.control_of(name) for name in survivors}
        controls = [name for name in self.recipe.controls if name in wanted]
        names = [*controls, *survivors]
        self._train(names, self.steps)
        self._score_held_out(names)
        path, seeds = self.recipe.benchmark, self.benchmark.seeds[: self.plan.seeds]
        folder = self.folder / f"benchmark-{self.steps}-steps-{len(seeds)}-seeds"
        found_here = [path for path in self.folder.glob("benchmark-*") if path.is_dir()]  # not locks
        others = {path.with_name(path.name.removesuffix(".partial")) for path in found_here}
        earlier = [*self.benchmark.earlier, *sorted(others - {folder})]
        references, found = [*controls, BASE], [str(path) for path in earlier]
        self._benchmark(path, folder, names, self.steps, references=references, seeds=seeds, earlier=found)
        self.benchmarks["Comparison"] = folder

    def _score_held_out(self, names: list[str]) -> None:
        """Score the head and the compared arms on every corpus's held-out texts: what was learned and forgotten."""
        head = load_recipe(PretrainRecipe, [str(self.recipe.head)], f"mindshift reproduce: {self.recipe.head}")
        encoders = {"head": self.encoder("head", 0)} | {name: self.encoder(name, self.steps) for name in names}
        _refuse_others(self.held_out, list(encoders))
        options = _options(
            models=json.dumps([f"{name}={folder}" for name, folder in encoders.items()]),
            corpora=json.dumps([f"{name}={self.corpus(name)}" for name in self.recipe.corpora]),
            max_seq_length=head.max_seq_length,
            eval_max_tokens=head.eval_max_tokens,
            output_dir=self.held_out,
        )
        self._run(self.held_out.name, "pretrain evaluate", options)

    def _train(self, names: list[str], steps: int) -> None:
        """Train arms and what they start from, in the recipe's order."""
        wanted = set(names)
        for name in reversed(self.recipe.arms):
            if name in wanted:
                wanted.add(split_source(self.recipe.sources.get(name, "domain"))[1])
        for name, path in self.recipe.arms.items():
            if name in wanted:
                stage, options = self.arm_command(name, steps)
                self._run(self.encoder(name, steps).name, stage, [str(path), *options])

    def arm_command(self, name: str, steps: int) -> tuple[str, list[str]]:
        """Return the stage of an arm and the keys that its source replaces in its recipe."""
        corpus, start = split_source(self.recipe.sources.get(name, "domain"))
        general, output = self.corpus(self.general), self.encoder(name, steps)
        if corpus == SOUP:
            models = [str(self.encoder("head", 0)), str(self.encoder(start, steps))]
            evaluated = self.corpus(split_source(self.recipe.sources.get(start, "domain"))[0])
            options = _options(models=json.dumps(models), corpus=evaluated, general_corpus=general, output_dir=output)
            return "pretrain soup", options
        options = _options(corpus=self.corpus(corpus), model=self.encoder(start, steps), output_dir=output)
        path = self.recipe.arms[name]
        if load_recipe(PretrainRecipe, [str(path)], f"mindshift reproduce: {path}").masking_contrast is not None:
            options += _options(masking_contrast=general)
        return "pretrain", [*options, *_options(general_corpus=general, max_steps=steps)]

    def _benchmark(self, path: Path, folder: Path, arms: list[str], steps: int, **lists: Sequence[object]) -> None:
        """Run a benchmark of the base and `arms`; `lists` are further keys of its recipe."""
        models = [f"{BASE}={self.recipe.base_model}"]
        models += [f"{arm}={self.encoder(arm, steps)}" for arm in arms]
        written = {
            key: json.dumps(values) for key, values in ({"models": models, "references": [BASE]} | lists).items()
        }
        _refuse_others(folder, [BASE, *arms])
        options = _options(**written, output_dir=folder)
        self._run(folder.name, "benchmark", [str(path), *options])

    def _run(self, name: str, stage: str, arguments: list[str]) -> None:
        """Run a step here, where its paths count from as well, unless it is finished."""
        recipe = load_recipe(RECIPES[stage], arguments, f"mindshift reproduce: {name}")
        run_step(Step(name, [*MINDSHIFT, *stage.split(), *arguments], recipe))


def _refuse_others(folder: Path, names: list[str]) -> None:
    """Refuse a finished comparison of other models than `names`."""
    if not (folder / MANIFEST_NAME).is_file():
        return
    found = sorted(named_entries("models", read_manifest(folder).recipe["models"]))
    if found != sorted(names):
        raise UserError(
            f"compares {', '.join(found)}, and the recipe now asks for {', '.join(sorted(names))}",
            where=folder,
            fix=f"Rename it to {folder.name}-before and start again; fine-tuned models are taken over.",
        )


def screening_scores(summary: dict[str, Any]) -> dict[str, float]:
    """Return each model's mean over tasks of the macro-F1 on its frozen states, on validation: test chooses nothing."""
    by_model: dict[str, list[float]] = {}
    for baselines in summary["baselines_on_validation"].values():
        for system, score in baselines.items():
            if system.startswith(FROZEN):
                by_model.setdefault(system.removeprefix(FROZEN), []).append(score)
    return {model: sum(values) / len(values) for model, values in by_model.items()}


def write_page(experiment: Experiment, survivors: list[str]) -> None:
    """Write the page from what the steps left."""
    recipe = experiment.recipe
    encoders = {"head": experiment.encoder("head", 0)}
    encoders |= {
        path.name: path
        for path in sorted((experiment.folder / "encoder").iterdir())
        if (path / MANIFEST_NAME).is_file()
    }
    comparison = read_manifest(list(experiment.benchmarks.values())[-1])
    render_page(
        recipe.page,
        corpora=experiment.corpora / "corpus",
        base=named_entries("models", comparison.recipe["models"])[BASE],
        arms=describe_arms(recipe),
        caps=describe_caps(recipe),
        encoders=encoders,
        held_out=experiment.held_out,
        benchmarks=experiment.benchmarks,
        survivors=survivors,
        screened_only=[name for name in recipe.candidates if name not in recipe.comparable],
        planned_seeds=len(experiment.benchmark.seeds),
        steps=(experiment.steps, recipe.steps),
    )
    logger.info("the page is %s", recipe.page)


def _options(**values: object) -> list[str]:
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift reproduce")))
