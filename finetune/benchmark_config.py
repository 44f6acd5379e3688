"""The recipe of a benchmark."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from configs.recipe import StageRecipe, named_entries, require

FROZEN = "frozen "
"""What the name of a frozen encoder's baseline begins with, before the model's."""


@dataclasses.dataclass(kw_only=True)
class BenchmarkRecipe(StageRecipe):
    """Fine-tune every model on every task with every seed, and compare them honestly."""

    HOW: ClassVar[frozenset[str]] = StageRecipe.HOW | {"jobs", "most_new_runs", "earlier"}

    tasks: list[str]
    """Task folders."""
    models: list[str]
    """Encoders, each as NAME=MODEL: NAME stands in the tables, MODEL is a folder, a Hub id or package:minilm."""
    adapted: Path | None = None
    """One more encoder, called `adapted` in the tables: in a chain, the one that was just pretrained."""
    references: list[str] = dataclasses.field(default_factory=list)
    """NAMEs of the models the others are compared to, such as the encoder without adaptation. Default: the first."""
    seeds: list[int] = dataclasses.field(default_factory=lambda: [1, 2, 3, 4, 5])
    """Seeds; the same seed of two models makes a pair."""
    train_sizes: list[int] = dataclasses.field(default_factory=list)
    """Numbers of training rows for learning curves, besides all of them. Such a run has as many validation rows."""
    frozen_only: bool = False
    """Score logistic regression on frozen states and train nothing: minutes instead of hours, to choose encoders by."""
    finetune_recipe: Path | None = None
    """Fine-tuning recipe of every run; its task, model, seed and output_dir are replaced. Default: all defaults."""
    frozen_encoder: bool = True
    """Also score logistic regression on each model's frozen states."""
    leakage: Literal["refuse", "drop"] = "refuse"
    """Training texts that stand in the test split of their own task: refuse, or drop them and count them."""
    earlier: list[Path] = dataclasses.field(default_factory=list)
    """Folders of other benchmarks, finished or not, or not there. Their runs and baselines are taken over where task,
    model, recipe and seed are the very same: a model or a seed more costs only its own runs."""
    jobs: int = 1
    """Runs at a time; they share the processor's cores, and each has a GPU of its own if there are enough."""
    most_new_runs: int | None = None
    """Stop after this many new runs; the same command goes on. For long benchmarks done in pieces."""

    def __post_init__(self) -> None:
        require(len(self.tasks) > 0, "tasks", self.tasks, "one or more task folders")
        require(self.jobs >= 1, "jobs", self.jobs, "1 or more")
        require(len(set(self.seeds)) == len(self.seeds) > 0, "seeds", self.seeds, "one or more, each once")
        names = list(self.named_models)
        for reference in self.references:
            require(reference in names, "references", reference, f"one of {', '.join(names)}")
        require(self.frozen_encoder or not self.frozen_only, "frozen_encoder", False, "true with frozen_only")

    @property
    def named_models(self) -> dict[str, str]:
        """Models by their name in the tables."""
        named = named_entries("models", self.models)
        if self.adapted is not None:
            require("adapted" not in named, "adapted", self.adapted, "unset, as models names one so already")
            named["adapted"] = str(self.adapted)
        require(len(named) > 0, "models", self.models, "one or more")
        return named

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each model with each reference it is compared to, every pair once."""
        names = list(self.named_models)
        references = self.references or names[:1]
        return [
            (model, reference)
            for number, reference in enumerate(references)
            for model in names
            if model not in references[: number + 1]
        ]
