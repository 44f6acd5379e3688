"""The sequence model: a small BERT encoder (arXiv:1810.04805) that also sees how words are written.

The encoder reads lower-cased word pieces; people on the web write names in every case, so how a word was written
("Anna", "anna", "ANNA", after a full stop) is a feature beside the word, embedded and added to it, and not a
condition for being looked at. Each word is classified at its first piece.

B = windows in the batch, T = pieces per window, C = classes, H = hidden size.
"""

import dataclasses
from typing import Any

import torch
from torch import nn
from torch.nn import functional

CLASSES = ("O", "NAME", "PLACE", "ADDRESS", "ORGANISATION", "OTHER")
"""`OTHER` are products and works: known as names of something, and left in the text."""
SHAPES, CASINGS = 18, 4


@dataclasses.dataclass(frozen=True)
class TaggerConfig:
    """Sizes of the encoder."""

    vocabulary_size: int = 19_730
    embedding_size: int = 384
    """Size the word pieces are stored with; smaller than `hidden_size` means a projection (arXiv:1909.11942 §3.1)."""
    hidden_size: int = 384
    intermediate_size: int = 1_536
    attention_heads: int = 12
    layers: int = 6
    max_pieces: int = 512
    dropout: float = 0.1


class EncoderLayer(nn.Module):
    """One post-norm transformer layer as in BERT."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.attention_heads, config.dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.attention_out = nn.Linear(config.hidden_size, config.hidden_size)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=1e-12)

    def forward(self, hidden_BTH: torch.Tensor, visible_B11T: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, (B, T, H)."""
        rate = self.dropout if self.training else 0.0
        batch, pieces, _ = hidden_BTH.shape
        qkv = self.qkv(hidden_BTH).view(batch, pieces, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=visible_B11T, dropout_p=rate)
        mixed_BTH = mixed.transpose(1, 2).reshape(batch, pieces, -1)
        hidden_BTH = self.attention_norm(
            hidden_BTH + functional.dropout(self.attention_out(mixed_BTH), rate, self.training)
        )
        out_BTH = self.down(functional.gelu(self.up(hidden_BTH)))
        normed: torch.Tensor = self.output_norm(hidden_BTH + functional.dropout(out_BTH, rate, self.training))
        return normed


class Tagger(nn.Module):
    """Word pieces and their writing to class logits."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary_size, config.embedding_size)
        widen = config.embedding_size != config.hidden_size
        self.projection = nn.Linear(config.embedding_size, config.hidden_size, bias=False) if widen else nn.Identity()
        self.positions = nn.Embedding(config.max_pieces, config.hidden_size)
        self.shapes = nn.Embedding(SHAPES, config.hidden_size)
        self.casings = nn.Embedding(CASINGS, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.classifier = nn.Linear(config.hidden_size, len(CLASSES))

    def forward(
        self, input_ids_BT: torch.Tensor, shapes_BT: torch.Tensor, casings_B: torch.Tensor, visible_BT: torch.Tensor
    ) -> torch.Tensor:
        """Return logits (B, T, C).

        Args:
            input_ids_BT: word pieces.
            shapes_BT: how each piece's word is written, `shape_of`.
            casings_B: how the whole window is written, `casing_of`.
            visible_BT: True where there is a piece, False for padding.
        """
        hidden_BTH = self.hidden(input_ids_BT, shapes_BT, casings_B, visible_BT)
        logits: torch.Tensor = self.classifier(hidden_BTH)
        return logits

    def hidden(
        self, input_ids_BT: torch.Tensor, shapes_BT: torch.Tensor, casings_B: torch.Tensor, visible_BT: torch.Tensor
    ) -> torch.Tensor:
        """Return the last layer's states (B, T, H)."""
        embedded: Any = self.projection(self.words(input_ids_BT)) + self.positions.weight[: input_ids_BT.shape[1]]
        embedded = embedded + self.shapes(shapes_BT) + self.casings(casings_B)[:, None]
        hidden_BTH: torch.Tensor = functional.dropout(self.norm(embedded), self.config.dropout, self.training)
        for layer in self.layers:
            hidden_BTH = layer(hidden_BTH, visible_BT[:, None, None, :])
        return hidden_BTH


def shape_of(word: str, *, opens: bool) -> int:
    """Return how a word is written: 0–8, and 9 more for one that opens a sentence or a line."""
    if word.isalpha():
        if word.islower():
            shape = 1
        elif len(word) == 1:
            shape = 4 if word.isupper() else 8
        elif word.isupper():
            shape = 3
        elif word[0].isupper() and word[1:].islower():
            shape = 2
        else:
            shape = 5 if word.lower() != word else 8
    elif word.isdecimal():
        shape = 6
    else:
        shape = 7 if any(character.isalnum() for character in word) else 0
    return shape + 9 * opens


def casing_of(words: list[str]) -> int:
    """Return how a window is written: 0 without capitals, 1 as usual, 2 Mostly Like This, 3 MOSTLY LIKE THIS."""
    letters = [word for word in words if len(word) > 1 and word.isalpha()]
    capitals = sum(word[0].isupper() for word in letters)
    if not capitals:
        return 0
    if len(letters) < 4 or capitals < 0.6 * len(letters):
        return 1
    return 3 if sum(word.isupper() for word in letters) > 0.5 * len(letters) else 2
