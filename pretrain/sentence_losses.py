"""Losses on whole texts beside masked language modelling, so that adaptation keeps, or gains, text-level meaning.

- contrastive: two views of a post (its title and body, or its halves) should find each other among the views of the
  other posts of the batch: InfoNCE over cosines of mean vectors, both ways (SimCSE, arXiv:2104.08821; title and body
  as pairs: E5, arXiv:2212.03533 §3).
- anchor: each view's mean vector stays near the one the starting encoder gives it, 1 − cosine (a distillation of
  representations, FitNets, arXiv:1412.6550). Plain masked language modelling moves them (docs/experiments.md).

The views are read whole: nothing in them is masked. They run through the encoder in the same pass as the masked
tokens (`PackedMaskedLM.forward`), so that every way of distributing sees one forward and one backward.

P = posts in a batch, 2P = their views, N = tokens of all views, E = hidden width.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from configs.errors import UserError
from corpus.shards import TokenShards
from pretrain.config import PretrainRecipe
from pretrain.encoder import PackedMaskedLM, Views
from pretrain.hashing import mix_integers
from pretrain.packing import IntArray

SHORTEST_VIEW = 3
"""Tokens a view must have, beside the special ones."""
PADDED_TO = 256
"""Few different shapes: a CPU kernel is built for every new one, and memory grows with them."""


class ViewSampler:
    """Draw posts and cut each into two views; a draw depends on the step and micro-batch alone.

    Args:
        shards: the training split.
        tokenizer: its special tokens stand around each view.
        recipe: number of posts, kind of views and longest sequence.

    Raises:
        UserError: the corpus has too few posts with two views.
    """

    def __init__(self, shards: TokenShards, tokenizer: PreTrainedTokenizerBase, recipe: PretrainRecipe) -> None:
        self._shards, self._recipe = shards, recipe
        self._prefix_id, self._suffix_id = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._pad_id = tokenizer.pad_token_id
        titles, lengths = shards.title_lengths, shards.lengths
        if recipe.contrastive_views == "title_body":
            usable = (titles >= SHORTEST_VIEW) & (lengths - titles >= SHORTEST_VIEW)
        else:
            usable = lengths >= 2 * SHORTEST_VIEW
        self.posts: IntArray = np.flatnonzero(usable)
        if len(self.posts) < recipe.contrastive_pairs:
            raise UserError(
                f"only {len(self.posts)} posts have two views of {SHORTEST_VIEW} tokens "
                f"(contrastive_views: {recipe.contrastive_views}); a batch needs {recipe.contrastive_pairs}",
                where=recipe.corpus,
                fix="Set contrastive_views to halves, or contrastive_pairs lower.",
            )

    def draw(self, step: int, micro_batch: int, device: torch.device) -> Views:
        """Return the views of the posts drawn for one micro-batch of a step."""
        generator = np.random.default_rng(mix_integers(self._recipe.seed, step, micro_batch, 1))
        posts = generator.choice(self.posts, size=self._recipe.contrastive_pairs, replace=False)
        pairs = [self._cut(int(post)) for post in posts]
        views = [first for first, _ in pairs] + [second for _, second in pairs]
        lengths = [len(view) for view in views]
        tokens, longest = sum(lengths), self._recipe.max_seq_length
        padding = -tokens % PADDED_TO
        lengths += [min(longest, padding - start) for start in range(0, padding, longest)]
        input_ids = np.concatenate([*views, np.full(padding, self._pad_id, dtype=np.int64)])
        positions = np.concatenate([np.arange(length) for length in lengths])
        return Views(
            torch.from_numpy(input_ids).to(device), torch.from_numpy(positions).to(device), lengths, len(views)
        )

    def _cut(self, post: int) -> tuple[IntArray, IntArray]:
        token_ids = self._shards[post].astype(np.int64)
        title = int(self._shards.title_lengths[post])
        split = title if self._recipe.contrastive_views == "title_body" else len(token_ids) // 2
        room = self._recipe.max_seq_length - 2
        return self._wrap(token_ids[:split][:room]), self._wrap(token_ids[split:][:room])

    def _wrap(self, token_ids: IntArray) -> IntArray:
        return np.concatenate([[self._prefix_id], token_ids, [self._suffix_id]])


@dataclasses.dataclass(frozen=True)
class SentenceLosses:
    """Both losses of a micro-batch, each a mean over its posts; 0 for one that is switched off."""

    contrastive: Tensor
    anchor: Tensor


class SentenceObjective:
    """The recipe's losses on whole texts.

    Args:
        recipe: their weights and settings; one of them must be on.
        sampler: where the views come from.
        starting_encoder: a frozen copy of the model before the run, on its device; needed for the anchor.
    """

    def __init__(self, recipe: PretrainRecipe, sampler: ViewSampler, starting_encoder: PackedMaskedLM | None) -> None:
        self._recipe, self._sampler, self._starting_encoder = recipe, sampler, starting_encoder

    def draw(self, step: int, micro_batch: int, device: torch.device) -> Views:
        """Return the views for one micro-batch of a step."""
        return self._sampler.draw(step, micro_batch, device)

    def losses(self, vectors: Tensor, views: Views) -> SentenceLosses:
        """Return the losses of (2P, E) mean vectors of the views."""
        zero = vectors.new_zeros(())
        contrastive = anchor = zero
        if self._recipe.contrastive_weight > 0:
            contrastive = contrastive_loss(vectors, self._recipe.contrastive_temperature)
        if self._starting_encoder is not None:
            with torch.no_grad():
                anchors = self._starting_encoder.mean_vectors(views)
            anchor = anchor_loss(vectors, anchors)
        return SentenceLosses(contrastive, anchor)

    def weighted(self, losses: SentenceLosses) -> Tensor:
        """Return the sum by the recipe's weights."""
        recipe = self._recipe
        return recipe.contrastive_weight * losses.contrastive + recipe.anchor_weight * losses.anchor


def contrastive_loss(vectors: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE over (2P, E) vectors, first views before second ones: the mean of both directions."""
    first, second = F.normalize(vectors, dim=-1).chunk(2)
    cosines = first @ second.T / temperature  # (P, P)
    own = torch.arange(len(first), device=vectors.device)
    return (F.cross_entropy(cosines, own) + F.cross_entropy(cosines.T, own)) / 2


def anchor_loss(vectors: Tensor, anchors: Tensor) -> Tensor:
    """Return the mean of 1 − cosine between (2P, E) vectors and the starting encoder's."""
    return (1 - F.cosine_similarity(vectors, anchors, dim=-1)).mean()
