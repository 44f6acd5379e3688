"""A real SLURM of two nodes on one machine: munged, slurmctld and `slurmd -N n1|n2`, all below one temporary folder.

Nothing of the system's own configuration is read or written, ports are free ones, and everything is ended and
removed again. Root installs the packages when they are absent; everybody else skips with a message that says what
to install. The two nodes share the machine's file system, as nodes of a cluster share theirs.
"""

import contextlib
import dataclasses
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
NODES = ("n1", "n2")
DONE_STATES = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}
SLURM_CONF = """\
ClusterName=mindshift
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
# Jobs meet at a port made of their number: two of these clusters at once must not count alike.
FirstJobId={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A requeued job may start again when its old credential has expired: 120 s by default, too long for a test.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdTimeout=6
KillWait=30
MinJobAge=3600
MailProg=/bin/true
SchedulerParameters=sched_interval=2,bf_interval=3,batch_sched_delay=0
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port_1} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port_2} CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


@dataclasses.dataclass
class TwoNodeSlurm:
    """A running SLURM; `environment` is what a user's shell on its login node would hold."""

    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen]

    def run(self, *command: object, timeout: float = 120, check: bool = True, cwd: Path = ROOT):
        """Run a command on the "login node" and return the finished process."""
        arguments = [str(part) for part in command]
        done = subprocess.run(
            arguments, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check:
            assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def mindshift(self, *arguments: object, timeout: float = 120, check: bool = True, cwd: Path = ROOT):
        """Run the `mindshift` command on the "login node"."""
        return self.run(sys.executable, "-m", "launch.cli", *arguments, timeout=timeout, check=check, cwd=cwd)

    def job(self, job_id: str) -> dict[str, str]:
        """Return what `scontrol show job` says, as key → value."""
        shown = self.run("scontrol", "show", "job", job_id, "--oneliner").stdout
        return dict(re.findall(r"(\S+?)=(\S*)", shown))

    def wait(self, job_id: str, *, until: set[str] = DONE_STATES, timeout: float = 120) -> str:
        """Wait until the job is in one of the states and return it."""
        deadline = time.monotonic() + timeout
        while (state := self.job(job_id)["JobState"]) not in until:
            assert time.monotonic() < deadline, f"job {job_id} is {state} after {timeout} s:\n{self.job(job_id)}"
            time.sleep(0.3)
        return state

    def start_node(self, node: str) -> None:
        """Start (or start again) the slurmd of a node and wait until the controller has it idle."""
        self.processes[node] = _start(self.environment, "slurmd", "-D", "-N", node, "-f", self.folder / "slurm.conf")
        _wait_for(lambda: self.node_state(node) in ("idle", "mix", "alloc"), f"node {node}", self.folder)

    def node_state(self, node: str) -> str:
        """Return `idle`, `alloc`, `down` …, with a `*` behind it for a node that does not answer."""
        shown = self.run("sinfo", "--noheader", "--nodes", node, "--partition", "main", "--format", "%t", check=False)
        return shown.stdout.strip()

    def wait_for_idle_nodes(self) -> None:
        """Wait until nothing runs any more."""
        _wait_for(lambda: all(self.node_state(node) == "idle" for node in NODES), "idle nodes", self.folder, 60)

    def lose_node(self, node: str) -> None:
        """Take a node away as a power cut would: its slurmd and all it runs, at once, without a farewell."""
        victims = [psutil.Process(self.processes[node].pid)]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_task = process.environ().get("SLURMD_NODENAME") == node
                if is_task or (process.name() == "slurmstepd" and f"spool-{node}" in " ".join(_open_files(process))):
                    victims.append(process)
        for process in victims:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.processes[node].wait(timeout=10)

    def stop(self) -> None:
        """End every process this SLURM started and remove its folder."""
        self.run("scancel", "--user", getpass.getuser(), check=False)
        with contextlib.suppress(TimeoutError):
            _wait_for(lambda: not self.run("squeue", "--noheader", check=False).stdout.strip(), "empty queue", None)
        for name in ("n1", "n2", "controller", "munged"):
            _end(self.processes[name])
        shutil.rmtree(self.folder, ignore_errors=True)


def _open_files(process: psutil.Process) -> list[str]:
    return [process.cwd(), *process.cmdline(), *(file.path for file in process.open_files())]


def _start(environment: dict[str, str], *command: object) -> subprocess.Popen:
    arguments = [str(part) for part in command]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=15)


def _wait_for(condition, what: str, folder: Path | None, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = sorted(folder.glob("*.log")) if folder else []
            tails = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)
            raise TimeoutError(f"no {what} after {seconds} s\n{tails}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _missing() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _install_or_skip() -> None:
    if not _missing():
        return
    advice = f"install them: apt-get install {' '.join(PACKAGES)}"
    if sys.platform != "linux" or shutil.which("apt-get") is None or os.geteuid() != 0:
        pytest.skip(f"no SLURM here ({', '.join(_missing())} missing, and not root on Debian); {advice}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    for command in (install, ["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if not _missing():
            return
    pytest.skip(f"SLURM could not be installed ({done.stderr.strip()[-200:]}); {advice}")


def start_slurm() -> TwoNodeSlurm:
    """Start munged, slurmctld and two slurmds below a new temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="mindshift-slurm-"))
    host, ports = socket.gethostname().partition(".")[0], _free_ports(3)
    settings = {"host": host, "user": getpass.getuser(), "folder": folder}
    settings |= dict(zip(("controller_port", "node_port_1", "node_port_2"), ports, strict=True))
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(SLURM_CONF.format(**settings))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
    environment |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    options = [f"--{option}={folder / name}" for option, name in files.items()] + [f"--log-file={folder}/munged.log"]
    slurm = TwoNodeSlurm(folder, environment, {})
    try:
        slurm.processes["munged"] = _start(environment, "munged", "--foreground", "--force", *options)
        _wait_for((folder / "munge.socket").exists, "munge socket", folder)
        slurm.processes["controller"] = _start(environment, "slurmctld", "-D", "-f", folder / "slurm.conf")
        for node in NODES:
            slurm.start_node(node)
    except (TimeoutError, OSError) as error:
        for process in slurm.processes.values():
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"SLURM is installed but does not start here: {error}")
    return slurm


@pytest.fixture(scope="session")
def slurm():
    """The two-node SLURM, one for all tests of this folder."""
    _install_or_skip()
    cluster = start_slurm()
    yield cluster
    cluster.stop()
