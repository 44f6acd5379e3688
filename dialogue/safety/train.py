"""Train the safety classifier: `python -m dialogue.safety.train --cases TABLE ... [--ordinary FILE.jsonl ...]`.

Reads the grammar's synthetic cases, a table of cases to learn from (never the half that is reported), and, where
given, open data sets of ordinary talk whose texts the rules find nothing in. Only hashed weights are written; no text
is. The same inputs and seed write the same weights.
"""

import argparse
import json
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from configs.console import start_console
from configs.errors import UserError, run_program
from dialogue.safety.cases import Case, read_cases
from dialogue.safety.classifier import (
    LABELS,
    NUMBER_OF_FEATURES,
    WEIGHTS_FILE,
    Weights,
    feature_scale,
    hashed_features,
)
from dialogue.safety.grammar import TRAINING_CASES_DIR, training_cases
from dialogue.safety.rules import explicit_signals, strip_harmless
from dialogue.safety.screening import Route
from dialogue.safety.spelling import plain_words

LOG = logging.getLogger(__name__)
LABEL_OF_CATEGORY = {
    "explicit": "crisis", "slang": "crisis", "self_harm": "crisis", "emergency": "crisis", "indirect": "crisis",
    "method": "crisis", "third": "third_person", "harm_others": "harm_others", "abuse": "abuse",
    "diagnosis": "medical_advice", "medication": "medical_advice", "about_program": "about_program", "hint": "hint",
    "sad": "ok", "ok": "ok", "ordinary": "ok", "idiom": "ok", "gaming": "ok", "negation": "ok", "past": "ok",
    "quote": "ok", "grief": "ok", "third_ok": "ok", "info": "ok",
}  # fmt: skip
REGULARIZATION_C = 60.0
CASES_PER_TEMPLATE = {"ordinary": 60}
DEFAULT_CASES_PER_TEMPLATE = 12
CATEGORY_WEIGHTS = {"ordinary": 2.0}
CASE_WEIGHT = 1.0
ORDINARY_TEXTS, ORDINARY_WEIGHT = 5000, 0.25
SMALLEST_COEFFICIENT = 0.02


class Row(NamedTuple):
    """A text in plain words, its label, and how much it counts."""

    plain: str
    label: str
    weight: float


def grammar_rows(seed: int) -> list[Row]:
    """Return the synthetic cases."""
    cases = training_cases(TRAINING_CASES_DIR, DEFAULT_CASES_PER_TEMPLATE, seed, CASES_PER_TEMPLATE)
    return [
        Row(plain_words(c.text), LABEL_OF_CATEGORY[c.category], c.weight * CATEGORY_WEIGHTS.get(c.category, 1.0))
        for c in cases
    ]


def case_rows(cases: Sequence[Case]) -> list[Row]:
    """Return the cases of a single turn; what several turns mean together is not the classifier's to learn."""
    rows = []
    for case in cases:
        if len(case.turns) == 1:
            label = case.category if case.category in ("third_person", "harm_others") else case.route.value
            if case.route != Route.CRISIS:
                label = case.route.value
            rows.append(Row(plain_words(case.turns[0].text), label, CASE_WEIGHT))
    return rows


def ordinary_rows(path: Path, seed: int, most: int = ORDINARY_TEXTS) -> list[Row]:
    """Return at most `most` texts of a JSONL file with `text` in which the rules find nothing, as `ok`.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        # Not splitlines: JSON may hold U+2028 and its like as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
        texts = [str(json.loads(line)["text"]) for line in lines if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot be read as JSON lines with `text` ({type(error).__name__})", where=path) from error
    chosen = random.Random(f"{seed} {path.name}").sample(texts, min(most, len(texts)))
    plain = [plain_words(text) for text in chosen]
    return [Row(text, "ok", ORDINARY_WEIGHT) for text in plain if not explicit_signals(strip_harmless(text)[0])]


def fit(rows: Sequence[Row]) -> Weights:
    """Fit a multinomial logistic regression on the rows' hashed features."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    features = [hashed_features(row.plain) for row in rows]
    values = np.concatenate([np.full(len(found), feature_scale(len(found)), dtype=np.float32) for found in features])
    starts = np.concatenate([[0], np.cumsum([len(found) for found in features])])
    matrix = csr_matrix((values, np.concatenate(features), starts), shape=(len(rows), NUMBER_OF_FEATURES))
    model = LogisticRegression(C=REGULARIZATION_C, max_iter=300, tol=1e-3)
    model.fit(matrix, [LABELS.index(row.label) for row in rows], sample_weight=[row.weight for row in rows])
    coefficients: npt.NDArray[np.float32] = model.coef_.T.astype(np.float32)
    return Weights(coefficients, model.intercept_.astype(np.float32))


def save(weights: Weights, output: Path) -> int:
    """Write weights as float16, without the rows that are all but zero; returns how many rows stay."""
    seen = np.flatnonzero(np.abs(weights.coefficients).max(axis=1) > SMALLEST_COEFFICIENT)
    with output.open("wb") as file:
        np.savez_compressed(
            file,
            labels=np.array(LABELS),
            features=seen.astype(np.int32),
            coefficients=weights.coefficients[seen].astype(np.float16),
            intercepts=weights.intercepts,
        )
    return len(seen)


def parse_options(
    arguments: Sequence[str], program: str, *, description: str | None, output: Path
) -> argparse.Namespace:
    """Read the command line of a trainer: `cases`, `ordinary`, `output`, `seed`."""
    parser = argparse.ArgumentParser(prog=program, description=(description or "").split("\n\n")[0])
    parser.add_argument("--cases", type=Path, nargs="+", default=[], help="Tables of cases to learn from.")
    parser.add_argument("--ordinary", type=Path, nargs="+", default=[], help="JSONL files of ordinary talk.")
    parser.add_argument("--output", type=Path, default=output, help="File to write.")
    parser.add_argument("--seed", type=int, default=13, help="Seed of everything random.")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], program: str) -> None:
    """Train from the command line."""
    options = parse_options(arguments, program, description=__doc__, output=WEIGHTS_FILE)
    rows = grammar_rows(options.seed)
    rows += [row for path in options.cases for row in case_rows(read_cases(path))]
    rows += [row for path in options.ordinary for row in ordinary_rows(path, options.seed)]
    kept = save(fit(rows), options.output)
    LOG.info("%d rows, %d features, %.2f MB: %s", len(rows), kept, options.output.stat().st_size / 1e6, options.output)


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "python -m dialogue.safety.train")))
