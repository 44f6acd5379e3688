"""Checkpoints of a training loop on accelerate, inside its run folder: replaced as a whole, found whatever was killed.

One is kept. A new one is written beside the old one and put in its place by two renames; the weights that scored best
lie apart. Rooms whose loop is accelerate's use this; `pretrain/` has checkpoints of its own, which do not depend on the
number of processes.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.run_folder import remove_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

NEWEST, WRITING, OLD = "checkpoint", "checkpoint.writing", "checkpoint.old"
BEST, BEST_WRITING = "best.safetensors", ".best.safetensors.tmp"


@dataclasses.dataclass
class SavedState:
    """A dataclass that accelerate keeps in its checkpoints: its fields as plain values."""

    def state_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return dataclasses.asdict(self)

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take over fields that were saved."""
        for key, value in values.items():
            setattr(self, key, value)


def save_checkpoint(accelerator: "Accelerator", working: Path) -> None:
    """Replace the checkpoint by the present state; every process must call it."""
    if accelerator.is_main_process:
        remove_folder(working / WRITING)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(working / WRITING))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if (working / NEWEST).exists():
            remove_folder(working / OLD)
            (working / NEWEST).rename(working / OLD)
        (working / WRITING).rename(working / NEWEST)
        remove_folder(working / OLD)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: "Accelerator", working: Path) -> bool:
    """Load the checkpoint, if there is one, and return whether there was."""
    for name in (NEWEST, OLD):  # only the old one is left by a kill between the two renames
        if (working / name).is_dir():
            accelerator.load_state(str(working / name))
            return True
    return False


def save_best(model: Any, working: Path) -> None:
    """Keep the trained weights; what is frozen, or packed into 4 bits, is in the base."""
    from safetensors.torch import save_file

    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    # Clones: tied weights share memory, which safetensors refuses.
    tensors = {name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}
    save_file(tensors, working / BEST_WRITING)
    (working / BEST_WRITING).replace(working / BEST)


def load_best(model: Any, working: Path) -> None:
    """Load the weights that were kept into a model of the same shape."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(working / BEST), strict=False)


def remove_checkpoints(working: Path) -> None:
    """Remove what only an unfinished run needs."""
    for name in (NEWEST, WRITING, OLD):
        remove_folder(working / name)
    for name in (BEST, BEST_WRITING):
        (working / name).unlink(missing_ok=True)
