"""`mindshift demo`: the whole chain on the embedded synthetic sample, as the three commands a user would type.

A stage that is finished is left as it is, so an interrupted demo goes on where it was.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.manifest import CODE_ROOT, read_manifest
from configs.recipe import load_recipe
from launch.chain import Step, run_step
from launch.stages import ChainRecipe, chain_links

TITLES = {
    "classifier": "this classifier",
    "tfidf_logistic_regression": "TF-IDF + logistic regression",
    "majority": "majority",
}


@dataclasses.dataclass(kw_only=True)
class DemoRecipe:
    """Run corpus, pretraining and fine-tuning on the embedded synthetic sample."""

    output_dir: Path = Path("runs/demo")
    """Folder that gets one folder a stage."""


def main(arguments: Sequence[str], program: str) -> None:
    """Run the chain and print where everything lies.

    Raises:
        UserError: a stage ended with a user's error; its own message stands above.
    """
    recipe = load_recipe(DemoRecipe, arguments, program)
    output_dir, started = recipe.output_dir.absolute(), time.monotonic()
    with contextlib.chdir(CODE_ROOT):  # where the paths in the sample's recipes count from
        for step in chain(output_dir):
            run_step(step)
    print(summary(recipe.output_dir, time.monotonic() - started))


def chain(output_dir: Path) -> list[Step]:
    """Return the three stages, each reading the folder of the one before."""
    recipes = {name: CODE_ROOT / "configs" / name / "sample.yaml" for name in ("corpus", "pretrain", "finetune")}
    links = chain_links(
        ChainRecipe(output_dir=output_dir, **recipes), {"corpus": ["--keys_dir", str(output_dir / "keys")]}
    )
    return [Step(link.stage.name, link.stage.command(link.arguments), link.recipe) for link in links]


def summary(output_dir: Path, seconds: float) -> str:
    """Return what the chain made, where it lies, and its scores."""
    corpus, encoder, classifier = (output_dir / name for name in ("corpus", "encoder", "classifier"))
    counts = read_manifest(corpus).counts
    evaluation = _read(encoder / "evaluation.json")
    before, after = evaluation["before"]["overall"], evaluation["after"]["overall"]
    test = _read(classifier / "metrics.json")["test"]
    scores = ", ".join(f"{TITLES[name]} {100 * test[name]['macro']['f1']:.1f}" for name in TITLES)
    return "\n".join(
        [
            "",
            f"The chain ran in {seconds / 60:.1f} minutes on synthetic posts: it shows that everything works, not how",
            "good a model is. Nothing here is a diagnosis.",
            "",
            f"corpus report  {corpus / 'report.html'}",
            f"               {sum(counts['documents'].values()):,} of {counts['read']:,} posts kept, "
            f"{sum(counts['tokens'].values()):,} tokens",
            f"encoder        {encoder}",
            f"               held-out loss {before['loss']:.2f} before, {after['loss']:.2f} after; "
            f"perplexity {before['perplexity']:,.0f} to {after['perplexity']:,.0f}",
            f"classifier     {classifier}",
            f"               macro-F1 on test: {scores}",
            "",
            f'Try it: mindshift predict --model {classifier} --text "i have not slept properly for weeks"',
        ]
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
