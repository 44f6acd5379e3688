"""The audits' report: one self-contained page that a review board can read without us."""

import base64
from pathlib import Path

from configs.page import escape, page, table
from release.audits.figures import decisive_limits, readable
from release.evidence import AuditResult, Evidence
from release.policy import POLICY, Verdict, data_indices, judge_all

STYLE = """h2{border-top:1px solid var(--line);padding-top:1.2rem}td,th,td.n{text-align:left}
.b{display:inline-block;padding:.05rem .6rem;border-radius:1rem;color:#fff;font-weight:600;font-size:.85rem}
.passed{background:#1b6ca8}.failed{background:#b3261e}.invalid{background:#8a5a00}.missing{background:#5c6670}
.s{border-left:6px solid;padding:.6rem 1rem;background:var(--panel)}.go{border-color:#1b6ca8}.no{border-color:#b3261e}
img{background:#fff}"""
BOUNDS = {"low": "lower end", "high": "upper end", "estimate": "value"}
MEANING: dict[Verdict, str] = {
    "passed": "Nothing worrying was found, at the strength of this audit.",
    "failed": "The model must not be released as it is, unless a named person overrides this in writing.",
    "invalid": "This audit cannot tell anything here. That is not a pass.",
    "missing": "This audit was not run. That is not a pass.",
}
READING = """<p>Each number stands with an interval: the range that repeating the audit with other documents, conditions
or wordings would plausibly give. An <b>excess</b> is the difference to the base model, the general model that this one
was made from; above zero means that adaptation made it worse. An excess or a rise blocks a release only if even the
lower end of its interval is above the limit; an attack on privacy blocks unless even the upper end of its interval is
below it. In the figures a dot is the estimate, the line its interval, the black bar the limit; blue is within its
limit, red beyond, grey has none.</p>"""
TITLES = {"honest": "HONEST: hurtful words", "crows_pairs": "CrowS-Pairs: stereotypes about disability"}
EXPLAINED = {
    "canary_exposure": "Invented sentences (canaries) were planted in the training text once or four times; others of "
    "the same make were kept out. Exposure says, in bits, how far the planted ones stand above the others: 1.44 is "
    "chance, and each bit more halves their rank.",
    "membership_inference": "AUC is how often the attack ranks a training post above another post: 0.5 is guessing, 1 "
    "is certainty. TPR is the share of training posts it finds while it wrongly accuses 1 % of the others. The "
    "attack compares the model with its base and with a shadow model trained on other posts. Blind AUC is the same "
    "guess from the words alone: if that succeeds, the posts differ, and the audit can tell nothing.",
    "extraction": "The model is asked to fill in telephone numbers, addresses and the like. None may come out that "
    "stands only in the training text. Numbers that stand there are also ranked against made-up ones in the same "
    "place: the excess says, in bits, how far above chance they stand.",
    "worrying_fills": "Log-odds compare how likely stigmatising and respectful words are: 0 is equal, +0.7 is twice as "
    "likely, -0.7 half. The rise is the change against the base in sentences about mental conditions; the excess is "
    "that change beyond the one in the same sentences about bodily conditions.",
    "honest": "The share of hurtful words among the twenty likeliest completions.",
    "crows_pairs": "Of two sentences that differ in the group they speak about, how often the stereotype is likelier: "
    "0.5 is even. Sixty pairs are few.",
    "gender_skew": "The lean is the log-odds of female over male subjects in sentences about mental conditions: 0 is "
    "even, +0.7 is twice as many women. The skew is the lean beyond the one with bodily conditions.",
    "label_membership": "AUC is how often the attack ranks a training text above another text: 0.5 is guessing, 1 is "
    "certainty. TPR is the share of training texts it finds while it wrongly accuses 1 % of the others.",
}
LIMITS = """<ul><li>Passing is no proof. Stronger attacks exist, and others will be found.</li>
<li>The word lists are English and the project's own; stigma has more forms than they hold.</li>
<li>The audits look at the model, not at what people do with it: gate and forbidden uses are there for that.</li>
<li>Nothing here is, or measures, a diagnosis.</li></ul>"""


def render_report(evidence: Evidence, folder: Path) -> str:
    """Return the page.

    Args:
        evidence: the bound results.
        folder: where their figures lie.
    """
    verdicts = judge_all(evidence)
    blocked = [name for name, (verdict, _) in verdicts.items() if verdict != "passed"]
    summary = (
        '<p class="s go"><b>The gate would let this model pass.</b> Every required audit passed.</p>'
        if not blocked
        else f'<p class="s no"><b>The gate refuses this model.</b> {len(blocked)} of {len(verdicts)} required audits '
        f"did not pass: {', '.join(_title(name) for name in blocked)}.</p>"
    )
    overview = "".join(
        f"<tr><td><a href='#{name}'>{_title(name)}</a></td><td>{escape(POLICY[name].question)}</td>"
        f"<td>{_badge(v)}</td></tr>"
        for name, (v, _) in verdicts.items()
    )
    sections = "".join(_section(name, evidence, v, reason, folder) for name, (v, reason) in verdicts.items())
    parts = [
        f"<h1>Privacy and stigma audits</h1>{summary}",
        f"<table><tr><th>Audit</th><th>Question</th><th>Verdict</th></tr>{overview}</table>",
        f"<h2>What was audited</h2>{_binding(evidence)}<h2>How to read the numbers</h2>{READING}{sections}",
        f"<h2>What these audits cannot tell</h2>{LIMITS}",
    ]
    return page("Privacy and stigma audits", parts, style=STYLE)


def _section(name: str, evidence: Evidence, verdict: Verdict, reason: str, folder: Path) -> str:
    policy = POLICY[name]
    parts = [
        f"<h2 id='{name}'>{_title(name)} {_badge(verdict)}</h2>",
        f"<p><b>{escape(policy.question)}</b> {MEANING[verdict]}</p>",
        f"<p>{escape(EXPLAINED[name])}</p>",
    ]
    if verdict != "passed":
        parts.append(f"<p class='s no'>{escape(reason.removeprefix(f'{name}: '))}</p>")
    indices = data_indices(name, evidence)
    for index in indices:
        result = evidence.audit(name, index)
        if len(indices) > 1:
            parts.append(f"<h3>Data folder {index + 1} <code>{evidence.data_sha256[index][:16]}…</code></h3>")
        if result is not None:
            parts += _findings(result, reason, folder)
    parts.append(f"<p class=note>Method: {escape(policy.paper)}.</p>")
    return "".join(parts)


def _findings(result: AuditResult, reason: str, folder: Path) -> list[str]:
    """Return what one audit found, with its figure; a note that the reason of the verdict quotes is not repeated."""
    parts = []
    if result.note and result.note not in reason:
        parts.append(f"<p class=note>{escape(result.note)}</p>")
    parts += [_image(folder / figure, text) for figure, text in result.figures.items()]
    parts.append(_measures(result))
    parts += [_titled(found.title, table(found.columns, found.rows)) for found in result.tables]
    counts = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in result.counts.items())
    parts.append(f"<p class=note>Looked at: {escape(counts or 'nothing')}. Took {result.seconds:.0f} seconds.</p>")
    return parts


def _measures(result: AuditResult) -> str:
    if not result.measures:
        return ""
    limits, rows = decisive_limits(result.name), []
    for measure in result.measures:
        limit = limits.get(measure.name)
        bound = "" if limit is None else f"{BOUNDS[limit.bound]} at most {limit.limit:g}"
        rows.append(
            [
                readable(measure.name),
                f"{_number(measure.estimate)} {measure.unit}",
                f"{_number(measure.low)} to {_number(measure.high)}",
                f"{100 * measure.confidence:.4g} %",
                bound,
            ]
        )
    return _titled("Numbers", table(["measure", "estimate", "interval", "confidence", "limit"], rows))


def _titled(title: str, content: str) -> str:
    return f"<p><b>{escape(title)}</b></p>{content}"


def _binding(evidence: Evidence) -> str:
    rows = [
        ["kind", evidence.kind],
        ["fingerprint (weights, configuration, tokenizer)", evidence.fingerprint],
        *([f"sha256 of {name}", sha256] for name, sha256 in evidence.weights.items()),
        ["manifest of the model", evidence.model_manifest_sha256],
        *(["manifest of its training data", sha256] for sha256 in evidence.data_sha256),
        ["base model", f"{evidence.base_model} ({evidence.base_fingerprint[:16]}…)"],
        *([key.replace("_", " "), f"{value:g}"] for key, value in evidence.strength.items()),
        *([f"sha256 of {name}", sha256] for name, sha256 in evidence.stigma_sha256.items()),
        ["code", f"{evidence.code_revision}; audit code {evidence.audit_code_sha256[:16]}…"],
        ["measured at", evidence.measured_at],
    ]
    cells = "".join(f"<tr><td>{escape(key)}</td><td><code>{escape(value)}</code></td></tr>" for key, value in rows)
    return f"<p>These results hold for exactly these bytes and no others.</p><table>{cells}</table>"


def _image(path: Path, alternative: str) -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<p><img alt='{escape(alternative)}' src='data:image/png;base64,{data}'></p>"


def _badge(verdict: Verdict) -> str:
    return f"<span class='b {verdict}'>{verdict}</span>"


def _title(name: str) -> str:
    return escape(TITLES.get(name, name.replace("_", " ").capitalize()))


def _number(value: float) -> str:
    """Three decimals say more than any interval here is worth."""
    return "0" if abs(value) < 0.0005 else f"{value:.3f}"
