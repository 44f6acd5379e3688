import errno
import os
import subprocess
import sys

import pytest

from configs.errors import UserError, run_program


def raise_(error):
    raise error


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (UserError("wrong", where="a.yaml:3", fix="Mend it."), 2, "error: a.yaml:3: wrong\n  Mend it.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), 2, "error: x.bin: the disk is full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_users_mistake_ends_with_two_lines_and_no_traceback(capsys, error, code, expected):
    assert run_program(lambda: raise_(error)) == code
    printed = capsys.readouterr().err
    assert printed.startswith(expected)
    assert "Traceback" not in printed


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: raise_(ZeroDivisionError()))
    with pytest.raises(PermissionError):
        run_program(lambda: raise_(PermissionError(errno.EACCES, "denied")))


def test_success_is_zero():
    assert run_program(lambda: None) == 0


@pytest.mark.parametrize(("unbuffered", "rows"), [("", 1), ("", 100_000), ("1", 1)])
def test_a_reader_that_goes_early_ends_without_a_traceback(monkeypatch, unbuffered, rows):
    """As `head` does: when all that was printed is flushed at the end, or at a print in the middle."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    program = f"for _ in range({rows}): print('a line')"
    code = f"import sys; from configs.errors import run_program; sys.exit(run_program(lambda: exec({program!r})))"
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")


def test_another_broken_pipe_keeps_its_traceback():
    with pytest.raises(BrokenPipeError):
        run_program(lambda: raise_(BrokenPipeError(errno.EPIPE, "a worker has gone")))
