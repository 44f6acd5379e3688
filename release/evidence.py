"""Evidence: what the audits measured, bound by hash to the very model, data and code it is about.

An audit writes numbers with intervals; it does not write its own verdict. The verdict is computed from the numbers
by `release.policy` each time somebody asks, so editing "passed" into a file changes nothing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from configs.errors import UserError
from configs.manifest import code_revision, record_input, sha256_file
from release.subject import Subject, fingerprint

EVIDENCE_NAME = "evidence.json"
FORMAT = 3
Status = Literal["measured", "invalid", "not_run"]


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number with its interval: `low` and `high` bound it with the stated (two-sided) confidence."""

    name: str
    estimate: float
    low: float
    high: float
    confidence: float
    count: int
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A small table of the report: aggregate numbers only, never a text of the corpus."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclasses.dataclass
class AuditResult:
    """What one audit found.

    Attributes:
        data_index: which of the evidence's data folders it asked about, from 0; 0 if it asks about none.
        status: `measured`; `invalid` if the audit cannot tell anything (with `note` saying why); `not_run`.
        counts: what was looked at (canaries, documents, prompts).
        figures: file names of the audit folder, with a text alternative each.
    """

    name: str
    status: Status
    note: str = ""
    measures: list[Measure] = dataclasses.field(default_factory=list)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    tables: list[Table] = dataclasses.field(default_factory=list)
    figures: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    data_index: int = 0

    @property
    def key(self) -> str:
        """Its name in file names: that of the audit, with a number for every data folder but the first."""
        return self.name if self.data_index == 0 else f"{self.name}_{self.data_index + 1}"

    def measure(self, name: str) -> Measure | None:
        """Return a measure by name, or None."""
        return next((measure for measure in self.measures if measure.name == name), None)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The contents of `evidence.json`.

    Attributes:
        kind, fingerprint, weights, model_manifest_sha256: the model it is about (see `release.subject`).
        base_model, base_fingerprint, base_sha256: the base that excesses are measured against; the last is what a
            manifest records of it as an input, empty if it is no local folder.
        data_sha256: manifest hash of each corpus (of the task, for a classifier).
        audit_code_sha256: hash of the sources of `release/` that measure and judge.
        strength: what the recipe set of the audits' strength (steps, tokens, resamples), by key.
        stigma_sha256: hash of each file of wordings that is not shipped, by its name.
    """

    format: int
    kind: str
    fingerprint: str
    weights: dict[str, str]
    model_manifest_sha256: str
    base_model: str
    base_fingerprint: str
    data_sha256: list[str]
    code_revision: str
    audit_code_sha256: str
    measured_at: str
    audits: list[AuditResult]
    strength: dict[str, float]
    stigma_sha256: dict[str, str]
    base_sha256: str = ""

    def audit(self, name: str, data_index: int = 0) -> AuditResult | None:
        """Return an audit's result by name and data folder, or None."""
        found = (audit for audit in self.audits if (audit.name, audit.data_index) == (name, data_index))
        return next(found, None)


def bind_evidence(
    subject: Subject,
    *,
    base_model: str,
    base: Path,
    data: list[Path],
    audits: list[AuditResult],
    strength: dict[str, float],
    stigma_files: Iterable[Path] = (),
) -> Evidence:
    """Bind results to the model they were measured on, its base and data, and the code that measured them.

    Args:
        subject: the model.
        base_model: the base's name, as a reader may see it.
        base: its folder; one that does not exist is a model of the Hub, known by its name alone.
        data: folders of the corpora, or of the task.
        audits: what was measured.
        strength: how hard they tried, as in `Evidence`.
        stigma_files: files of wordings that they read.
    """
    is_local = base.is_dir()
    return Evidence(
        format=FORMAT,
        kind=subject.kind,
        fingerprint=subject.fingerprint,
        weights=subject.weights,
        model_manifest_sha256=subject.manifest_sha256,
        base_model=base_model,
        base_fingerprint=fingerprint(base) if is_local else "",
        base_sha256=record_input(base).sha256 if is_local else "",
        data_sha256=[record_input(folder).sha256 for folder in data],
        code_revision=code_revision(),
        audit_code_sha256=audit_code_sha256(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        audits=audits,
        strength=strength,
        stigma_sha256={path.name: sha256_file(path) for path in stigma_files},
    )


def evidence_text(evidence: Evidence) -> str:
    """Return `evidence.json`; NaN never stands in it (strict JSON)."""
    return json.dumps(dataclasses.asdict(evidence), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_evidence(path: Path) -> Evidence:
    """Read an `evidence.json`.

    Raises:
        UserError: it is missing, damaged, or of another format.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise UserError(f"evidence of format {values['format']}, not {FORMAT}", where=path, fix="Audit again.")
        values["audits"] = [read_result(result) for result in values["audits"]]
        return Evidence(**values)
    except FileNotFoundError:
        raise UserError("no audit evidence here", where=path, fix="Run `mindshift release audit` first.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"not evidence of mindshift ({type(error).__name__})", where=path) from error


def audit_code_sha256() -> str:
    """Return one hash over the sources that measure and judge: `release/audits/` and the modules around them."""
    room = Path(__file__).resolve().parent
    modules = [room / f"{name}.py" for name in ("run_audit", "policy", "evidence", "gate", "override")]
    sources = [*sorted((room / "audits").rglob("*.py")), *modules]
    digest = hashlib.sha256()
    for path in [*sources, *sorted((room / "audits").glob("*.json"))]:
        if path.is_file():
            digest.update(f"{path.relative_to(room).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def read_result(values: dict[str, Any]) -> AuditResult:
    """Return an audit's result from its JSON values."""
    measures = [Measure(**measure) for measure in values.pop("measures")]
    tables = [Table(**table) for table in values.pop("tables")]
    return AuditResult(**values, measures=measures, tables=tables)
