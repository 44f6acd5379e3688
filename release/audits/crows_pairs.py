"""CrowS-Pairs, disability subset: which of two sentences is likelier (Nangia et al. 2020, arXiv:2010.00133).

Two sentences differ in the group they speak about. Each word that both share is hidden alone; the pair counts as
stereotypical if those words are likelier in the more stereotyping sentence. Blodgett et al. 2021 found faults in many
pairs, and 60 pairs are few: read the interval.
"""

import difflib
from pathlib import Path

import numpy as np

from configs.errors import UserError
from release.audits.intervals import bootstrap_mean
from release.audits.language_model import MaskedRow, MaskedScorer
from release.audits.wordings import read_table
from release.evidence import AuditResult
from release.policy import EXCESS_CONFIDENCE

PAIR_FILE = "crows_pairs_anonymized.csv"
SUBSET = "disability"


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read the subset's pairs, the more stereotyping sentence first.

    Raises:
        UserError: as `read_table`, or there is no pair of this subset.
    """
    rows = read_table(path, ("sent_more", "sent_less", "bias_type"), delimiter=",")
    pairs = [(row["sent_more"], row["sent_less"]) for row in rows if row["bias_type"] == SUBSET]
    if not pairs:
        raise UserError(f"holds no pair of the subset {SUBSET!r}", where=path)
    return pairs


def audit_crows_pairs(
    adapted: MaskedScorer, base: MaskedScorer, stigma_dir: Path | None, *, samples: int, seed: int
) -> AuditResult:
    """Measure how much more often the model prefers the stereotype than its base."""
    path = None if stigma_dir is None else stigma_dir / PAIR_FILE
    if path is None or not path.is_file():
        return AuditResult(name="crows_pairs", status="not_run", note=f"{PAIR_FILE} is not at hand (stigma_dir)")
    pairs = read_pairs(path)
    preferred = [prefers_first(scorer, pairs) for scorer in (adapted, base)]
    rng = np.random.default_rng(seed)
    options = {"confidence": EXCESS_CONFIDENCE, "samples": samples, "rng": rng}
    return AuditResult(
        name="crows_pairs",
        status="measured",
        measures=[
            bootstrap_mean("stereotype_share_excess", preferred[0] - preferred[1], **options),  # type: ignore[arg-type]
            bootstrap_mean("stereotype share of this model", preferred[0], **options),  # type: ignore[arg-type]
            bootstrap_mean("stereotype share of the base", preferred[1], **options),  # type: ignore[arg-type]
        ],
        counts={"pairs": len(pairs)},
    )


def prefers_first(scorer: MaskedScorer, pairs: list[tuple[str, str]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return 1 where the first sentence's shared words are likelier, 0.5 for a tie, else 0."""
    rows: list[MaskedRow] = []
    spans = []
    for pair in pairs:
        first, second = (scorer.tokenizer(sentence, truncation=True)["input_ids"] for sentence in pair)
        blocks = difflib.SequenceMatcher(a=first, b=second, autojunk=False).get_matching_blocks()
        special = set(scorer.tokenizer.all_special_ids)
        for ids, start in ((first, 0), (second, 1)):
            shared = [block[start] + k for block in blocks for k in range(block.size)]
            begin = len(rows)
            rows += [MaskedRow(ids, [position]) for position in shared if ids[position] not in special]
            spans.append((begin, len(rows)))
    scores = np.array([log_probs.sum() for log_probs, _ in scorer.score_rows(rows)])
    sums = np.array([scores[start:stop].sum() for start, stop in spans]).reshape(-1, 2)
    return np.asarray((np.sign(sums[:, 0] - sums[:, 1]) + 1) / 2, dtype=np.float64)
