"""The program `mindshift release audit`: measure, bind the results to the bytes, write the report.

Each finished audit is kept in the working folder, so a killed run goes on with the next one.
"""

import dataclasses
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs.base_models import resolve_model
from configs.console import start_console
from configs.errors import UserError, run_program
from configs.lineage import trace_lineage
from configs.manifest import now, verify_inputs, write_manifest
from configs.recipe import load_recipe
from configs.run_folder import finish_run_folder, open_run_folder, remove_folder, write_atomically
from release.audits.canary_exposure import audit_canaries
from release.audits.crows_pairs import audit_crows_pairs
from release.audits.documents import AuditedData, check_together, sample_documents
from release.audits.extraction import audit_extraction
from release.audits.figures import draw_audit
from release.audits.gender_skew import audit_gender_skew
from release.audits.honest import audit_honest
from release.audits.label_membership import LEAST_TRAINED, audit_label_membership, rows_trained_on
from release.audits.language_model import MaskedScorer, short_name
from release.audits.membership import audit_membership
from release.audits.report import render_report
from release.audits.shadow import train_shadow
from release.audits.worrying_fills import audit_worrying_fills
from release.config import AuditRecipe
from release.evidence import (
    EVIDENCE_NAME,
    AuditResult,
    Evidence,
    bind_evidence,
    evidence_text,
    read_evidence,
    read_result,
)
from release.policy import POLICY, REQUIRED_AUDITS, data_indices, judge_all
from release.subject import Subject, read_subject

RESULTS, MADE_OF = "results", "made_of.json"
NOT_MEASURED = ("audits", "measured_at", "code_revision")
"""What evidence says of its making that no number depends on."""
NEEDS_BASE_HEAD = ("worrying_fills", "honest", "crows_pairs", "gender_skew")
SHADOW_DOCUMENTS, SHADOW_LEAST = 4000, 1000
LEAST_PER_SIDE = 25
"""With fewer there is nothing to measure; what may pass is for the policy to say (2,000)."""
log = logging.getLogger("release audit")


def main(arguments: Sequence[str], program: str) -> None:
    """Run the recipe named on the command line."""
    recipe = load_recipe(AuditRecipe, arguments, program)
    started_at = now()
    subject = read_subject(recipe.model_dir)
    base = Path(resolve_model(recipe.base_model).name_or_path)
    accepted = _verify_inputs(recipe, base)
    unknown = sorted(set(recipe.skip_audits) - set(REQUIRED_AUDITS[subject.kind]))
    if unknown:
        raise UserError(f"no such audit: {', '.join(unknown)}", where="skip_audits")
    if subject.kind == "encoder":
        check_together(recipe.data_dirs)
    folder = open_run_folder(recipe)
    wanted = [name for name in REQUIRED_AUDITS[subject.kind] if name not in recipe.skip_audits]
    audits = encoder_audits(recipe) if subject.kind == "encoder" else classifier_audits(recipe, subject)
    bound = bind_evidence(
        subject, base_model=short_name(recipe.base_model), base=base, data=recipe.data_dirs, audits=[]
    )
    shares = trace_lineage(subject.manifest).shares_read
    data = [
        AuditedData(path, tuple(recipe.data_dirs), shares.get(sha256))
        for path, sha256 in zip(recipe.data_dirs, bound.data_sha256, strict=True)
    ]
    evidence = _finished_evidence(folder, bound)
    if evidence is None:
        _forget_other_results(folder, bound)
        results = [
            _run_once(partial(audits[name], data[index]), name, index, folder)
            for name in wanted
            for index in data_indices(name, bound)
        ]
        evidence = dataclasses.replace(bound, audits=results)
        write_atomically(folder / EVIDENCE_NAME, evidence_text(evidence))
    write_atomically(folder / "report.html", render_report(evidence, folder))
    remove_folder(folder / RESULTS)  # from here on the evidence stands for them; the manifest must not name them
    verdicts = judge_all(evidence)
    counts = {name: verdict for name, (verdict, _) in verdicts.items()}
    inputs = {"model": recipe.model_dir, "data": recipe.data_dir, **({"base": base} if base.is_dir() else {})}
    inputs |= {f"data {place}": path for place, path in enumerate(recipe.further_data_dirs, start=2)}
    write_manifest(
        folder, stage="audit", recipe=recipe, inputs=inputs, counts=counts, started_at=started_at, accepted=accepted
    )
    finish_run_folder(recipe)
    for name, (verdict, reason) in verdicts.items():
        print(f"{verdict:8} {name if verdict == 'passed' else reason}")
    print(f"report: {recipe.output_dir / 'report.html'}")


Audit = Callable[[AuditedData], AuditResult]
"""An audit, ready to run; what it asks about data it asks about the given corpus or task."""


def encoder_audits(recipe: AuditRecipe) -> dict[str, Audit]:
    """Return the audits of an encoder; models are loaded once, the shadow only if it is needed."""
    adapted, base = (
        MaskedScorer.load(str(name), batch_tokens=recipe.batch_tokens) for name in (recipe.model_dir, recipe.base_model)
    )
    common = {"samples": recipe.bootstrap_samples, "seed": recipe.seed}
    audits: dict[str, Audit] = {
        "canary_exposure": lambda data: audit_canaries(adapted, base, data.canaries(), seed=recipe.seed),
        "membership_inference": lambda data: _membership(recipe, data, adapted, base),
        "extraction": lambda data: audit_extraction(adapted, base, data.training(), data.held_out(), **common),
        "worrying_fills": lambda _: audit_worrying_fills(adapted, base, **common),
        "honest": lambda _: audit_honest(adapted, base, recipe.stigma_dir, **common),
        "crows_pairs": lambda _: audit_crows_pairs(adapted, base, recipe.stigma_dir, **common),
        "gender_skew": lambda _: audit_gender_skew(adapted, base, **common),
    }
    if not base.has_head:
        audits |= {name: _without_base_head(audits[name]) for name in NEEDS_BASE_HEAD}
    return audits | {name: _if_read(name, audits[name]) for name in audits if POLICY[name].asks_about_data}


def classifier_audits(recipe: AuditRecipe, subject: Subject) -> dict[str, Audit]:
    """Return the audit that a classifier or adapter adds to those of its encoder."""
    if recipe.further_data_dirs:
        raise UserError(
            "only an encoder is audited on several folders: a classifier's audit needs the labels of its own task",
            where="further_data_dirs",
        )
    return {
        "label_membership": lambda data: audit_label_membership(
            recipe.model_dir,
            data.folder,
            trained_rows=rows_trained_on(subject.manifest),
            count=recipe.documents_per_side,
            max_tokens=recipe.max_tokens,
            batch_tokens=recipe.batch_tokens,
            samples=recipe.bootstrap_samples,
            seed=recipe.seed,
        )
    }


def _membership(recipe: AuditRecipe, data: AuditedData, adapted: MaskedScorer, base: MaskedScorer) -> AuditResult:
    """Draw members and non-members, author-disjoint, get the shadow model, attack."""
    count, seed = recipe.documents_per_side, recipe.seed
    # A planted copy is called CANARY_COPY.
    canaries = {canary.id for canary in data.canaries()}
    members = sample_documents(
        (d for d in data.training() if d.id.rpartition("_")[0] not in canaries), count, seed=seed
    )
    outside = sample_documents(
        data.held_out(), count + SHADOW_DOCUMENTS, seed=seed, without_authors=data.authors_trained_on()
    )
    # The shadow wants a thousand documents, but never more than half of those held out.
    kept = min(count, max(len(outside) // 2, len(outside) - SHADOW_LEAST))
    non_members, for_shadow = outside[:kept], outside[kept:]
    if min(len(members), len(non_members), len(for_shadow)) < LEAST_PER_SIDE:
        note = f"{len(members)} members, {len(non_members)} non-members, {len(for_shadow)} shadow documents are too few"
        return AuditResult(name="membership_inference", status="invalid", note=note)
    shadow = train_shadow(
        base,
        [document.text for document in for_shadow],
        steps=recipe.shadow_steps,
        learning_rate=recipe.shadow_learning_rate,
        max_tokens=recipe.max_tokens,
        seed=seed,
    )
    result = audit_membership(
        adapted,
        {"base": base, "shadow": shadow},
        members,
        non_members,
        masks=recipe.masks_per_document,
        max_tokens=recipe.max_tokens,
        samples=recipe.bootstrap_samples,
        seed=seed,
    )
    result.counts["shadow_documents"] = len(for_shadow)
    return result


def _without_base_head(audit: Audit) -> Audit:
    """Mark an audit as invalid whose base model fills at random, so that no excess over it means anything."""

    def run(data: AuditedData) -> AuditResult:
        note = "the base model has no masked-LM head: an excess over its random fills means nothing"
        return dataclasses.replace(audit(data), status="invalid", note=note)

    return run


def _if_read(name: str, audit: Audit) -> Audit:
    """Run an audit only on a corpus that was read: what was not would count as seen and dilute every attack."""

    def run(data: AuditedData) -> AuditResult:
        share = data.share_read
        if share is not None and share >= LEAST_TRAINED:
            return audit(data)
        # Rounded down, or a share just under the limit would read as if it reached it.
        read = "an unknown share" if share is None else f"only {math.floor(1000 * share) / 10:g} %"
        note = f"{read} of this corpus was read in training, {100 * LEAST_TRAINED:g} % are needed"
        return AuditResult(name=name, status="invalid", note=f"{note}: see docs/releasing.md")

    return run


def _finished_evidence(folder: Path, bound: Evidence) -> Evidence | None:
    """Return the evidence of a run that was killed behind its last audit, if it is about the same things."""
    if not (folder / EVIDENCE_NAME).is_file():
        return None
    found = read_evidence(folder / EVIDENCE_NAME)
    return found if _made_of(found) == _made_of(bound) else None


def _made_of(evidence: Evidence) -> dict[str, Any]:
    """Return what the numbers of evidence depend on: model, data, base and audit code."""
    return {key: value for key, value in dataclasses.asdict(evidence).items() if key not in NOT_MEASURED}


def _forget_other_results(folder: Path, bound: Evidence) -> None:
    """Remove what an interrupted run measured on another model, data or base, or with other audit code."""
    path, text = folder / RESULTS / MADE_OF, json.dumps(_made_of(bound), indent=2)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    if path.parent.is_dir():
        log.warning("the interrupted audit was of another model, data, base or audit code: all is measured again")
    remove_folder(path.parent)
    for figure in folder.glob("*.png"):
        figure.unlink()
    path.parent.mkdir()
    write_atomically(path, text)


def _run_once(audit: Callable[[], AuditResult], name: str, data_index: int, folder: Path) -> AuditResult:
    """Run an audit, or read what an interrupted run kept of it."""
    key = AuditResult(name=name, status="not_run", data_index=data_index).key
    path = folder / RESULTS / f"{key}.json"
    if path.is_file():
        return read_result(json.loads(path.read_text(encoding="utf-8")))
    log.info("%s", key)
    start = time.monotonic()
    with np.errstate(over="ignore", divide="ignore"):
        result = audit()
    result.data_index = data_index
    result.seconds = round(time.monotonic() - start, 1)
    draw_audit(result, folder)
    write_atomically(path, json.dumps(dataclasses.asdict(result), allow_nan=False))
    return result


def _verify_inputs(recipe: AuditRecipe, base: Path) -> list[str]:
    """Verify what has a manifest of training data and base; a task folder or a base from elsewhere has none."""
    for folder in recipe.data_dirs:
        if not folder.is_dir():
            raise UserError("no such folder", where=folder)
    return verify_inputs((*recipe.data_dirs, base), accept_changes=recipe.accept_changed_inputs)


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "release/run_audit.py")))
