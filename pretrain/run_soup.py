"""Average the weights of finished encoders: `mindshift pretrain soup RECIPE.yaml`.

The mean of a base and what was adapted from it, or of several runs from one base, often generalises better than either
(Wortsman et al., Model soups, arXiv:2203.05482). All must come from one starting point: weights of strangers have no
mean that means anything.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.base_models import ModelSource
from configs.console import start_console
from configs.errors import UserError, run_program
from configs.manifest import now, verify_folder
from configs.recipe import StageRecipe, load_recipe, require
from configs.run_folder import finish_run_folder, open_run_folder, write_atomically
from pretrain.run_mlm import manifest_counts


@dataclasses.dataclass(kw_only=True)
class SoupRecipe(StageRecipe):
    """Average encoders that came from one starting point, and evaluate the mean."""

    models: list[Path]
    """Finished encoder folders of one architecture; the first is what `before` means in evaluation.json, the others'
    most steps and tokens are the mean's."""
    shares: list[float] = dataclasses.field(default_factory=list)
    """Each one's share, in their order; they add up to 1. Empty: equal shares."""
    corpus: Path
    """Corpus on whose held-out part the mean is evaluated; its tokenizer is the models'."""
    general_corpus: Path | None = None
    """General text on which it is evaluated too."""
    max_seq_length: int = 256
    """Tokens of a sequence in the evaluation."""
    eval_max_tokens: int | None = 1_000_000
    """Held-out tokens the evaluation reads at most; unset reads all."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(len(self.models) >= 2, "models", self.models, "two folders or more")
        shares = self.shares or [1 / len(self.models)] * len(self.models)
        require(len(shares) == len(self.models), "shares", self.shares, "one for each model")
        require(min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6, "shares", self.shares, "0 or more, 1 together")
        self.shares = shares


def main(arguments: Sequence[str], program: str) -> None:
    """Average, evaluate, and write the folder of the mean."""
    recipe = load_recipe(SoupRecipe, arguments, program)
    started_at = now()
    accepted: list[str] = []
    for folder in recipe.models:
        accepted += verify_folder(folder, stage="pretrain", accept_changes=recipe.accept_changed_inputs)
    corpora = {"corpus": recipe.corpus} | ({"general_corpus": recipe.general_corpus} if recipe.general_corpus else {})
    for folder in corpora.values():
        accepted += verify_folder(folder, stage="corpus", accept_changes=recipe.accept_changed_inputs)
    working_dir = open_run_folder(recipe, accepted=accepted, started_at=started_at)
    result = _cook(recipe, working_dir)
    counts = manifest_counts(result)
    inputs = corpora | {f"model_{number}": folder for number, folder in enumerate(recipe.models)}
    finish_run_folder(recipe, stage="pretrain", inputs=inputs, counts=counts)
    print(f"averaged encoder: {recipe.output_dir}")
    print(f"held-out loss: {counts['held_out_loss_before']:.4f} before, {counts['held_out_loss_after']:.4f} after")


def _cook(recipe: SoupRecipe, working_dir: Path) -> dict[str, Any]:
    """Write the mean's weights and `evaluation.json`, and return the latter's content."""
    import torch  # heavy imports wait until the recipe is known to be right

    from corpus.shards import TokenShards
    from pretrain.encoder import load_for_corpus, load_masked_lm
    from pretrain.evaluation import compare, held_out_scorer, texts_to_score
    from pretrain.training_loop import EVALUATION_FILE

    first, *others = (ModelSource(str(folder), is_local=True) for folder in recipe.models)
    model, tokenizer = load_for_corpus(first, recipe.corpus / "tokenizer", recipe.max_seq_length)
    corpora = {"domain": recipe.corpus} | ({"general": recipe.general_corpus} if recipe.general_corpus else {})
    trained = {name: TokenShards(folder, "train") for name, folder in corpora.items()}  # its members may have read both
    held_out = {
        name: texts_to_score(
            folder,
            tokenizer,
            trained=[shards for other, shards in trained.items() if other != name],
            max_seq_length=recipe.max_seq_length,
            eval_max_tokens=recipe.eval_max_tokens,
        )
        for name, folder in corpora.items()
    }
    score = held_out_scorer(model, held_out)
    before = score()
    with torch.no_grad():
        mean = {name: parameter.mul_(recipe.shares[0]) for name, parameter in model.named_parameters()}
        for source, share in zip(others, recipe.shares[1:], strict=True):
            weights = dict(load_masked_lm(source).named_parameters())
            if {name: tensor.shape for name, tensor in weights.items()} != {n: t.shape for n, t in mean.items()}:
                raise UserError(
                    f"has other weights than {first.name_or_path}",
                    where=source.name_or_path,
                    fix="Average encoders of one architecture and vocabulary.",
                )
            for name, tensor in mean.items():
                tensor.add_(weights[name].to(tensor.device), alpha=share)
    result = compare(before, score())
    model.save_pretrained(working_dir)
    tokenizer.save_pretrained(working_dir)
    evaluations = [json.loads((folder / EVALUATION_FILE).read_text(encoding="utf-8")) for folder in recipe.models[1:]]
    result |= {key: max(found[key] for found in evaluations) for key in ("steps", "tokens")}
    write_atomically(working_dir / EVALUATION_FILE, json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift pretrain soup")))
