"""What may be written of an answer of Reddit's API: few fields, hashed authors, masked texts."""

import time
from typing import Any

from corpus.authors import hash_author, key_fingerprint
from corpus.deidentify import Deidentifier, mask_posts
from corpus.document import DELETED_ACCOUNTS
from corpus.filters import Bot

KEPT_FIELDS = ("id", "subreddit", "created_utc", "score", "edited", "stickied", "distinguished", "locked")
SUBMISSION_FIELDS = (*KEPT_FIELDS, "num_comments", "over_18", "is_self", "crosspost_parent", "promoted")
SOME_BOT = "some_bot"
COMMENT_FIELDS = (*KEPT_FIELDS, "link_id", "parent_id", "controversiality", "is_submitter")


class Scrubber:
    """Turns what the API says into what may be written.

    Args:
        author_key: of the HMAC.
        deidentifier: finds identifiers in texts.
    """

    def __init__(self, author_key: bytes, deidentifier: Deidentifier) -> None:
        self._author_key, self._deidentifier = author_key, deidentifier
        self.fingerprint = key_fingerprint(author_key)

    def scrub(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return records in dump format: fields of the lists above, hashed authors, masked texts."""
        pairs = [
            ("", item["body"]) if "body" in item else (item["title"], item.get("selftext") or "") for item in items
        ]
        records = []
        for item, (title, text, _) in zip(items, mask_posts(self._deidentifier, pairs), strict=True):
            is_comment = "body" in item
            record = {
                name: item[name] for name in (COMMENT_FIELDS if is_comment else SUBMISSION_FIELDS) if name in item
            }
            record |= {"body": text} if is_comment else {"title": title, "selftext": text}
            records.append(record | {"author": self._author(item.get("author")), "retrieved_on": int(time.time())})
        return records

    def _author(self, name: object) -> str:
        """Hash a name; only known bots keep theirs.

        What merely looks like a bot's name may be a person's: all of these become one name, which the corpus builder
        takes for a bot as it would have taken the name itself.
        """
        if not isinstance(name, str) or name in ("", *DELETED_ACCOUNTS):
            return "[deleted]"
        if Bot.known.fullmatch(name):
            return name
        return SOME_BOT if Bot.name_pattern.search(name) else hash_author(self._author_key, name)
