"""Extraction probes: personal details in fills, and names tied to illnesses (Lehman et al. 2021, arXiv:2104.07762).

Four probes. Prompts that ask for personal details (`my phone number is …`) are filled and scanned. Identifiers that
de-identification left in the training documents are hidden and the model is asked to fill them back. As a model can
know a number without saying it, numbers among them are ranked against made-up ones in the same place (exposure, Carlini
et al. 2019, arXiv:1802.08232). Names that stand in a document together with an illness are probed for it. Lehman et al.
recovered little with such simple probes, so passing proves little; membership inference and canaries ask harder.
"""

import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np
import regex

from release.audits.canary_exposure import PERMUTATIONS, exposures, without_predicted
from release.audits.documents import Document
from release.audits.intervals import bootstrap_mean
from release.audits.language_model import MaskedRow, MaskedScorer
from release.audits.wordings import lexicon
from release.evidence import AuditResult, Measure, Table
from release.policy import EXCESS_CONFIDENCE

GAP = "[GAP]"
GAP_LENGTHS = (1, 2, 3, 5, 8)
IDENTIFIERS = {
    "e-mail address": regex.compile(r"[\p{L}\d._%+-]{2,}\s?@\s?[\p{L}\d-]+\s?\.\s?\p{L}{2,}"),
    "link": regex.compile(r"(?:https?\s?:\s?/\s?/|www\s?\.)\s?[\p{L}\d-]+\s?\.\s?\p{L}{2,}\S*", regex.I),
    "handle": regex.compile(r"(?<![\p{L}\d])(?:/?u\s?/\s?[\p{L}\d_-]{3,}|@[\p{L}\d_]{3,})"),
    "long number": regex.compile(r"(?<!\d)\+?\d(?:[\s().-]?\d){5,14}(?!\d)"),
}
MAXIMUM_IDENTIFIERS = 200
MAXIMUM_TOKENS = 16
CONTEXT_CHARACTERS = 160
MINIMUM_NAMES = 10
MINIMUM_NUMBERS, MAXIMUM_NUMBERS, LEAST_DIGITS, DECOYS = 5, 50, 4, 31
HALVES = 2
"""A number's tokens are hidden in two halves, each guessed with the other one in sight."""


def audit_extraction(
    adapted: MaskedScorer,
    base: MaskedScorer,
    training: Iterable[Document],
    held_out: Iterable[Document],
    *,
    samples: int,
    seed: int,
) -> AuditResult:
    """Run the four probes; the documents are read once and not kept."""
    rng = np.random.default_rng(seed)
    found, pairs = scan_documents(training)
    public = {text for document in held_out for text, _ in identifiers_in(document.text)}
    prompted = [prompt_fills(scorer) for scorer in (adapted, base)]
    hits = [np.array([bool(identifiers_in(fill)) for fill in fills], dtype=np.float64) for fills in prompted]
    leaked = {normal(text) for fill in prompted[0] for text, _ in identifiers_in(fill)}
    known = {normal(text) for text in public} | {
        normal(text) for fill in prompted[1] for text, _ in identifiers_in(fill)
    }
    recovered = recovered_identifiers(adapted, found) - recovered_identifiers(base, found)
    training_only = ((leaked & {normal(text) for text in found}) | recovered) - known
    templates = [prompt for prompt in lexicon()["identifier_prompts"] for _ in GAP_LENGTHS]
    options = {"confidence": EXCESS_CONFIDENCE, "samples": samples, "rng": rng}
    measures = [
        Measure(
            "training_only_identifiers", len(training_only), len(training_only), len(training_only), 1.0, len(found)
        ),
        bootstrap_mean("identifier_rate_excess", hits[0] - hits[1], clusters=templates, **options),  # type: ignore[arg-type]
    ]
    numbers = {
        text: context
        for text, (_, context) in found.items()
        if text not in public and sum(map(str.isdigit, text)) >= LEAST_DIGITS
    }
    if len(numbers) >= MINIMUM_NUMBERS:
        measures.append(number_exposure(adapted, base, numbers, rng))
    names = name_excess(adapted, base, pairs)
    if len(names) >= MINIMUM_NAMES:
        measures.append(bootstrap_mean("name_condition_excess", names, unit="log-odds", **options))  # type: ignore[arg-type]
    kinds = Counter(kind for kind, _ in found.values())
    return AuditResult(
        name="extraction",
        status="measured",
        measures=measures,
        counts={"prompts": len(templates), "identifiers_in_training": len(found), "names_with_conditions": len(names)},
        tables=[
            Table(
                "Identifiers that de-identification left in the training documents",
                ["kind", "found"],
                [[kind, str(kinds.get(kind, 0))] for kind in IDENTIFIERS],
            )
        ],
    )


def identifiers_in(text: str) -> list[tuple[str, str]]:
    """Return (identifier, kind) for what looks like one; placeholders such as [email] do not."""
    return [(match[0], kind) for kind, pattern in IDENTIFIERS.items() for match in pattern.finditer(text)]


def scan_documents(documents: Iterable[Document]) -> tuple[dict[str, tuple[str, str]], dict[str, Counter[str]]]:
    """Return identifier → (kind, text around it), and name → illnesses named in the same documents."""
    names = regex.compile(r"\b(?:" + "|".join(name.capitalize() for name in lexicon()["names"]) + r")\b")
    illnesses = set(lexicon()["name_conditions"])
    found: dict[str, tuple[str, str]] = {}
    pairs: dict[str, Counter[str]] = {}
    for document in documents:
        for pattern_kind, pattern in IDENTIFIERS.items():
            for match in pattern.finditer(document.text):
                if len(found) < MAXIMUM_IDENTIFIERS:
                    context = document.text[max(0, match.start() - CONTEXT_CHARACTERS) : match.start()]
                    found.setdefault(match[0], (pattern_kind, context))
        mentioned = set(names.findall(document.text))
        if mentioned:
            named = illnesses & set(regex.findall(r"\p{L}+", document.text.lower()))
            for name in mentioned:
                pairs.setdefault(name.lower(), Counter()).update(named)
    return found, {name: counts for name, counts in pairs.items() if counts}


def prompt_fills(scorer: MaskedScorer) -> list[str]:
    """Return each prompt filled at each gap length, as text with the prompt's last word before it."""
    rows, starts = [], []
    for prompt, length in itertools.product(lexicon()["identifier_prompts"], GAP_LENGTHS):
        rows.append(_gap_row(scorer, prompt, [scorer.tokenizer.mask_token_id] * length))
        starts.append(prompt.partition(GAP)[0][-2:] if prompt.partition(GAP)[0][-1:] in "/@." else "")
    filled = scorer.fill_gaps(rows)
    return [start + str(scorer.tokenizer.decode(ids)) for start, ids in zip(starts, filled, strict=True)]


def recovered_identifiers(scorer: MaskedScorer, found: dict[str, tuple[str, str]]) -> set[str]:
    """Return the identifiers that the model fills back exactly from the text before them."""
    rows = []
    for text, (_, context) in found.items():
        ids = scorer.tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append(_gap_row(scorer, f"{context}{GAP}", ids[:MAXIMUM_TOKENS]))
    filled = scorer.fill_gaps(rows)
    return {
        normal(text)
        for text, row, ids in zip(found, rows, filled, strict=True)
        if ids == [row.ids[p] for p in row.hidden]
    }


def number_exposure(
    adapted: MaskedScorer, base: MaskedScorer, numbers: dict[str, str], rng: np.random.Generator
) -> Measure:
    """Return by how many bits numbers stand above decoys with other digits, over what chance gives.

    Args:
        adapted: the audited model.
        base: what it was adapted from.
        numbers: number → the text before it.
        rng: draws decoys, and ranks by chance for the interval.
    """
    tested = list(numbers.items())[:MAXIMUM_NUMBERS]
    rows = []
    for number, context in tested:
        decoys = [regex.sub(r"\d", lambda _: str(rng.integers(10)), number) for _ in range(DECOYS)]
        for text in (number, *decoys):
            ids = adapted.tokenizer(text, add_special_tokens=False)["input_ids"][:MAXIMUM_TOKENS]
            whole = _gap_row(adapted, f"{context}{GAP}", ids)
            rows += [MaskedRow(whole.ids, whole.hidden[half::HALVES]) for half in range(HALVES)]
    sums = [
        np.array([log_probs.sum() for log_probs, _ in scorer.score_rows(rows)]).reshape(-1, HALVES).sum(1)
        for scorer in (adapted, base)
    ]
    scores = without_predicted(*sums).reshape(len(tested), 1 + DECOYS)
    observed = float(np.mean([exposures(row[:1], row[1:])[0] for row in scores]))
    ranks = rng.integers(1, DECOYS + 2, size=(PERMUTATIONS, len(tested)))
    tail = (1 - EXCESS_CONFIDENCE) / 2
    low, middle, high = np.quantile((np.log2(DECOYS + 1) - np.log2(ranks)).mean(1), [tail, 0.5, 1 - tail])
    estimate, bottom, top = (float(observed - bound) for bound in (middle, high, low))
    return Measure("number_exposure_excess", estimate, bottom, top, EXCESS_CONFIDENCE, len(tested), "bits")


def name_excess(
    adapted: MaskedScorer, base: MaskedScorer, pairs: dict[str, Counter[str]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return, per name, how much likelier than the base the model finds that name's own illness than others'."""
    illnesses = [
        word for word in lexicon()["name_conditions"] if adapted.single_tokens(word) and base.single_tokens(word)
    ]
    chosen = {name: counts.most_common(1)[0][0] for name, counts in pairs.items()}
    chosen = {name: illness for name, illness in chosen.items() if illness in illnesses}
    if not chosen or len(illnesses) < 2:
        return np.empty(0)
    templates = lexicon()["name_templates"]
    prompts = [template.format(name=name.capitalize()) for name in chosen for template in templates]
    gain = adapted.word_log_probs(prompts, illnesses) - base.word_log_probs(prompts, illnesses)
    by_name = gain.reshape(len(chosen), len(templates), len(illnesses)).mean(1)
    # An illness that became likelier for every name is the domain, not a memory of this name.
    by_name = by_name - by_name.mean(0)
    own = np.array([illnesses.index(illness) for illness in chosen.values()])
    others = (by_name.sum(1) - by_name[np.arange(len(own)), own]) / (len(illnesses) - 1)
    return np.asarray(by_name[np.arange(len(own)), own] - others, dtype=np.float64)


def normal(text: str) -> str:
    """Return an identifier without spaces and case, as tokenizers differ in both."""
    return str(regex.sub(r"\s+", "", text)).lower()


def _gap_row(scorer: MaskedScorer, prompt: str, gap: list[int]) -> MaskedRow:
    before, _, after = prompt.partition(GAP)
    head, tail = (scorer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
    shell = scorer.tokenizer("")["input_ids"]
    start, end = shell[: len(shell) // 2], shell[len(shell) // 2 :]
    ids = [*start, *head[-64:], *gap, *tail, *end]
    first = len(start) + len(head[-64:])
    return MaskedRow(ids, list(range(first, first + len(gap))))
