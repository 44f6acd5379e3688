"""What a job runs on each of its nodes: `python -m launch.on_node accelerate launch SCRIPT …` or `… mindshift …`.

It adds to `accelerate launch` where the ranks meet, from the variables SLURM sets for this node (`SLURM_NODEID` is
the node's own; the batch script knows only that of the first), and it mends what `accelerate launch` loses: the
stage's exit code (always 1 there), and SIGUSR1, which would end the launcher before the stage has saved.
"""

import contextlib
import dataclasses
import fcntl
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from configs.errors import USER_ERROR_EXIT_CODE

REQUEUE_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: a stage that saved and wants to go on later
SIGNAL_EXIT_CODE = 128
FIRST_PORT, PORTS = 15_000, 15_000  # below the ephemeral ports that systems give to clients (32,768 on Linux)


@dataclasses.dataclass
class Warnings:
    """Which signals this node's launcher has met."""

    time_limit: bool = False
    ended: bool = False

    def listen(self) -> None:
        """Note SIGUSR1 and SIGTERM from now on; SLURM sends them to the stage's processes as well."""
        signal.signal(signal.SIGUSR1, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.time_limit = True
        else:
            self.ended = True


def main(words: Sequence[str]) -> int:
    """Run a stage on this node and return the exit code that says what became of it."""
    warnings = Warnings()
    warnings.listen()
    if os.environ.get("SLURM_NODEID") == "0":
        attempt = int(os.environ.get("SLURM_RESTART_COUNT", "0")) + 1
        print(f"attempt {attempt} on {os.environ['SLURM_JOB_NODELIST']}", file=sys.stderr, flush=True)
    if missing := missing_gpus(os.environ):
        print(f"error: {missing}", file=sys.stderr, flush=True)
        code = USER_ERROR_EXIT_CODE
    elif words[:2] == ["accelerate", "launch"]:
        code = run_accelerate([*accelerate_options(os.environ), *words[2:]])
    else:
        program = [sys.executable, "-m", "launch.cli", *words[1:]] if words[0] == "mindshift" else list(words)
        code = subprocess.run(program, check=False).returncode
    reported = exit_code(code, warnings)
    folder = os.environ.get("MINDSHIFT_LAUNCH_FOLDER")
    if folder and "SLURM_JOB_ID" in os.environ:
        note_outcome(outcome_note(folder, os.environ), reported, ended=warnings.ended)
    return reported


def missing_gpus(environment: Mapping[str, str]) -> str:
    """Return what is wrong where a stage was given GPUs and torch sees none: it would train on CPUs without a word."""
    wanted = int(environment.get("MINDSHIFT_GPUS_PER_NODE") or 0)
    if not wanted:
        return ""
    import torch

    if torch.cuda.is_available():
        return ""
    build = f"torch {torch.__version__} of {sys.prefix}"
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"this job has {wanted} GPUs a node, and {build} is built for CPUs alone\n"
            '  Install a CUDA build into that environment: docs/cluster.md, "GPUs".'
        )
    return (
        f"this job has {wanted} GPUs a node, and {build} finds none on {platform.node()}\n"
        "  `nvidia-smi` on the node says whether its driver works; for CPU nodes set gpus_per_node: 0."
    )


def outcome_note(folder: str, environment: Mapping[str, str]) -> Path:
    """Return where a node notes how the stage ended there by itself, rather than being ended with the others."""
    attempt = environment.get("SLURM_RESTART_COUNT", "0")
    return Path(folder) / f"{environment['SLURM_JOB_ID']}.{attempt}.outcome"


def note_outcome(note: Path, reported: int, *, ended: bool) -> None:
    """Note that the stage failed here, or that it saved and wants to go on; a failure elsewhere says more than that.

    Nobody fails by SIGTERM: somebody sent it, even where torch's launcher caught it and `ended` does not say so.
    """
    if reported == REQUEUE_EXIT_CODE:
        with contextlib.suppress(FileExistsError), note.open("x", encoding="utf-8") as file:
            file.write(f"{reported}\n")
    elif reported not in (0, SIGNAL_EXIT_CODE + signal.SIGTERM) and not ended:
        note.write_text(f"{reported}\n", encoding="utf-8")


def exit_code(code: int, warnings: Warnings) -> int:
    """Return what this node reports for a stage that ended with `code` (negative: by a signal).

    A stage that was warned of the time limit, or asks for it itself, is to be requeued. One that was ended by
    SIGTERM is not: SLURM either requeues it by itself, or ends it because another node failed.
    """
    if code == 0:
        return 0
    if warnings.time_limit or (code == REQUEUE_EXIT_CODE and not warnings.ended):
        return REQUEUE_EXIT_CODE
    if warnings.ended:
        return SIGNAL_EXIT_CODE + signal.SIGTERM
    return code if code > 0 else SIGNAL_EXIT_CODE - code


def accelerate_options(environment: Mapping[str, str]) -> list[str]:
    """Return where the ranks meet, as options of `accelerate launch`.

    Args:
        environment: of this node's task; without SLURM's variables everything runs on this machine.
    """
    nodes = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or 1)
    processes = nodes * int(environment.get("MINDSHIFT_PROCESSES_PER_NODE") or 1)
    config = environment.get("MINDSHIFT_ACCELERATE_CONFIG")
    options = ["--config_file", config] if config else ["--mixed_precision", "no", "--dynamo_backend", "no"]
    options += ["--num_processes", str(processes), "--num_machines", str(nodes)]
    if not config:
        # accelerate's "multi_gpu" means one process per rank under torchrun, on CPUs as well.
        options += ["--multi_gpu"] if processes > 1 else []
    if "SLURM_JOB_ID" in environment:
        options += ["--main_process_port", str(FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS)]
    if nodes > 1:
        options += ["--machine_rank", environment["SLURM_NODEID"]]
        options += ["--main_process_ip", environment["SLURM_LAUNCH_NODE_IPADDR"]]
        options += ["--deepspeed_multinode_launcher", "standard"]
    return options + (_deepspeed_file(Path(config), environment) if config else [])


def _deepspeed_file(config: Path, environment: Mapping[str, str]) -> list[str]:
    """Name the DeepSpeed file of a configuration by its full path: it counts from the checkout, not from here."""
    found = re.search(
        r"^\s*deepspeed_config_file:\s*['\"]?([^'\"\s#]+)", config.read_text(encoding="utf-8"), re.MULTILINE
    )
    if not found or Path(found.group(1)).is_file():
        return []
    path = Path(environment.get("MINDSHIFT_HOME", ".")) / found.group(1)
    return ["--deepspeed_config_file", str(path.absolute())]


def run_accelerate(arguments: Sequence[str]) -> int:
    """Run `accelerate launch` in this process; return the stage's exit code, negative if a signal ended it."""
    import torch
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from configs.processor import tell_deepspeed_of_cpus

    tell_deepspeed_of_cpus()
    try:
        with own_extensions_folder(f"{platform.node()}-torch{torch.__version__}"):
            launch_command(launch_command_parser().parse_args(list(arguments)))
    except subprocess.CalledProcessError as error:  # one process
        return error.returncode
    except ChildFailedError as error:  # several: the rank that failed first says why
        return int(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        return -int(error.sigval)
    return 0


@contextlib.contextmanager
def own_extensions_folder(name: str) -> Iterator[None]:
    """Let torch build its extensions (DeepSpeed's, on CPUs) in a folder of this node, free of stale locks.

    torch guards a build by a file that a killed build leaves behind; every later run waits for it for ever. Whoever
    finds nobody else at work in the folder removes such files.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"  # home folders have small quotas on clusters
    folder = Path(cache) / "mindshift" / "torch_extensions" / name
    if "TORCH_EXTENSIONS_DIR" in os.environ:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".in_use").open("w") as in_use:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for stale in folder.glob("*/lock"):
                stale.unlink()
        fcntl.flock(in_use, fcntl.LOCK_SH)
        os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
