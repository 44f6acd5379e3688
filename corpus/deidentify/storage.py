"""The shipped model on disk: 4-bit matrices in blocks, everything else as 16-bit floats, in one safetensors file.

A matrix is cut into blocks of `block` values along its rows; each block keeps one 16-bit scale and 4-bit values in
-8…7, two to a byte, low half first (the scheme of ONNX Runtime's MatMulNBits). Loading gives float32 back.
"""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from configs.errors import UserError
from corpus.deidentify.tagger import Tagger, TaggerConfig

MODEL_FILE, TOKENIZER_FILE = "tagger.safetensors", "tokenizer.json"
MATRIX_BLOCK, EMBEDDING_BLOCK = 32, 64


def quantize(matrix: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return packed bytes (rows, columns / 2) and scales (rows, columns / block) of a matrix."""
    blocks = matrix.float().reshape(len(matrix), -1, block)
    peaks = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scales = (peaks / -8).half()  # the largest value takes -8, the one end of the range that has no mirror
    safe = torch.where(scales == 0, torch.ones_like(scales), scales).float()
    values = (blocks / safe).round().clamp(-8, 7).add(8).to(torch.uint8).reshape(len(matrix), -1)
    return values[:, 0::2] | (values[:, 1::2] << 4), scales.squeeze(-1)


def dequantize(packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return the float32 matrix of `quantize`'s result."""
    values = torch.stack([packed & 15, packed >> 4], dim=-1).reshape(*scales.shape, -1).float() - 8
    return (values * scales.float().unsqueeze(-1)).reshape(len(packed), -1)


def save_tagger(folder: Path, model: Tagger, tokenizer: Tokenizer, notes: dict[str, str]) -> None:
    """Write model and tokenizer; `notes` go into the file's header (sources, licences, command)."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 2 and min(tensor.shape) > 32:
            block = EMBEDDING_BLOCK if name == "words.weight" else MATRIX_BLOCK
            tensors[f"{name}.packed"], tensors[f"{name}.scales"] = quantize(tensor, block)
        else:
            tensors[name] = tensor.half()
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(dataclasses.asdict(model.config))
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / MODEL_FILE, metadata={"config": config, **notes})
    tokenizer.save(str(folder / TOKENIZER_FILE), pretty=False)


def load_tagger(folder: Path) -> tuple[Tagger, Tokenizer]:
    """Read what `save_tagger` wrote, as float32.

    Raises:
        UserError: the files are absent.
    """
    if not (folder / MODEL_FILE).is_file():
        raise UserError(
            "the tagger's weights are missing", where=folder, fix="Reinstall mindshift, or train them: see docs."
        )
    state: dict[str, torch.Tensor] = {}
    with safe_open(folder / MODEL_FILE, framework="pt") as file:
        config = TaggerConfig(**json.loads(file.metadata()["config"]))
        for name in file.keys():  # noqa: SIM118  # no mapping: a handle with a keys method
            if name.endswith(".packed"):
                base = name.removesuffix(".packed")
                state[base] = dequantize(file.get_tensor(name), file.get_tensor(f"{base}.scales"))
            elif not name.endswith(".scales"):
                state[name] = file.get_tensor(name).float()
    with torch.device("meta"):
        model = Tagger(config)
    model.load_state_dict(state, assign=True)
    return model, Tokenizer.from_file(str(folder / TOKENIZER_FILE))
