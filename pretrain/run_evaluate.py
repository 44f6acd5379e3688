"""Score masked-LM encoders side by side on held-out texts of corpora: `mindshift pretrain evaluate RECIPE.yaml`.

Domain and general text, before and after adaptation, the same masked tokens for every encoder: what was learned, and
what was forgotten (Gururangan et al., Don't Stop Pretraining, arXiv:2004.10964 §3.1).
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.base_models import ModelSource, resolve_model
from configs.console import start_console
from configs.errors import run_program
from configs.manifest import now, verify_folder, verify_inputs
from configs.recipe import StageRecipe, load_recipe, named_entries, require
from configs.run_folder import finish_run_folder, open_run_folder, write_atomically

SCORES_NAME = "held_out.json"


@dataclasses.dataclass(kw_only=True)
class EvaluateRecipe(StageRecipe):
    """Score encoders on the held-out parts of corpora."""

    models: list[str]
    """Encoders with a masked-LM head, each as NAME=MODEL; the corpora's tokenizer is theirs."""
    corpora: list[str]
    """Corpora, each as NAME=FOLDER. A held-out text that stands in the training part of any of them is not scored: no
    encoder has an advantage by having seen it."""
    max_seq_length: int = 256
    """Tokens of a sequence."""
    eval_max_tokens: int | None = 1_000_000
    """Held-out tokens that are read of each corpus at most; unset reads all."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(len(named_entries("models", self.models)) > 0, "models", self.models, "one or more")
        require(len(named_entries("corpora", self.corpora)) > 0, "corpora", self.corpora, "one or more")


def main(arguments: Sequence[str], program: str) -> None:
    """Score every encoder on every corpus, write the scores and print them."""
    recipe = load_recipe(EvaluateRecipe, arguments, program)
    started_at = now()
    sources = {name: resolve_model(model) for name, model in named_entries("models", recipe.models).items()}
    corpora = {name: Path(folder) for name, folder in named_entries("corpora", recipe.corpora).items()}
    # An encoder and the corpus it was trained on may have one name.
    inputs = {f"corpus {name}": folder for name, folder in corpora.items()}
    accepted: list[str] = []
    for folder in corpora.values():
        accepted += verify_folder(folder, stage="corpus", accept_changes=recipe.accept_changed_inputs)
    models = {f"model {name}": Path(source.name_or_path) for name, source in sources.items() if source.is_local}
    accepted += verify_inputs(models.values(), accept_changes=recipe.accept_changed_inputs)
    inputs |= models
    working_dir = open_run_folder(recipe, accepted=accepted, started_at=started_at)
    scores = _score_all(recipe, sources, corpora)
    write_atomically(working_dir / SCORES_NAME, json.dumps(scores, indent=2) + "\n")
    counts = {"models": len(sources), "corpora": len(corpora)}
    finish_run_folder(recipe, stage="evaluate", inputs=inputs, counts=counts)
    for name, by_corpus in scores.items():
        for corpus, score in by_corpus.items():
            print(f"{name} on {corpus}: loss {score['loss']:.4f}, accuracy {100 * score['accuracy']:.1f} %")


def _score_all(
    recipe: EvaluateRecipe, sources: dict[str, ModelSource], corpora: dict[str, Path]
) -> dict[str, dict[str, Any]]:
    """Return loss, perplexity, accuracy and masked tokens of each encoder on each corpus, by their names."""
    from corpus.shards import TokenShards
    from pretrain.encoder import load_for_corpus, load_tokenizer  # heavy imports wait until the recipe is right
    from pretrain.evaluation import held_out_scorer, texts_to_score

    trained = {folder: TokenShards(folder, "train") for folder in corpora.values()}
    texts = {
        corpus: texts_to_score(
            folder,
            load_tokenizer(ModelSource(str(folder / "tokenizer"), is_local=True)),
            trained=[shards for other, shards in trained.items() if other != folder],
            max_seq_length=recipe.max_seq_length,
            eval_max_tokens=recipe.eval_max_tokens,
        )
        for corpus, folder in corpora.items()
    }
    scores: dict[str, dict[str, Any]] = {}
    for name, source in sources.items():
        scores[name] = {}
        for corpus, folder in corpora.items():
            model, _ = load_for_corpus(source, folder / "tokenizer", recipe.max_seq_length)
            found = held_out_scorer(model, {corpus: texts[corpus]})()
            scores[name][corpus] = found[corpus].as_json()["overall"]
    return scores


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "mindshift pretrain evaluate")))
