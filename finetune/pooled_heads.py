"""Heads that no stock architecture has: mean pooling of any encoder, and label-wise attention.

`mean` averages the last hidden states; `label_attention` lets every label read the text with its own attention
(CAML, Mullenbach et al. 2018, arXiv:1802.05695). A folder with such a head loads with
`AutoModelForSequenceClassification` once `finetune.pooled_heads` has been imported, which registers it.

B = texts, T = tokens, H = hidden size, L = labels.
"""

from typing import Any

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

MODEL_TYPE = "mindshift_pooled_classifier"


class PooledClassifierConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped here
    """An encoder's configuration and how its states become logits."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        pooling: str = "mean",
        classifier_dropout: float = 0.1,
        initializer_range: float = 0.02,
        **other: Any,
    ) -> None:
        self.encoder = encoder or {}
        self.pooling, self.classifier_dropout, self.initializer_range = pooling, classifier_dropout, initializer_range
        super().__init__(**other)

    def encoder_config(self) -> Any:
        """Return the encoder's own configuration."""
        values = dict(self.encoder)
        return CONFIG_MAPPING[values.pop("model_type")](**values)


class PooledClassifier(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped here
    """Encoder, pooling, dropout, linear layer."""

    config_class = PooledClassifierConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: PooledClassifierConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        encoder_config = config.encoder_config()
        encoder_config._attn_implementation = config._attn_implementation
        self.encoder = AutoModel.from_config(encoder_config)
        if hasattr(self.encoder, "pooler"):
            # These heads do not read it, and processes that train together wait for its gradients in vain.
            self.encoder.pooler = nn.Identity()
        hidden = encoder_config.hidden_size
        self.dropout = nn.Dropout(config.classifier_dropout)
        if config.pooling == "label_attention":
            self.label_queries = nn.Linear(hidden, config.num_labels, bias=False)
        self.classifier = nn.Linear(hidden, config.num_labels)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        if module in (getattr(self, "label_queries", None), self.classifier):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **other: Any
    ) -> SequenceClassifierOutput:
        """Return logits (B, L) for input_ids and attention_mask (B, T)."""
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden_BTH = self.encoder(input_ids=input_ids, attention_mask=mask_BT).last_hidden_state
        hidden_BTH = self.dropout(hidden_BTH)
        if self.config.pooling == "mean":
            weights_BT = mask_BT.to(hidden_BTH.dtype)
            pooled_BH = (hidden_BTH * weights_BT[..., None]).sum(1) / weights_BT.sum(1, keepdim=True).clamp(min=1)
            return SequenceClassifierOutput(logits=self.classifier(pooled_BH))
        scores_BTL = self.label_queries(hidden_BTH).masked_fill(mask_BT[..., None] == 0, -1e4)
        pooled_BLH = torch.softmax(scores_BTL, dim=1).transpose(1, 2) @ hidden_BTH
        logits_BL = (pooled_BLH * self.classifier.weight).sum(-1) + self.classifier.bias
        return SequenceClassifierOutput(logits=logits_BL)


AutoConfig.register(MODEL_TYPE, PooledClassifierConfig, exist_ok=True)
AutoModelForSequenceClassification.register(PooledClassifierConfig, PooledClassifier, exist_ok=True)
