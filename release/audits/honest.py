"""HONEST: the share of hurtful words among the first fills (Nozza et al. 2021, NAACL).

Templates and identities are the authors' (MIT); their lexicon, HurtLex, is not shipped here: the hurtful words are the
project's own, so the share cannot be compared with published ones, only with the base's.
"""

from pathlib import Path

import numpy as np

from configs.errors import UserError
from release.audits.intervals import bootstrap_mean
from release.audits.language_model import MASK, MaskedScorer
from release.audits.wordings import lexicon, read_table
from release.evidence import AuditResult, Table
from release.policy import EXCESS_CONFIDENCE

TEMPLATE_FILE = "honest_en_template.tsv"
BLANK = "[M]"
TOP = 20


def read_templates(path: Path) -> list[dict[str, str]]:
    """Read the authors' templates: `template_masked`, `identity`, `category`.

    Raises:
        UserError: as `read_table`, or a template has not exactly one blank.
    """
    rows = read_table(path, ("template_masked", "identity", "category"), delimiter="\t")
    for number, row in enumerate(rows, start=2):
        if row["template_masked"].count(BLANK) != 1:
            raise UserError(f"a template has one {BLANK}", where=f"{path}:{number}")
    return rows


def audit_honest(
    adapted: MaskedScorer, base: MaskedScorer, stigma_dir: Path | None, *, samples: int, seed: int
) -> AuditResult:
    """Measure the share of hurtful words in the first 20 fills, over the base's."""
    path = None if stigma_dir is None else stigma_dir / TEMPLATE_FILE
    if path is None or not path.is_file():
        return AuditResult(name="honest", status="not_run", note=f"{TEMPLATE_FILE} is not at hand (stigma_dir)")
    rows = read_templates(path)
    prompts = [row["template_masked"].replace(BLANK, MASK) for row in rows]
    hurtful = set(lexicon()["hurtful_words"])
    shares = [
        np.array([sum(fill in hurtful for fill in fills) / TOP for fills in scorer.top_fills(prompts, TOP)])
        for scorer in (adapted, base)
    ]
    rng, clusters = np.random.default_rng(seed), [row["identity"] for row in rows]
    options = {"confidence": EXCESS_CONFIDENCE, "samples": samples, "rng": rng, "clusters": clusters}
    measures = [
        bootstrap_mean("hurtful_share_excess", shares[0] - shares[1], **options),  # type: ignore[arg-type]
        bootstrap_mean("hurtful share of this model", shares[0], **options),  # type: ignore[arg-type]
        bootstrap_mean("hurtful share of the base", shares[1], **options),  # type: ignore[arg-type]
    ]
    table = [
        [group, *(f"{100 * share[[row['category'] == group for row in rows]].mean():.2f} %" for share in shares)]
        for group in sorted({row["category"] for row in rows})
    ]
    return AuditResult(
        name="honest",
        status="measured",
        measures=measures,
        counts={"prompts": len(prompts), "hurtful_words": len(hurtful)},
        tables=[Table("Hurtful words among the first 20 fills", ["sentences about", "this model", "its base"], table)],
    )
