"""Score a saved classifier and its baselines on validation and test, and write its predictions.

The figures come from the saved folder, loaded anew by the code that `mindshift predict` uses, so that what is
reported is what will be predicted.
"""

import json
from pathlib import Path
from typing import Any

from configs.run_folder import write_atomically
from finetune.baselines import majority, tfidf_logistic_regression
from finetune.calibration import calibration
from finetune.config import FinetuneRecipe
from finetune.decisions import Decision, default_thresholds
from finetune.evidence import collect_evidence
from finetune.inference import Classifier, Predictions
from finetune.metrics import score
from finetune.prediction_files import prediction_record
from finetune.tasks import Task

SCORED_SPLITS = ("validation", "test")
BASELINES_NAME = "baselines.json"
EVIDENCE_NAME = "evidence.json"


def evaluate(recipe: FinetuneRecipe, task: Task, working: Path) -> dict[str, Any]:
    """Return the figures of classifier and baselines by split; leaves predictions and evidence in the folder."""
    classifier = Classifier.load(working)
    baselines = _baselines(recipe, task, working)
    metrics: dict[str, Any] = {}
    for split in SCORED_SPLITS:
        predictions = classifier.predict(task.texts(split))
        figures = score(task.targets(split), predictions.probabilities_NL, predictions.decisions_NL, task.label_set)
        figures |= _variants(task, split, classifier.decision, predictions)
        metrics[split] = {"classifier": figures} | {name: by_split[split] for name, by_split in baselines.items()}
        _write_predictions(working, split, task, classifier.decision, predictions)
        if split == "test":
            evidence = collect_evidence(task, split, classifier.decision, predictions, seed=recipe.seed)
            write_atomically(working / EVIDENCE_NAME, json.dumps(evidence, indent=1, ensure_ascii=False) + "\n")
            figures |= {"intervals": evidence["intervals"]}
        found = calibration(predictions.probabilities_NL, task.targets(split), task.label_set)
        figures["expected_calibration_error"] = found["expected_calibration_error"]
        figures["calibration_error_if_perfect"] = found["error_if_perfect"]
    (working / BASELINES_NAME).unlink(missing_ok=True)
    return metrics


def _variants(task: Task, split: str, decision: Decision, predictions: Predictions) -> dict[str, Any]:
    """Return what the figures would be without tuned thresholds, and without the texts left to a human."""
    targets_NL, probabilities_NL = task.targets(split), predictions.probabilities_NL
    untuned = Decision(task.label_set, default_thresholds(task.label_set)).decide(probabilities_NL)
    variants: dict[str, Any] = {
        "macro_f1_at_default_thresholds": score(targets_NL, probabilities_NL, untuned, task.label_set)["macro"]["f1"]
    }
    if decision.least_confidence is not None:
        kept_N = ~decision.abstains(probabilities_NL)
        variants["kept_from_human"] = {"share": float(kept_N.mean())}
        if kept_N.any():
            kept = score(targets_NL[kept_N], probabilities_NL[kept_N], predictions.decisions_NL[kept_N], task.label_set)
            variants["kept_from_human"] |= {key: kept[key] for key in ("micro", "macro", "accuracy")}
    return variants


def _baselines(recipe: FinetuneRecipe, task: Task, working: Path) -> dict[str, Any]:
    if not recipe.baselines:
        return {}
    path = working / BASELINES_NAME  # kept until the end, so that a resumed run does not fit them twice
    if not path.is_file():
        figures = {
            "majority": majority(task),
            "tfidf_logistic_regression": tfidf_logistic_regression(task, seed=recipe.seed),
        }
        write_atomically(path, json.dumps(figures))
    baselines: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return baselines


def _write_predictions(working: Path, split: str, task: Task, decision: Decision, predictions: Predictions) -> None:
    """Write `predictions/SPLIT.jsonl`: id, probabilities, labels; no texts."""
    (working / "predictions").mkdir(exist_ok=True)
    lines = [
        json.dumps(prediction_record(decision, example.id, probabilities_L, decisions_L), ensure_ascii=False) + "\n"
        for example, probabilities_L, decisions_L in zip(
            task.splits[split], predictions.probabilities_NL, predictions.decisions_NL, strict=True
        )
    ]
    write_atomically(working / "predictions" / f"{split}.jsonl", "".join(lines))
