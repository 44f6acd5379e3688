"""`mindshift doctor`: what is installed, which accelerator, which extras are missing and how to add them."""

import ast
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from configs.errors import UserError
from configs.manifest import CODE_ROOT
from configs.processor import usable_cores

GIB = 2**30


def main(arguments: Sequence[str], program: str) -> None:
    """Print the report; `arguments` may only ask for help."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: {program}\n\nShows what is installed, which accelerator there is, and which extras are missing.")
        return
    if arguments:
        raise UserError(f"takes no arguments, got {arguments[0]!r}", where=program)
    for line in machine_lines() + accelerator_lines() + package_lines():
        print(line)


def machine_lines() -> list[str]:
    """Return lines on Python, cores, memory and disk."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free_bytes = shutil.disk_usage(Path.cwd()).free
    return [
        f"mindshift {own_version()}, Python {platform.python_version()}, {platform.system()}",
        f"machine     {usable_cores()} cores, {memory_bytes / GIB:.0f} GiB memory, {free_bytes / GIB:.0f} GiB disk",
        f"compiler    {shutil.which('g++') or 'no g++: DeepSpeed on CPU needs one'}",
        f"slurm       {shutil.which('sbatch') or 'none on this machine'}",
    ]


def accelerator_lines() -> list[str]:
    """Return a line a GPU, or one that says there is none."""
    import torch

    if not torch.cuda.is_available():
        threads = torch.get_num_threads()
        return [f"accelerator none: everything runs on the CPU ({threads} threads), recipes `sample` and `laptop` fit"]
    lines = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        lines.append(f"accelerator {index}: {device.name}, {device.total_memory / GIB:.0f} GiB, {bf16}")
    return lines


def package_lines() -> list[str]:
    """Return a line for the core's packages and one for each extra, with the command that installs it."""
    lines, extras = [], _requirements_by_extra()
    core = [_describe(requirement) for requirement in extras.pop("")]
    lines.append("core        " + ", ".join(text for text, _ in core))
    for extra, requirements in sorted(extras.items()):
        described = [_describe(requirement) for requirement in requirements]
        missing = [text for text, is_there in described if not is_there]
        state = "installed" if not missing else f"missing: pip install -e '.[{extra}]'"
        lines.append(f"extra {extra:<10} {state} ({', '.join(text for text, _ in described)})")
    return lines


def own_version() -> str:
    """Return the version that is installed, if one is."""
    try:
        return importlib.metadata.version("mindshift")
    except importlib.metadata.PackageNotFoundError:  # in the container the code comes from the checkout, uninstalled
        return "from the checkout"


def _requirements_by_extra() -> dict[str, list[str]]:
    """Return extra → package names; the core stands under the empty name, `all` is left out."""
    try:
        requirements = importlib.metadata.requires("mindshift") or []
    except importlib.metadata.PackageNotFoundError:
        return _requirements_of_checkout()
    extras: dict[str, list[str]] = {"": []}
    for requirement in requirements:
        marker = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        extra = marker.group(1) if marker else ""
        if extra != "all":
            extras.setdefault(extra, []).append(_package_name(requirement))
    return extras


def _requirements_of_checkout() -> dict[str, list[str]]:
    """Return the same from the two lists in `setup.py`, which only an installation would run."""
    lists = {
        ast.unparse(statement.targets[0]): ast.literal_eval(statement.value)
        for statement in ast.parse((CODE_ROOT / "setup.py").read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in ("CORE", "EXTRAS")
    }
    requirements: dict[str, list[str]] = {"": lists["CORE"], **lists["EXTRAS"]}
    return {extra: [_package_name(one) for one in wanted] for extra, wanted in requirements.items()}


def _package_name(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0]


def _describe(package: str) -> tuple[str, bool]:
    try:
        return f"{package} {importlib.metadata.version(package)}", True
    except importlib.metadata.PackageNotFoundError:
        return f"{package} absent", False
