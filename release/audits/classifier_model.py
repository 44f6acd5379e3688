"""Load the classifier to be audited: a whole model, or a QLoRA adapter over its 4-bit base (arXiv:2305.14314).

An adapter folder names its base (`adapter_base.json`: folder or id, hash of the weights, head) and its labels
(`decision.json`). Another base would be another model, so its hash must agree. Texts are cut as the classifier's
`decision.json` says (`finetune.long_texts`): what it never read of a text tells nothing of what it remembers.
"""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.manifest import sha256_file
from release.subject import ADAPTER_BASE

DECISION = "decision.json"
HEAD_SHARE = 0.25
"""Of a `head_tail` text, the part taken from its beginning."""


@dataclasses.dataclass(frozen=True)
class TextReader:
    """Cuts texts into windows of token ids as fine-tuning did; the rule is `finetune.long_texts`' own."""

    tokenizer: Any
    max_seq_length: int
    policy: str
    max_windows: int

    @classmethod
    def of(cls, folder: Path, tokenizer: Any) -> "TextReader":
        """Return how the classifier in a folder reads.

        Raises:
            UserError: its `decision.json` does not say.
        """
        try:
            stated = json.loads((folder / DECISION).read_text(encoding="utf-8"))["long_texts"]
            reader = cls(tokenizer, int(stated["max_seq_length"]), str(stated["policy"]), int(stated["max_windows"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"does not say how long texts were cut ({type(error).__name__})",
                where=folder / DECISION,
                fix="Make the classifier with `mindshift finetune`.",
            ) from error
        if reader.policy not in ("head", "head_tail", "windows"):
            raise UserError(f"cuts long texts in a way unknown here ({reader.policy})", where=folder / DECISION)
        return reader

    def windows(self, text: str) -> list[list[int]]:
        """Return a text's windows, special tokens included."""
        shell = self.tokenizer("a", return_special_tokens_mask=True)
        special = shell["special_tokens_mask"]
        first, last = special.index(0), len(special) - special[::-1].index(0)
        prefix, suffix = shell["input_ids"][:first], shell["input_ids"][last:]
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        room = self.max_seq_length - len(prefix) - len(suffix)
        return [[*prefix, *piece, *suffix] for piece in self._pieces(ids, room)]

    def _pieces(self, ids: list[int], room: int) -> list[list[int]]:
        if len(ids) <= room:
            return [ids]
        kept = room * (self.max_windows if self.policy == "windows" else 1)
        head = {"head": kept, "head_tail": round(room * HEAD_SHARE), "windows": kept // 2}[self.policy]
        if len(ids) > kept:
            ids = ids[:head] + ids[len(ids) - (kept - head) :]
        count = -(-len(ids) // room)
        starts = np.linspace(0, len(ids) - room, count).round().astype(int)
        return [ids[start : start + room] for start in starts]


def load_classifier(folder: Path) -> tuple[Any, Any]:
    """Return model and tokenizer.

    Raises:
        UserError: the folder cannot be loaded as a classifier, or an adapter's base is another one now.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with _loading(folder):
        if (folder / "adapter_config.json").is_file():
            model = _load_adapter(folder)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(str(folder), local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return model.eval(), tokenizer


def _load_adapter(folder: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, BitsAndBytesConfig

    stated, decision = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (ADAPTER_BASE, DECISION))
    source, names = resolve_model(stated["model"]), decision["labels"]
    weights = sorted(Path(source.name_or_path).glob("*.safetensors")) if source.is_local else []
    if weights and "+".join(map(sha256_file, weights)) != stated["weights_sha256"]:
        raise UserError(
            "this adapter was trained on another base (sha256 of the weights differs)", where=source.name_or_path
        )
    config = AutoConfig.from_pretrained(source.name_or_path, **source.load_arguments)
    config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    several = decision["type"] == "multi_label"
    config.problem_type = "multi_label_classification" if several else "single_label_classification"
    # As it was trained: over a base of full precision its losses would not be those that users see.
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["classifier", r".*\.pooler", "pre_classifier", "score"],
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        source.name_or_path,
        config=config,
        dtype=torch.float32,
        quantization_config=four_bits,
        **source.load_arguments,
    )
    if stated["head"] == "mean" and not hasattr(config, "classifier_pooling"):
        # One layer more (`finetune.heads`); the adapter holds all of its weights.
        layers = model.base_model.encoder.layer
        layers.append(type(layers[-1])(model.config, layer_idx=len(layers)))
        model.config.num_hidden_layers += 1
    return PeftModel.from_pretrained(model, str(folder))


@contextlib.contextmanager
def _loading(folder: Path) -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)  # an adapter brings the head that its base lacks
    try:
        yield
    except ImportError as error:
        fix = "pip install -e '.[qlora]'"
        raise UserError(f"an adapter needs {error.name or 'peft and bitsandbytes'}", where=folder, fix=fix) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"cannot be loaded as a classifier ({type(error).__name__})", where=folder) from error
    finally:
        transformers_logging.set_verbosity(level)
