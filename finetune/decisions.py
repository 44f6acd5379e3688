"""From probabilities to labels: temperature and thresholds, tuned on validation and kept in `decision.json`.

Thresholds are tuned on validation (or on out-of-fold predictions), never on test: tuning on test would report the
tuner's luck. A label with few positive validation rows has a noisy best threshold, so its own is shrunk towards
the threshold that all labels share. The temperature (Guo et al. 2017, arXiv:1706.04599) is divided out of the
classifier's last layer, so that every program that loads the folder sees calibrated probabilities.

N = texts, L = labels.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from configs.errors import UserError
from configs.run_folder import write_atomically
from finetune.metrics import BoolArray
from finetune.tasks import FloatArray, LabelSet

DECISION_NAME = "decision.json"
SHRINKAGE_POSITIVES = 20.0  # positive rows at which a label's own threshold counts as much as the shared one
DEFAULT_THRESHOLD = 0.5
THRESHOLD_BOUNDS = (0.02, 0.98)
SHARED_CANDIDATES = 201
ADJUSTMENT = 0.4  # best or near it on simulated classes of many shares and difficulties (docs/experiments.md)
ADJUSTMENTS = (0.4, 0.3, 0.5, 0.2, 0.6, 0.1, 0.7, 0.0, 0.8)  # from the middle: it wins a tie
ADJUSTMENT_PENALTY = 0.03  # macro-F1 that a step of 1 away from the middle must bring
LOG_TEMPERATURE_BOUNDS = (-1.4, 2.3)  # a quarter to ten: beyond them validation was too easy or too small


@dataclasses.dataclass(frozen=True)
class Decision:
    """How labels are chosen from probabilities.

    A multi-label text gets every label whose probability reaches its threshold; any other text gets the one class
    whose probability is largest in proportion to its threshold (equal thresholds: the most probable class).
    """

    label_set: LabelSet
    thresholds: tuple[float, ...]
    temperature: float = 1.0
    """What the logits were divided by; the saved weights hold it already."""
    long_texts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How texts longer than the encoder reads are fitted: `max_seq_length`, `policy`, `max_windows`."""
    least_confidence: float | None = None
    """Texts whose `confidence` is lower go to a human."""

    def decide(self, probabilities_NL: FloatArray) -> BoolArray:
        """Return which labels each text gets, (N, L)."""
        thresholds_L = np.array(self.thresholds)
        if self.label_set.is_multi_label:
            chosen_NL = (probabilities_NL >= thresholds_L).astype(np.float64)
            return self.label_set.close_upwards(chosen_NL) > 0.5
        winners_N = (probabilities_NL / thresholds_L).argmax(axis=1)
        classes: BoolArray = winners_N[:, None] == np.arange(len(thresholds_L))
        return classes

    def abstains(self, probabilities_NL: FloatArray) -> BoolArray:
        """Return which texts (N,) a human should look at; none unless a precision was asked for."""
        if self.least_confidence is None:
            return np.zeros(len(probabilities_NL), dtype=bool)
        unsure: BoolArray = confidence(probabilities_NL, self.decide(probabilities_NL)) < self.least_confidence
        return unsure

    def label_names(self, decisions_NL: BoolArray) -> list[list[str]]:
        """Return the chosen labels of each text by name."""
        names = self.label_set.names
        return [[names[label] for label in np.flatnonzero(row)] for row in decisions_NL]

    def save(self, folder: Path) -> None:
        """Write `decision.json`."""
        values = self.label_set.to_dict() | {
            "thresholds": dict(zip(self.label_set.names, self.thresholds, strict=True)),
            "temperature": self.temperature,
            "long_texts": self.long_texts,
            "least_confidence": self.least_confidence,
        }
        write_atomically(folder / DECISION_NAME, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `decision.json`.

        Raises:
            UserError: it is absent, unreadable, or belongs to another label set.
        """
        path = folder / DECISION_NAME
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            label_set = LabelSet.from_dict(values, where=path)
            thresholds, temperature = values["thresholds"], float(values["temperature"])
            if set(thresholds) != set(label_set.names):
                raise UserError("its thresholds are those of another label set", where=path)
            ordered = tuple(float(thresholds[name]) for name in label_set.names)
            least_confidence = values.get("least_confidence")
            return cls(label_set, ordered, temperature, dict(values["long_texts"]), least_confidence)
        except FileNotFoundError:
            fix = "`mindshift finetune` makes classifiers."
            raise UserError("no classifier of mindshift (decision.json is missing)", where=folder, fix=fix) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"not a decision file ({type(error).__name__})", where=path) from error


def to_probabilities(logits_NL: FloatArray, label_set: LabelSet) -> FloatArray:
    """Return sigmoid (multi-label; a broader label is at least as likely as a narrower) or softmax of logits (N, L)."""
    if label_set.is_multi_label:
        return label_set.close_upwards(np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits_NL))))
    shifted = np.exp(logits_NL - logits_NL.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def log_loss(probabilities_NL: FloatArray, targets_NL: FloatArray, label_set: LabelSet) -> float:
    """Return the mean over texts of the negative log probability of their labels (N, L)."""
    probabilities = probabilities_NL.clip(1e-7, 1 - 1e-7)
    terms_NL = targets_NL * np.log(probabilities)
    if label_set.is_multi_label:
        terms_NL = terms_NL + (1 - targets_NL) * np.log(1 - probabilities)
    return float(-terms_NL.sum(axis=1).mean())


def tune_temperature(logits_NL: FloatArray, targets_NL: FloatArray, label_set: LabelSet) -> float:
    """Return the temperature whose probabilities have the least log loss; 1 if there is nothing to tune on."""
    if len(logits_NL) == 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        return log_loss(to_probabilities(logits_NL / np.exp(log_temperature), label_set), targets_NL, label_set)

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded")
    return float(np.exp(found.x))


def default_thresholds(label_set: LabelSet) -> tuple[float, ...]:
    """Return .5 for every label, or equal thresholds for classes."""
    count = len(label_set.names)
    return (DEFAULT_THRESHOLD,) * count if label_set.is_multi_label else (1.0 / count,) * count


def tune_thresholds(probabilities_NL: FloatArray, targets_NL: FloatArray, label_set: LabelSet) -> tuple[float, ...]:
    """Return the decision thresholds for some validation predictions.

    Multi-label: per label the threshold of best F1, shrunk in logit space towards the shared one. Classes: see
    `_class_thresholds`.
    """
    if not label_set.is_multi_label:
        return _class_thresholds(probabilities_NL, targets_NL)
    truth = targets_NL.astype(bool)
    shared = _logit(_shared_threshold(probabilities_NL, truth))
    thresholds = []
    for label in range(truth.shape[1]):
        positives = int(truth[:, label].sum())
        weight = positives / (positives + SHRINKAGE_POSITIVES)
        own = _logit(best_f1_threshold(probabilities_NL[:, label], truth[:, label])) if positives else shared
        thresholds.append(_sigmoid(weight * own + (1 - weight) * shared))
    return tuple(thresholds)


def confidence(probabilities_NL: FloatArray, decisions_NL: BoolArray) -> FloatArray:
    """Return how sure a classifier is of a text's labels, (N,): the probability of its least sure decision."""
    return np.asarray(np.where(decisions_NL, probabilities_NL, 1 - probabilities_NL).min(axis=1))


def surest_labels(probabilities_NL: FloatArray, decisions_NL: BoolArray) -> tuple[npt.NDArray[np.intp], BoolArray]:
    """Return one label a text, (N,): its likeliest one of those given, or of all if none was; and whether one was."""
    given_N: BoolArray = np.any(decisions_NL, axis=1)
    allowed_NL = decisions_NL | ~given_N[:, None]
    labels_N: npt.NDArray[np.intp] = np.where(allowed_NL, probabilities_NL, -1.0).argmax(axis=1)
    return labels_N, given_N


def tune_abstention(
    probabilities_NL: FloatArray, targets_NL: FloatArray, decisions_NL: BoolArray, *, precision: float
) -> float | None:
    """Return the least confidence at which the labels given reach a precision on validation.

    Precision is counted over all labels given to the texts that are kept, less one standard error: the next texts
    will not be as kind as those it was tuned on.

    Returns:
        the confidence below which a text goes to a human, or None if no cut reaches the precision.
    """
    sure_N = confidence(probabilities_NL, decisions_NL)
    order = np.argsort(-sure_N, kind="stable")
    given = np.cumsum(decisions_NL[order].sum(axis=1))
    right = np.cumsum((decisions_NL & (targets_NL > 0.5))[order].sum(axis=1))
    # Half a label right and half a one wrong are added: else the error of five right ones of five would be 0.
    rate = (right + 0.5) / (given + 1)
    cautious = rate - np.sqrt(rate * (1 - rate) / np.maximum(given, 1))
    ranked = sure_N[order]
    separable = ranked > np.append(ranked[1:], -np.inf)  # equally sure texts stay or go together
    enough = np.flatnonzero((cautious >= precision) & (given > 0) & separable)
    return float(ranked[enough[-1]]) if len(enough) else None


def best_f1_threshold(probabilities_N: FloatArray, truth_N: BoolArray) -> float:
    """Return the threshold with the best F1 on these rows: the middle of the widest gap between two of them.

    Where every probability is 0 (a baseline never saw the label), all thresholds are alike: the usual .5.
    """
    order = np.argsort(-probabilities_N, kind="stable")
    ranked, hits = probabilities_N[order], np.cumsum(truth_N[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + truth_N.sum())  # of taking the first k rows
    lower = np.append(ranked[1:], 0.0)  # a threshold between the k-th row and the next takes exactly k
    if not (ranked > lower).any():
        return DEFAULT_THRESHOLD
    gaps = np.where(f1 >= f1[ranked > lower].max() - 1e-12, ranked - lower, -1.0)
    widest = int(gaps.argmax())  # equally good thresholds may lie apart, with worse ones between them
    middle = (ranked[widest] + lower[widest]) / 2
    return float(np.clip(middle, *THRESHOLD_BOUNDS))


def _shared_threshold(probabilities_NL: FloatArray, truth: BoolArray) -> float:
    """Return the one threshold for all labels with the best macro-F1."""
    # Quantiles, not a grid: a barely trained classifier's probabilities all lie close together.
    candidates = np.unique(np.quantile(probabilities_NL, np.linspace(0, 1, SHARED_CANDIDATES)).clip(*THRESHOLD_BOUNDS))
    scores = []
    for threshold in candidates:
        given = probabilities_NL >= threshold
        totals = given.sum(0) + truth.sum(0)
        scores.append((2 * (given & truth).sum(0) / np.maximum(totals, 1)).mean())
    best = np.flatnonzero(np.array(scores) >= max(scores) - 1e-12)
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)  # as above: the middle of the widest run
    return float(candidates[max(runs, key=len)].mean())


def _class_thresholds(probabilities_NL: FloatArray, targets_NL: FloatArray) -> tuple[float, ...]:
    """Return thresholds in proportion to each class' share to the power τ.

    τ = 0 gives the most probable class, τ = 1 counts all classes alike however rare (logit adjustment, Menon et al.
    2021, arXiv:2007.07314 §4). Macro-F1 lies between. One number for all classes, drawn towards its usual value, is
    what a validation split of a few hundred rows can bear.
    """
    shares_L = probabilities_NL.mean(axis=0).clip(1e-4)
    truth_NL = targets_NL > 0.5
    totals_L = truth_NL.sum(axis=0)
    best, chosen = -1.0, shares_L
    for power in ADJUSTMENTS:
        thresholds_L = shares_L**power / (shares_L**power).sum()
        winners_N = (probabilities_NL / thresholds_L).argmax(axis=1)
        given_NL = winners_N[:, None] == np.arange(len(shares_L))
        f1_L = 2 * (given_NL & truth_NL).sum(0) / np.maximum(given_NL.sum(0) + totals_L, 1)
        quality = float(f1_L.mean()) - ADJUSTMENT_PENALTY * abs(power - ADJUSTMENT)
        if quality > best + 1e-12:
            best, chosen = quality, thresholds_L
    return tuple(float(threshold) for threshold in chosen)


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))
