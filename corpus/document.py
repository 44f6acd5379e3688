"""One post or comment, from any year's dump schema, as a datatrove `Document`.

Pushshift (2005-2023) and Arctic Shift (2023-) records differ by year: clocks come as numbers, strings or
milliseconds, fields are absent or null. `parse_record` levels that; the original record stays beside the text
while the filters look at it and is never written. `STORED_FIELDS` is all that goes to disk. Texts from elsewhere, such
as a labelled task's (`{"id", "text"}`), are documents too.
"""

import html
import math
import re
from datetime import UTC, datetime
from typing import Any

from datatrove.data import Document

STORED_FIELDS = ("id", "title", "text", "subreddit", "month", "created_utc", "retrieved", "author_hash")
SUBMISSION_PREFIX, COMMENT_PREFIX, OTHER_PREFIX = "t3_", "t1_", "text_"
OTHER_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}")
MILLISECONDS_FROM = 10**11  # as seconds that is the year 5138
EARLIEST, LATEST = 1_104_537_600, 4_102_444_800  # 2005, the year Reddit opened, to 2100
DELETED_TEXTS = frozenset(("[deleted]", "[ deleted by user ]", "[deleted by user]"))
REMOVED_TEXTS = frozenset(("[removed]", "[ removed by reddit ]", "[removed by reddit]", "[ removed by moderator ]"))
"""What Reddit puts in the place of a title or a body, in lower case."""
DELETED_ACCOUNTS = ("[deleted]", "[removed]")
"""What it puts in the place of an author."""


ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
"""Spaces without width. Joiners, which have none either, hold emoji together."""


class MalformedRecord(Exception):
    """A record that is no post; `reason` is a word for the quarantine file, never the text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_record(record: Any) -> Document:
    """Turn one decoded JSON line into a document.

    Returns:
        A document whose `text` is the body and whose metadata holds `title`, `subreddit`, `month`, `created_utc`
        and `retrieved` (seconds, None if unknown), `author` (empty if unknown or deleted) and the `record` itself.

    Raises:
        MalformedRecord: not an object, no id, no text field, or characters that no text has.
    """
    if not isinstance(record, dict):
        raise MalformedRecord("not_an_object")
    prefix, title, text = _read_texts(record)
    title, text = title or "", text or ""
    if not isinstance(title, str) or not isinstance(text, str):
        raise MalformedRecord("text_not_a_string")
    if "\0" in text or "\0" in title:
        raise MalformedRecord("nul_byte")
    if prefix != OTHER_PREFIX:  # a task's texts stay as the classifier reads them
        title, text = decode_entities(title), decode_entities(text)
    identifier = record.get("id")
    if prefix == OTHER_PREFIX and type(identifier) is int:
        identifier = str(identifier)
    if not isinstance(identifier, str) or not _is_identifier(identifier, prefix):
        raise MalformedRecord("no_id")
    created_utc = parse_clock(record.get("created_utc"))
    author = record.get("author")
    subreddit = record.get("subreddit")
    return Document(
        text=text,
        id=prefix + identifier,
        metadata={
            "title": title,
            "subreddit": subreddit if isinstance(subreddit, str) else "",
            "created_utc": created_utc,
            "retrieved": _retrieved(record),
            "month": month_of(created_utc),
            "author": author if isinstance(author, str) and author not in DELETED_ACCOUNTS else "",
            "record": record,
        },
    )


def _read_texts(record: dict[str, Any]) -> tuple[str, Any, Any]:
    """Return the prefix of the id, the title and the body of a comment, a submission or another text."""
    if "body" in record:
        return COMMENT_PREFIX, "", record["body"]
    if "selftext" in record or "title" in record:
        return SUBMISSION_PREFIX, record.get("title"), record.get("selftext")
    if "text" in record:
        return OTHER_PREFIX, "", record["text"]
    raise MalformedRecord("no_text_field")


def _retrieved(record: dict[str, Any]) -> int | None:
    """Return when this version of a post was there: when it was fetched or, if no dump says, edited last."""
    clocks = [parse_clock(record.get(name)) for name in ("retrieved_on", "retrieved_utc", "edited")]
    return max((clock for clock in clocks if clock is not None), default=None)


def _is_identifier(value: str, prefix: str) -> bool:
    if prefix == OTHER_PREFIX:
        return OTHER_ID.fullmatch(value) is not None
    return value.isalnum() and value.isascii()


def parse_clock(value: Any) -> int | None:
    """Return seconds since 1970 from a number, a string of digits, or milliseconds; None if it is no time."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        seconds = float(value)
        while MILLISECONDS_FROM <= abs(seconds) < math.inf:  # milli-, micro- or nanoseconds
            seconds /= 1000
    except (TypeError, ValueError, OverflowError):
        return None
    return int(seconds) if EARLIEST <= seconds < LATEST else None


def month_of(created_utc: int | None) -> str:
    """Return the UTC month such as `2021-05`, empty if the time is unknown: no finer date is kept."""
    return "" if created_utc is None else datetime.fromtimestamp(created_utc, UTC).strftime("%Y-%m")


def decode_entities(text: str) -> str:
    """Return a text with HTML entities as the characters that Reddit shows, and without those that it does not show.

    Dumps hold what Reddit's API escapes by default (`&amp;`), over what its editor writes into posts (`&#x200B;`), so
    `&amp;#x200B;`: twice. An entity ends with its semicolon: `?a=1&copy=2` is a link.
    """
    for _ in range(2):
        if "&" in text:
            text = ENTITY.sub(lambda match: html.unescape(match.group()), text)
    return INVISIBLE.sub("", text)


def full_text(document: Document) -> str:
    """Title and body as the filters see them."""
    title: str = document.metadata["title"]
    return f"{title}\n{document.text}" if title else document.text


def stored_row(document: Document) -> dict[str, Any]:
    """Return the fields that may be written, in their order."""
    values = {"id": document.id, "text": document.text, **document.metadata}
    return {name: values[name] for name in STORED_FIELDS}


def document_from_row(row: dict[str, Any]) -> Document:
    """Turn a stored row back into a document."""
    metadata = {name: row[name] for name in STORED_FIELDS if name not in ("id", "text")}
    return Document(text=row["text"], id=row["id"], metadata=metadata)
