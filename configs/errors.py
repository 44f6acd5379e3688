"""How a program of mindshift fails: one or two lines for a user's mistake, exit code 2, no traceback.

A user can mend a wrong key, a missing file or a full disk; a defect of ours keeps its traceback.
"""

import errno
import sys
from collections.abc import Callable, Iterable

USER_ERROR_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Something the user can mend.

    Args:
        what: what is wrong, in one sentence without a full stop.
        where: the file (and line), folder or key it was found in.
        fix: what to do about it, in one imperative sentence.

    Never put a post's text into any of them: name ids, lines and counts.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        message = what if where is None else f"{where}: {what}"
        super().__init__(message if fix is None else f"{message}\n  {fix}")


LONGEST_NAME = 40
"""Characters; a longer "name" may be a cell of text that was taken for one."""
MOST_NAMES = 30


def quoted(name: str) -> str:
    """Return a name from a user's data for a message: in quotes, or its length alone where it may be a text."""
    return repr(name) if len(name) <= LONGEST_NAME else f"of {len(name):,} characters"


def listed(names: Iterable[str]) -> str:
    """Return names from a user's data for a message: the first `MOST_NAMES` that are no texts, and how many more."""
    all_names = list(names)
    shown = [name for name in all_names if len(name) <= LONGEST_NAME][:MOST_NAMES]
    more = [f"{len(all_names) - len(shown):,} more"] if len(all_names) > len(shown) else []
    return ", ".join(shown + more) or "none"


def run_program(program: Callable[[], None]) -> int:
    """Run `program` and return the process's exit code: 0, 2 (user error, disk full) or 130 (Ctrl-C).

    Anything else propagates with its traceback.
    """
    try:
        program()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR_EXIT_CODE
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}the disk is full ({error.strerror})", file=sys.stderr)
        print("  Free some space and run the same command again; finished work is kept.", file=sys.stderr)
        return USER_ERROR_EXIT_CODE
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        return 0
    return 0
