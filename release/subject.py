"""What is to be released: a model folder, read with suspicion.

A folder may leave only if it can be trusted as data: safetensors instead of pickle (a pickle runs code when it is
loaded), no code beside the weights, no symbolic links, finite numbers, and a manifest that says where it came
from. The `fingerprint` names everything that decides what the model answers (weights, configuration, tokenizer);
audits are bound to it, so evidence about one model can never speak for another.
"""

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from configs.errors import UserError
from configs.manifest import MANIFEST_NAME, Manifest, read_manifest, sha256_file, verify_folder

Kind = Literal["encoder", "classifier", "adapter"]
PATH_KEYS = ("_name_or_path", "name_or_path", "base_model_name_or_path")
"""Keys in which libraries record the folder a model was loaded from; a release names its public base instead."""
RELEASE_KEY = "mindshift_release"
"""Key in which the configuration of a release names it. Transformers hands it on to whatever is trained from there,
however the release was fetched."""
ADAPTER_BASE = "adapter_base.json"
RELEASED_NAMES = (
    *("config.json", "generation_config.json", "adapter_config.json", ADAPTER_BASE, "decision.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "model.safetensors.index.json"),
)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".msgpack", ".npy", ".npz")
CODE_SUFFIXES = (".py", ".so", ".dll", ".sh")
PICKLE_FIRST_BYTES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model folder that passed the checks above.

    Attributes:
        files: released file → its path; the run's own records (metrics, recipe, manifest) stay at home.
        weights: sha256 of each safetensors file.
        fingerprint: one hash over weights, configuration and tokenizer, without recorded origins.
        comes_from: name and version of the release that its configuration says it comes from; empty if it says none.
    """

    folder: Path
    kind: Kind
    manifest: Manifest
    manifest_sha256: str
    files: dict[str, Path]
    weights: dict[str, str]
    fingerprint: str
    comes_from: str = ""


def read_subject(folder: Path) -> Subject:
    """Read and check the folder of an encoder, a classifier or an adapter.

    Raises:
        UserError: no manifest, files that differ from it, pickle or code, a weight that is no finite number, or
            no model at all.
    """
    manifest = read_manifest(folder)
    problems = unsafe_files(folder)
    if problems:
        raise UserError("; ".join(problems), where=folder, fix="A release holds data only: safetensors and JSON.")
    verify_folder(folder)
    unlisted = sorted(path.name for path in released_files(folder).values() if path.name not in manifest.outputs)
    if unlisted:
        raise UserError(f"not in the manifest: {', '.join(unlisted)}", where=folder, fix="Make the folder anew.")
    kind = model_kind(folder)
    files = released_files(folder)
    for path in files.values():
        if path.suffix == ".safetensors":
            check_weights(path)
    return Subject(
        folder=folder,
        kind=kind,
        manifest=manifest,
        manifest_sha256=sha256_file(folder / MANIFEST_NAME),
        files=files,
        weights={name: sha256_file(path) for name, path in files.items() if path.suffix == ".safetensors"},
        fingerprint=fingerprint(folder),
        comes_from="" if kind == "adapter" else str(_read_json(folder / "config.json").get(RELEASE_KEY, "")),
    )


def model_kind(folder: Path) -> Kind:
    """Tell an encoder, a classifier and an adapter apart by their configuration."""
    if not any(folder.glob("*.safetensors")):
        raise UserError("no weights in safetensors format", where=folder, fix="Save with `save_pretrained`.")
    if (folder / "adapter_config.json").is_file():
        return "adapter"
    architectures = _read_json(folder / "config.json").get("architectures") or [""]
    if architectures[0].endswith("ForMaskedLM"):
        return "encoder"
    if architectures[0].endswith("ForSequenceClassification"):
        return "classifier"
    raise UserError(
        f"neither a masked language model, a classifier nor an adapter ({architectures[0] or 'no architecture'})",
        where=folder / "config.json",
    )


def released_files(folder: Path) -> dict[str, Path]:
    """Return the files of a model folder that a repository gets, by name."""
    paths = [folder / name for name in RELEASED_NAMES] + list(folder.glob("*.safetensors"))
    return {path.name: path for path in sorted(paths) if path.is_file()}


def unsafe_files(folder: Path) -> list[str]:
    """Name what could run code on a reader's machine or lead out of the folder; empty if there is nothing."""
    problems = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            problems.append(f"{name} is a symbolic link")
        elif path.is_file() and _may_be_pickle(path):
            problems.append(f"{name} may be a pickle, which runs code when loaded")
        elif path.is_file() and path.suffix.lower() in CODE_SUFFIXES:
            problems.append(f"{name} is code")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in _read_json(folder / name):
            problems.append(f"{name} asks for remote code (auto_map)")
    return problems


def check_weights(path: Path) -> None:
    """Refuse a safetensors file that is damaged, holds NaN or infinity, or carries notes in its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as tensors:
            notes = set(tensors.metadata() or {}) - {"format"}
            bad = [name for name in tensors.keys() if not _is_finite(tensors.get_tensor(name))]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"not a readable safetensors file ({type(error).__name__})", where=path) from error
    if bad:
        raise UserError(f"{len(bad)} tensors hold NaN or infinity (the first: {bad[0]})", where=path)
    if notes:
        raise UserError(f"its header carries notes ({', '.join(sorted(notes))})", where=path, fix="Save it without.")


def fingerprint(folder: Path) -> str:
    """Return one hash over weights, configuration and tokenizer; recorded origins and JSON layout do not count."""
    digest = hashlib.sha256()
    for name, path in released_files(folder).items():
        if path.suffix == ".json":
            origins = {*path_keys(name), RELEASE_KEY}
            kept = {key: value for key, value in _read_json(path).items() if key not in origins}
            value = json.dumps(kept, sort_keys=True).encode()
        else:
            value = sha256_file(path).encode()
        digest.update(name.encode() + b"\0" + value + b"\n")
    return digest.hexdigest()


def path_keys(name: str) -> tuple[str, ...]:
    """Return the keys of a configuration file that record where a model was loaded from."""
    return (*PATH_KEYS, "model") if name == ADAPTER_BASE else PATH_KEYS


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("missing", where=path) from None
    except ValueError as error:
        raise UserError("not valid JSON", where=path) from error
    if not isinstance(values, dict):
        raise UserError("not a JSON object", where=path)
    return cast("dict[str, Any]", values)


def _may_be_pickle(path: Path) -> bool:
    if path.suffix.lower() == ".safetensors":
        return False  # is read as such only, and its first bytes are the length of its header, whatever that is
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return True
    with path.open("rb") as file:
        start = file.read(4)
    # torch.save writes a zip archive around a pickle, whatever the file is called.
    return start[:2] in PICKLE_FIRST_BYTES or (start == b"PK\x03\x04" and zipfile.is_zipfile(path))


def _is_finite(tensor: Any) -> bool:
    return not tensor.is_floating_point() or bool(np.isfinite(tensor.float().numpy()).all())
