import errno

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
