"""Fine-tune an encoder on a labelled task, tune its decisions on validation, and score it once on test.

accelerate launch finetune/run_classifier.py configs/finetune/sample.yaml
"""

import sys
from collections.abc import Sequence

from configs.console import start_console
from configs.errors import run_program
from configs.recipe import load_recipe
from finetune.config import FinetuneRecipe
from finetune.fitting import fit_classifier


def main(arguments: Sequence[str], program: str) -> None:
    """Run the stage: recipe in, classifier folder out, scores on the screen."""
    table = fit_classifier(load_recipe(FinetuneRecipe, arguments, program))
    if table is not None:
        print(table)


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "accelerate launch finetune/run_classifier.py")))
