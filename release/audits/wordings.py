"""The wordings and word lists of the audits (`lexicon.json`), checked against a model's vocabulary."""

import csv
import dataclasses
import functools
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import UserError
from release.audits.language_model import MaskedScorer

Floats = npt.NDArray[np.float64]


@functools.cache
def lexicon() -> dict[str, Any]:
    """Return the word lists."""
    values: dict[str, Any] = json.loads(files("release.audits").joinpath("lexicon.json").read_text(encoding="utf-8"))
    return values


def read_table(path: Path, columns: tuple[str, ...], *, delimiter: str) -> list[dict[str, str]]:
    """Read a published file of wordings.

    Raises:
        UserError: it is no UTF-8, has no rows, or lacks a column, in its head or in a row.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"not a readable table ({type(error).__name__})", where=path) from error
    if not rows:
        raise UserError("holds no rows", where=path)
    for number, row in enumerate(rows, start=2):
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise UserError(
                f"has no {', '.join(missing)}",
                where=f"{path}:{number}",
                fix="Take the file as its authors publish it; see docs/releasing.md.",
            )
    return rows


@dataclasses.dataclass(frozen=True)
class WordContrast:
    """Two word lists, each reduced to the words that are single tokens for both models compared."""

    ours: list[str]
    others: list[str]

    @classmethod
    def known_to(cls, scorers: list[MaskedScorer], ours: list[str], others: list[str]) -> "WordContrast":
        """Keep the words that every scorer can fill in."""
        kept = [[word for word in words if all(s.single_tokens(word) for s in scorers)] for words in (ours, others)]
        return cls(*kept)

    @property
    def usable(self) -> bool:
        """Whether words are left on both sides."""
        return bool(self.ours and self.others)

    def log_odds(self, scorer: MaskedScorer, templates: list[str], conditions: list[str]) -> Floats:
        """Return (conditions, templates) log of the probability of `ours` over that of `others`."""
        prompts = [template.format(c=condition) for condition in conditions for template in templates]
        log_probs_PW = scorer.word_log_probs(prompts, [*self.ours, *self.others])
        split = len(self.ours)
        odds = np.logaddexp.reduce(log_probs_PW[:, :split], axis=1) - np.logaddexp.reduce(
            log_probs_PW[:, split:], axis=1
        )
        result: Floats = odds.reshape(len(conditions), len(templates))
        return result


def known_conditions(scorers: list[MaskedScorer], conditions: list[str]) -> list[str]:
    """Return the conditions that no scorer reads as unknown words."""
    return [
        condition
        for condition in conditions
        if not any(s.tokenizer.unk_token_id in s.tokenizer(condition)["input_ids"] for s in scorers)
    ]
