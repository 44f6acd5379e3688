"""What a responder is asked for: the recipe of `dialogue/run_dialogue.py`."""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.recipe import StageRecipe, require

Tuning = Literal["full", "lora"]


@dataclasses.dataclass(kw_only=True)
class DialogueRecipe(StageRecipe):
    """Fine-tune a small causal language model on empathetic conversations. No diagnosis, no crisis service."""

    model: str = "distilbert/distilgpt2"
    """Base model: a Hub id, a local folder, or `package:smollm2` (SmolLM2-135M-Instruct of the `responder` extra)."""
    conversations: list[str] = dataclasses.field(default_factory=list)
    """Data sets, each `FORMAT:PATH`; formats: empathetic_dialogues, esconv, counsel_chat, jsonl."""
    max_conversations: int | None = None
    """Conversations kept of each data set, chosen by seed; without it all."""
    validation_fraction: float = 0.05
    """Part of the conversations without an official split that early stopping looks at."""
    test_fraction: float = 0.05
    """Part of the conversations without an official split that the evidence is measured on."""
    context_turns: int = 5
    """Turns before a reply that the model reads."""
    condition_on_emotion: bool = False
    """Train with the emotion label, where a data set has one, before the conversation; evidence and chat go without."""
    condition_on_situation: bool = False
    """Train with the situation, where a data set has one, before the conversation; evidence and chat go without."""
    max_seq_length: int = 256
    """Longest example in tokens; the oldest turns give way first."""
    tuning: Tuning = "full"
    """Train all weights, or a low-rank adapter (LoRA, arXiv:2106.09685) that is merged afterwards."""
    lora_rank: int = 16
    """Rank of the adapter."""
    lora_alpha: int = 32
    """Scale of the adapter; its effect is alpha / rank."""
    lora_dropout: float = 0.05
    """Dropout in front of the adapter."""
    learning_rate: float = 5e-5
    """Peak learning rate; LoRA wants about ten times as much as full tuning."""
    weight_decay: float = 0.01
    """AdamW's weight decay on matrices."""
    warmup_ratio: float = 0.05
    """Part of the steps in which the learning rate rises; afterwards it falls linearly to 0."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    batch_size: int = 16
    """Replies in one optimizer step, over all processes."""
    micro_batch_size: int = 8
    """Replies in one forward pass of one process."""
    epochs: float = 3.0
    """Passes over the training replies."""
    max_steps: int | None = None
    """Optimizer steps at most; without it `epochs` decides."""
    evaluation_steps: int = 200
    """Optimizer steps between two looks at validation."""
    patience: int = 3
    """Looks without a lower validation loss before training stops."""
    checkpoint_steps: int = 100
    """Optimizer steps between two checkpoints."""
    validation_replies: int = 400
    """Validation replies scored at each look."""
    evidence_replies: int = 200
    """Test replies the evidence generates answers to, by the base and by the tuned model."""
    max_new_tokens: int = 60
    """Longest generated answer."""
    emotion_classifier: Path | None = None
    """Folder of `mindshift finetune`; with it the evidence says how often an answer's emotion fits."""
    similarity_encoder: str | None = None
    """Encoder folder, Hub id or `package:minilm`; with it the evidence compares answers by meaning."""

    def __post_init__(self) -> None:
        """Refuse impossible values by name."""
        require(bool(self.conversations), "conversations", self.conversations, "at least one FORMAT:PATH")
        for key in ("validation_fraction", "test_fraction"):
            require(0 < getattr(self, key) < 0.5, key, getattr(self, key), "above 0 and below 0.5")
        for key in ("context_turns", "lora_rank", "batch_size", "micro_batch_size", "evaluation_steps", "patience"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        for key in ("checkpoint_steps", "validation_replies", "evidence_replies", "max_new_tokens"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        for key in ("learning_rate", "lora_alpha", "epochs", "max_gradient_norm"):
            require(getattr(self, key) > 0, key, getattr(self, key), "above 0")
        for key in ("warmup_ratio", "lora_dropout"):
            require(0 <= getattr(self, key) < 1, key, getattr(self, key), "0 or more and below 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(self.max_seq_length >= 16, "max_seq_length", self.max_seq_length, "16 or more")
        require(self.max_steps is None or self.max_steps >= 1, "max_steps", self.max_steps, "1 or more, or nothing")
        limit = self.max_conversations
        require(limit is None or limit >= 10, "max_conversations", limit, "10 or more, or nothing")
