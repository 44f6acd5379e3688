import sys

import pytest

from configs.errors import UserError
from launch.chain import Step, run_step


def step(folder, program):
    return Step("toy", [sys.executable, "-c", program], folder)


def test_a_finished_step_is_left_as_it_is(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert not run_step(step(tmp_path, "raise SystemExit(1)"))


def test_an_unfinished_step_runs(tmp_path):
    assert run_step(step(tmp_path / "new", "pass"))


def test_a_users_error_in_a_step_stops_the_chain(tmp_path):
    with pytest.raises(UserError, match="the toy step stopped"):
        run_step(step(tmp_path / "new", "raise SystemExit(2)"))


def test_a_defect_in_a_step_is_no_users_error(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 3"):
        run_step(step(tmp_path / "new", "raise SystemExit(3)"))
