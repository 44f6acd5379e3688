"""What a cluster is like: `launch/site.yaml`, and how it becomes sbatch options and a job's environment.

Options given to sbatch win over the `#SBATCH` lines of a job file, so the files hold what is the same everywhere
and this one what is not.
"""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.errors import UserError
from configs.manifest import CODE_ROOT
from configs.recipe import load_recipe, nearest, require
from launch.stages import STAGES

JOBS = (*STAGES, "sweep")
SITE_FILE = CODE_ROOT / "launch" / "site.yaml"
TIME_LIMIT = re.compile(r"(\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}|UNLIMITED)")
MEMORY = re.compile(r"(\d+)([MGT]?)")
MEGABYTES = {"": 1, "M": 1, "G": 1024, "T": 1024**2}


@dataclasses.dataclass(kw_only=True)
class SiteSettings:
    """What the cluster is like; an empty value leaves the cluster's own default."""

    partition: str = ""
    """Partition (queue) the jobs go to."""
    account: str = ""
    """Account the jobs are charged to."""
    qos: str = ""
    """Quality of service."""
    modules: list[str] = dataclasses.field(default_factory=list)
    """Environment modules to load before a stage starts, such as cuda/12.8."""
    environment: str = ""
    """Folder of the virtual environment on the nodes. Empty: the one `mindshift launch` runs in."""
    container: str = ""
    """Apptainer image (.sif) the stages run in. Empty: no container."""
    container_options: list[str] = dataclasses.field(default_factory=lambda: ["--nv"])
    """Options of `apptainer exec`; --nv brings NVIDIA's driver into the container."""
    gpus_per_node: int = 0
    """GPUs each node has. pretrain and finetune use all, a benchmark one for each of its `jobs`, an audit and each run
    of a sweep one. 0: CPU nodes."""
    processes_per_node: int = 0
    """Training processes a node where all its GPUs are used. 0: one per GPU, one on a CPU node."""
    cpus_per_task: int = 0
    """CPU cores a node of a job gets; with some of its GPUs, that share of them. 0: the cluster's default."""
    memory: str = ""
    """Memory a node of a job gets, such as 64G; with some of its GPUs, that share of it."""
    nodes: dict[str, int] = dataclasses.field(default_factory=dict)
    """Nodes by stage, such as {pretrain: 4}. Only pretrain and finetune use more than one."""
    time_limits: dict[str, str] = dataclasses.field(default_factory=dict)
    """Time limit by stage in SLURM's notation, such as {pretrain: 1-00:00:00, audit: "4:00:00"} (YAML takes the latter
    for a number without the quotes); a stage that meets it is requeued."""
    accelerate_config: str = ""
    """Configuration for `accelerate launch` of pretrain, such as launch/accelerate/deepspeed_gpu_4.yaml; finetune does
    not shard its small models. Empty: plain data parallel."""
    network_interface: str = ""
    """Interface the ranks talk over, such as ib0 (sets NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME)."""
    variables: dict[str, str] = dataclasses.field(default_factory=dict)
    """More environment variables for the stages, such as HF_HOME."""
    sbatch_options: list[str] = dataclasses.field(default_factory=list)
    """More options for sbatch, such as --exclude=node17."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        for key in ("gpus_per_node", "processes_per_node", "cpus_per_task"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        for key in ("nodes", "time_limits"):
            for stage in getattr(self, key):
                if stage not in JOBS:
                    raise UserError(
                        f"{key} names {stage!r}, which is no stage{nearest(stage, JOBS)}",
                        fix=f"Stages: {', '.join(JOBS)}.",
                    )
        for stage, count in self.nodes.items():
            require(count >= 1, f"nodes of {stage}", count, "1 or more")
        for stage, limit in self.time_limits.items():
            require(bool(TIME_LIMIT.fullmatch(limit)), f"time_limits of {stage}", limit, "such as 30, 4:00:00, 1-00:00")


def load_site(path: Path | None, overrides: Sequence[str]) -> SiteSettings:
    """Read the site's file.

    Args:
        path: another file than `launch/site.yaml`.
        overrides: `--key value …`.

    Raises:
        UserError: an unknown key, an impossible value, or a file that is not there.
    """
    return load_recipe(SiteSettings, [str(path or SITE_FILE), *overrides], "site")


def sbatch_options(site: SiteSettings, stage: str, *, gpus: int) -> list[str]:
    """Return the options for sbatch that the site's settings mean for a stage that uses `gpus` of a node."""
    wanted: dict[str, object] = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "nodes": site.nodes.get(stage),
        "gpus-per-node": gpus,
        "cpus-per-task": _share(site.cpus_per_task, gpus, site),
        "mem": _share_of_memory(gpus, site),
        "time": site.time_limits.get(stage),
    }
    return [f"--{name}={value}" for name, value in wanted.items() if value] + site.sbatch_options


def _share(amount: int, gpus: int, site: SiteSettings) -> int:
    """Return what goes with some of a node's GPUs, rounded up: the rest is for jobs on its other GPUs."""
    return -(-amount * gpus // site.gpus_per_node) if 0 < gpus < site.gpus_per_node else amount


def _share_of_memory(gpus: int, site: SiteSettings) -> str:
    amount = MEMORY.fullmatch(site.memory)
    if not amount or not 0 < gpus < site.gpus_per_node:
        return site.memory
    return f"{_share(int(amount[1]) * MEGABYTES[amount[2]], gpus, site)}M"


def node_processes(site: SiteSettings, *, gpus: int) -> int:
    """Return how many training processes a node runs for a stage that uses `gpus` of it."""
    # `processes_per_node` is meant for whole nodes: on one GPU of eight, its processes would crowd that one.
    return (site.processes_per_node if gpus == site.gpus_per_node else 0) or gpus or 1


def job_environment(site: SiteSettings, stage: str, *, gpus: int) -> dict[str, str]:
    """Return the variables that `launch/slurm/env.sh` and `launch/on_node.py` read, and the site's own.

    Raises:
        UserError: the container or the accelerate configuration is not there.
    """
    environment = {
        "MINDSHIFT_HOME": str(CODE_ROOT),
        "MINDSHIFT_ENVIRONMENT": site.environment or sys.prefix,
        "MINDSHIFT_MODULES": " ".join(site.modules),
        "MINDSHIFT_CONTAINER": "",
        "MINDSHIFT_PROCESSES_PER_NODE": str(node_processes(site, gpus=gpus)),
        "MINDSHIFT_GPUS_PER_NODE": str(gpus),
        "MINDSHIFT_ACCELERATE_CONFIG": "",
    }
    if site.container:
        image = _existing(site.container, "container")
        words = ["apptainer", "exec", *site.container_options, "--bind", str(CODE_ROOT), image]
        environment["MINDSHIFT_CONTAINER"] = " ".join(words)
    if site.accelerate_config and stage == "pretrain":
        environment["MINDSHIFT_ACCELERATE_CONFIG"] = _existing(site.accelerate_config, "accelerate_config")
    if site.network_interface:
        environment |= dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), site.network_interface)
    return environment | site.variables


def _existing(name: str, key: str) -> str:
    for path in (Path(name).expanduser(), CODE_ROOT / name):
        if path.is_file():
            return str(path.absolute())
    raise UserError(f"no such file (site key {key!r})", where=name)
