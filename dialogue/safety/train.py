"""Train the safety classifier: `python -m dialogue.safety.train [--output FILE]`.

Reads nothing but the synthetic cases of `training_cases/`. The same code and seed write the same weights.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.console import start_console
from configs.errors import run_program
from dialogue.safety.classifier import LABELS, NUMBER_OF_FEATURES, WEIGHTS_FILE, feature_scale, hashed_features
from dialogue.safety.grammar import TRAINING_CASES_DIR, training_cases
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
CASES_PER_TEMPLATE = {"ordinary": 150}
DEFAULT_CASES_PER_TEMPLATE = 24
CATEGORY_WEIGHTS = {"ordinary": 2.0}


def train(output: Path, seed: int) -> None:
    """Fit the classifier and write its weights, float16, without the rows that are zero."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    cases = training_cases(TRAINING_CASES_DIR, DEFAULT_CASES_PER_TEMPLATE, seed, CASES_PER_TEMPLATE)
    rows = [hashed_features(plain_words(case.text)) for case in cases]
    values = np.concatenate([np.full(len(row), feature_scale(len(row)), dtype=np.float32) for row in rows])
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    matrix = csr_matrix((values, np.concatenate(rows), starts), shape=(len(rows), NUMBER_OF_FEATURES))
    labels = [LABELS.index(LABEL_OF_CATEGORY[case.category]) for case in cases]
    weights = [case.weight * CATEGORY_WEIGHTS.get(case.category, 1.0) for case in cases]
    model = LogisticRegression(C=REGULARIZATION_C, max_iter=400, tol=1e-4)
    model.fit(matrix, labels, sample_weight=weights)
    seen = np.flatnonzero(np.abs(model.coef_).max(axis=0) > 0.02)
    with output.open("wb") as file:
        np.savez_compressed(
            file,
            labels=np.array(LABELS),
            features=seen.astype(np.int32),
            coefficients=model.coef_[:, seen].T.astype(np.float16),
            intercepts=model.intercept_.astype(np.float32),
        )
    size = output.stat().st_size / 1e6
    LOG.info("%d synthetic cases, %d features, %.2f MB: %s", len(cases), len(seen), size, output)


def main(arguments: Sequence[str], program: str) -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(prog=program, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=WEIGHTS_FILE, help="File to write.")
    parser.add_argument("--seed", type=int, default=13, help="Seed of the grammar's choices.")
    options = parser.parse_args(arguments)
    train(options.output, options.seed)


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "python -m dialogue.safety.train")))
