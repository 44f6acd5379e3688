"""What a card may not leave out and may not give away.

A gated repository's README is public all the same, so it is checked like any other publication: no blank, no
section left out, no path, token, address or internal name.
"""

import re

REQUIRED_SECTIONS = (
    *("Not a diagnosis", "If you need help", "Intended use", "Out-of-scope use", "Training data", "Training"),
    *("Evaluation", "Privacy and stigma audits", "Limitations", "Social impact", "How to get access"),
    *("Verify the files", "Citation", "Contact"),
)
REQUIRED_METADATA = (
    *("license", "language", "base_model", "datasets", "pipeline_tag", "model-index", "co2_eq_emissions"),
    *("extra_gated_heading", "extra_gated_prompt", "extra_gated_fields", "extra_gated_button_content"),
)
BLANK = re.compile(r"more information needed|\bTODO\b|\bTBD\b|\bFIXME\b|\bXXX\b|\{\{|\}\}|\bnan\b|lorem ipsum", re.I)
EMPTY_VALUE = re.compile(r"^(?:[->*] +)*None\.?$|\| *None *(?=\|)|`None`|: +None$", re.M)
"""A value that was left out, as Python writes it: alone on its line, in its cell or behind its key. A sentence may
begin with the word."""
PRIVATE = {
    "a local path": re.compile(
        r"(?<![\w.])(?:/(?:home|root|Users|mnt|scratch|data|work|tmp|var|srv|gpfs|lustre)/|~/|[A-Z]:\\)\S*"
    ),
    "a file: address": re.compile(r"\bfile://"),
    "an access token": re.compile(r"\b(?:hf_[A-Za-z0-9]{8,}|gh[pousr]_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9]{8,})"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a Reddit user name": re.compile(r"(?<!\w)/?u/[A-Za-z0-9_-]{3,}"),
    "an internal address": re.compile(
        r"https?://(?:localhost|127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|[\w-]+(?::|/))"
    ),
}
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]*")
"""Its random letters would now and then look like a user name or a path."""
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def card_reasons(text: str, *, contact: str) -> list[str]:
    """Say why a card may not be published; empty if it may.

    Args:
        text: the whole README.md, metadata included.
        contact: the one address that may stand in it.
    """
    metadata, body = split_card(text)
    if not metadata:
        return ["the card has no metadata block"]
    reasons = [f"the card lacks metadata {key!r}" for key in REQUIRED_METADATA if not metadata.get(key)]
    sections = card_sections(body)
    reasons += [f"the card lacks the section {name!r}" for name in REQUIRED_SECTIONS if name not in sections]
    reasons += [f"the section {name!r} of the card is empty" for name, content in sections.items() if not content]
    blanks = {match[0] for match in BLANK.finditer(text)} | {"None" for _ in EMPTY_VALUE.finditer(text)}
    reasons += [f"the card has a blank ({found})" for found in sorted(blanks)]
    return reasons + privacy_reasons(text, contact=contact, where="the card")


def privacy_reasons(text: str, *, contact: str, where: str) -> list[str]:
    """Say what private things stand in a text that is to be published; pictures within it are no text."""
    text = PICTURE.sub("", text)
    reasons = [f"{where} holds {what}" for what, pattern in PRIVATE.items() if pattern.search(text)]
    if any(match[0] != contact for match in EMAIL.finditer(text)):
        reasons.append(f"{where} holds an e-mail address other than the contact")
    return reasons


def split_card(text: str) -> tuple[dict[str, object], str]:
    """Split a card into its metadata and its Markdown; no metadata gives an empty mapping."""
    import yaml

    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        return {}, text
    block, _, body = text[4:].partition("\n---\n")
    try:
        metadata = yaml.safe_load(block)
    except yaml.YAMLError:
        return {}, text
    return (metadata, body) if isinstance(metadata, dict) else ({}, text)


def card_sections(body: str) -> dict[str, str]:
    """Return each second-level section's content by title."""
    parts = re.split(r"^## +(.+)$", body, flags=re.M)
    return {title.strip(): content.strip() for title, content in zip(parts[1::2], parts[2::2], strict=True)}
