"""Tune a small causal language model into an empathetic responder, and measure it beside its base.

accelerate launch dialogue/run_dialogue.py configs/dialogue/default.yaml
"""

import sys
from collections.abc import Sequence

from configs.console import start_console
from configs.errors import run_program
from configs.recipe import load_recipe
from dialogue.config import DialogueRecipe
from dialogue.tuning import tune_responder


def main(arguments: Sequence[str], program: str) -> None:
    """Run the stage: recipe in, responder folder out, evidence on the screen."""
    table = tune_responder(load_recipe(DialogueRecipe, arguments, program))
    if table is not None:
        print(table)


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "accelerate launch dialogue/run_dialogue.py")))
