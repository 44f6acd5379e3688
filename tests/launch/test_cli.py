import functools
import importlib
import importlib.metadata

import pytest

from launch import doctor
from launch.cli import COMMANDS, main


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in printed
        assert command.summary in printed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_program_with_help(name, capsys):
    module_name, _, function = COMMANDS[name].program.partition(":")
    assert callable(getattr(importlib.import_module(module_name), function))
    try:
        code = main([*name.split(), "--help"])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 0
    assert f"mindshift {name}" in capsys.readouterr().out


def test_a_group_lists_its_commands(capsys):
    assert main(["corpus"]) == 0
    printed = capsys.readouterr().out
    assert "corpus build" in printed
    assert "finetune" not in printed


def test_an_unknown_command_suggests_the_nearest(capsys):
    assert main(["corpus", "biuld"]) == 2
    assert "did you mean 'mindshift corpus build'" in capsys.readouterr().err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mindshift ")


def test_doctor_names_packages_and_missing_extras(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed
    assert "extra demo" in printed


def test_doctor_of_a_checkout_that_is_not_installed_reads_setup_py(capsys, monkeypatch):
    def absent_if_own(name, *, ask):
        if name == "mindshift":
            raise importlib.metadata.PackageNotFoundError(name)
        return ask(name)

    installed = {extra: set(names) for extra, names in doctor._requirements_by_extra().items()}
    for function in ("version", "requires"):
        ask = getattr(importlib.metadata, function)
        monkeypatch.setattr(importlib.metadata, function, functools.partial(absent_if_own, ask=ask))
    assert {extra: set(names) for extra, names in doctor._requirements_by_extra().items()} == installed
    assert main(["doctor"]) == 0
    assert "mindshift from the checkout, Python" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "mindshift from the checkout\n"


def test_doctor_refuses_arguments(capsys):
    assert main(["doctor", "now"]) == 2
    assert "takes no arguments" in capsys.readouterr().err
