"""Continue masked-LM pretraining: `accelerate launch pretrain/run_mlm.py RECIPE.yaml`."""

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.base_models import resolve_model
from configs.console import start_console
from configs.errors import UserError, run_program
from configs.manifest import now, verify_folder, verify_inputs
from configs.recipe import load_recipe
from configs.run_folder import (
    finish_run_folder,
    open_run_folder,
    remove_folder,
    working_folder,
)
from pretrain.config import PretrainRecipe


def main(arguments: Sequence[str], program: str) -> None:
    """Run the recipe named on the command line, as one process of its group."""
    is_main = int(os.environ.get("RANK", "0")) == 0
    try:
        recipe = load_recipe(PretrainRecipe, arguments, program)
        started_at = now()
        base_without_author = 0
        if is_main:  # before the processes join, so that a mistake ends all of them
            accepted = _verify_inputs(recipe)
            base_without_author = _check_private_base(recipe)
            open_run_folder(recipe, _inputs(recipe), accepted=accepted, started_at=started_at)
        _pretrain(recipe, base_without_author)
    except UserError:
        if is_main:
            raise
        sys.exit(2)  # the main process says what is wrong


def _corpora(recipe: PretrainRecipe) -> dict[str, Path]:
    """Return the corpus folders that the recipe reads, by key."""
    keys = ("corpus", "general_corpus", "masking_contrast")
    return {key: getattr(recipe, key) for key in keys if getattr(recipe, key) is not None}


def _inputs(recipe: PretrainRecipe) -> dict[str, Path]:
    """Return everything that the run reads, by name."""
    inputs, source = _corpora(recipe), resolve_model(recipe.model)
    if source.is_local:
        inputs["model"] = Path(source.name_or_path)
    if recipe.masking_lexicon is not None:
        inputs["masking_lexicon"] = recipe.masking_lexicon
    return inputs


def _verify_inputs(recipe: PretrainRecipe) -> list[str]:
    """Check the corpora, and the model if a stage has written it; return the accepted changes."""
    accepted: list[str] = []
    lexicon = recipe.masking_lexicon
    if lexicon is not None and not lexicon.is_file():
        raise UserError("no such lexicon", where=lexicon, fix="masking_lexicon names a file with one word a line.")
    for folder in _corpora(recipe).values():
        accepted += verify_folder(folder, stage="corpus", accept_changes=recipe.accept_changed_inputs)
    accepted += verify_inputs(_base_folders(recipe), accept_changes=recipe.accept_changed_inputs)
    return accepted


def _base_folders(recipe: PretrainRecipe) -> list[Path]:
    return [folder for name, folder in _inputs(recipe).items() if name == "model"]


def _check_private_base(recipe: PretrainRecipe) -> int:
    """Refuse a private run's base that has read whom it protects; return how many unsigned documents it has read."""
    if not recipe.is_private:
        return 0
    from pretrain.private_base import refuse_base_that_read

    return sum(refuse_base_that_read(recipe.corpus, folder) for folder in _base_folders(recipe))


def manifest_counts(result: dict[str, Any]) -> dict[str, Any]:
    """Return what an encoder's manifest says of the content of its `evaluation.json`."""
    counts = {
        "steps": result["steps"],
        "tokens": result["tokens"],
        "held_out_loss_before": result["before"]["overall"]["loss"],
        "held_out_loss_after": result["after"]["overall"]["loss"],
    }
    # The audits of a release ask for it: what was not read cannot be remembered. A soup has read nothing itself.
    return counts | {key: result[key] for key in ("shares_read",) if key in result}


def _pretrain(recipe: PretrainRecipe, base_without_author: int) -> None:
    import torch  # heavy imports wait until the recipe is known to be right

    from pretrain.checkpoint import CHECKPOINTS
    from pretrain.distributed import start_accelerator
    from pretrain.encoder import load_for_corpus
    from pretrain.privacy_accounting import describe
    from pretrain.training_loop import EVALUATION_FILE, PretrainingRun

    working_dir = working_folder(recipe.output_dir)
    source = resolve_model(recipe.model)
    torch.manual_seed(recipe.seed)  # a head that is missing from the checkpoint
    model, tokenizer = load_for_corpus(source, recipe.corpus / "tokenizer", recipe.max_seq_length)
    accelerator = start_accelerator()
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        logging.getLogger().setLevel(logging.WARNING)

    evaluation_file = working_dir / EVALUATION_FILE
    if not evaluation_file.is_file():  # else a kill came between the last step and the folder's final name
        PretrainingRun(recipe, working_dir, accelerator, model, tokenizer, base_without_author).run()
    if accelerator.is_main_process:
        result = json.loads(evaluation_file.read_text(encoding="utf-8"))
        remove_folder(working_dir / CHECKPOINTS)
        counts = manifest_counts(result)
        if "privacy" in result:
            counts |= {"privacy": result["privacy"], "privacy_statement": describe(result["privacy"])}
        finish_run_folder(recipe, stage="pretrain", inputs=_inputs(recipe), counts=counts)
        print(f"adapted encoder: {recipe.output_dir}")
        if "privacy" in result:
            print(counts["privacy_statement"])
        print(f"held-out loss: {counts['held_out_loss_before']:.4f} before, {counts['held_out_loss_after']:.4f} after")
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "accelerate launch pretrain/run_mlm.py")))
