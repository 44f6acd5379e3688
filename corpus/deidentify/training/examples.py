"""The training examples: annotated tweets and web text, Reddit comments with names put back, synthetic sentences.

WNUT-17 train (noisy web text) and the Broad Twitter Corpus train part are CC-BY 4.0; GoEmotions (Apache-2.0) has
`[NAME]` where its makers found a person's name, so a fake name there makes a labelled Reddit comment. Each source
labels its own kinds only, so an example says which classes its unlabelled words may still have.
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import orjson

from configs.errors import UserError
from corpus.deidentify.training.synthetic import Example, IdentityMaker, synthetic_examples, vary_case

WNUT_LABELS = {
    "person": "NAME",
    "location": "PLACE",
    "corporation": "ORGANISATION",
    "group": "ORGANISATION",
    "product": "OTHER",
    "creative-work": "OTHER",
}
BTC_LABELS = {"PER": "NAME", "LOC": "PLACE", "ORG": "ORGANISATION"}
RELIGIONS = ("Christian", "Catholic", "Muslim", "Jewish", "Buddhist", "Hindu")


def read_conll(path: Path, labels: dict[str, str]) -> Iterator[tuple[str, list[tuple[int, int, str]]]]:
    """Yield each sentence of a CoNLL file as text and labelled spans.

    Words are joined by spaces, but for the `@` that the Broad Twitter Corpus splits off handles.
    """
    if not path.is_file():
        raise UserError("no such annotated file", where=path)
    with path.open(encoding="utf-8") as file:
        for filled, group in itertools.groupby(file, key=lambda line: bool(line.strip())):
            if filled:
                yield _join([line.rstrip("\n").split("\t") for line in group], labels)


def _join(rows: list[list[str]], labels: dict[str, str]) -> tuple[str, list[tuple[int, int, str]]]:
    text, spans, glue = "", list[tuple[int, int, str]](), ""
    for row in rows:
        word, tag = row[0], row[-1]
        start = len(text) + len(glue)
        text += glue + word
        glue = "" if word == "@" else " "
        label = labels.get(tag[2:])
        if label is None:
            continue
        continues = tag.startswith("I") and spans and spans[-1][2] == label and spans[-1][1] >= start - 1
        if continues:
            spans[-1] = (spans[-1][0], len(text), label)
        else:
            spans.append((start, len(text), label))
    return text, spans


def annotated_examples(pii_dir: Path, draw: random.Random) -> list[Example]:
    """Return the WNUT-17 and Broad Twitter train examples, some with their casing changed."""
    wnut = read_conll(pii_dir / "wnut17" / "wnut17train.conll", WNUT_LABELS)
    btc = read_conll(pii_dir / "btc" / "btc.train", BTC_LABELS)
    examples = [Example(text, tuple(spans)) for text, spans in wnut]
    examples += [Example(text, tuple(spans), ("O", "OTHER")) for text, spans in btc]
    return [vary_case(example, draw) for example in examples]


def comment_examples(train_file: Path, plain: int, maker: IdentityMaker) -> list[Example]:
    """Return GoEmotions comments with fake names for `[NAME]`, and `plain` comments that had none."""
    with train_file.open("rb") as file:
        texts = [str(orjson.loads(line)["text"]) for line in file]
    named = [text for text in texts if "[NAME]" in text]
    nameless = [text for text in texts if "[NAME]" not in text]
    chosen = named + maker.random.sample(nameless, min(plain, len(nameless)))
    return [_with_names(text, maker) for text in chosen]


def _with_names(text: str, maker: IdentityMaker) -> Example:
    draw, filled, spans = maker.random, "", list[tuple[int, int, str]]()
    for number, piece in enumerate(text.replace("[RELIGION]", draw.choice(RELIGIONS)).split("[NAME]")):
        if number:
            name = draw.choices([maker.first, maker.full, maker.last], [7, 2, 1])[0]()
            name = name.lower() if draw.random() < 0.15 else name
            spans.append((len(filled), len(filled) + len(name), "NAME"))
            filled += name
        filled += piece
    # The source masked people only: places and organisations are still there, unlabelled.
    return vary_case(Example(filled, tuple(spans), ("O", "PLACE", "ORGANISATION", "OTHER", "ADDRESS")), draw)


def training_examples(data_dir: Path, *, synthetic: int, plain_comments: int, seed: int) -> list[Example]:
    """Return all training examples, shuffled.

    Args:
        data_dir: folder with `pii/` and `downstream/goemotions/`.
        synthetic: how many synthetic sentences.
        plain_comments: how many GoEmotions comments without a name.
        seed: of every choice.
    """
    maker = IdentityMaker(seed)
    examples = annotated_examples(data_dir / "pii", maker.random)
    examples += comment_examples(data_dir / "downstream" / "goemotions" / "train.jsonl", plain_comments, maker)
    examples += synthetic_examples(synthetic, seed + 1)
    maker.random.shuffle(examples)
    return examples
