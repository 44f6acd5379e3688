"""The recipe of a pretraining run: every knob with its unit, its default and where it comes from."""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.recipe import StageRecipe, require


@dataclasses.dataclass(kw_only=True)
class PretrainRecipe(StageRecipe):
    """Continue masked-LM pretraining of an encoder on a corpus."""

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
    dropout: float | None = None
    """Dropout of the whole model while it trains; unset keeps the checkpoint's own. 0 is much faster on CPUs."""
    mixed_precision: Literal["no", "bf16"] = "bf16"
    """`bf16` computes in bfloat16 with fp32 weights; `no` computes in fp32."""

    eval_steps: int | None = None
    """Steps between held-out evaluations; unset evaluates only before and after the run."""
    eval_max_tokens: int | None = 1_000_000
    """Held-out tokens an evaluation reads at most; unset reads all."""
    logging_steps: int = 10
    """Steps between lines of `metrics.jsonl`."""
    save_steps: int = 500
    """Steps between checkpoints."""
    save_total_limit: int = 2
    """Checkpoints kept; the newest one that is intact is resumed from."""
    report_to: Literal["none", "tensorboard", "wandb"] = "none"
    """A tracker beside `metrics.jsonl`, which is always written; wandb stays offline unless WANDB_MODE is set."""

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
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        require(self.dropout is None or 0 <= self.dropout < 1, "dropout", self.dropout, "0 up to 1, or unset")
        require(
            (self.max_steps is None) != (self.num_train_epochs is None),
            "max_steps and num_train_epochs",
            (self.max_steps, self.num_train_epochs),
            "one of the two",
        )

    @property
    def micro_batch_tokens(self) -> int:
        """Tokens a process handles at once."""
        return self.micro_batch_size * self.max_seq_length
