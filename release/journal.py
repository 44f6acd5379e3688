"""The journal: what was pushed and who was let in, by whom and why; one JSON object a line, chained by hash.

Each line holds the sha256 of the line before, so that a line changed or taken out later shows if one stands behind it.
The last line has none behind it: what happens to it, or to the whole end, shows against a copy only. The journal names
people who asked for access: keep it as long as access lasts, and no longer.
"""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.manifest import now

FIRST = "0" * 64


def append_entry(path: Path, **fields: Any) -> dict[str, Any]:
    """Append one entry and return it; several processes may write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        complete = _whole(content)
        file.truncate(len(complete))
        lines = complete.splitlines()
        entry = {"at": now(), **fields, "previous": hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST}
        file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o600)
    return entry


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Read all entries; a last line without its end was torn by a kill, and the next entry replaces it.

    Raises:
        UserError: a line was changed, removed or damaged.
    """
    if not path.is_file():
        return []
    entries, previous = [], FIRST
    for number, line in enumerate(_whole(path.read_bytes()).splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            raise UserError("not a JSON line", where=f"{path}:{number}") from None
        if entry.get("previous") != previous:
            raise UserError("the line before this one was changed or removed", where=f"{path}:{number}")
        previous = hashlib.sha256(line).hexdigest()
        entries.append(entry)
    return entries


def _whole(content: bytes) -> bytes:
    """Return the lines that were written to their end."""
    return content[: content.rfind(b"\n") + 1]
