"""Create or reuse a virtual environment and install mindshift into it; standard library only.

`make demo` and `make test` call this with the system's Python. On a machine without a GPU it asks for a CPU build
of torch, since the default build for Linux brings gigabytes of CUDA; a torch that is already there is left alone.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_TORCH = "torch==2.13.0+cpu"
DEFAULT_TORCH = "torch>=2.13"


def main() -> int:
    """Install and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="environment to create or reuse")
    parser.add_argument("--extras", default="demo", help="comma-separated extras of setup.py")
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - the one file an older Python may be asked to run
        print(f"error: Python 3.11 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        print("  Call make with PYTHON=python3.11 (or newer).", file=sys.stderr)
        return 2
    python = arguments.venv / "bin" / "python"
    if not python.exists():
        print(f"creating {arguments.venv}", flush=True)
        try:
            venv.create(arguments.venv, with_pip=True)
        except subprocess.CalledProcessError:
            print("error: this Python cannot create environments (Debian: install python3-venv)", file=sys.stderr)
            return 2
    stamp = arguments.venv / f".mindshift-{_wanted(arguments.extras)}"
    if stamp.exists():
        return 0
    if not _imports(python, "torch"):
        _install_torch(python)
    extras = f"[{arguments.extras}]" if arguments.extras else ""
    if _pip(python, "--editable", f"{ROOT}{extras}") != 0:
        print("error: the installation failed; pip's messages above say why", file=sys.stderr)
        return 2
    stamp.touch()
    return 0


def _wanted(extras: str) -> str:
    return hashlib.sha256((ROOT / "setup.py").read_bytes() + extras.encode()).hexdigest()[:16]


def _install_torch(python: Path) -> None:
    has_gpu = shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists()
    if not has_gpu and _pip(python, CPU_TORCH, quietly=True) == 0:
        return
    if not has_gpu and sys.platform == "linux":
        print(
            "note: no CPU build of torch is at hand; installing the default one, which is several GB on x86 Linux.\n"
            "      To avoid that, set PIP_EXTRA_INDEX_URL to PyTorch's CPU index (pytorch.org, Get Started) and rerun.",
            flush=True,
        )
    _pip(python, DEFAULT_TORCH)


def _imports(python: Path, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def _pip(python: Path, *packages: str, quietly: bool = False) -> int:
    print("installing", *packages, flush=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    return subprocess.run(command, stderr=subprocess.DEVNULL if quietly else None, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
