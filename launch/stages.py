"""The stages that `mindshift launch` starts: their programs, their recipes, and which folder feeds which.

The same program runs here and in a job: `python -m launch.on_node PROGRAM RECIPE.yaml --key value …`; for a job,
the line stands in `launch/slurm/STAGE.sbatch`.
"""

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from configs.base_models import is_path
from configs.errors import UserError
from configs.manifest import CODE_ROOT, MANIFEST_NAME
from configs.recipe import StageRecipe, load_recipe, nearest
from configs.rows import FILE_TYPES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage as `mindshift launch` sees it."""

    name: str
    program: tuple[str, ...]
    """What `launch.on_node` runs; a script's path counts from the checkout's root."""
    recipe_class: str
    """`module:Class` of its recipe."""
    folder: str
    """Name of its folder in a chain."""
    inputs: dict[str, str]
    """Recipe key → stage whose folder it takes in a chain."""
    reads: tuple[str, ...]
    """Recipe keys that name what it reads: folders, files, patterns, or ids of the Hub."""
    gpu_use: Literal["none", "one", "one_a_job", "all"]
    """How many GPUs of a node it can use; `one_a_job`: as many as its recipe has `jobs`."""

    @property
    def spans_nodes(self) -> bool:
        """Whether several nodes work on it together."""
        return self.program[0] == "accelerate"

    def load(self, arguments: Sequence[str]) -> StageRecipe:
        """Load the recipe as the stage itself will, so that a mistake shows before anything is submitted."""
        module_name, _, class_name = self.recipe_class.partition(":")
        recipe_class: type[StageRecipe] = getattr(importlib.import_module(module_name), class_name)
        return load_recipe(recipe_class, arguments, f"mindshift launch {self.name}")

    def gpus(self, recipe: StageRecipe, gpus_per_node: int) -> int:
        """Return how many GPUs of a node that has `gpus_per_node` its job asks for: no more than it can use."""
        most = {"none": 0, "one": 1, "one_a_job": getattr(recipe, "jobs", 1), "all": gpus_per_node}[self.gpu_use]
        return min(most, gpus_per_node)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs the stage on this machine."""
        words = [str(CODE_ROOT / word) if word.endswith(".py") else word for word in self.program]
        return [sys.executable, "-m", "launch.on_node", *words, *arguments]


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="corpus",
            program=("mindshift", "corpus", "build"),
            recipe_class="corpus.config:CorpusRecipe",
            folder="corpus",
            inputs={},
            reads=("inputs", "decontaminate_against"),
            gpu_use="none",
        ),
        Stage(
            name="pretrain",
            program=("accelerate", "launch", "pretrain/run_mlm.py"),
            recipe_class="pretrain.config:PretrainRecipe",
            folder="encoder",
            inputs={"corpus": "corpus"},
            reads=("corpus", "model", "general_corpus"),
            gpu_use="all",
        ),
        Stage(
            name="finetune",
            program=("accelerate", "launch", "finetune/run_classifier.py"),
            recipe_class="finetune.config:FinetuneRecipe",
            folder="classifier",
            inputs={"model": "pretrain"},
            reads=("model", "task", "auxiliary_tasks"),
            gpu_use="all",
        ),
        Stage(
            name="benchmark",
            program=("mindshift", "benchmark"),
            recipe_class="finetune.benchmark_config:BenchmarkRecipe",
            folder="benchmark",
            inputs={"adapted": "pretrain"},
            reads=("tasks", "adapted"),
            gpu_use="one_a_job",
        ),
        Stage(
            name="audit",
            program=("mindshift", "release", "audit"),
            recipe_class="release.config:AuditRecipe",
            folder="audits",
            inputs={"model_dir": "pretrain", "data_dir": "corpus"},
            reads=("model_dir", "data_dir", "further_data_dirs", "stigma_dir"),
            gpu_use="one",
        ),
    )
}


@dataclasses.dataclass(kw_only=True)
class ChainRecipe:
    """Run the stages one after the other, each on the folders of those before it."""

    output_dir: Path
    """Folder that gets one folder a stage."""
    corpus: Path | None = None
    """Recipe of the corpus stage. Empty: the stage is left out, here and below."""
    pretrain: Path | None = None
    """Recipe of the pretraining."""
    finetune: Path | None = None
    """Recipe of the fine-tuning."""
    benchmark: Path | None = None
    """Recipe of the benchmark, in which the encoder of the chain stands as `adapted`."""
    audit: Path | None = None
    """Recipe of the release audit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """One stage of a chain: what it is called with, and which stages it waits for."""

    stage: Stage
    arguments: list[str]
    recipe: StageRecipe
    after: list[str]

    @property
    def output_dir(self) -> Path:
        """Where it writes."""
        return self.recipe.output_dir


def find_stage(name: str) -> Stage:
    """Return a stage by name.

    Raises:
        UserError: there is none; the nearest name is suggested.
    """
    if name not in STAGES:
        raise UserError(f"no stage {name!r}{nearest(name, STAGES)}", fix=f"Stages: {', '.join(STAGES)}.")
    return STAGES[name]


def chain_links(chain: ChainRecipe, overrides: dict[str, list[str]]) -> list[Link]:
    """Return the chain's stages in order, checked, each reading the folders of the stages before.

    Args:
        chain: which stages, with which recipes.
        overrides: stage → `--key value …` for its recipe.

    Raises:
        UserError: an empty chain, or a mistake in a stage's recipe.
    """
    links: dict[str, Link] = {}
    for stage in STAGES.values():
        recipe_file = getattr(chain, stage.name)
        if recipe_file is None:
            continue
        fed = {key: links[source].output_dir for key, source in stage.inputs.items() if source in links}
        fed["output_dir"] = chain.output_dir / stage.folder
        arguments = [str(recipe_file), *(word for key, path in fed.items() for word in (f"--{key}", str(path)))]
        arguments += overrides.get(stage.name, [])
        recipe = stage.load(arguments)
        # All, not only the last: that one may be finished already, and then nothing waits for those before it.
        links[stage.name] = Link(stage=stage, arguments=arguments, recipe=recipe, after=list(links))
    if not links:
        raise UserError("this chain has no stage", where="launch all", fix=f"Give a recipe for {', '.join(STAGES)}.")
    return list(links.values())


def check_inputs(links: Sequence[Link]) -> None:
    """Look for what the stages read and none of them makes, rather than miss it after hours in the queue.

    Raises:
        UserError: it is not there.
    """
    made = {link.output_dir.absolute() for link in links}
    for link in links:
        if (link.output_dir / MANIFEST_NAME).is_file():
            continue
        for key in link.stage.reads:
            value = getattr(link.recipe, key)
            for name in value if isinstance(value, list) else [value] if value is not None else []:
                path = Path(name).expanduser()
                may_be_hub_id = isinstance(name, str) and not is_path(name) and path.suffix not in FILE_TYPES
                may_be_hub_id = may_be_hub_id and (key in ("model", "adapted") or "/" in name)
                if not may_be_hub_id and path.absolute() not in made and not _is_there(path):
                    raise UserError(
                        f"{key} of the {link.stage.name} stage: nothing is there, and no stage before makes it",
                        where=name,
                        fix="A relative path counts from the folder that the command is given in.",
                    )


def _is_there(path: Path) -> bool:
    base = Path(path.anchor)
    return path.exists() or any(base.glob(str(path.relative_to(base))))  # a corpus takes patterns
