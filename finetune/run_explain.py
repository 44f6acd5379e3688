"""`mindshift explain`: which words a classifier's decisions rest on, and how faithful that answer is.

mindshift explain --model DIR --task FOLDER --output_dir DIR

Writes `attributions.jsonl` (id, label, whether it was given, per token where it stands and its score; never a text)
and `faithfulness.json`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.console import start_console
from configs.errors import UserError, run_program
from configs.manifest import now, verify_folder
from configs.recipe import load_recipe
from configs.run_folder import finish_run_folder, open_run_folder, write_atomically
from finetune.adapters import is_adapter
from finetune.attributions import Attribution, Explainer, explain
from finetune.decisions import surest_labels
from finetune.deployment_config import ExplainRecipe
from finetune.fitting import load_task_for
from finetune.inference import Classifier
from finetune.tasks import Example


def main(arguments: Sequence[str], program: str) -> None:
    """Explain some texts of a task; print faithfulness and the words that weigh most."""
    recipe = load_recipe(ExplainRecipe, arguments, program)
    started_at = now()
    accepted = verify_folder(recipe.model, stage="finetune", accept_changes=recipe.accept_changed_inputs)
    if is_adapter(recipe.model):
        raise UserError("gradients of a 4-bit base are too coarse to explain with", where=recipe.model)
    classifier = Classifier.load(recipe.model)
    label_set = classifier.decision.label_set
    task = load_task_for(recipe.model, recipe.task)
    examples = _draw(task.splits[recipe.split], recipe)
    predictions = classifier.predict([example.text for example in examples])
    labels_N, given_N = surest_labels(*predictions)
    explainer = Explainer.load(recipe.model, classifier.decision, steps=recipe.steps)
    working = open_run_folder(recipe, accepted=accepted, started_at=started_at)
    found = explain(explainer, [example.text for example in examples], labels_N.tolist(), seed=recipe.seed)
    lines = [
        _line(example, label_set.names[attribution.label], bool(given), attribution)
        for example, given, attribution in zip(examples, given_N, found["attributions"], strict=True)
        if attribution is not None
    ]
    words = {label_set.names[label]: rows for label, rows in sorted(found["words"].items())}
    without = int((~given_N).sum())
    summary: dict[str, Any] = {"texts": len(lines), "texts_given_no_label": without}
    summary |= {"faithfulness": found["faithfulness"], "words": words}
    write_atomically(working / "attributions.jsonl", "".join(lines))
    write_atomically(working / "faithfulness.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    inputs = {"model": recipe.model} | ({"task": Path(recipe.task)} if Path(recipe.task).exists() else {})
    finish_run_folder(recipe, stage="explain", inputs=inputs, counts={"texts": len(lines)} | found["faithfulness"])
    for name, figures in found["faithfulness"].items():
        print(f"{name.replace('_', ' ')}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    if without:
        print(f"{without} texts were given no label: their likeliest one is explained")
    for label, rows in words.items():
        print(f"{label}: {', '.join(row['word'] for row in rows) or '–'}")
    print(f"attributions by id: {recipe.output_dir}")


def _draw(examples: Sequence[Example], recipe: ExplainRecipe) -> list[Example]:
    count = min(recipe.texts, len(examples))
    drawn = np.random.default_rng(recipe.seed).choice(len(examples), size=count, replace=False)
    return [examples[index] for index in sorted(drawn.tolist())]


def _line(example: Example, label: str, given: bool, attribution: Attribution) -> str:
    scored = [
        [start, end, round(float(score), 5)]
        for (start, end), score in zip(attribution.spans, attribution.scores_T, strict=True)
    ]
    return json.dumps({"id": example.id, "label": label, "given": given, "tokens": scored}, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift explain")))
