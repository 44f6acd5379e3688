"""The recipes of what is done with a finished classifier: explain it, export it, serve it."""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.recipe import StageRecipe, require


@dataclasses.dataclass(kw_only=True)
class ExplainRecipe(StageRecipe):
    """Attribute a classifier's decisions to the words it read, and measure how faithful the attributions are."""

    model: Path
    """Classifier folder that `mindshift finetune` wrote."""
    task: str
    """Labelled task whose texts are explained, read with the columns, cuts, draws and seed of the classifier's run."""
    split: Literal["validation", "test"] = "test"
    """Which of its splits."""
    texts: int = 100
    """How many texts, drawn at random."""
    steps: int = 24
    """Steps of the integral; the work grows with them."""

    def __post_init__(self) -> None:
        require(self.texts >= 1, "texts", self.texts, "1 or more")
        require(self.steps >= 2, "steps", self.steps, "2 or more")


@dataclasses.dataclass(kw_only=True)
class ExportRecipe(StageRecipe):
    """Write a classifier folder as int8 ONNX: a quarter of the size, faster on CPUs, for `predict` and `serve`."""

    model: Path
    """Classifier folder that `mindshift finetune` wrote."""
    task: str | None = None
    """Labelled task on whose validation split the loss of the rounding is measured, read with the columns, cuts,
    draws and seed of the classifier's run. If not set, it is not measured."""
    most_points_lost: float = 0.5
    """Macro-F1 points (percent) that the rounding may cost; an export that loses more is refused."""

    def __post_init__(self) -> None:
        require(self.most_points_lost >= 0, "most_points_lost", self.most_points_lost, "0 or more")


@dataclasses.dataclass(kw_only=True)
class ServeRecipe:
    """Answer classification requests over HTTP. A label is a model's opinion, never a diagnosis."""

    model: Path
    """Classifier folder, or its ONNX export."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs a key in the environment variable MINDSHIFT_API_KEY."""
    port: int = 8000
    """Port to listen on."""
    max_texts: int = 64
    """Texts in one request at most."""
    max_characters: int = 100_000
    """Characters of one text at most."""
    max_waiting_texts: int = 512
    """Texts that may wait at a time; a request beyond them is told to come again (503)."""
    batch_wait_milliseconds: float = 5.0
    """How long the first text of a batch waits for others to be computed together with."""

    def __post_init__(self) -> None:
        require(0 < self.port < 65536, "port", self.port, "1 to 65535")
        for key in ("max_texts", "max_characters", "max_waiting_texts"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        require(
            self.max_waiting_texts >= self.max_texts, "max_waiting_texts", self.max_waiting_texts, "max_texts or more"
        )
        require(self.batch_wait_milliseconds >= 0, "batch_wait_milliseconds", self.batch_wait_milliseconds, "0 or more")
