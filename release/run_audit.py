"""The program `mindshift release audit`: measure, bind the results to the bytes, write the report.

The evidence is written anew after each audit, so a killed run goes on with the next one.
"""

import dataclasses
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
from configs.lineage import recorded_manifest, trace_lineage
from configs.manifest import now, record_input, verify_inputs
from configs.recipe import load_recipe
from configs.run_folder import NOTES, RECIPE_NAME, finish_run_folder, open_run_folder, remove_folder, write_atomically
from release.audits.canary_exposure import audit_canaries
from release.audits.crows_pairs import PAIR_FILE, audit_crows_pairs, read_pairs
from release.audits.documents import AuditedData, check_together, read_canaries, sample_documents
from release.audits.extraction import audit_extraction
from release.audits.figures import draw_audit
from release.audits.gender_skew import audit_gender_skew
from release.audits.honest import TEMPLATE_FILE, audit_honest, read_templates
from release.audits.label_membership import LEAST_TRAINED, audit_label_membership, rows_trained_on
from release.audits.language_model import MaskedScorer, short_name
from release.audits.membership import audit_membership
from release.audits.report import render_report
from release.audits.shadow import train_shadow
from release.audits.worrying_fills import audit_worrying_fills
from release.config import AuditRecipe
from release.evidence import EVIDENCE_NAME, AuditResult, Evidence, bind_evidence, evidence_text, read_evidence
from release.policy import POLICY, REQUIRED_AUDITS, data_indices, judge_all
from release.subject import Subject, read_subject

NOT_MEASURED = ("audits", "measured_at", "code_revision")
"""What evidence says of its making that no number depends on."""
STRENGTH = {
    "encoder": (
        *("documents_per_side", "max_tokens", "masks_per_document"),
        *("shadow_steps", "shadow_learning_rate", "bootstrap_samples"),
    ),
    "classifier": ("documents_per_side", "bootstrap_samples"),
    "adapter": ("documents_per_side", "bootstrap_samples"),
}
"""Keys of the recipe that decide how hard the audits try; the evidence keeps them, the policy has limits for them."""
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
    unknown = sorted(set(recipe.skip_audits) - set(REQUIRED_AUDITS[subject.kind]))
    if unknown:
        raise UserError(f"no such audit: {', '.join(unknown)}", where="skip_audits")
    data, accepted = _read_inputs(recipe, subject, base)
    stigma_files = _stigma_files(recipe) if subject.kind == "encoder" else {}
    folder = open_run_folder(recipe, accepted=accepted, started_at=started_at)
    wanted = [name for name in REQUIRED_AUDITS[subject.kind] if name not in recipe.skip_audits]
    audits = encoder_audits(recipe) if subject.kind == "encoder" else classifier_audits(recipe, subject)
    bind = partial(
        bind_evidence,
        subject,
        base_model=short_name(recipe.base_model),
        base=base,
        data=recipe.data_dirs,
        strength={key: getattr(recipe, key) for key in STRENGTH[subject.kind]},
        stigma_files=stigma_files.values(),
    )
    evidence = _evidence_so_far(folder, bind(audits=[]))
    for name in wanted:
        for index in data_indices(name, evidence):
            if evidence.audit(name, index) is None:
                evidence.audits.append(_measure(partial(audits[name], data[index]), name, index, folder))
                write_atomically(folder / EVIDENCE_NAME, evidence_text(evidence))
    if _made_of(bind(audits=[])) != _made_of(evidence):
        raise UserError(
            "data, base or wordings were rewritten while they were audited",
            where=recipe.model_dir,
            fix="Run the same command again; it measures all of them anew.",
        )
    write_atomically(folder / "report.html", render_report(evidence, folder))
    verdicts = judge_all(evidence)
    counts = {name: verdict for name, (verdict, _) in verdicts.items()}
    inputs = {"model": recipe.model_dir, "data": recipe.data_dir, **({"base": base} if base.is_dir() else {})}
    inputs |= {f"data {place}": path for place, path in enumerate(recipe.further_data_dirs, start=2)}
    finish_run_folder(recipe, stage="audit", inputs=inputs | stigma_files, counts=counts)
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
            batch_tokens=recipe.batch_tokens,
            samples=recipe.bootstrap_samples,
            seed=recipe.seed,
        )
    }


def _membership(recipe: AuditRecipe, data: AuditedData, adapted: MaskedScorer, base: MaskedScorer) -> AuditResult:
    """Draw members and non-members, author-disjoint, get the shadow model, attack."""
    count, seed = recipe.documents_per_side, recipe.seed
    if data.gone:
        note = f"{', '.join(data.gone)}, on which it was trained, too, is gone or has changed: what it has not seen"
        return AuditResult(name="membership_inference", status="invalid", note=f"{note} cannot be told")
    # A planted copy is called CANARY_COPY.
    canaries = {canary.id for folder in data.everything for canary in read_canaries(folder)}
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


def _made_of(evidence: Evidence) -> dict[str, Any]:
    """Return what the numbers of evidence depend on: model, data, base, strength, wordings and audit code."""
    return {key: value for key, value in dataclasses.asdict(evidence).items() if key not in NOT_MEASURED}


def _evidence_so_far(folder: Path, bound: Evidence) -> Evidence:
    """Return what an interrupted run has measured on the same things; if they are others now, remove it all."""
    left = [path for path in folder.iterdir() if path.name not in (RECIPE_NAME, *NOTES)]
    if left:
        try:
            found = read_evidence(folder / EVIDENCE_NAME)
        except UserError:  # of another format, so of other audit code
            found = None
        if found is not None and _made_of(found) == _made_of(bound):
            return found
        log.warning("the interrupted audit was of another model, data, base or audit code: all is measured again")
    for path in left:
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink()
    write_atomically(folder / EVIDENCE_NAME, evidence_text(bound))
    return bound


def _measure(audit: Callable[[], AuditResult], name: str, data_index: int, folder: Path) -> AuditResult:
    """Run an audit and draw its figure."""
    log.info("%s", AuditResult(name=name, status="not_run", data_index=data_index).key)
    start = time.monotonic()
    with np.errstate(over="ignore", divide="ignore"):
        result = audit()
    result.data_index = data_index
    result.seconds = round(time.monotonic() - start, 1)
    draw_audit(result, folder)
    return result


def _read_inputs(recipe: AuditRecipe, subject: Subject, base: Path) -> tuple[list[AuditedData], list[str]]:
    """Verify what has a manifest of training data and base; a task folder or a base from elsewhere has none.

    Returns:
        what is audited, in the recipe's order, and the changes of inputs that were accepted.
    """
    for folder in recipe.data_dirs:
        if not folder.is_dir():
            raise UserError("no such folder", where=folder)
    hashes = [record_input(folder).sha256 for folder in recipe.data_dirs]
    lineage = trace_lineage(subject.manifest)
    # A released parent's corpora are not audited again, but what stands in them is nothing that the model has not seen.
    others = [record for sha256, record in lineage.corpora.items() if sha256 not in hashes]
    gone = tuple(Path(record.path).name for record in others if recorded_manifest(record) is None)
    everything = recipe.data_dirs + [Path(record.path) for record in others if recorded_manifest(record) is not None]
    if subject.kind != "encoder":
        everything, gone = recipe.data_dirs, ()
    accepted = verify_inputs((*everything, base), accept_changes=recipe.accept_changed_inputs)
    if subject.kind == "encoder":
        check_together(everything)
    data = [
        AuditedData(folder, tuple(everything), lineage.shares_read.get(sha256), gone)
        for folder, sha256 in zip(recipe.data_dirs, hashes, strict=True)
    ]
    return data, accepted


def _stigma_files(recipe: AuditRecipe) -> dict[str, Path]:
    """Return the files of wordings that are at hand, by name; a wrong one is found before hours of other audits."""
    found = {}
    for name, read in ((TEMPLATE_FILE, read_templates), (PAIR_FILE, read_pairs)):
        if recipe.stigma_dir is not None and (recipe.stigma_dir / name).is_file():
            read(recipe.stigma_dir / name)
            found[name] = recipe.stigma_dir / name
    return found


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "release/run_audit.py")))
