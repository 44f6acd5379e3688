"""Everything a run reads: training and held-out documents, general text beside them, and how they are masked.

Replay mixes general text into the training documents against forgetting (5 to 10 %; Ibrahim et al.,
arXiv:2403.08763); its held-out part measures how much was forgotten.
"""

import torch
from transformers import PreTrainedTokenizerBase

from configs.base_models import ModelSource
from configs.errors import UserError
from corpus.shards import TokenShards
from pretrain.batches import MicroBatch, build_masker, build_packer, to_device
from pretrain.config import PretrainRecipe
from pretrain.encoder import load_tokenizer
from pretrain.held_out import HeldOutTexts
from pretrain.packing import Documents, Draw, JoinedDocuments, StepPlanner, share_read
from pretrain.private_units import PrivateUnits
from pretrain.words import (
    Listed,
    WordWeights,
    count_words,
    difference_weights,
    heavier,
    read_lexicon,
    weigh,
    word_edges,
)


class TrainingData:
    """The documents of a run and what is done to them before the model sees them.

    Args:
        recipe: what was asked.
        tokenizer: the corpus's tokenizer.
        micro_batches: how many make an optimizer step, over all processes.

    Attributes:
        shards: the training documents of the domain.
        held_out: the held-out texts: `domain`, and `general` if there is general text.
        packer: their sequences, and those of replayed general text.
        planner: which documents each step reads.
        mean_keys: how many keys a token attends to in the mean.

    Raises:
        UserError: a corpus has no held-out part, the general one was tokenized otherwise, or a lexicon cannot be read.
    """

    def __init__(self, recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase, micro_batches: int) -> None:
        self._recipe, self._micro_batches = recipe, micro_batches
        self.shards = TokenShards(recipe.corpus, "train")
        documents: Documents = self.shards
        general = None
        if recipe.general_corpus is not None:
            check_same_vocabulary(recipe, tokenizer)
            general = TokenShards(recipe.general_corpus, "train")
        if general is not None and recipe.replay_share > 0:
            documents = JoinedDocuments(self.shards, general)
        self.packer = build_packer(documents, tokenizer, recipe)
        # Replayed or not, the model it starts from may have read the general text, and a corpus's own parts share none.
        self.held_out = {"domain": HeldOutTexts(recipe.corpus, tokenizer, recipe, [general] if general else [])}
        if recipe.general_corpus is not None:
            self.held_out["general"] = HeldOutTexts(recipe.general_corpus, tokenizer, recipe, [self.shards])
        lengths = self.packer.sequence_lengths.astype(float)
        self.mean_keys = float((lengths**2).sum() / max(1.0, lengths.sum()))
        weights = build_word_weights(recipe, tokenizer, self.shards)
        self._masker = build_masker(tokenizer, recipe.seed, recipe.masking, weights)
        domain_sequences = int(self.packer.count_sequences(len(self.shards)))
        self.planner = StepPlanner(
            self.packer.sequence_lengths,
            micro_batches=micro_batches,
            micro_batch_tokens=recipe.micro_batch_tokens,
            seed=recipe.seed,
            replay_from=domain_sequences,
            replay_share=recipe.replay_share,
        )

    def count_steps(self) -> int:
        """Return the optimizer steps of the run: as asked, or as many as the asked epochs hold."""
        recipe = self._recipe
        if recipe.max_steps is not None:
            return recipe.max_steps
        if recipe.is_private:
            return max(1, round((recipe.num_train_epochs or 0.0) / self.private_units().sample_rate))
        return self.planner.count_steps(recipe.num_train_epochs or 0.0)

    def passes(self, steps: int) -> float:
        """Return how often a run of so many steps reads the corpus, if micro-batches are full."""
        return steps * self._micro_batches * self._recipe.micro_batch_tokens / self.planner.pass_tokens

    def private_units(self) -> PrivateUnits:
        """Return whom a differentially private run protects."""
        return PrivateUnits(self.shards, self.packer.sequence_documents, self.packer.sequence_lengths, self._recipe)

    def shares_read(self, learned: int) -> dict[str, float]:
        """Return the share of each corpus's training sequences that was read at least once, by the recipe's key.

        Args:
            learned: how many of the draws so far stand behind the weights: steps that were skipped or gone back
                behind have left no trace.
        """
        domain, general = self.planner.count_draws()
        lost = int(domain.sum() + general.sum()) - learned
        shares = {"corpus": share_read(domain, lost)}
        return shares | ({"general_corpus": share_read(general, lost)} if self._recipe.replay_share > 0 else {})

    def build(self, draws: list[Draw], mlm_probability: float, device: torch.device) -> MicroBatch:
        """Pack and mask one micro-batch."""
        packed = self.packer.pack(draws, self._recipe.micro_batch_tokens)
        return to_device(packed, self._masker.mask(packed, mlm_probability), device)


def check_same_vocabulary(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a second corpus that was tokenized otherwise: its token ids would mean other words."""
    for folder in {recipe.general_corpus, recipe.masking_contrast} - {None}:
        source = ModelSource(f"{folder}/tokenizer", is_local=True)
        if load_tokenizer(source).get_vocab() != tokenizer.get_vocab():
            raise UserError(
                "tokenized with another vocabulary than the corpus",
                where=folder,
                fix=f"Build it with the same tokenizer as {recipe.corpus}.",
            )


def build_word_weights(
    recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase, documents: Documents
) -> WordWeights | None:
    """Return how often each word is masked by the recipe's lexicon and contrast; None if it names neither."""
    if recipe.masking_lexicon is None and recipe.masking_contrast is None:
        return None
    check_same_vocabulary(recipe, tokenizer)
    edges = word_edges(tokenizer)
    found: Listed = {}
    if recipe.masking_contrast is not None:
        here, there = (count_words(part, edges) for part in (documents, TokenShards(recipe.masking_contrast, "train")))
        found = difference_weights(here, there, recipe.masking_strength)
    if recipe.masking_lexicon is not None:
        found = heavier(found, read_lexicon(recipe.masking_lexicon, tokenizer, recipe.masking_strength))
    return weigh(found, documents, edges)
