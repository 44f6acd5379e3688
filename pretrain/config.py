"""The recipe of a pretraining run: every knob with its unit, its default and where it comes from."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from configs.errors import UserError
from configs.recipe import StageRecipe, require

MANY_PASSES = 40
"""Passes over a corpus above which a run is warned of. TAPT makes 100, over a few thousand texts."""


@dataclasses.dataclass(kw_only=True)
class PretrainRecipe(StageRecipe):
    """Continue masked-LM pretraining of an encoder on a corpus."""

    HOW: ClassVar[frozenset[str]] = StageRecipe.HOW | {"logging_steps", "save_steps", "report_to"}

    corpus: Path
    """Folder that `mindshift corpus build` wrote."""
    model: str = "google-bert/bert-base-uncased"
    """Encoder to start from: a Hub id, a local folder, or `package:minilm` (the small encoder of the `demo` extra)."""
    trainable: Literal["all", "head"] = "all"
    """`head` freezes the encoder and its embeddings: it warms up a masked-LM head that starts at random."""

    max_seq_length: int = 512
    """Longest sequence, in tokens with its two special tokens; documents never share a sequence."""
    long_documents: Literal["split", "truncate"] = "split"
    """What happens to a document over `max_seq_length`: cut into several sequences, or lose its tail."""
    micro_batch_size: int = 16
    """Rows of `max_seq_length` tokens a process handles at once; whole documents are packed into that many tokens."""
    gradient_accumulation_steps: int = 1
    """Micro-batches a process adds up before an optimizer step; ignored when `global_batch_tokens` is set."""
    global_batch_tokens: int | None = None
    """Tokens per optimizer step over all processes; it keeps the batch the same at any number of processes."""

    mlm_probability: float = 0.15
    """Share of the tokens that are predicted (BERT, arXiv:1810.04805 §3.1)."""
    final_mlm_probability: float | None = None
    """Share at the end: reached over the run, or kept through the whole decay of `wsd` (Ettin, arXiv:2507.11412)."""
    masking: Literal["token", "whole_word", "span"] = "token"
    """What is masked as one: a token, a word, or a run of words (SpanBERT, arXiv:1907.10529)."""
    masking_lexicon: Path | None = None
    """Words to mask more often: one a line, its weight behind a tab (as in DisorBERT, ACL 2023)."""
    masking_contrast: Path | None = None
    """Corpus folder of general text: words rarer there are masked more often (Difference-Masking, arXiv:2305.14577)."""
    masking_strength: float = 3.0
    """How many times as often the weightiest words are masked, before the overall share is restored."""

    general_corpus: Path | None = None
    """Corpus folder of general text: its held-out loss is reported before and after, which shows forgetting."""
    replay_share: float = 0.0
    """Share of the training tokens drawn from `general_corpus`; 0.05 to 0.1 is usual against forgetting."""

    contrastive_weight: float = 0.0
    """Weight of a second loss: two views of one post against the batch's others (SimCSE, arXiv:2104.08821)."""
    contrastive_views: Literal["title_body", "halves"] = "title_body"
    """A post's title and body, or its first and second half."""
    contrastive_pairs: int = 16
    """Posts in a micro-batch of the contrastive loss and of the anchor."""
    contrastive_temperature: float = 0.05
    """Temperature of the contrastive softmax."""
    anchor_weight: float = 0.0
    """Weight of a loss that keeps each view's mean vector near the starting encoder's (1 − cosine)."""

    dp_noise_multiplier: float | None = None
    """Trains with differential privacy: standard deviation of the noise over `dp_max_grad_norm`. Give this or
    `dp_epsilon` (DP-SGD, arXiv:1607.00133)."""
    dp_epsilon: float | None = None
    """Trains with differential privacy: the ε that the whole run may spend; the noise is chosen for it."""
    dp_delta: float | None = None
    """δ of the guarantee; unset is a tenth of 1 over the number of units."""
    dp_unit: Literal["author", "document"] = "author"
    """Who is protected: all of an author's documents together, or each document by itself."""
    dp_max_grad_norm: float = 1.0
    """The gradient of each unit is clipped to this L2 norm."""
    dp_units_per_step: int = 256
    """Units that an optimizer step draws in the mean; it takes the place of the batch size."""
    dp_sequences_per_unit: int = 8
    """Sequences of one unit that a step reads at most, drawn anew each time."""

    max_steps: int | None = None
    """Optimizer steps of the run; give this or `num_train_epochs`."""
    num_train_epochs: float | None = None
    """Passes over the corpus; give this or `max_steps`."""
    learning_rate: float = 5e-5
    """Peak learning rate of AdamW."""
    lr_scheduler_type: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    """Shape after warm-up; `wsd` stays flat, then decays by 1-sqrt (arXiv:2405.18392)."""
    warmup_ratio: float = 0.06
    """Share of the steps over which the learning rate rises from zero."""
    decay_ratio: float = 0.2
    """Share of the steps that decay, for `wsd` only."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, not applied to biases and norms."""
    adam_beta1: float = 0.9
    """AdamW's first beta."""
    adam_beta2: float = 0.98
    """AdamW's second beta (RoBERTa, arXiv:1907.11692 §3.1)."""
    adam_epsilon: float = 1e-6
    """AdamW's epsilon."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this L2 norm; 0 switches clipping off."""
    spike_factor: float = 10.0
    """A step is skipped if its gradient norm exceeds this many times the recent median; 0 skips only NaN."""
    max_rewinds: int = 3
    """If ten steps in a row are broken, the run goes back to a checkpoint from before them and on with other documents:
    at most this often, then it ends; 0 ends it at once (PaLM, arXiv:2204.02311 §5.1)."""
    dropout: float | None = None
    """Dropout of the whole model while it trains; unset keeps the checkpoint's own. 0 is much faster on CPUs."""
    mixed_precision: Literal["no", "bf16"] = "bf16"
    """`bf16` computes in bfloat16 with fp32 weights; `no` computes in fp32."""

    eval_steps: int | None = None
    """Steps between held-out evaluations; unset evaluates only before and after the run."""
    eval_max_tokens: int | None = 1_000_000
    """Held-out tokens an evaluation reads at most, of documents that a fixed hash chooses; unset reads all."""
    logging_steps: int = 10
    """Steps between lines of `metrics.jsonl`."""
    save_steps: int = 500
    """Steps between checkpoints."""
    save_total_limit: int = 2
    """Checkpoints kept; the newest one that is intact is resumed from."""
    report_to: Literal["trackio", "tensorboard", "wandb", "none"] | None = None
    """A tracker beside `metrics.jsonl` and `training.html`, which are always written; unset is trackio if the `track`
    extra is installed. None of them uses the network; wandb stays offline unless WANDB_MODE is set."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        for key in ("micro_batch_size", "gradient_accumulation_steps", "logging_steps", "save_steps"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        for key in ("max_steps", "num_train_epochs", "eval_steps", "eval_max_tokens", "global_batch_tokens"):
            value = getattr(self, key)
            require(value is None or value > 0, key, value, "more than 0, or unset")
        for key in ("warmup_ratio", "decay_ratio"):
            require(0 <= getattr(self, key) <= 1, key, getattr(self, key), "0 to 1")
        require(self.save_total_limit >= 2, "save_total_limit", self.save_total_limit, "2 or more (one may be damaged)")
        require(self.max_seq_length >= 8, "max_seq_length", self.max_seq_length, "8 or more tokens")
        require(0 < self.mlm_probability < 1, "mlm_probability", self.mlm_probability, "between 0 and 1")
        final = self.final_mlm_probability
        require(final is None or 0 < final < 1, "final_mlm_probability", final, "between 0 and 1, or unset")
        require(self.masking_strength >= 1, "masking_strength", self.masking_strength, "1 or more")
        require(0 <= self.replay_share < 1, "replay_share", self.replay_share, "0 up to 1")
        require(
            self.replay_share == 0 or self.general_corpus is not None, "general_corpus", None, "a folder, to replay it"
        )
        for key in (
            "contrastive_weight",
            "anchor_weight",
            "weight_decay",
            "max_grad_norm",
            "spike_factor",
            "max_rewinds",
        ):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        for key in ("adam_beta1", "adam_beta2"):
            require(0 <= getattr(self, key) < 1, key, getattr(self, key), "0 up to 1")
        require(self.contrastive_pairs >= 2, "contrastive_pairs", self.contrastive_pairs, "2 or more")
        require(self.contrastive_temperature > 0, "contrastive_temperature", self.contrastive_temperature, "over 0")
        for key in ("learning_rate", "adam_epsilon"):
            require(getattr(self, key) > 0, key, getattr(self, key), "more than 0")
        require(self.dropout is None or 0 <= self.dropout < 1, "dropout", self.dropout, "0 up to 1, or unset")
        if self.is_private:
            self._require_private_values()
        require(
            (self.max_steps is None) != (self.num_train_epochs is None),
            "max_steps and num_train_epochs",
            (self.max_steps, self.num_train_epochs),
            "one of the two",
        )

    def _require_private_values(self) -> None:
        """Refuse what would break the guarantee: whatever makes a gradient of several units, or reads them unnoised."""
        one = (self.dp_noise_multiplier is None) != (self.dp_epsilon is None)
        both = (self.dp_noise_multiplier, self.dp_epsilon)
        require(one, "dp_noise_multiplier and dp_epsilon", both, "one of the two")
        noise = self.dp_noise_multiplier
        require(noise is None or noise >= 0.2, "dp_noise_multiplier", noise, "0.2 or more: less protects nobody")
        require(self.dp_epsilon is None or self.dp_epsilon > 0, "dp_epsilon", self.dp_epsilon, "more than 0")
        require(self.dp_delta is None or 0 < self.dp_delta < 1, "dp_delta", self.dp_delta, "between 0 and 1, or unset")
        require(self.dp_max_grad_norm > 0, "dp_max_grad_norm", self.dp_max_grad_norm, "more than 0")
        for key in ("dp_units_per_step", "dp_sequences_per_unit"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        for key in ("replay_share", "contrastive_weight", "anchor_weight"):
            require(getattr(self, key) == 0, key, getattr(self, key), "0 with differential privacy")
        for key in ("masking_lexicon", "masking_contrast", "global_batch_tokens"):
            require(getattr(self, key) is None, key, getattr(self, key), "unset with differential privacy")
        steps = self.gradient_accumulation_steps
        require(
            steps == 1, "gradient_accumulation_steps", steps, "1 with differential privacy: dp_units_per_step counts"
        )

    @property
    def is_private(self) -> bool:
        """Whether the run trains with differential privacy."""
        return self.dp_noise_multiplier is not None or self.dp_epsilon is not None

    @property
    def micro_batch_tokens(self) -> int:
        """Tokens a process handles at once."""
        return self.micro_batch_size * self.max_seq_length

    def accumulation_steps(self, world_size: int) -> int:
        """Return how many micro-batches each of `world_size` processes adds up before an optimizer step.

        Raises:
            UserError: the global batch cannot be dealt evenly to this many processes.
        """
        if self.global_batch_tokens is None:
            return self.gradient_accumulation_steps
        steps, rest = divmod(self.global_batch_tokens, self.micro_batch_tokens * world_size)
        if rest or not steps:
            raise UserError(
                f"global_batch_tokens ({self.global_batch_tokens:,}) is no multiple of micro_batch_size × "
                f"max_seq_length × processes ({self.micro_batch_tokens:,} × {world_size})",
                where="recipe",
                fix="Change one of them; on more processes, lower micro_batch_size.",
            )
        return steps


def many_passes(passes: float) -> str:
    """Return what to say of a run that reads its corpus so often; empty up to `MANY_PASSES`."""
    if passes <= MANY_PASSES:
        return ""
    return (
        f"{passes:,.0f} passes over this corpus are many: the model learns its posts by heart. "
        "Lower max_steps, or set num_train_epochs."
    )
