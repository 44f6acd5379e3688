"""Which words drove a label: integrated gradients (arXiv:1703.01365) through captum, summed word by word.

The path runs from a text of padding to the text itself; a word's share is the sum over its pieces. It shows what the
model looked at, not why a person wrote something.

T = tokens, H = hidden size.
"""

from pathlib import Path
from typing import Any

import torch

from configs.base_models import ModelSource
from configs.errors import UserError

STEPS = 16
LONGEST = 160


class Explainer:
    """A classifier folder ready to say which words mattered.

    Args:
        folder: what `mindshift finetune` wrote.

    Raises:
        UserError: captum is not installed, or there is no classifier.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from captum.attr import LayerIntegratedGradients
        except ImportError:
            raise UserError("package 'captum' is not installed", fix="Install it: pip install -e '.[studio]'") from None
        from finetune.heads import load_classifier, load_tokenizer

        self._model = load_classifier(folder).eval()
        self._tokenizer = load_tokenizer(ModelSource(str(folder), is_local=True), LONGEST)

        def logits(input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self._model(input_ids=input_ids_BT, attention_mask=attention_mask_BT).logits
            return result

        self._gradients = LayerIntegratedGradients(logits, self._model.get_input_embeddings())

    def words(self, text: str, label: int) -> list[dict[str, Any]]:
        """Return the text's pieces in order, `share` of words from -1 (against the label) to 1 (for it)."""
        batch = self._tokenizer(
            text, return_tensors="pt", truncation=True, max_length=LONGEST, return_offsets_mapping=True
        )
        input_ids_BT, attention_mask_BT = batch["input_ids"], batch["attention_mask"]
        offsets, words = batch["offset_mapping"][0].tolist(), batch.word_ids(0)
        special = torch.tensor([[word is None for word in words]])
        baseline_BT = torch.where(special, input_ids_BT, torch.full_like(input_ids_BT, self._tokenizer.pad_token_id))
        shares_BTH = self._gradients.attribute(
            input_ids_BT,
            baselines=baseline_BT,
            additional_forward_args=(attention_mask_BT,),
            target=label,
            n_steps=STEPS,
            internal_batch_size=8,
        )
        shares_T = shares_BTH.sum(-1)[0].tolist()
        spans: dict[int, list[Any]] = {}
        for word, (start, end), share in zip(words, offsets, shares_T, strict=True):
            if word is not None:
                span = spans.setdefault(word, [start, end, 0.0])
                span[1], span[2] = end, span[2] + share
        largest = max((abs(share) for _, _, share in spans.values()), default=0.0) or 1.0
        pieces: list[dict[str, Any]] = []
        place = 0
        for start, end, share in spans.values():
            if start > place:
                pieces.append({"text": text[place:start], "share": None})
            pieces.append({"text": text[start:end], "share": share / largest})
            place = end
        return [*pieces, {"text": text[place:], "share": None}] if place < len(text) else pieces
