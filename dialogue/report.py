"""The evidence table beside the model: `evidence.md` for people who read files, `report.html` for those who click."""

from typing import Any

from configs.page import escape, page, table

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
    looks = [[row["step"], f"{row['train_loss']:.3f}", f"{row['validation_loss']:.3f}"] for row in evidence["training"]]
    parts = [
        f'<h1>Responder</h1><p class="note">{escape(_facts(evidence))}</p>',
        table(["", *SYSTEMS.values(), "better"], evidence_rows(evidence)),
        f"<p>{CAUTION}</p><h2>Training</h2>",
        table(["step", "loss", "validation loss"], looks),
    ]
    return page("mindshift: responder", parts)


def _facts(evidence: dict[str, Any]) -> str:
    counts = evidence["replies"]
    return (
        f"{evidence['model']}, {evidence['tuning']} tuning; {counts['train']:,} replies to learn from, "
        f"{counts['validation']:,} for stopping, {counts['perplexity']:,} held-out ones for perplexity and "
        f"{counts['answers']:,} for answers; split by conversation."
    )
