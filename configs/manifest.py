"""What a run did: `manifest.json`, the only thing stages tell each other besides their files.

A manifest binds a folder's files, by sha256, to the recipe, the inputs (with their own manifests' hashes), the
code and the library versions that made them, so that a released model can be traced back to its dumps.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.recipe import StageRecipe, recipe_sha256, recipe_values

MANIFEST_NAME = "manifest.json"
RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "deepspeed", "datatrove", "datasets", "numpy")
CODE_ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of an output folder: its hash and its size in bytes."""

    sha256: str
    size_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputRecord:
    """One input: a file's own hash, or the hash of a folder's manifest (or of its files if it has none)."""

    path: str
    sha256: str
    has_manifest: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of `manifest.json`."""

    stage: str
    recipe: dict[str, Any]
    recipe_sha256: str
    seed: int
    inputs: dict[str, InputRecord]
    outputs: dict[str, FileRecord]
    counts: dict[str, Any]
    accepted: list[str]
    """Input mismatches that the user accepted knowingly."""
    versions: dict[str, str]
    code_revision: str
    code_sha256: str
    started_at: str
    finished_at: str
    hours: float | None = None
    """What all attempts at the run took together; None if it did not note them."""

    @property
    def seconds(self) -> float:
        """What the run took; from start to end, pauses and all, if it did not note its attempts."""
        start, end = (datetime.fromisoformat(moment) for moment in (self.started_at, self.finished_at))
        return (end - start).total_seconds() if self.hours is None else 3600 * self.hours


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """Return one hash over the relative names and contents of all files below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def now() -> str:
    """Return the present moment in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_manifest(
    folder: Path,
    *,
    stage: str,
    recipe: StageRecipe,
    inputs: Mapping[str, Path],
    counts: Mapping[str, Any],
    started_at: str,
    accepted: list[str] | None = None,
    began_with: Mapping[str, str] | None = None,
    hours: float | None = None,
    no_outputs: Collection[str] = (),
) -> Manifest:
    """Hash every file below `folder`, write its `manifest.json`, all or nothing, and return it.

    Args:
        folder: the folder of the run, complete but for the manifest.
        stage: the stage's name, such as `corpus` or `pretrain`.
        recipe: the resolved recipe.
        inputs: name → file or folder the run read.
        counts: what the run counted (documents, tokens, scores), JSON-serialisable.
        started_at: `now()` at the run's start.
        accepted: mismatches from `verify_folder` that the user accepted.
        began_with: name → sha256 that an input had when the run began, where that was noted. It is what is recorded: an
            input that was rewritten meanwhile is named among the accepted mismatches.
        hours: what all attempts at the run took together.
        no_outputs: names of files in `folder` that are no result of the run.
    """
    recorded = {name: record_input(path) for name, path in inputs.items()}
    for name, sha256 in (began_with or {}).items():
        if name in recorded and recorded[name].sha256 != sha256:
            recorded[name] = dataclasses.replace(recorded[name], sha256=sha256)
            accepted = [*(accepted or []), f"{inputs[name]}: changed while the run read it"]
    temporary = folder / f".{MANIFEST_NAME}.tmp"
    not_outputs = {folder / MANIFEST_NAME, temporary, *(folder / name for name in no_outputs)}
    outputs = {
        path.relative_to(folder).as_posix(): FileRecord(sha256=sha256_file(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in not_outputs
    }
    manifest = Manifest(
        stage=stage,
        recipe=recipe_values(recipe),
        recipe_sha256=recipe_sha256(recipe),
        seed=recipe.seed,
        inputs=recorded,
        outputs=outputs,
        counts=dict(counts),
        accepted=accepted or [],
        versions=_versions(),
        code_revision=code_revision(),
        code_sha256=code_sha256(),
        started_at=started_at,
        finished_at=now(),
        hours=hours,
    )
    text = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False) + "\n"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / MANIFEST_NAME)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        UserError: there is none, or it is not one of ours.
    """
    path = folder / MANIFEST_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["inputs"] = {name: InputRecord(**record) for name, record in values["inputs"].items()}
        values["outputs"] = {name: FileRecord(**record) for name, record in values["outputs"].items()}
        return Manifest(**values)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            "this folder holds no finished run (no manifest.json)",
            where=folder,
            fix="Run the stage that makes it; an interrupted one goes on with the same command.",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"not a manifest of mindshift ({type(error).__name__})", where=path) from error


def verify_folder(folder: Path, *, stage: str | None = None, accept_changes: bool = False) -> list[str]:
    """Check that a finished folder still holds what its manifest says.

    Args:
        folder: the output folder of an earlier stage.
        stage: the stage that must have written it, if it matters.
        accept_changes: return the mismatches instead of refusing.

    Returns:
        The accepted mismatches, one line each, for this run's manifest.

    Raises:
        UserError: no manifest, another stage's, or a file that is missing or changed.
    """
    manifest = read_manifest(folder)
    if stage is not None and manifest.stage != stage:
        raise UserError(f"holds the output of stage {manifest.stage!r}, not of {stage!r}", where=folder)
    problems = []
    for name, record in manifest.outputs.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != record.size_bytes or sha256_file(path) != record.sha256:
            problems.append(f"{path}: changed since its manifest was written")
    if problems and not accept_changes:
        raise UserError(
            f"{problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""),
            fix="Make the folder anew, or pass --accept_changed_inputs true to go on (it is recorded).",
        )
    return problems


def verify_inputs(folders: Iterable[Path], *, accept_changes: bool) -> list[str]:
    """Check those inputs that a stage has written; a task folder or a base model from elsewhere has no manifest.

    Returns and raises:
        as `verify_folder`.
    """
    written = [folder for folder in folders if (folder / MANIFEST_NAME).is_file()]
    return [change for folder in written for change in verify_folder(folder, accept_changes=accept_changes)]


@functools.cache
def code_revision() -> str:
    """Return the git commit of this checkout, `+changes` behind it if the tree is dirty, or `unknown`."""
    try:
        run = functools.partial(subprocess.run, cwd=CODE_ROOT, capture_output=True, text=True, timeout=10)
        commit = run(["git", "rev-parse", "HEAD"])
        changes = run(["git", "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    if commit.returncode != 0:
        return "unknown"
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


@functools.cache
def code_sha256() -> str:
    """Return one hash over the Python sources of all rooms: it names the code also where git is absent."""
    digest = hashlib.sha256()
    rooms = sorted(path.parent for path in CODE_ROOT.glob("*/__init__.py") if path.parent.name != "tests")
    for path in (source for room in rooms for source in sorted(room.rglob("*.py"))):
        digest.update(f"{path.relative_to(CODE_ROOT).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def record_input(path: Path) -> InputRecord:
    """Return what a manifest records of an input: its manifest's hash, or that of its files."""
    has_manifest = (path / MANIFEST_NAME).is_file()
    if has_manifest:
        digest = sha256_file(path / MANIFEST_NAME)
    else:
        digest = sha256_folder(path) if path.is_dir() else sha256_file(path)
    return InputRecord(path=str(path), sha256=digest, has_manifest=has_manifest)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
