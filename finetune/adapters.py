"""Train few weights instead of all: LoRA (arXiv:2106.09685), and QLoRA over a 4-bit base (arXiv:2305.14314).

A LoRA is merged into the base when it is saved, which is exact and gives a plain classifier folder. A QLoRA stays
an adapter beside its base: merged into a base of full precision, its logits would shift. Such a folder names its
base by the hash of its weights, and refuses another. It pays for encoders that do not fit, not for small ones.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from configs.base_models import ModelSource, resolve_model
from configs.errors import UserError
from configs.manifest import sha256_file
from configs.run_folder import write_atomically
from finetune.heads import BERT_LIKE, Head, build_classifier, last_linear, quiet_transformers
from finetune.tasks import LabelSet

Adapter = Literal["none", "lora", "qlora"]
BASE_NAME = "adapter_base.json"
INSTALL = "pip install -e '.[qlora]'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """The recipe keys that concern adapters."""

    kind: Adapter = "none"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    target_modules: str = "all-linear"


def quantization(settings: AdapterSettings) -> Any:
    """Return how transformers loads the base: NF4 with double quantization for QLoRA, else None."""
    if settings.kind != "qlora":
        return None
    _require("bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        # What the base has no weights for must stay trainable (peft#1720).
        llm_int8_skip_modules=["classifier", r".*\.pooler", "pre_classifier", "score"],
    )


def add_adapter(model: Any, settings: AdapterSettings, *, head: Head) -> Any:
    """Freeze the encoder and add low-rank matrices to its linear layers; the head stays fully trainable."""
    if settings.kind == "none":
        return model
    _require("peft")
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if settings.kind == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # type: ignore[no-untyped-call]
    targets = settings.target_modules
    new = _new_modules(model, head)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_encoder_linears(model, new) if targets == "all-linear" else targets.split(","),
        modules_to_save=new,
        bias="none",
    )
    return get_peft_model(model, config)


def merge_adapter(model: Any, settings: AdapterSettings) -> Any:
    """Return a plain classifier with the low-rank matrices added to its weights; a QLoRA is left as it is."""
    return model.merge_and_unload() if settings.kind == "lora" else model


def save_base(folder: Path, model_name: str, source: ModelSource, head: Head) -> None:
    """Write which base the adapter in `folder` belongs to."""
    values = {"model": model_name, "weights_sha256": _weights_sha256(source), "head": head}
    write_atomically(folder / BASE_NAME, json.dumps(values, indent=2) + "\n")


def load_adapter(folder: Path, label_set: LabelSet) -> Any:
    """Load a QLoRA folder over its own base.

    Raises:
        UserError: the base is gone, or has other weights than those the adapter was trained on.
    """
    _require("peft")
    from peft import PeftModel

    try:
        base = json.loads((folder / BASE_NAME).read_text(encoding="utf-8"))
        name, expected, head = base["model"], base["weights_sha256"], base["head"]
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"not a readable adapter base ({type(error).__name__})", where=folder / BASE_NAME) from error
    source = resolve_model(name)
    if _weights_sha256(source) != expected:
        raise UserError(
            "this adapter was trained on another base (sha256 of the weights differs)",
            where=source.name_or_path,
            fix=f"Put the base that the adapter names back in place: {name}",
        )
    settings = AdapterSettings(kind="qlora")
    model = build_classifier(
        source, label_set, head=head, hidden_dropout=0.0, quantization_config=quantization(settings)
    )
    with quiet_transformers():
        return PeftModel.from_pretrained(model, folder).eval()


def is_adapter(folder: Path) -> bool:
    """Return whether a classifier folder holds an adapter instead of a whole model."""
    return (folder / BASE_NAME).is_file()


def _new_modules(model: Any, head: Head) -> list[str]:
    """Return the modules that the base's checkpoint may lack, which are trained and saved whole."""
    names = [name for name, module in model.named_modules() if module is last_linear(model)]
    names += [name for name, _ in model.named_modules() if name.endswith(("pooler", "pre_classifier", "label_queries"))]
    names = [name.partition(".")[0] if name.startswith("classifier.") else name for name in names]
    if head == "mean" and model.config.model_type in BERT_LIKE:
        prefix = model.base_model_prefix
        names.append(f"{prefix}.encoder.layer.{model.config.num_hidden_layers - 1}")
    return names


def _encoder_linears(model: Any, excluded: list[str]) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not any(name == new or name.startswith(new + ".") for new in excluded)
    ]


def _weights_sha256(source: ModelSource) -> str:
    if source.is_local:
        files = sorted(Path(source.name_or_path).glob("*.safetensors"))
    else:
        from transformers.utils import cached_file

        files = [Path(str(cached_file(source.name_or_path, "model.safetensors")))]
    if not files:
        raise UserError("the base has no .safetensors weights to hash", where=source.name_or_path)
    return "+".join(sha256_file(path) for path in files)


def _require(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise UserError(f"package {package!r} is not installed", where="adapter", fix=INSTALL)
