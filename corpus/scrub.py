"""What may be written of an answer of Reddit's API: few fields, hashed authors, masked texts."""

import time
from typing import Any

from datatrove.data import Document

from corpus.authors import hash_author, key_fingerprint
from corpus.deidentify import Deidentifier, Span, mask
from corpus.document import UNKNOWN_AUTHORS
from corpus.filters import Bot

SEPARATOR = "\n\x1f\n"  # between title and body, so that both share their placeholders
KEPT_FIELDS = ("id", "subreddit", "created_utc", "score", "edited", "stickied", "distinguished", "locked")
SUBMISSION_FIELDS = (*KEPT_FIELDS, "num_comments", "over_18", "is_self", "crosspost_parent", "promoted")
COMMENT_FIELDS = (*KEPT_FIELDS, "link_id", "parent_id", "controversiality", "is_submitter")


class Scrubber:
    """Turns what the API says into what may be written.

    Args:
        author_key: of the HMAC.
        deidentifier: finds identifiers in texts.
    """

    def __init__(self, author_key: bytes, deidentifier: Deidentifier) -> None:
        self._author_key, self._deidentifier, self._bot = author_key, deidentifier, Bot()
        self.fingerprint = key_fingerprint(author_key)

    def scrub(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return records in dump format: fields of the lists above, hashed authors, masked texts."""
        pairs = [
            ("", item["body"]) if "body" in item else (item["title"], item.get("selftext") or "") for item in items
        ]
        pairs = [(title.replace(SEPARATOR, "\n"), text.replace(SEPARATOR, "\n")) for title, text in pairs]
        found = self._deidentifier.find([text for pair in pairs for text in pair])
        records = []
        for number, (item, (title, text)) in enumerate(zip(items, pairs, strict=True)):
            shift = len(title) + len(SEPARATOR)
            in_text = [Span(span.start + shift, span.end + shift, span.label) for span in found[2 * number + 1]]
            title, _, text = mask(title + SEPARATOR + text, [*found[2 * number], *in_text]).partition(SEPARATOR)
            is_comment = "body" in item
            record = {
                name: item[name] for name in (COMMENT_FIELDS if is_comment else SUBMISSION_FIELDS) if name in item
            }
            record |= {"body": text} if is_comment else {"title": title, "selftext": text}
            records.append(record | {"author": self._author(item.get("author")), "retrieved_on": int(time.time())})
        return records

    def _author(self, name: object) -> str:
        """Hash a person's name; a program's stays, so that the corpus builder knows it for a bot."""
        if not isinstance(name, str) or name in UNKNOWN_AUTHORS:
            return "[deleted]"
        if not self._bot.keep(Document(text="", id="", metadata={"author": name})):
            return name
        return hash_author(self._author_key, name)
