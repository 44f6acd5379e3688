"""What was launched: `FOLDER.launch/launch.json` beside the output folder, with the jobs' logs and exit codes.

`mindshift launch status` and `cancel` read it; so a chain can be followed from any shell, days later.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.manifest import MANIFEST_NAME, now
from configs.run_folder import write_atomically

JOURNAL_NAME = "launch.json"


@dataclasses.dataclass(kw_only=True)
class LaunchedStage:
    """One stage of a launch."""

    stage: str
    output_dir: str
    arguments: list[str]
    after: list[str] = dataclasses.field(default_factory=list)
    """Stages of this launch that must end well first."""
    job_ids: list[str] = dataclasses.field(default_factory=list)
    """SLURM's ids; several for a sweep that needs more than one array. Empty when it runs on this machine."""
    exit_code: int | None = None
    """Of a stage that ran on this machine."""
    runs: int = 1
    """Of a sweep: how many runs there are in all."""

    @property
    def is_done(self) -> bool:
        """Whether its output folder is complete."""
        return (Path(self.output_dir) / MANIFEST_NAME).is_file()


@dataclasses.dataclass(kw_only=True)
class Launch:
    """A launched stage, chain or sweep."""

    folder: Path
    """`FOLDER.launch`, beside the output folder."""
    where: str
    """`local` or `slurm`."""
    launched_at: str = dataclasses.field(default_factory=now)
    stages: list[LaunchedStage] = dataclasses.field(default_factory=list)

    def write(self) -> None:
        """Write the journal so that a reader sees all of it or the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = dataclasses.asdict(self)
        values.pop("folder")
        write_atomically(self.folder / JOURNAL_NAME, json.dumps(values, indent=2) + "\n")

    def log(self, job_id: str, stage: str) -> Path:
        """Return the log of a job."""
        return self.folder / f"{stage}-{job_id}.log"

    def exit_record(self, job_id: str) -> dict[str, Any]:
        """Return what the job noted when it ended; empty if it never got there."""
        try:
            record: dict[str, Any] = json.loads((self.folder / f"{job_id}.exit.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record


def launch_folder(output_dir: Path) -> Path:
    """Return where the launches of an output folder are noted."""
    return output_dir.absolute().with_name(output_dir.absolute().name + ".launch")


def read_launch(output_dir: Path) -> Launch:
    """Read the journal of an output folder (or of its `.launch` folder itself).

    Raises:
        UserError: nothing was launched for it.
    """
    folder = output_dir.absolute() if output_dir.name.endswith(".launch") else launch_folder(output_dir)
    try:
        values = json.loads((folder / JOURNAL_NAME).read_text(encoding="utf-8"))
        values["stages"] = [LaunchedStage(**stage) for stage in values["stages"]]
        return Launch(folder=folder, **values)
    except FileNotFoundError:
        raise UserError(
            "nothing was launched for this folder",
            where=output_dir,
            fix="Name the --output_dir of a `mindshift launch`; without a name, `status` lists those below runs/.",
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"not a launch journal ({type(error).__name__})", where=folder / JOURNAL_NAME) from error


def find_launches(root: Path) -> list[Launch]:
    """Return all launches below a folder, the newest first."""
    found = [read_launch(path.parent) for path in root.rglob(f"*.launch/{JOURNAL_NAME}")]
    return sorted(found, key=lambda launch: launch.launched_at, reverse=True)
