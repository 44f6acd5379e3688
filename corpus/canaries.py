"""Plant sentences that no person wrote, so that a release audit can measure what a model memorises.

Canaries (Carlini et al. 2019, arXiv:1802.08232): random word sequences behind one fixed opening, some planted
once, some four times, some never, as controls. Their texts are drawn with the secret author key and the recipe, so
that no two corpora share one: a model of both would have seen it twice as often as either says. They are written to
`sealed/canaries.jsonl` (`id, text, repeats`), which must stay with the auditor and never be published.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from configs.recipe import recipe_values
from corpus.chunks import lines_of_rows, rows_of_lines
from corpus.config import CorpusRecipe

REPEAT_BANDS = (0, 1, 4)
SEALED_PATH = Path("sealed") / "canaries.jsonl"
ID_PREFIX = "canary_"
OPENING = "the words i keep in my notebook are"
SECRET_WORDS = 8
WORDS = (
    "anchor apple arrow autumn basket beacon bottle branch bridge butter button cabin camera candle canyon carpet "
    "castle cellar cherry circle copper corner cotton cradle curtain desert dinner dragon drawer eagle engine fabric "
    "falcon feather fender fiddle forest fossil garden ginger glacier goblet guitar hammer harbor hazel helmet "
    "hollow honey icicle island ivory jacket jungle kettle kitten ladder lantern lemon locket magnet maple marble "
    "meadow mirror morning mountain needle nickel nutmeg ocean olive orchard oyster paddle paper pebble pencil pepper "
    "piano pillow pocket pottery quartz quiver rabbit raven ribbon river rocket saddle salmon scarlet shadow shovel "
    "silver spider spring summer table tailor temple thimble thunder tiger timber tunnel turtle umbrella valley "
    "velvet violin wagon walnut water weaver whistle willow window winter wolf yellow zipper"
)


def make_canaries(recipe: CorpusRecipe, author_key: bytes) -> list[dict[str, Any]]:
    """Return the canaries, `canaries_per_band` for each of `REPEAT_BANDS`.

    The same key and recipe give the same ones wherever and however the corpus is built; another selection of posts,
    or another seed, gives others.
    """
    asked = {key: value for key, value in recipe_values(recipe).items() if key not in recipe.HOW}
    digest = hashlib.sha256(b"canaries" + author_key + json.dumps(asked, sort_keys=True).encode()).digest()
    random = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    words = WORDS.split()
    canaries = []
    for number in range(recipe.canaries_per_band * len(REPEAT_BANDS)):
        secret = " ".join(words[place] for place in random.integers(0, len(words), size=SECRET_WORDS))
        identifier = f"{ID_PREFIX}{random.integers(0, 2**32):08x}{number:04d}"
        repeats = REPEAT_BANDS[number % len(REPEAT_BANDS)]
        canaries.append({"id": identifier, "text": f"{OPENING} {secret}", "repeats": repeats})
    return canaries


def seal_canaries(corpus_dir: Path, canaries: list[dict[str, Any]]) -> Path:
    """Write the sealed file, readable by its owner only; a resumed build keeps the one it has planted from."""
    path = corpus_dir / SEALED_PATH
    if path.exists():
        return path
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(lines_of_rows(canaries))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def planted_rows(path: Path, chunk: int, chunks: int) -> list[dict[str, Any]]:
    """Return the canary copies that belong into a chunk, as stored rows; which chunk is drawn by hash."""
    rows = []
    for canary in rows_of_lines(path.read_bytes()):
        for copy in range(canary["repeats"]):
            identifier = f"{canary['id']}_{copy}"
            place = int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "little") % chunks
            if place == chunk:
                empty = {"title": "", "subreddit": "", "month": "", "author_hash": ""}
                rows.append({"id": identifier, "text": canary["text"], **empty})
    return rows
