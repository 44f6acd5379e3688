"""The recipe of an experiment: corpora, arms, what each reads and starts from, and how they are compared."""

import dataclasses
from pathlib import Path

from configs.recipe import load_recipe, require
from finetune.benchmark_config import BenchmarkRecipe
from finetune.config import FinetuneRecipe
from pretrain.config import PretrainRecipe

SOUP = "soup"
FEWEST_SEEDS = 2
CAPS = {
    "train_rows": "training rows",
    "validation_rows": "validation rows",
    "test_rows": "test rows",
    "max_seq_length": "tokens of a text",
}
"""Keys of a fine-tuning recipe by which an experiment says how much of the data it leaves out."""


@dataclasses.dataclass(kw_only=True)
class ExperimentRecipe:
    """Train every arm for the same number of steps, screen them, and compare the best with their controls."""

    output_dir: Path
    """Folder of the experiment; every step gets a folder below it."""
    page: Path
    """Markdown page that is written at the end, its plots beside it."""
    corpora: dict[str, Path]
    """Corpus recipes by name; arms read OUTPUT_DIR/corpus/NAME."""
    corpora_of: Path | None = None
    """Output folder of another experiment with the same corpora: they are built there, or read if they are there."""
    head: Path
    """Pretraining recipe whose encoder every arm starts from: a warmed-up masked-LM head is no adaptation."""
    base: str | None = None
    """The encoder that is adapted: folder, Hub id or package:NAME. Default: the one that `head` names."""
    arms: dict[str, Path]
    """Pretraining recipes by name. Their corpus, model and output_dir are replaced where `sources` says so."""
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    """What an arm reads and starts from, as CORPUS, CORPUS from ARM, or soup of ARM: the mean of it and its start,
    arm and recipe being a soup's (`mindshift pretrain soup`). Default: domain, from the head."""
    controls: list[str] = dataclasses.field(default_factory=lambda: ["general"])
    """Arms trained on general text: what they gain is mere extra training. The first is every survivor's control."""
    matched_controls: dict[str, str] = dataclasses.field(default_factory=dict)
    """One of the controls that a survivor is compared with instead, having been made like it: a soup with a soup."""
    screening: Path | None = None
    """Benchmark recipe of the first round, `frozen_only`; its models are replaced. Without it every arm survives."""
    screening_steps: int | None = None
    """Optimizer steps of each arm in the first round. Default: `steps`, so that nothing is trained twice."""
    benchmark: Path
    """Benchmark recipe of the comparison; its models are replaced by base, controls and survivors."""
    always: list[str] = dataclasses.field(default_factory=list)
    """Arms that are compared whatever the screening says: what the experiment is about."""
    survivors: int = 2
    """Other arms that go from the screening to the comparison, the best first."""
    steps: int = 2000
    """Optimizer steps of each arm in the comparison."""
    seeds: int | None = None
    """Paired seeds of the comparison, so many of the benchmark recipe's; default: all. More of them can follow later
    and cost only their own runs."""
    expected_hours: float = 12.0
    """Hours of all of it on the machine of the recipe's head comment, with every seed of the benchmark recipe."""
    fixed_hours: float = 0.0
    """Those of them that no budget shortens: corpora, head, screening, scores on held-out texts, baselines."""
    seed_hours: float = 0.0
    """Those of them that each seed of the comparison takes. What remains is the arms' training."""
    budget_hours: float | None = None
    """Scale steps and seeds down so that it takes about this long. The page says so."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        for control in self.controls:
            require(control in self.arms, "controls", control, f"one of the arms: {', '.join(self.arms)}")
        require(len(self.controls) >= 1, "controls", self.controls, "one arm or more")
        for arm, control in self.matched_controls.items():
            require(arm in self.arms, "matched_controls", arm, f"one of the arms: {', '.join(self.arms)}")
            require(control in self.controls, "matched_controls", control, f"one of {', '.join(self.controls)}")
        require(self.screening_steps is None or self.screening is not None, "screening", None, "a benchmark recipe")
        for arm in self.always:
            require(arm in self.candidates, "always", arm, f"one of {', '.join(self.candidates)}")
        fewest = 0 if self.always else 1
        require(self.survivors >= fewest, "survivors", self.survivors, f"{fewest} or more")
        require(self.seeds is None or self.seeds >= 1, "seeds", self.seeds, "1 or more")
        require(self.budget_hours is None or self.budget_hours > 0, "budget_hours", self.budget_hours, "more than 0")
        for key in ("fixed_hours", "seed_hours"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        require(self.fixed_hours < self.expected_hours, "fixed_hours", self.fixed_hours, "less than expected_hours")
        for arm, source in self.sources.items():
            require(arm in self.arms, "sources", arm, f"one of the arms: {', '.join(self.arms)}")
            corpus, start = split_source(source)
            require(corpus in (*self.corpora, SOUP), "sources", source, f"a corpus of {', '.join(self.corpora)}")
            earlier = list(self.arms)[: list(self.arms).index(arm)]
            require(start in ("head", *earlier), "sources", source, "an arm that stands before it")
            require((corpus, start) != (SOUP, "head"), "sources", source, "soup of ARM")
        compared = self.candidates if self.screening is None else self.always
        for arm in [name for name in compared if name not in self.comparable]:
            control = self.control_of(arm)
            require(
                False,
                "arms" if self.screening is None else "always",
                arm,
                f"arms of as many steps in all as their control ({arm} trains {self.trainings(arm)} times, {control} "
                f"{self.trainings(control)} times); name one made like it under matched_controls",
            )

    @property
    def base_model(self) -> str:
        """The encoder that is adapted."""
        return self.base or load_recipe(PretrainRecipe, [str(self.head)], f"mindshift reproduce: {self.head}").model

    @property
    def candidates(self) -> list[str]:
        """All arms that are no control."""
        return [name for name in self.arms if name not in self.controls]

    def control_of(self, arm: str) -> str:
        """Return the control that an arm is compared with."""
        return self.matched_controls.get(arm, self.controls[0])

    def trainings(self, arm: str) -> int:
        """Return how many times an arm was trained for `steps` steps, what it starts from among them."""
        corpus, start = split_source(self.sources.get(arm, "domain"))
        return (corpus != SOUP) + (self.trainings(start) if start != "head" else 0)

    @property
    def comparable(self) -> list[str]:
        """The candidates that were trained for as many steps as their control: else they gain by mere training."""
        return [arm for arm in self.candidates if self.trainings(arm) == self.trainings(self.control_of(arm))]

    def plan(self, seeds: int) -> "Plan":
        """Return what the budget pays for.

        Args:
            seeds: those of the benchmark recipe.

        Raises:
            UserError: not even the fewest seeds.
        """
        wanted = min(seeds, self.seeds or seeds)
        if self.budget_hours is None or self.budget_hours >= self.expected_hours:
            return Plan(share=1.0, seeds=wanted)
        fewest = min(FEWEST_SEEDS, wanted)
        training = self.expected_hours - self.fixed_hours - seeds * self.seed_hours
        require(training > 0, "expected_hours", self.expected_hours, "more than fixed_hours and seed_hours make")
        left = self.budget_hours - self.fixed_hours
        share = left / (self.expected_hours - self.fixed_hours)
        paid = min(wanted, max(fewest, int(share * seeds)))
        least = self.fixed_hours + fewest * self.seed_hours + training / self.steps
        require(self.budget_hours >= least, "budget_hours", self.budget_hours, f"{least:.1f} or more")
        return Plan(share=min(1.0, (left - paid * self.seed_hours) / training), seeds=paid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run: the share of the recipe's steps, and how many seeds."""

    share: float
    seeds: int


def split_source(source: str) -> tuple[str, str]:
    """Return the corpus (or `soup`) and the start (`head` or an arm) that CORPUS [from ARM] or soup of ARM names."""
    corpus, _, start = source.partition(" of " if source.startswith(f"{SOUP} ") else " from ")
    return corpus.strip(), start.strip() or "head"


def describe_arms(recipe: ExperimentRecipe) -> list[list[str]]:
    """Return each arm's name, what its recipe's first line says, what it reads and what it starts from."""
    rows = []
    for name, path in recipe.arms.items():
        corpus, start = split_source(recipe.sources.get(name, "domain"))
        first = path.read_text(encoding="utf-8").splitlines()[0]
        what = first.lstrip("# ") if first.startswith("#") else path.name
        rows.append([name, what, *(["", f"head, {start}"] if corpus == SOUP else [corpus, start])])
    return rows


def describe_caps(recipe: ExperimentRecipe) -> str:
    """Say which part of its data fine-tuning reads."""
    benchmark = load_recipe(BenchmarkRecipe, [str(recipe.benchmark)], f"mindshift reproduce: {recipe.benchmark}")
    path = [str(benchmark.finetune_recipe)] if benchmark.finetune_recipe else []
    words = [*path, "--task", "unused", "--output_dir", "unused"]
    values = dataclasses.asdict(load_recipe(FinetuneRecipe, words, f"mindshift reproduce: {recipe.benchmark}"))
    caps = [f"{values[key]:,} {what}" for key, what in CAPS.items() if values[key] is not None]
    return f"Of each task, fine-tuning reads at most about {', '.join(caps)}: equal texts and groups stay together."
