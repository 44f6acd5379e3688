"""Turn a task's training texts into a corpus folder, for task-adaptive pretraining (TAPT, arXiv:2004.10964).

Only the training split is read: validation and test texts must stay unseen. A share of it is held out to see when
the model starts to learn the texts by heart. The texts themselves are not copied, only their tokens.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.manifest import now, write_manifest
from configs.recipe import StageRecipe, load_recipe, require
from configs.run_folder import finish_run_folder, open_run_folder
from corpus.shards import TokenizedDocument, split_folder, write_shard

TRAINING_FILE = "train.jsonl"
TEXTS_AT_ONCE = 1_000


@dataclasses.dataclass(kw_only=True)
class TaskCorpusRecipe(StageRecipe):
    """Make a corpus of a task's training texts."""

    task: Path
    """Task folder; its `train.jsonl` is read, one `{"id", "text"}` a line."""
    model: str
    """Encoder that will be trained on it: a folder, a Hub id, or `package:minilm`. Its tokenizer cuts the texts."""
    held_out_share: float = 0.05
    """Share of the texts that is held out."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(0 < self.held_out_share < 1, "held_out_share", self.held_out_share, "between 0 and 1")


def main(arguments: Sequence[str], program: str) -> None:
    """Write the corpus of the task named on the command line."""
    recipe = load_recipe(TaskCorpusRecipe, arguments, program)
    started_at, path = now(), recipe.task / TRAINING_FILE
    rows = read_texts(path)
    from pretrain.encoder import load_tokenizer

    working_dir = open_run_folder(recipe)
    tokenizer = load_tokenizer(resolve_model(recipe.model))
    documents = []
    for start in range(0, len(rows), TEXTS_AT_ONCE):
        part = rows[start : start + TEXTS_AT_ONCE]
        ids = tokenizer([text for _, text in part], add_special_tokens=False)["input_ids"]
        documents += [TokenizedDocument(id=row, token_ids=found) for (row, _), found in zip(part, ids, strict=True)]
    order = np.random.default_rng(recipe.seed).permutation(len(documents))
    held_out = max(1, round(recipe.held_out_share * len(documents)))
    counts = {}
    for split, chosen in (("held_out", order[:held_out]), ("train", order[held_out:])):
        found = [documents[number] for number in sorted(chosen.tolist())]
        counts[f"{split}_tokens"] = write_shard(split_folder(working_dir, split), 0, found, len(tokenizer))
        counts[f"{split}_documents"] = len(found)
    tokenizer.save_pretrained(working_dir / "tokenizer")
    write_manifest(
        working_dir, stage="corpus", recipe=recipe, inputs={"task": path}, counts=counts, started_at=started_at
    )
    finish_run_folder(recipe)


def read_texts(path: Path) -> list[tuple[str, str]]:
    """Return (id, text) of a task's split.

    Raises:
        UserError: no such file, too few rows, or a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the task's texts ({type(error).__name__})", where=path) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            identifier, text = row["id"], row["text"]
        except (ValueError, KeyError, TypeError):
            identifier = text = None
        if not isinstance(identifier, str) or not isinstance(text, str):
            raise UserError('not a row of a task: {"id": ..., "text": ...}', where=f"{path}:{number}")
        rows.append((identifier, text))
    if len(rows) < 2:
        raise UserError("a corpus needs two texts at least, one to train on and one held out", where=path)
    return rows
