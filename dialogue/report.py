"""The evidence table beside the model: `evidence.md` for people who read files, `report.html` for those who click."""

import html
from typing import Any

SYSTEMS = {"base": "zero-shot base", "tuned": "tuned"}
ROWS = {
    "perplexity_per_word": ("perplexity per word", "{:.1f}", "lower"),
    "distinct_1": ("distinct-1", "{:.3f}", "higher"),
    "distinct_2": ("distinct-2", "{:.3f}", "higher"),
    "bleu": ("BLEU", "{:.2f}", "higher"),
    "rouge_l": ("ROUGE-L", "{:.2f}", "higher"),
    "similarity": ("similarity to the real reply", "{:.3f}", "higher"),
    "emotion_match": ("emotion match", "{:.1%}", "higher"),
    "repeats_itself": ("answers that repeat themselves", "{:.1%}", "lower"),
    "same_as_another": ("answers equal to another", "{:.1%}", "lower"),
    "empty": ("empty answers", "{:.1%}", "lower"),
    "words": ("words an answer", "{:.1f}", "near the real replies'"),
    "words_of_real_reply": ("words a real reply", "{:.1f}", ""),
    "withheld_by_safety": ("withheld by the safety layer", "{:.1%}", "lower"),
}
CAUTION = (
    "These figures compare texts. None of them says that an answer helps anybody, and a responder is no counsellor: "
    "it gives no diagnosis, and it must only ever run behind its safety layer."
)
STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.3rem .9rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.note{color:#555}"
    "@media(prefers-color-scheme:dark){body{background:#16181c;color:#e6e6e6}.note{color:#aaa}td,th{border-color:#444}}"
)


def evidence_rows(evidence: dict[str, Any]) -> list[list[str]]:
    """Return the table's cells: measure, each system's figure, which direction is better."""
    rows = []
    for key, (title, form, better) in ROWS.items():
        values = [evidence["systems"][system].get(key) for system in SYSTEMS]
        if any(value is not None for value in values):
            rows.append([title, *("–" if value is None else form.format(value) for value in values), better])
    return rows


def render_markdown(evidence: dict[str, Any]) -> str:
    """Return the table as markdown."""
    lines = [f"# Evidence\n\n{_facts(evidence)}\n", "| | " + " | ".join(SYSTEMS.values()) + " | better |"]
    lines.append("|---|---:|---:|---|")
    lines += ["| " + " | ".join(row) + " |" for row in evidence_rows(evidence)]
    return "\n".join(lines) + f"\n\n{CAUTION}\n"


def render_html(evidence: dict[str, Any]) -> str:
    """Return a page that needs no other file."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *SYSTEMS.values(), "better"))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in evidence_rows(evidence)
    )
    looks = "".join(
        f"<tr><td>{row['step']}</td><td>{row['train_loss']:.3f}</td><td>{row['validation_loss']:.3f}</td></tr>"
        for row in evidence["training"]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mindshift: responder</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f'<h1>Responder</h1><p class="note">{html.escape(_facts(evidence))}</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{CAUTION}</p>"
        f"<h2>Training</h2><table><thead><tr><th>step</th><th>loss</th><th>validation loss</th></tr></thead>"
        f"<tbody>{looks}</tbody></table></body></html>\n"
    )


def _facts(evidence: dict[str, Any]) -> str:
    counts = evidence["replies"]
    return (
        f"{evidence['model']}, {evidence['tuning']} tuning; {counts['train']:,} replies to learn from, "
        f"{counts['validation']:,} for stopping, {counts['perplexity']:,} held-out ones for perplexity and "
        f"{counts['answers']:,} for answers; split by conversation."
    )
