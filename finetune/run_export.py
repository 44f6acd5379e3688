"""`mindshift export`: a classifier folder as int8 ONNX, refused if the rounding costs too much.

mindshift export --model DIR --task FOLDER --output_dir DIR
"""

import sys
from collections.abc import Sequence

from configs.console import start_console
from configs.errors import run_program
from configs.recipe import load_recipe
from finetune.deployment_config import ExportRecipe
from finetune.exporting import export_classifier


def main(arguments: Sequence[str], program: str) -> None:
    """Export, and print what was gained and lost."""
    recipe = load_recipe(ExportRecipe, arguments, program)
    for name, value in export_classifier(recipe).items():
        print(f"{name.replace('_', ' ')}: {value}")
    print(f"int8 ONNX classifier: {recipe.output_dir}")


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift export")))
