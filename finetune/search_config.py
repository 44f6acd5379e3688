"""The recipe of a hyperparameter search."""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.recipe import StageRecipe, require

SearchedKey = Literal[
    "learning_rate", "head", "loss", "sampling", "batch_size", "hidden_dropout", "layer_learning_rate_decay"
]


@dataclasses.dataclass(kw_only=True)
class SearchRecipe(StageRecipe):
    """Search for good fine-tuning settings within a budget, and keep the best classifier as it was trained."""

    task: str
    """Labelled task. Settings are chosen by average precision on its validation split; test is scored once."""
    finetune_recipe: Path | None = None
    """Fine-tuning recipe to start from and to vary; its settings are the first trial. Default: all defaults."""
    searched_keys: list[SearchedKey] = dataclasses.field(
        default_factory=lambda: ["learning_rate", "head", "loss", "sampling", "batch_size"]
    )
    """Keys of the fine-tuning recipe that are varied."""
    trials: int = 12
    """Trainings at most."""
    budget_hours: float | None = None
    """No training starts after so many hours of training; the last one may run over."""

    def __post_init__(self) -> None:
        require(self.trials >= 1, "trials", self.trials, "1 or more")
        require(self.budget_hours is None or self.budget_hours > 0, "budget_hours", self.budget_hours, "more than 0")
        keys = self.searched_keys
        require(len(set(keys)) == len(keys) > 0, "searched_keys", keys, "one or more, each once")
