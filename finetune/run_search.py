"""`mindshift search`: fine-tuning settings by Optuna, within a budget, the best checkpoint kept.

mindshift search configs/finetune/search.yaml --task FOLDER --output_dir DIR
"""

import importlib.util
import sys
from collections.abc import Sequence

from configs.console import start_console
from configs.errors import UserError, run_program
from configs.recipe import load_recipe
from finetune.search_config import SearchRecipe
from finetune.searching import CLASSIFIER, search


def main(arguments: Sequence[str], program: str) -> None:
    """Search, and print the scores of the best classifier."""
    recipe = load_recipe(SearchRecipe, arguments, program)
    if importlib.util.find_spec("optuna") is None:
        raise UserError("package 'optuna' is not installed", where=program, fix="pip install -e '.[search]'")
    table = search(recipe)
    if table is not None:
        print(table)
    print(f"best classifier: {recipe.output_dir / CLASSIFIER}")


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift search")))
