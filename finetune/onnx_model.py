"""A classifier as one int8 ONNX file: written by torch's exporter, quantized by onnxruntime, run by it.

Weights become 8-bit integers with a scale for each block of a column, and activations are rounded to 8 bits block by
block as they come (dynamic quantization, arXiv:2103.13630 §3; blocks, arXiv:2110.02861): a quarter of the size, and
faster where there is no accelerator. One scale for a whole row of activations costs several times the error.

R = windows, T = tokens, L = labels.
"""

import contextlib
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch

from configs.errors import UserError

ONNX_NAME = "model.onnx"
INSTALL = "pip install -e '.[onnx]'"
INPUTS = ("input_ids", "attention_mask")
BLOCK = 32
"""Weights of a column, and activations of a row, that share a scale."""


class OnnxModel:
    """An ONNX file that is called like the torch model it was made from."""

    training = False

    def __init__(self, path: Path) -> None:
        require_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises types of its own C++ module
            raise UserError(f"not a readable ONNX model ({type(error).__name__})", where=path) from error

    def __call__(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        """Return `logits` (R, L) for input_ids and attention_mask (R, T)."""
        feed = {"input_ids": input_ids.cpu().numpy(), "attention_mask": attention_mask.cpu().numpy()}
        return SimpleNamespace(logits=torch.from_numpy(self._session.run(["logits"], feed)[0]))

    def to(self, device: Any) -> Self:
        """Stay where it is: the session computes on the CPU."""
        return self

    def eval(self) -> Self:
        """Be what it always is."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Refuse to be trained.

        Raises:
            RuntimeError: training was asked for.
        """
        if mode:
            raise RuntimeError("an ONNX model cannot be trained")
        return self


def write_onnx(model: Any, path: Path) -> None:
    """Write a float32 ONNX file of a classifier on the CPU, for any number of texts and tokens."""
    require_onnx()
    example = {name: torch.ones((2, 16), dtype=torch.int64) for name in INPUTS}
    example["attention_mask"][1, 8:] = 0  # else the exporter sees that no mask is needed
    axes = {0: torch.export.Dim("texts", min=1), 1: torch.export.Dim("tokens", min=2)}
    with _quietly():
        torch.onnx.export(
            _LogitsOnly(model.eval()),
            kwargs=example,
            f=str(path),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def quantize(full: Path, small: Path) -> None:
    """Write an int8 copy of a float32 ONNX file."""
    require_onnx()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    graph = onnx.load(str(full))
    _strip_notes(graph)
    with tempfile.TemporaryDirectory(dir=full.parent) as folder, _quietly():
        bare, embedded = Path(folder) / "bare.onnx", Path(folder) / "embedded.onnx"
        onnx.save(graph, str(bare))
        quantize_dynamic(bare, embedded, weight_type=QuantType.QInt8, op_types_to_quantize=["Gather"])
        # Level 4: the products themselves are computed in int8.
        quantizer = MatMulNBitsQuantizer(
            onnx.load(str(embedded)), bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        onnx.save(quantizer.model.model, str(small))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep exporter and quantizer from writing a line for every tensor."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _strip_notes(model: Any) -> None:
    """Take out what the exporter noted for its own debugging: half a megabyte, with paths of this machine.

    Its shape notes must go in any case: they contradict those that the quantizer infers.
    """
    graph = model.graph
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def require_onnx() -> None:
    """Refuse where the `onnx` extra is not installed.

    Raises:
        UserError: it is not.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"package {package!r} is not installed", where="onnx", fix=INSTALL)


class _LogitsOnly(torch.nn.Module):
    """What the exporter traces: tensors in, one tensor out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits_RL: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits_RL
