"""Every command that README and docs show parses: the recipe exists, its keys are known, the program is there."""

import importlib.util
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from launch.cli import COMMANDS, main
from launch.launch_options import help_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = {"output_dir", "output", "page", "journal"}
MAKE_TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def shown_commands():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = shlex.split(line, comments=True)
                while command and re.fullmatch(r"[A-Z_]+=\S*", command[0]):
                    command = command[1:]
                if command:
                    yield pytest.param(command, id=f"{page.name}: {' '.join(command)}")


@pytest.mark.parametrize("command", list(shown_commands()))
def test_a_shown_command_parses(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    program = command[0]
    if program == "make":
        assert set(re.findall(r"^[\w-]+$", "\n".join(command[1:]), re.MULTILINE)) <= MAKE_TARGETS
    elif program == "mindshift":
        assert_parses(command[1:], capsys)
    elif command[:2] == ["accelerate", "launch"]:
        script = next(index for index, word in enumerate(command) if word.endswith(".py"))
        assert (ROOT / command[script]).is_file()
        words = {"pretrain/run_mlm.py": "pretrain", "finetune/run_classifier.py": "finetune"}
        if command[script] in words:
            assert_parses([words[command[script]], *command[script + 1 :]], capsys)
    elif command[:2] == ["python", "-m"] and command[2].startswith("benchmarks."):
        assert importlib.util.find_spec(command[2]) is not None
    else:
        assert program in {
            "source",
            "pip",
            "git",
            "hf",
            "cd",
            "export",
            "sbatch",
            "squeue",
            "scontrol",
            "apt-get",
            "python",
            ".venv/bin/python",
        }


@pytest.mark.parametrize("page", [*(page.name for page in PAGES), "launch --help"])
def test_the_recipes_and_settings_named_are_there(page):
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGES} | {"launch --help": help_text("launch")}
    named = re.findall(r"(?<![\w/.-])(?:configs|launch)/[\w/-]+\.[a-z]+\b", texts[page])
    placeholders = [name for name in named if Path(name).stem.isupper()]
    assert [name for name in named if name not in placeholders and not (ROOT / name).is_file()] == []


def read_and_written(command):
    """Return the folders under runs/ that a command reads, and those that it writes, from its recipe and its words."""
    if command[:2] == ["make", "demo"]:
        return set(), {f"runs/demo/{name}" for name in ("corpus", "keys", "encoder", "classifier")}
    if command[0] not in ("mindshift", "accelerate") or command[1:2] == ["reproduce"]:
        return set(), set()
    values = {}
    for word in command:
        if re.fullmatch(r"configs/[\w/-]+\.yaml", word):
            values = yaml.safe_load((ROOT / word).read_text(encoding="utf-8"))
    words = [part for word in command for part in word.split("=", 1)]
    if "all" in command:  # a chain's recipes are fed by one another
        return set(), {str(values["output_dir"])}
    values |= {key.removeprefix("--"): value for key, value in itertools.pairwise(words) if key.startswith("--")}
    written = {str(values[key]) for key in WRITTEN & values.keys()}
    texts = [str(value) for key, value in values.items() if key not in WRITTEN | {"keys_dir", "searched_keys"}]
    texts += words[-1:] if "launch" in command[:2] else []
    named = {path for text in texts for path in re.findall(r"(?<![\w/.])runs/[\w./-]*\w", text)}
    return named - written, written | {str(values.get("keys_dir"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_shown_command_reads_is_made_by_one_before_it(page):
    """A page that begins in the middle says so in a comment: `# reads runs/FOLDER: what makes it`."""
    text = page.read_text(encoding="utf-8")
    made, missing = set(), []
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            made |= set(re.findall(r"# reads (runs/[\w/-]+):", line))
            command = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
            if command:
                read, written = read_and_written(command)
                there = [Path(name) for name in made]
                missing += [f"{name} of `{line}`" for name in read if not {Path(name), *Path(name).parents} & {*there}]
                made |= written
    assert missing == []


def assert_parses(words, capsys):
    """Parse without running: `--print_config` stops every recipe program after its recipe was understood."""
    name = next(n for n in (" ".join(words[:2]), words[0] if words else "") if n in COMMANDS)
    if "--help" in words:
        return
    if name in ("launch status", "launch cancel"):  # they take a folder that was launched, and no recipe
        assert len(words) <= 3
        return
    try:
        code = main([*words, *([] if name in ("doctor",) else ["--print_config"])])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 0, capsys.readouterr().err
