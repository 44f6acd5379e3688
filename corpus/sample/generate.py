"""Write synthetic posts and comments in Reddit's dump format, any number of them, with gold annotations.

SYNTHETIC: no record was written by, or is about, a real person. Made for demos, tests and scale tests.
"""

import dataclasses
import gzip
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import orjson
import zstandard

from configs.console import Progress
from configs.recipe import StageRecipe, load_recipe, require
from configs.run_folder import finish_run_folder, open_run_folder, write_atomically
from corpus.sample.composition import Composer
from corpus.sample.malformed import write_malformed
from corpus.sample.records import FIRST_SECOND, RECORDS_PER_PART, Gold, Part
from corpus.sample.tasks import write_tasks

SECOND_YEAR = 1_704_067_200  # 2024-01-01, UTC
WINDOW_LOG = 31
EMBEDDED_POSTS, EMBEDDED_SEED = 2_400, 13
Packing = Literal["zst", "jsonl", "jsonl.gz", "mixed"]
MIXED: dict[str, Packing] = {"RS_2023": "zst", "RS_2024": "zst", "RC_2023": "jsonl.gz", "RC_2024": "jsonl"}
log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class SampleRecipe(StageRecipe):
    """Write synthetic Reddit posts and comments of 2023 and 2024, with gold annotations beside them.

    No record is by, or about, a real person.
    """

    posts: int = EMBEDDED_POSTS
    """How many records, submissions and comments together. The first N are the same whatever the total."""
    packing: Packing = "zst"
    """How the files are packed. mixed: RS as .zst, one RC file as .jsonl.gz, the other as .jsonl."""
    extras: bool = False
    """Also write the malformed file and the three labelled tasks (they do not depend on `posts`)."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(self.posts >= 1, "posts", self.posts, "1 or more")


def main(arguments: Sequence[str], program: str) -> None:
    """Write a sample folder; an interrupted run goes on with the first part that is not there."""
    recipe = load_recipe(SampleRecipe, arguments, program)
    folder = open_run_folder(recipe)
    counts = write_sample(folder, recipe.posts, recipe.seed, recipe.packing, extras=recipe.extras)
    finish_run_folder(recipe, stage="sample", inputs={}, counts=dict(counts))
    log.info("%s synthetic records are in %s", f"{recipe.posts:,}", recipe.output_dir)


def write_sample(folder: Path, posts: int, seed: int, packing: Packing, *, extras: bool) -> Counter[str]:
    """Write dumps, gold and, if asked, the extras below `folder`; returns how many there are of each kind."""
    composer, totals = Composer(), Counter[str]()
    with Progress(description="sample", unit="posts", total=posts) as bar:
        for number, first in enumerate(range(0, posts, RECORDS_PER_PART)):
            count = min(RECORDS_PER_PART, posts - first)
            totals += _write_part(folder, composer, seed, number, count, packing)
            bar.advance(count)
    if extras:
        write_malformed(folder / "malformed")
        write_tasks(folder, composer, seed)
    return totals


def _write_part(folder: Path, composer: Composer, seed: int, number: int, count: int, packing: Packing) -> Counter[str]:
    suffix = f"_{number:04d}" if number else ""
    done = folder / "gold" / f"counts{suffix}.json"
    if done.is_file():  # written last: the part is complete
        return Counter(json.loads(done.read_text(encoding="utf-8")))
    part = Part(composer, seed, number)
    years: dict[str, list[tuple[int, bytes]]] = {name: [] for name in MIXED}
    for is_submission, created, record in part.records(count):
        name = f"R{'S' if is_submission else 'C'}_{2023 if created < SECOND_YEAR else 2024}"
        years[name].append((created, orjson.dumps(record)))
    for name, lines in years.items():
        lines.sort()  # the public dumps are in order of creation
        content = b"".join(line + b"\n" for _, line in lines)
        _pack(folder / f"{name}{suffix}", MIXED[name] if packing == "mixed" else packing, content)
    _write_gold(folder / "gold", suffix, part.gold)
    write_atomically(done, json.dumps(part.gold.counts, indent=1, sort_keys=True) + "\n")
    return part.gold.counts


def _pack(path: Path, packing: Packing, content: bytes) -> None:
    if packing == "zst":
        # Like the public dumps: one frame with a 2^31-byte window and no content size.
        parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=WINDOW_LOG, write_content_size=False)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        content = compressor.compress(content) + compressor.flush()
    elif packing == "jsonl.gz":
        content = gzip.compress(content, compresslevel=6, mtime=FIRST_SECOND)
    write_atomically(path.with_name(f"{path.name}.{packing}"), content)


def _write_gold(folder: Path, suffix: str, gold: Gold) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    duplicates = [orjson.dumps({"original": name, **copies}) for name, copies in gold.duplicates.items()]
    files = {"identifiers": gold.identifiers, "hard_negatives": gold.hard_negatives, "drops": gold.drops}
    for name, lines in (files | {"duplicates": duplicates}).items():
        write_atomically(folder / f"{name}{suffix}.jsonl", b"".join(line + b"\n" for line in lines))
