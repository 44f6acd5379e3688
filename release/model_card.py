"""The model card: metadata for the Hub and a README that a clinician, a lawyer and a review board can read.

Sections follow Mitchell et al. 2019 (Model Cards, arXiv:1810.03993) and the Hub's annotated template. Everything is
filled from the manifest, the evaluation files and the audits; `release.card_rules` refuses what is left blank.
"""

import dataclasses
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.lineage import trace_lineage
from release.config import CardRecipe
from release.evidence import AuditResult, Evidence
from release.helplines import card_helplines
from release.inheritance import LICENCE_NAME, Parent, Restrictions
from release.override import Override
from release.policy import POLICY, data_indices, judge_all
from release.repository import CardRecord
from release.subject import Subject

GATE_HEADING = "Ask for access"
GATE_BUTTON = "Send the request"
PIPELINES = {"encoder": "fill-mask", "classifier": "text-classification", "adapter": "text-classification"}
EVALUATION_FILES = ("evaluation.json", "metrics.json")
TRAINING_COUNTS = 12
METRIC_ROWS = 100
DETAILS = ("by_subreddit",)
"""Parts of an evaluation that are too long for a card."""


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Electricity and emissions of the training run."""

    hours: float
    watts: float
    intensity: float

    @property
    def grams(self) -> float:
        """Grams of CO2 equivalent."""
        return self.hours * self.watts / 1000 * self.intensity


def write_card(
    recipe: CardRecipe,
    subject: Subject,
    evidence: Evidence,
    record: CardRecord,
    parent: Parent | None,
) -> str:
    """Return the whole README.md; `record` is what it states."""
    import jinja2

    metrics = read_metrics(subject.folder)
    footprint = measure_footprint(recipe, subject)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = files("release").joinpath("card_template.md.j2").read_text(encoding="utf-8")
    body = environment.from_string(template).render(
        **{key: getattr(recipe, key) for key in ("name", "version", "summary", "base_model", "intended_uses")},
        **{key: getattr(recipe, key) for key in ("training_data", "limitations", "social_impact", "authors", "year")},
        **{key: getattr(recipe, key) for key in ("contact", "hardware", "region", "datasets")},
        helplines=card_helplines(),
        restrictions=record.restrictions,
        override=record.override,
        public_bases=record.public_bases,
        parent=parent,
        key_fingerprint=record.key_fingerprint,
        data_sha256=evidence.data_sha256,
        data_table=data_table(subject),
        privacy_statement=subject.manifest.counts.get("privacy_statement", ""),
        training_table=training_table(subject),
        evaluation_table=markdown_table(["Measure", "Value"], [[k, f"{v:.4g}"] for k, v in metrics.items()]),
        vocabularies=sorted(trace_lineage(subject.manifest).vocabularies),
        audit_table=audit_table(evidence, record.override),
        strength=[f"{key.replace('_', ' ')} {value:g}" for key, value in evidence.strength.items()],
        figures={name: text for audit in evidence.audits for name, text in audit.figures.items()},
        fingerprint=subject.fingerprint,
        hours=footprint.hours,
        watts=footprint.watts,
        intensity=footprint.intensity,
        co2_kilograms=footprint.grams / 1000,
        citation_key=re.sub(r"\W+", "_", recipe.name.lower()) + str(recipe.year),
    )
    return f"---\n{metadata(recipe, subject, evidence, metrics, footprint, record.restrictions)}---\n\n{body}"


def metadata(
    recipe: CardRecipe,
    subject: Subject,
    evidence: Evidence,
    metrics: dict[str, float],
    footprint: Footprint,
    restrictions: Restrictions,
) -> str:
    """Return the Hub's metadata block as YAML, `model-index` and gate included."""
    from huggingface_hub import EvalResult, ModelCardData

    pipeline = PIPELINES[subject.kind]
    results = [
        EvalResult(task_type=pipeline, dataset_type=data, dataset_name=data, metric_type=name, metric_value=value)
        for data, name, value in [
            *(("evaluation of this release", name, round(value, 6)) for name, value in metrics.items()),
            *(
                (f"audit {audit.key}", measure.name, round(measure.estimate, 6))
                for audit in evidence.audits
                for measure in audit.measures
            ),
        ]
    ]
    data = ModelCardData(
        language=recipe.language,
        license=restrictions.licence,
        license_name=restrictions.licence_name or None,
        license_link=LICENCE_NAME if restrictions.licence_sha256 else None,
        library_name="transformers",
        pipeline_tag=pipeline,
        base_model=recipe.base_model,
        datasets=recipe.datasets,
        tags=["mental-health", "domain-adaptation", "gated", "privacy-audited", subject.kind],
        model_name=recipe.name,
        eval_results=results,
        co2_eq_emissions={
            "emissions": round(footprint.grams, 3),
            "source": "hours × power × carbon intensity, all stated in the card",
            "training_type": "continued pretraining" if subject.kind == "encoder" else "fine-tuning",
            "geographical_location": recipe.region,
            "hardware_used": recipe.hardware,
        },
        extra_gated_heading=GATE_HEADING,
        extra_gated_prompt=restrictions.gate_prompt,
        extra_gated_fields=restrictions.gate_fields,
        extra_gated_button_content=GATE_BUTTON,
    )
    return str(data.to_yaml()) + "\n"


def measure_footprint(recipe: CardRecipe, subject: Subject) -> Footprint:
    """Take the training time from the manifest, power and carbon intensity from the recipe."""
    hours = max(subject.manifest.seconds, 0.0) / 3600
    return Footprint(hours=hours, watts=recipe.hardware_watts, intensity=recipe.grid_gco2_per_kwh)


def read_metrics(folder: Path) -> dict[str, float]:
    """Return the numbers of the model's evaluation file under dotted names, at most `METRIC_ROWS`.

    Raises:
        UserError: there is no evaluation: a card without results is incomplete.
    """
    path = next((folder / name for name in EVALUATION_FILES if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"no evaluation ({' or '.join(EVALUATION_FILES)})", where=folder, fix="Evaluate it first.")
    values = json.loads(path.read_text(encoding="utf-8"))
    numbers = dict(_numbers(classifier_figures(values["test"]) if "test" in values else values, ""))
    if not numbers:
        raise UserError("holds no number", where=path)
    return dict(list(numbers.items())[:METRIC_ROWS])


def classifier_figures(test: dict[str, Any]) -> dict[str, Any]:
    """Return what a card says of a classifier: its overall figures, those of the baselines, then each label's F1.

    Validation is left out: thresholds, temperature and the moment to stop were chosen on it.

    Args:
        test: the `test` of a classifier's metrics.json, figures by system.
    """
    overall = {}
    for system, figures in test.items():
        intervals = {name: {"low": low, "high": high} for name, (_, low, high) in figures.get("intervals", {}).items()}
        kept = {name: value for name, value in figures.items() if name != "per_label"}
        overall[system] = kept | ({"intervals": intervals} if intervals else {})
    labels = test["classifier"]["per_label"]
    return {
        "test": overall,
        "test.classifier.per_label": {label: {"f1": figures["f1"]} for label, figures in labels.items()},
    }


def data_table(subject: Subject) -> str:
    """Return the counts of the training run's manifest as a table."""
    counts = [(k, v) for k, v in subject.manifest.counts.items() if isinstance(v, int | float)]
    return markdown_table(["Counted", "Number"], [[key, f"{value:,.6g}"] for key, value in counts[:TRAINING_COUNTS]])


def training_table(subject: Subject) -> str:
    """Return the run's recipe as a table, without its paths, and the versions it ran with."""
    recipe = {
        key: value
        for key, value in subject.manifest.recipe.items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and "/" not in value and "\\" not in value)
    }
    # A recipe's `none` is a choice; in a card it would read as a blank that somebody forgot.
    rows = [[f"`{key}`", "not used" if value == "none" else str(value)] for key, value in recipe.items() if value != ""]
    rows += [[f"version of {name}", version] for name, version in subject.manifest.versions.items()]
    return markdown_table(["Setting", "Value"], rows)


def audit_table(evidence: Evidence, override: Override) -> str:
    """Return each required audit with its question, decisive numbers and verdict."""
    rows = []
    for name, (verdict, reason) in judge_all(evidence).items():
        numbers = [_decisive(name, evidence.audit(name, index)) for index in data_indices(name, evidence)]
        if len(numbers) > 1:
            numbers = [f"data folder {place}: {text}" for place, text in enumerate(numbers, start=1)]
        shown = verdict if name not in override.audits or verdict == "passed" else f"{verdict}, overridden"
        rows.append([name.replace("_", " "), POLICY[name].question, "; ".join(numbers), f"**{shown}**"])
        if verdict != "passed":
            rows[-1][2] += f" ({reason.partition(': ')[2]})"
    return markdown_table(["Audit", "Question", "Numbers (interval)", "Verdict"], rows)


def markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; no rows give a sentence that says so."""
    if not rows:
        return "Nothing was recorded."
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *cells]]
    return "\n".join(lines)


def _decisive(name: str, result: AuditResult | None) -> str:
    if result is None or not result.measures:
        return "no numbers"
    wanted = {limit.measure for limits in POLICY[name].blocks_when for limit in limits}
    return "; ".join(
        f"{m.name.replace('_', ' ')} {m.estimate:.3g} ({m.low:.3g} to {m.high:.3g}){' ' + m.unit if m.unit else ''}"
        for m in result.measures
        if m.name in wanted
    )


def _numbers(values: Any, prefix: str) -> list[tuple[str, float]]:
    if isinstance(values, dict):
        kept = {key: value for key, value in values.items() if key not in DETAILS}
        return [pair for key, value in kept.items() for pair in _numbers(value, f"{prefix}.{key}".lstrip("."))]
    if isinstance(values, int | float) and not isinstance(values, bool) and values == values:
        return [(prefix, float(values))]
    return []
