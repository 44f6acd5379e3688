"""Find what the stages left below a folder: finished runs by their manifest, running ones by `.partial`.

Only JSON files with figures are read here; documents, predictions and transcripts are never opened.
"""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from configs.manifest import MANIFEST_NAME
from pretrain.metrics import METRICS_FILE

MAX_DEPTH = 5
STAGE_FILES = {
    "corpus": "report.json",
    "pretrain": "evaluation.json",
    "finetune": "metrics.json",
    "dialogue": "evidence.json",
    "audit": "evidence.json",
    "benchmark": "benchmark.json",
}
"""Stage → the file that holds its figures."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        name: path below the runs folder, for people.
        stage: the stage that wrote it, by its manifest or its files.
        path: where it is (`.partial` while it runs).
        is_finished: whether it has a manifest.
        when: time of the last change, in seconds since 1970.
    """

    name: str
    stage: str
    path: Path
    is_finished: bool
    when: float

    def figures(self) -> dict[str, Any] | None:
        """Return the stage's figures, or None where there are none yet."""
        return read_json(self.path / STAGE_FILES.get(self.stage, ""))


def find_runs(root: Path) -> list[Run]:
    """Return every run below `root`, the newest first."""
    runs: list[Run] = []
    if root.is_dir():
        _walk(root, root, 0, runs)
    return sorted(runs, key=lambda run: -run.when)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where the file is absent, torn or something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file a run may still be writing; a torn last line is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _walk(root: Path, folder: Path, depth: int, runs: list[Run]) -> None:
    try:
        stage = _stage_of(folder)
        if stage:
            finished = (folder / MANIFEST_NAME).is_file()
            name = folder.relative_to(root).as_posix().removesuffix(".partial")
            runs.append(Run(name if name != "." else folder.name, stage, folder, finished, _changed(folder)))
            return
        below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:  # not ours to read, or renamed by a run that has just ended
        return
    if depth < MAX_DEPTH:
        for path in below:
            _walk(root, path, depth + 1, runs)


def _changed(folder: Path) -> float:
    """Return when a file of a folder was last written; a run removes files while we look."""
    times = [0.0]
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_file():
                times.append(path.stat().st_mtime)
    return max(times)


def _stage_of(folder: Path) -> str:
    manifest = read_json(folder / MANIFEST_NAME)
    if manifest is not None:
        return str(manifest.get("stage", ""))
    if (folder / "benchmark.json").is_file():
        return "benchmark"
    if not (folder / "recipe.yaml").is_file():
        return ""
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace")
    keys = {line.partition(":")[0] for line in recipe.splitlines()}
    # A running stage has no manifest yet; its recipe's keys tell what it is.
    marks = {"dialogue": "conversations", "pretrain": "mlm_probability", "finetune": "task", "corpus": "tokenizer"}
    for stage, key in marks.items():
        if key in keys:
            return stage
    return "pretrain" if (folder / METRICS_FILE).is_file() else ""
