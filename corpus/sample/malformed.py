"""A small dump with damaged lines between good ones, and the reason why each is damaged, for quarantine tests."""

import json
from pathlib import Path

from configs.run_folder import write_atomically

GOOD = {
    "synthetic": True,
    "author": "mossy_lantern_0",
    "subreddit": "mentalhealth",
    "created_utc": 1_700_000_000,
    "title": "a line between broken lines",
    "selftext": "I wrote this so that somebody can check that good lines next to broken ones are kept.",
}


def _good(number: int, **changes: object) -> bytes:
    record = {"id": f"synbad{number:04d}", **GOOD, **changes}
    return json.dumps({key: value for key, value in record.items() if value is not ...}).encode()


# (line, what is wrong with it; empty if nothing)
LINES: list[tuple[bytes, str]] = [
    (_good(0), ""),
    (b"this line is not JSON", "not_json"),
    (_good(1)[:90], "not_json"),
    (_good(2), ""),
    (b'["an", "array"]', "not_an_object"),
    (b"42", "not_an_object"),
    (_good(3, title=..., selftext=...), "no_text_field"),
    (_good(4, selftext=17), "text_not_a_string"),
    (_good(5, id=...), "no_id"),
    (_good(6, id=12345), "no_id"),
    (_good(7, selftext="a NUL \u0000 byte in the middle of my words"), "nul_byte"),
    (_good(8, selftext="a lone surrogate \ud83d in the middle of my words"), "lone_surrogate"),
    (_good(9).replace(b"good lines", b"good \xff\xfe lines"), "not_utf8"),
    (_good(10, created_utc="yesterday"), ""),
    (_good(11, author=None, subreddit=None, created_utc=None), ""),
    (b"", ""),
    (_good(12), ""),
]


def write_malformed(folder: Path) -> None:
    """Write `RS_2023.jsonl` and `gold.jsonl` (line number from 1, reason) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "RS_2023.jsonl", b"".join(line + b"\n" for line, _ in LINES))
    gold = [{"line": number, "reason": reason} for number, (_, reason) in enumerate(LINES, start=1) if reason]
    write_atomically(folder / "gold.jsonl", "".join(json.dumps(row) + "\n" for row in gold))
