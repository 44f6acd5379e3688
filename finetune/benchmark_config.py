"""The recipe of a benchmark."""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.errors import UserError
from configs.recipe import StageRecipe, require


@dataclasses.dataclass(kw_only=True)
class BenchmarkRecipe(StageRecipe):
    """Fine-tune every model on every task with every seed, and compare them honestly."""

    tasks: list[str]
    """Task folders."""
    models: list[str]
    """Encoders, each as NAME=MODEL: NAME stands in the tables, MODEL is a folder, a Hub id or package:minilm."""
    reference: str | None = None
    """NAME of the model the others are compared to, such as the same encoder without adaptation. Default: the first."""
    seeds: list[int] = dataclasses.field(default_factory=lambda: [1, 2, 3, 4, 5])
    """Seeds; the same seed of two models makes a pair."""
    train_sizes: list[int] = dataclasses.field(default_factory=list)
    """Numbers of training rows for learning curves, besides all of them."""
    finetune_recipe: Path | None = None
    """Fine-tuning recipe of every run; its task, model, seed and output_dir are replaced. Default: all defaults."""
    frozen_encoder: bool = True
    """Also score logistic regression on each model's frozen states."""
    leakage: Literal["refuse", "drop"] = "refuse"
    """Training texts that stand in the test split of their own task: refuse, or drop them and count them."""
    jobs: int = 1
    """Runs at a time; they share the processor's cores."""
    most_new_runs: int | None = None
    """Stop after this many new runs; the same command goes on. For long benchmarks done in pieces."""

    def __post_init__(self) -> None:
        require(len(self.tasks) > 0, "tasks", self.tasks, "one or more task folders")
        require(self.jobs >= 1, "jobs", self.jobs, "1 or more")
        require(len(set(self.seeds)) == len(self.seeds) > 0, "seeds", self.seeds, "one or more, each once")
        names = list(self.named_models)
        if self.reference is not None:
            require(self.reference in names, "reference", self.reference, f"one of {', '.join(names)}")

    @property
    def named_models(self) -> dict[str, str]:
        """Models by their name in the tables."""
        named: dict[str, str] = {}
        for entry in self.models:
            name, mark, model = entry.partition("=")
            if not mark or not name or not model or name in named or "/" in name:
                raise UserError(f"models holds {entry!r}; each is NAME=MODEL with a name of its own", where="recipe")
            named[name] = model
        require(len(named) > 0, "models", self.models, "one or more")
        return named

    @property
    def reference_name(self) -> str:
        """The model the others are compared to."""
        return self.reference or next(iter(self.named_models))
