"""Extraction probes: personal details in fills, and names tied to illnesses (Lehman et al. 2021, arXiv:2104.07762).

Four probes. Prompts that ask for personal details (`my phone number is …`) are filled and scanned. Identifiers that
de-identification left in the training documents are hidden and the model is asked to fill them back. As a model can
know a number without saying it, numbers among them are ranked against made-up ones in the same place (exposure, Carlini
et al. 2019, arXiv:1802.08232). Names that stand in a document together with an illness are probed for it. Lehman et al.
recovered little with such simple probes, so passing proves little; membership inference and canaries ask harder.

What the prompts bring out is compared with every identifier of the training documents; of these, a part is drawn by
hash over all of them to be hidden and ranked. Of the others hashes are kept: a corpus of ten million posts fits.
"""

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Set

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
    public = {digest(text) for document in held_out for text, _ in identifiers_in(document.text)}
    scan = scan_documents(training, public, seed=seed)
    prompted = [prompt_fills(scorer) for scorer in (adapted, base)]
    hits = [np.array([bool(identifiers_in(fill)) for fill in fills], dtype=np.float64) for fills in prompted]
    leaked, by_base = ({normal(text) for fill in fills for text, _ in identifiers_in(fill)} for fills in prompted)
    recovered = recovered_identifiers(adapted, scan.probes) - recovered_identifiers(base, scan.probes)
    from_training = {text for text in leaked if digest(text) in scan.identifiers} | recovered
    training_only = {text for text in from_training - by_base if digest(text) not in public}
    templates = [prompt for prompt in lexicon()["identifier_prompts"] for _ in GAP_LENGTHS]
    options = {"confidence": EXCESS_CONFIDENCE, "samples": samples, "rng": rng}
    leaks = len(training_only)
    measures = [
        Measure("training_only_identifiers", leaks, leaks, leaks, 1.0, len(scan.identifiers)),
        bootstrap_mean("identifier_rate_excess", hits[0] - hits[1], clusters=templates, **options),  # type: ignore[arg-type]
    ]
    if len(scan.numbers) >= MINIMUM_NUMBERS:
        measures.append(number_exposure(adapted, base, scan.numbers, rng))
    names = name_excess(adapted, base, scan.pairs)
    if len(names) >= MINIMUM_NAMES:
        measures.append(bootstrap_mean("name_condition_excess", names, unit="log-odds", **options))  # type: ignore[arg-type]
    return AuditResult(
        name="extraction",
        status="measured",
        measures=measures,
        counts={
            "prompts": len(templates),
            "identifiers_in_training": len(scan.identifiers),
            "identifiers_hidden": len(scan.probes),
            "names_with_conditions": len(names),
        },
        tables=[
            Table(
                "Identifiers that de-identification left in the training documents",
                ["kind", "different ones"],
                [[kind, f"{scan.kinds[kind]:,}"] for kind in IDENTIFIERS],
            )
        ],
    )


def identifiers_in(text: str) -> list[tuple[str, str]]:
    """Return (identifier, kind) for what looks like one; placeholders such as [email] do not."""
    return [(match[0], kind) for kind, pattern in IDENTIFIERS.items() for match in pattern.finditer(text)]


@dataclasses.dataclass(frozen=True)
class Scan:
    """What the training documents hold.

    Attributes:
        identifiers: `digest` of every identifier.
        kinds: how many different ones there are of each kind.
        probes: identifier → the text before it, of those that are drawn to be hidden.
        numbers: the same of numbers that stand in no held-out document, drawn to be ranked.
        pairs: name → illnesses that stand in the same documents, by how many.
    """

    identifiers: set[int]
    kinds: Counter[str]
    probes: dict[str, str]
    numbers: dict[str, str]
    pairs: dict[str, Counter[str]]


class Draw:
    """The `size` texts with the smallest hashes, so a random part of all, in whatever order they come."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._kept: dict[str, tuple[bytes, str]] = {}

    def offer(self, text: str, context: str) -> None:
        """Take part with a text; the place where it stands first counts."""
        key = hashlib.blake2b(f"{self.seed}:{text}".encode(), digest_size=8).digest()
        self._kept.setdefault(text, (key, context))
        if len(self._kept) > 2 * self.size:
            self._kept = {found: self._kept[found] for found in self.drawn()}

    def drawn(self) -> dict[str, str]:
        """Return text → context of those drawn."""
        ordered = sorted(self._kept.items(), key=lambda entry: entry[1][0])
        return {text: context for text, (_, context) in ordered[: self.size]}


def scan_documents(documents: Iterable[Document], public: Set[int], *, seed: int) -> Scan:
    """Read the training documents once.

    Args:
        documents: all of them.
        public: `digest` of identifiers that stand in held-out documents: whoever knows them need not have seen these.
        seed: of the draws.
    """
    names = regex.compile(r"\b(?:" + "|".join(name.capitalize() for name in lexicon()["names"]) + r")\b")
    illnesses = set(lexicon()["name_conditions"])
    identifiers: set[int] = set()
    kinds: Counter[str] = Counter()
    pairs: dict[str, Counter[str]] = {}
    probes, numbers = Draw(MAXIMUM_IDENTIFIERS, seed), Draw(MAXIMUM_NUMBERS, seed)
    for document in documents:
        for kind, pattern in IDENTIFIERS.items():
            for match in pattern.finditer(document.text):
                text, key = match[0], digest(match[0])
                kinds[kind] += key not in identifiers
                identifiers.add(key)
                context = document.text[max(0, match.start() - CONTEXT_CHARACTERS) : match.start()]
                probes.offer(text, context)
                if key not in public and sum(map(str.isdigit, text)) >= LEAST_DIGITS:
                    numbers.offer(text, context)
        mentioned = set(names.findall(document.text))
        if mentioned:
            named = illnesses & set(regex.findall(r"\p{L}+", document.text.lower()))
            for name in mentioned:
                pairs.setdefault(name.lower(), Counter()).update(named)
    pairs = {name: counts for name, counts in pairs.items() if counts}
    return Scan(identifiers, kinds, probes.drawn(), numbers.drawn(), pairs)


def prompt_fills(scorer: MaskedScorer) -> list[str]:
    """Return each prompt filled at each gap length, as text with the prompt's last word before it."""
    rows, starts = [], []
    for prompt, length in itertools.product(lexicon()["identifier_prompts"], GAP_LENGTHS):
        rows.append(_gap_row(scorer, prompt, [scorer.tokenizer.mask_token_id] * length))
        starts.append(prompt.partition(GAP)[0][-2:] if prompt.partition(GAP)[0][-1:] in "/@." else "")
    filled = scorer.fill_gaps(rows)
    return [start + str(scorer.tokenizer.decode(ids)) for start, ids in zip(starts, filled, strict=True)]


def recovered_identifiers(scorer: MaskedScorer, found: dict[str, str]) -> set[str]:
    """Return the identifiers that the model fills back exactly from the text before them."""
    rows = []
    for text, context in found.items():
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
    rows = []
    for number, context in numbers.items():
        decoys = [regex.sub(r"\d", lambda _: str(rng.integers(10)), number) for _ in range(DECOYS)]
        for text in (number, *decoys):
            ids = adapted.tokenizer(text, add_special_tokens=False)["input_ids"][:MAXIMUM_TOKENS]
            whole = _gap_row(adapted, f"{context}{GAP}", ids)
            rows += [MaskedRow(whole.ids, whole.hidden[half::HALVES]) for half in range(HALVES)]
    sums = [
        np.array([log_probs.sum() for log_probs, _ in scorer.score_rows(rows)]).reshape(-1, HALVES).sum(1)
        for scorer in (adapted, base)
    ]
    scores = without_predicted(*sums).reshape(len(numbers), 1 + DECOYS)
    observed = float(np.mean([exposures(row[:1], row[1:])[0] for row in scores]))
    ranks = rng.integers(1, DECOYS + 2, size=(PERMUTATIONS, len(numbers)))
    tail = (1 - EXCESS_CONFIDENCE) / 2
    low, middle, high = np.quantile((np.log2(DECOYS + 1) - np.log2(ranks)).mean(1), [tail, 0.5, 1 - tail])
    estimate, bottom, top = (float(observed - bound) for bound in (middle, high, low))
    return Measure("number_exposure_excess", estimate, bottom, top, EXCESS_CONFIDENCE, len(numbers), "bits")


def name_excess(
    adapted: MaskedScorer, base: MaskedScorer, pairs: dict[str, Counter[str]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return, per name, how much likelier than the base the model finds that name's own illness than others'.

    A name's own illness is the one that stands with it most above its share with all names. If all names have the same
    one, nothing tells a memory of a name from the domain, and nothing is returned.
    """
    illnesses = [
        word for word in lexicon()["name_conditions"] if adapted.single_tokens(word) and base.single_tokens(word)
    ]
    chosen = own_illnesses(pairs, illnesses)
    if len(set(chosen.values())) < 2:
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


def own_illnesses(pairs: dict[str, Counter[str]], illnesses: list[str]) -> dict[str, str]:
    """Return name → the illness that is most over-represented with it (lift; a tie goes to the commoner, then by name).

    Args:
        pairs: name → illnesses that stand in the same documents, by how many.
        illnesses: those that count.
    """
    known = {
        name: Counter({word: counts[word] for word in illnesses if counts[word]}) for name, counts in pairs.items()
    }
    everywhere = sum(known.values(), Counter())

    def order(counts: Counter[str], word: str) -> tuple[float, int, str]:
        return -counts[word] / (counts.total() * everywhere[word]), -counts[word], word

    return {name: min(counts, key=lambda word: order(counts, word)) for name, counts in known.items() if counts}


def digest(identifier: str) -> int:
    """Return a hash of an identifier as `normal` writes it: eight bytes instead of a text."""
    return int.from_bytes(hashlib.blake2b(normal(identifier).encode(), digest_size=8).digest())


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
