"""`mindshift predict`: classify texts from arguments, standard input or a file, to JSON lines or CSV."""

import logging
import sys
from collections.abc import Iterator, Sequence
from itertools import chain

from configs.errors import run_program
from configs.recipe import load_recipe
from finetune.config import PredictRecipe
from finetune.inference import Classifier
from finetune.prediction_files import (
    InputText,
    PredictionWriter,
    Quarantine,
    chunks,
    read_inputs,
    refuse_own_input,
)

log = logging.getLogger("predict")


def main(arguments: Sequence[str], program: str) -> None:
    """Classify texts; rows that cannot be read go to OUTPUT.quarantine.jsonl and are counted."""
    texts_given, others = _take_texts(arguments)
    recipe = load_recipe(PredictRecipe, others, program)
    recipe.text += texts_given
    refuse_own_input(recipe)
    classifier = Classifier.load(recipe.model, batch_tokens=recipe.batch_tokens)
    quarantine = Quarantine(recipe.output)
    texts: Iterator[InputText] = read_inputs(recipe, quarantine)
    first = list(next(texts_chunks := chunks(texts), []))  # a broken input is refused before a file is made
    with PredictionWriter(recipe.output, classifier.decision) as writer, quarantine:
        for chunk in chain([first] if first else [], texts_chunks):
            predictions = classifier.predict([item.text for item in chunk])
            for item, probabilities_L, decisions_L in zip(chunk, *predictions, strict=True):
                writer.write(item.id, probabilities_L, decisions_L)
    if quarantine.count:
        log.warning("%d unreadable rows were left out: %s", quarantine.count, quarantine.where)


def _take_texts(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values of `--text A --text=B`, and the other arguments.

    jsonargparse reads values as YAML: to it the text `[deleted]` is a list, and `yes` a truth value.
    """
    texts: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("--text="):
            texts.append(word.removeprefix("--text="))
        elif word == "--text" and (value := next(words, None)) is not None:
            texts.append(value)
        else:
            others.append(word)
    return texts, others


if __name__ == "__main__":
    from configs.console import start_console

    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift predict")))
