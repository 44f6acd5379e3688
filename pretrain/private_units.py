"""Who a differentially private run protects, and whom a step draws: authors, or documents.

A unit is all that one author wrote (McMahan et al., arXiv:1710.06963: user-level privacy), or one document with all
the sequences it was cut into. An author whose name is not known is protected document by document. Packing plays no
part: a unit's sequences make a micro-batch of their own, so that its gradient is its own.

Every step takes each unit with the same probability, independently (Poisson sampling, which the accountant assumes),
and of its sequences at most a number, drawn anew. All draws, masks and dropout come from the run's secret: whoever
knew them could take the noise away.

U = units, S = sequences of the corpus.
"""

import numpy as np

from configs.errors import UserError
from corpus.shards import TokenShards
from pretrain.config import PretrainRecipe
from pretrain.packing import Draw, IntArray

SAMPLING, SEQUENCES, MASKING, DROPOUT, NOISE = range(5)
"""What a stream of random numbers is for."""


def secret_generator(secret: int, *purpose: int) -> np.random.Generator:
    """Return the secret's generator for one purpose: the same numbers whenever it is asked again."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((secret, *purpose))))


def secret_seed(secret: int, *purpose: int) -> int:
    """Return 63 bits of the secret for a generator of another library."""
    return int(secret_generator(secret, *purpose).integers(2**63))


class PrivateUnits:
    """The units of a training split.

    Args:
        shards: its documents.
        documents: (S,) document of each sequence.
        lengths: (S,) tokens of each sequence.
        recipe: what a unit is, how many a step draws, and the most sequences of one.

    Attributes:
        count: U.
        without_author: how many of them are documents whose author is not known, where authors are protected.
        sample_rate: probability of a unit to be in a step.
        expected_tokens: tokens of a step in the mean.

    Raises:
        UserError: there are fewer units than a step should draw, or authors are to be protected and none is known.
    """

    def __init__(self, shards: TokenShards, documents: IntArray, lengths: IntArray, recipe: PretrainRecipe) -> None:
        owner_of_document, self.without_author = _number_units(shards, recipe)
        owner_S = owner_of_document[documents]
        order = np.argsort(owner_S, kind="stable")
        bounds = np.flatnonzero(np.diff(owner_S[order])) + 1
        self._sequences: list[IntArray] = np.split(order, bounds) if len(order) else []
        self._most = recipe.dp_sequences_per_unit
        self.count = len(self._sequences)
        if self.count < recipe.dp_units_per_step:
            raise UserError(
                f"the corpus has {self.count:,} units ({recipe.dp_unit}s), and a step should draw "
                f"{recipe.dp_units_per_step:,} of them",
                where="dp_units_per_step",
                fix="Set it well below their number: privacy comes from drawing few.",
            )
        self.sample_rate = recipe.dp_units_per_step / self.count
        drawn = [lengths[own].mean() * min(len(own), self._most) for own in self._sequences]
        self.expected_tokens = self.sample_rate * float(sum(drawn))

    def draw(self, secret: int, step: int) -> list[tuple[int, list[Draw]]]:
        """Return the units of a step and the sequences of each."""
        chosen = np.flatnonzero(secret_generator(secret, SAMPLING, step).random(self.count) < self.sample_rate)
        return [(int(unit), self._draw_sequences(secret, step, int(unit))) for unit in chosen]

    def share_read(self, steps: int) -> float:
        """Return the share of the sequences that so many steps read at least once, in the mean.

        The exact share would say something about the draws.
        """
        sizes = np.array([len(own) for own in self._sequences])
        rates = self.sample_rate * np.minimum(1, self._most / sizes)
        return float((sizes * (1 - (1 - rates) ** steps)).sum() / sizes.sum())

    def _draw_sequences(self, secret: int, step: int, unit: int) -> list[Draw]:
        own = self._sequences[unit]
        if len(own) > self._most:
            own = secret_generator(secret, SEQUENCES, step, unit).choice(own, self._most, replace=False)
        return [Draw(step, int(sequence)) for sequence in own]


def _number_units(shards: TokenShards, recipe: PretrainRecipe) -> tuple[IntArray, int]:
    """Return the unit of each document, and how many documents have no author to belong to."""
    if recipe.dp_unit == "document":
        return np.arange(len(shards)), 0
    authors = shards.read_author_hashes()
    if not any(authors):
        raise UserError(
            "the corpus knows no authors, so none can be protected",
            where=recipe.corpus,
            fix="Build it from dumps that name them, or set dp_unit to document, which protects less.",
        )
    numbers: dict[str | int, int] = {}
    owners = [numbers.setdefault(author or document, len(numbers)) for document, author in enumerate(authors)]
    return np.array(owners), authors.count("")
