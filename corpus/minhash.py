"""Near duplicates among short posts: MinHash over word 3-grams, 32 bands of 3 rows, every candidate verified.

MinHash (Broder 1997) with banding (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets §3.4). Web settings
(5-grams, 14 × 8) miss half of the lightly edited short posts: one changed word of 20 takes a quarter of the
5-grams with it. Bands of 3 rows catch pairs down to a Jaccard similarity of about 0.4; a candidate counts only if
the whole signatures agree that much, so wide bands cost time, not false drops.

N = posts, B = bands, R = rows per band, P = B × R permutations.
"""

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.run_folder import write_atomically
from configs.word_runs import Hashes, hash_runs

SHINGLE_WORDS, BANDS, ROWS = 3, 32, 3
PERMUTATIONS = BANDS * ROWS
SIGNATURE_SEED = 20_240_131  # part of the method, not of a run: signatures of two corpora can be compared
Signature = npt.NDArray[np.uint32]


def sign(words: list[str]) -> Signature:
    """Return the MinHash signature of a text, (P,)."""
    shingles = hash_runs(words, SHINGLE_WORDS)
    multipliers, offsets = _permutations()
    # Multiply-shift hashing (Dietzfelbinger et al. 1997): the upper half of (a·x + b) mod 2^64.
    permuted = (multipliers[:, None] * shingles[None, :] + offsets[:, None]) >> np.uint64(32)
    signature: Signature = permuted.min(axis=1).astype(np.uint32)
    return signature


@functools.cache
def _permutations() -> tuple[Hashes, Hashes]:
    random = np.random.Generator(np.random.PCG64(SIGNATURE_SEED))
    numbers = random.integers(0, 2**64, size=(2, PERMUTATIONS), dtype=np.uint64)
    return numbers[0] | np.uint64(1), numbers[1]


def write_signatures(path: Path, signatures: list[Signature]) -> None:
    """Write the signatures of a chunk band by band, (B, N, R), so that a band is read without the others."""
    table = np.array(signatures, dtype=np.uint32).reshape(len(signatures), BANDS, ROWS).swapaxes(0, 1)
    write_atomically(path, np.ascontiguousarray(table).tobytes())


def map_signatures(path: Path, posts: int) -> npt.NDArray[np.uint32]:
    """Map the signatures of a chunk, (B, N, R); each map that is kept holds an open file."""
    return np.memmap(path, dtype=np.uint32, mode="r", shape=(BANDS, posts, ROWS))


def read_band(path: Path, posts: int, band: int) -> npt.NDArray[np.uint32]:
    """Read one band of a chunk's signatures, (N, R)."""
    size = posts * ROWS
    rows = np.fromfile(path, dtype=np.uint32, count=size, offset=band * size * np.dtype(np.uint32).itemsize)
    return rows.reshape(posts, ROWS)


class FindPairs(PipelineStep):
    """Find the verified pairs of near duplicates that one band proposes; one task a band.

    Args:
        folder: signatures by chunk, `NNNNN.signatures`.
        chunk_sizes: posts per chunk.
        output: where pairs go, `NN.pairs`: (pairs, 2) positions of posts over all chunks.
        similarity: share of equal signature entries from which a candidate counts.
    """

    type = "🎯 - DEDUP"
    name = "MinHash pairs"

    def __init__(self, folder: Path, chunk_sizes: list[int], output: Path, similarity: float) -> None:
        super().__init__()
        self.folder, self.chunk_sizes, self.output, self.similarity = folder, chunk_sizes, output, similarity

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Group equal bands, compare every post of a group with its first and with its neighbour."""
        bands = [read_band(self._path(chunk), size, rank) for chunk, size in enumerate(self.chunk_sizes)]
        candidates = candidate_pairs(np.concatenate(bands))
        pairs = candidates[self._agreement(candidates) >= self.similarity]
        self.output.mkdir(parents=True, exist_ok=True)
        write_atomically(self.output / f"{rank:02d}.pairs", pairs.tobytes())
        self.stat_update("candidates", value=len(candidates))
        self.stat_update("pairs", value=len(pairs))
        yield from ()

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:05d}.signatures"

    def _agreement(self, pairs: npt.NDArray[np.int64], batch: int = 200_000) -> npt.NDArray[np.float64]:
        starts = np.cumsum([0, *self.chunk_sizes])
        shares = np.empty(len(pairs))
        for first in range(0, len(pairs), batch):
            part = pairs[first : first + batch]
            left, right = (self._gather(starts, part[:, side]) for side in (0, 1))
            shares[first : first + batch] = (left == right).mean(axis=(1, 2))
        return shares

    def _gather(self, starts: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Return the signatures of posts, (len(positions), B, R); one chunk is open at a time."""
        found = np.empty((len(positions), BANDS, ROWS), dtype=np.uint32)
        owners = np.searchsorted(starts, positions, side="right") - 1
        for chunk in np.unique(owners).tolist():
            rows = np.flatnonzero(owners == chunk)
            signatures = map_signatures(self._path(chunk), self.chunk_sizes[chunk])
            found[rows] = signatures[:, positions[rows] - starts[chunk]].swapaxes(0, 1)
        return found


def candidate_pairs(band: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Return pairs of positions with an equal band, (pairs, 2), lower position first.

    A group of g equal bands gives at most 2g pairs, not g²/2: each with the first and each with the one before.
    A pair that is left out here meets in another band or through the first of its group.

    Args:
        band: (N, R) rows of one band.
    """
    keys = np.zeros(len(band), dtype=np.uint64)
    for row in range(band.shape[1]):
        keys = (keys ^ band[:, row]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    order = np.argsort(keys, kind="stable")
    equal = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1  # rows whose key is that of the row before
    opens = np.ones(len(keys), dtype=bool)
    opens[equal] = False
    first = np.maximum.accumulate(np.where(opens, np.arange(len(keys)), 0))
    pairs = np.concatenate(
        [np.stack([order[first[equal]], order[equal]], axis=1), np.stack([order[equal - 1], order[equal]], axis=1)]
    ).astype(np.int64)
    unique: npt.NDArray[np.int64] = np.unique(pairs, axis=0)
    return unique


def read_pairs(folder: Path) -> npt.NDArray[np.int64]:
    """Return the pairs of all bands, each once, (pairs, 2)."""
    parts = [np.fromfile(path, dtype=np.int64).reshape(-1, 2) for path in sorted(folder.glob("*.pairs"))]
    return np.unique(np.concatenate(parts), axis=0) if parts else np.empty((0, 2), dtype=np.int64)
