"""Pack whole documents into micro-batches of a fixed number of tokens.

A micro-batch is one flat stream of N tokens: sequences end to end, each with its own special tokens and positions,
padding only behind the last. Attention never crosses a sequence. Fixed N keeps every shape the same; best fit over
an optimizer step's documents fills it to about 99 % (Krell et al., arXiv:2107.02027).

The plan is made for the whole optimizer step and then dealt to the processes, so a step of as many micro-batches has
the same documents at any number of processes. Its state is a cursor and a few leftovers: resuming costs the same
anywhere.

D = documents, S = sequences of the corpus, N = tokens of a micro-batch, K = micro-batches of a step.
"""

import bisect
import copy
import dataclasses
import math
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from configs.errors import UserError

IntArray = npt.NDArray[np.int64]
PLANNED_SEQUENCES = 200_000
"""How many sequences are planned at most only to count steps: a few seconds."""


class Documents(Protocol):
    """What is packed: `corpus.shards.TokenShards`, or anything that reads like them.

    Attributes:
        lengths: (D,) tokens of each document.
    """

    lengths: npt.NDArray[np.int32]

    def __len__(self) -> int: ...

    def __getitem__(self, document: int) -> npt.NDArray[Any]: ...


class JoinedDocuments:
    """Two corpora as one: documents of the second count on from the first's last."""

    def __init__(self, first: Documents, second: Documents) -> None:
        self._first, self._second = first, second
        self.lengths = np.concatenate([first.lengths, second.lengths])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, document: int) -> npt.NDArray[Any]:
        """Return the token ids of one document."""
        count = len(self._first)
        return self._first[document] if document < count else self._second[document - count]


@dataclasses.dataclass(frozen=True)
class SequenceTable:
    """Where each sequence of a split comes from; lengths are without special tokens.

    Attributes:
        documents: (S,) its document.
        offsets: (S,) its first token in that document.
        lengths: (S,) its tokens.
    """

    documents: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.documents)


def cut_sequences(
    document_lengths: npt.NDArray[np.int32], content_length: int, long_documents: Literal["split", "truncate"]
) -> SequenceTable:
    """Cut documents of more than `content_length` tokens into equal parts, or truncate them.

    Args:
        document_lengths: (D,) tokens of each document.
        content_length: the most tokens a sequence may hold beside its special tokens.
        long_documents: `split` keeps every token once; `truncate` keeps a document's first part only.
    """
    parts = np.maximum(1, -(-document_lengths // content_length))
    if long_documents == "truncate":
        parts = np.ones_like(parts)
    parts[document_lengths == 0] = 0
    documents = np.repeat(np.arange(len(document_lengths), dtype=np.int32), parts)
    number = np.arange(len(documents), dtype=np.int64) - np.repeat(np.cumsum(parts) - parts, parts)
    total, count = document_lengths[documents].astype(np.int64), parts[documents].astype(np.int64)
    if long_documents == "truncate":
        total = np.minimum(total, content_length)
    # Equal parts: a post of 600 tokens becomes 300 + 300, not 510 and a scrap.
    offsets, ends = number * total // count, (number + 1) * total // count
    return SequenceTable(documents, offsets.astype(np.int32), (ends - offsets).astype(np.int32))


def best_fit(lengths: IntArray, bin_count: int, capacity: int) -> tuple[list[list[int]], list[int]]:
    """Put items into bins, longest first, each into the fullest bin that still holds it.

    Returns:
        The item numbers of each bin, and those that fitted nowhere.
    """
    bins: list[list[int]] = [[] for _ in range(bin_count)]
    room = [(capacity, number) for number in range(bin_count)]  # sorted by room left
    left_over = []
    for item in np.argsort(-lengths, kind="stable"):
        length = int(lengths[item])
        place = bisect.bisect_left(room, (length, -1))
        if place == len(room):
            left_over.append(int(item))
            continue
        free, number = room.pop(place)
        bins[number].append(int(item))
        bisect.insort(room, (free - length, number))
    return bins, left_over


@dataclasses.dataclass(frozen=True)
class Draw:
    """One sequence in one pass over the corpus."""

    epoch: int
    sequence: int


class StepPlanner:
    """Endless optimizer steps over a sequence table, reshuffled every epoch.

    Args:
        lengths: (S,) tokens of each sequence, special tokens included.
        micro_batches: K, over all processes and accumulation steps.
        micro_batch_tokens: N.
        seed: seed of the shuffles.
        replay_from: sequences from here on are general text; None if there is none.
        replay_share: share of an epoch's tokens that are general text, taken in turn over the epochs.
    """

    def __init__(
        self,
        lengths: IntArray,
        *,
        micro_batches: int,
        micro_batch_tokens: int,
        seed: int,
        replay_from: int | None = None,
        replay_share: float = 0.0,
    ) -> None:
        self._domain_count = len(lengths) if replay_from is None else replay_from
        if self._domain_count == 0:
            raise UserError("the corpus has no tokens to train on")
        self._lengths, self._seed = lengths, seed
        self._domain_tokens = int(lengths[: self._domain_count].sum())
        general_tokens = int(lengths[self._domain_count :].sum())
        self._replay_share = replay_share if general_tokens else 0.0
        self._micro_batches, self._capacity = micro_batches, micro_batch_tokens
        self._epoch, self._cursor = 0, 0
        self._pool: list[Draw] = []
        self._order = self._shuffle(0)

    def next_step(self) -> list[list[Draw]]:
        """Return the K micro-batches of the next optimizer step."""
        pooled = sum(int(self._lengths[draw.sequence]) for draw in self._pool)
        while pooled < self._micro_batches * self._capacity:
            if self._cursor == len(self._order):
                self._epoch, self._cursor = self._epoch + 1, 0
                self._order = self._shuffle(self._epoch)
            sequence = int(self._order[self._cursor])
            self._pool.append(Draw(self._epoch, sequence))
            pooled += int(self._lengths[sequence])
            self._cursor += 1
        lengths = self._lengths[[draw.sequence for draw in self._pool]]
        bins, left_over = best_fit(lengths, self._micro_batches, self._capacity)
        pool, self._pool = self._pool, [self._pool[item] for item in left_over]
        return [[pool[item] for item in items] for items in bins]

    def count_steps(self, epochs: float) -> int:
        """Return how many steps from the start it takes until so many passes have been dealt.

        They are planned to count them, since micro-batches are not full: one row of 512 tokens holds 94 % in the mean.
        A hundredth of the last pass's sequences may be left: what is short waits for a gap. Beyond `PLANNED_SEQUENCES`
        the share that those filled is taken for the rest.
        """
        planner = copy.copy(self)
        planner.load_state_dict({"epoch": 0, "cursor": 0, "pool": []})
        wanted, whole = epochs * self.pass_tokens, int(epochs)
        steps = count = tokens = 0
        while count < PLANNED_SEQUENCES:
            dealt = [draw.sequence for draws in planner.next_step() for draw in draws]
            steps, count, tokens = steps + 1, count + len(dealt), tokens + int(self._lengths[dealt].sum())
            left = sum(draw.epoch < whole for draw in planner._pool)
            if tokens >= wanted and planner.epoch >= whole and left <= 0.01 * self._domain_count:
                return steps
        return math.ceil(wanted / tokens * steps)

    @property
    def pass_tokens(self) -> float:
        """Tokens that one pass deals, replayed ones included."""
        return self._domain_tokens / (1 - self._replay_share)

    @property
    def epoch(self) -> int:
        """Passes over the corpus that have begun, counted from 0."""
        return self._epoch

    def count_draws(self) -> tuple[IntArray, IntArray]:
        """Return how often each sequence of the domain, and each of general text, stood in a step so far."""
        counts = np.zeros(len(self._lengths), dtype=np.int64)
        counts[: self._domain_count] = self._epoch
        for epoch in range(self._epoch):
            np.add.at(counts, self._replayed(epoch), 1)
        np.add.at(counts, self._order[: self._cursor], 1)
        np.subtract.at(counts, [draw.sequence for draw in self._pool], 1)
        return counts[: self._domain_count], counts[self._domain_count :]

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on: JSON-serialisable, the same size at any position."""
        pool = [[draw.epoch, draw.sequence] for draw in self._pool]
        return {"epoch": self._epoch, "cursor": self._cursor, "pool": pool}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._epoch, self._cursor = state["epoch"], state["cursor"]
        self._pool = [Draw(epoch, sequence) for epoch, sequence in state["pool"]]
        self._order = self._shuffle(self._epoch)

    def _shuffle(self, epoch: int) -> IntArray:
        generator = np.random.default_rng((self._seed, epoch))
        drawn = np.concatenate([np.arange(self._domain_count), self._replayed(epoch)])
        return generator.permutation(drawn)

    def _replayed(self, epoch: int) -> IntArray:
        """Return the general sequences of one epoch: the next ones of an endless round through them."""
        if self._replay_share == 0:
            return np.arange(0)
        general = self._domain_count + np.random.default_rng((self._seed, 0, 1)).permutation(
            len(self._lengths) - self._domain_count
        )
        wanted = self._domain_tokens * self._replay_share / (1 - self._replay_share)
        read = np.cumsum(self._lengths[general])
        total, start = int(read[-1]), (epoch * wanted) % int(read[-1])
        rounds = 1 + int((start + wanted) // total)
        ends = np.concatenate([read + number * total for number in range(rounds)])
        return np.tile(general, rounds)[(ends > start) & (ends <= start + wanted)]


def share_read(draws: IntArray, lost: int) -> float:
    """Return the share of the sequences that were read at least once; 0 if there is none.

    Args:
        draws: (S,) how often each stood in a step.
        lost: how many draws stood in steps that left no trace in the weights. Which ones is not known: as many
            sequences as so few can hide count as unread.
    """
    hidden = int(np.searchsorted(np.cumsum(np.sort(draws[draws > 0])), lost, side="right"))
    return float((np.count_nonzero(draws) - hidden) / max(1, len(draws)))


@dataclasses.dataclass(frozen=True)
class PackedSequences:
    """A micro-batch before masking.

    Attributes:
        input_ids: (N,) tokens, padding last.
        position_ids: (N,) position in its own sequence, from 0.
        lengths: tokens of each sequence in order; the padding at the end counts as sequences too.
        documents: (N,) document of each token, −1 for padding.
        document_positions: (N,) where in its document each token stands; special tokens −1.
        epochs: (N,) pass over the corpus each token belongs to.
        real_tokens: tokens that are no padding.
    """

    input_ids: IntArray
    position_ids: IntArray
    lengths: list[int]
    documents: IntArray
    document_positions: IntArray
    epochs: IntArray
    real_tokens: int


class SequencePacker:
    """Lay drawn sequences end to end.

    Args:
        documents: the split's tokens.
        table: its sequences.
        prefix_ids, suffix_ids: special tokens before and behind each sequence (`[CLS]`, `[SEP]`).
        pad_id: the padding token.
        max_seq_length: padding is cut into sequences of at most this length, as positions end there.
    """

    def __init__(
        self,
        documents: Documents,
        table: SequenceTable,
        *,
        prefix_ids: list[int],
        suffix_ids: list[int],
        pad_id: int,
        max_seq_length: int,
    ) -> None:
        self._documents, self._table = documents, table
        self._prefix, self._suffix = prefix_ids, suffix_ids
        self._pad_id, self._max_seq_length = pad_id, max_seq_length

    @property
    def sequence_lengths(self) -> IntArray:
        """(S,) tokens of each sequence, special tokens included."""
        return self._table.lengths.astype(np.int64) + len(self._prefix) + len(self._suffix)

    @property
    def sequence_documents(self) -> IntArray:
        """(S,) document of each sequence."""
        return self._table.documents.astype(np.int64)

    def count_sequences(self, document_count: int) -> int:
        """Return how many sequences the first documents were cut into."""
        return int(np.searchsorted(self._table.documents, document_count))

    def pack(self, draws: list[Draw], size: int) -> PackedSequences:
        """Return the draws as one flat micro-batch of `size` tokens."""
        input_ids = np.full(size, self._pad_id, dtype=np.int64)
        documents = np.full(size, -1, dtype=np.int64)
        document_positions = np.full(size, -1, dtype=np.int64)
        position_ids, epochs = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        lengths, start = [], 0
        for draw in draws:
            document, offset = self._table.documents[draw.sequence], self._table.offsets[draw.sequence]
            content = self._documents[int(document)][offset : offset + self._table.lengths[draw.sequence]]
            first = start + len(self._prefix)
            last = first + len(content)
            end = last + len(self._suffix)
            input_ids[start:first], input_ids[first:last], input_ids[last:end] = self._prefix, content, self._suffix
            position_ids[start:end] = np.arange(end - start)
            documents[start:end], epochs[start:end] = document, draw.epoch
            document_positions[first:last] = np.arange(offset, offset + len(content))
            lengths.append(end - start)
            start = end
        for pad_start in range(start, size, self._max_seq_length):
            pad_length = min(self._max_seq_length, size - pad_start)
            position_ids[pad_start : pad_start + pad_length] = np.arange(pad_length)
            lengths.append(pad_length)
        return PackedSequences(input_ids, position_ids, lengths, documents, document_positions, epochs, start)
