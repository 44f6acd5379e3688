"""What a model was trained on, through all the models it came from: manifests followed back to the first base.

A manifest names what one run read. The weights carry what earlier runs have shown them as well: an encoder adapted to
one corpus and then to another has seen both, a mean of encoders (`pretrain.run_soup`) all that its members have seen.
"""

import dataclasses
import re
from collections.abc import Set
from pathlib import Path

from configs.manifest import MANIFEST_NAME, InputRecord, Manifest, read_manifest, sha256_file

MODEL_INPUT = re.compile(r"model(_\d+)?|augmentation_model")
"""An encoder's start is `model`; a soup's members are `model_0`, `model_1` and so on. What an
`augmentation_model` has read it has written into the training texts."""
AUXILIARY_TASK = "auxiliary task "
CHECKPOINT_FILES = ("state.json", "checksums.json")
"""What a run of `pretrain` keeps beside the weights, to go on from."""
MAKES_MODELS = ("pretrain", "vocabulary", "finetune")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a model's weights have seen and come from; inputs by their recorded sha256.

    Attributes:
        corpora: what any generation was pretrained on.
        tasks: what any generation was fine-tuned on.
        shares_read: the share of each corpus's training part that one of the runs read, at the least; None if no
            manifest tells.
        ancestors: every model it came from that was a local folder.
        public_names: the names of those that were none.
        vocabularies: corpora whose words stand in the tokenizer, which is published with the weights.
        changed: folder names of the ancestors whose run went on with inputs that had changed.
        gaps: what cannot be followed, one sentence each; empty if the lineage is whole.
    """

    corpora: dict[str, InputRecord]
    tasks: dict[str, InputRecord]
    shares_read: dict[str, float | None]
    ancestors: dict[str, InputRecord]
    public_names: frozenset[str]
    vocabularies: dict[str, InputRecord]
    changed: tuple[str, ...]
    gaps: tuple[str, ...]

    @property
    def data(self) -> dict[str, InputRecord]:
        """Everything that the weights were trained on."""
        return self.corpora | self.tasks


def trace_lineage(manifest: Manifest, *, stop_at: Set[str] = frozenset()) -> Lineage:
    """Follow the models among a manifest's inputs, and theirs, back to the first base.

    Args:
        manifest: of the model.
        stop_at: sha256 of ancestors that are named, but whose own past is not followed.
    """
    corpora: dict[str, InputRecord] = {}
    tasks: dict[str, InputRecord] = {}
    shares_read: dict[str, float | None] = {}
    ancestors: dict[str, InputRecord] = {}
    vocabularies: dict[str, InputRecord] = {}
    public_names, changed, gaps = set(), [], []
    waiting = [("the model", manifest)]
    while waiting:
        name, found = waiting.pop()
        for key, record in _corpora(found).items():
            corpora[record.sha256] = record
            known = (_share_read(found, key), shares_read.get(record.sha256))
            shares_read[record.sha256] = max((share for share in known if share is not None), default=None)
        tasks |= {record.sha256: record for key, record in found.inputs.items() if _is_task(found, key)}
        if found.stage == "vocabulary" and "corpus" in found.inputs:
            vocabularies[found.inputs["corpus"].sha256] = found.inputs["corpus"]
        gaps += [f"{name} {gap}" for gap in _unrecorded(found)]
        models = [record for key, record in found.inputs.items() if MODEL_INPUT.fullmatch(key)]
        if "model" not in found.inputs and found.recipe.get("model"):
            public_names.add(str(found.recipe["model"]))
        for record in models:
            if record.sha256 in ancestors:
                continue
            ancestors[record.sha256] = record
            folder = Path(record.path).name
            if not record.has_manifest and is_checkpoint(Path(record.path)):
                gaps.append(f"{folder}, which {name} came from, is a checkpoint: no manifest says what it has read")
            if not record.has_manifest or record.sha256 in stop_at:
                continue
            earlier = recorded_manifest(record)
            if earlier is None:
                gaps.append(f"{folder}, which {name} came from, is gone or has another manifest now")
                continue
            changed += [folder] if earlier.accepted else []
            waiting.append((folder, earlier))
    return Lineage(
        corpora=corpora,
        tasks=tasks,
        shares_read=shares_read,
        ancestors=ancestors,
        public_names=frozenset(public_names),
        vocabularies=vocabularies,
        changed=tuple(changed),
        gaps=tuple(gaps),
    )


def recorded_manifest(record: InputRecord) -> Manifest | None:
    """Return the manifest of an input folder if it is still the recorded one."""
    path = Path(record.path) / MANIFEST_NAME
    is_recorded = path.is_file() and sha256_file(path) == record.sha256
    return read_manifest(path.parent) if is_recorded else None


def is_checkpoint(folder: Path) -> bool:
    """Say whether a model folder without a manifest was left by a run of ours that was not finished."""
    # Not every `checkpoints`: people keep downloaded models in folders of that name.
    return any(part.endswith(".partial") for part in folder.parts) or any(
        (folder / name).is_file() for name in CHECKPOINT_FILES
    )


def _corpora(manifest: Manifest) -> dict[str, InputRecord]:
    """Return what a run pretrained on, by the recipe's key.

    `masking_contrast` is only counted, and a soup's corpora only score it.
    """
    is_soup = "shares" in manifest.recipe
    if manifest.stage != "pretrain" or is_soup:
        return {}
    replays = (manifest.recipe.get("replay_share") or 0) > 0
    names = ("corpus", "general_corpus") if replays else ("corpus",)
    return {name: manifest.inputs[name] for name in names if name in manifest.inputs}


def _share_read(manifest: Manifest, key: str) -> float | None:
    """Return the share of a corpus's training part that a run read; None if its manifest does not tell."""
    if "shares_read" in manifest.counts:
        share: float | None = manifest.counts["shares_read"].get(key)
        return share
    # Older manifests do not count. Each pass reads the whole domain, but only the next piece of the general text.
    recipe = manifest.recipe
    passes = recipe.get("num_train_epochs") or 0
    is_private = recipe.get("dp_noise_multiplier") is not None or recipe.get("dp_epsilon") is not None
    return 1.0 if key == "corpus" and passes >= 1 and not is_private else None


def _is_task(manifest: Manifest, name: str) -> bool:
    return manifest.stage == "finetune" and (name == "task" or name.startswith(AUXILIARY_TASK))


def _unrecorded(manifest: Manifest) -> list[str]:
    """Say what a manifest does not tell of the run's data: a dataset of the Hub is no input with a hash."""
    if manifest.stage not in MAKES_MODELS:
        return [f"was made by stage {manifest.stage!r}, which makes no model to go on from"]
    asked = {"task": manifest.recipe.get("task")} if manifest.stage == "finetune" else {}
    asked |= {AUXILIARY_TASK + folder: folder for folder in manifest.recipe.get("auxiliary_tasks") or []}
    filler = str(manifest.recipe.get("augmentation_model") or "")
    is_folder = filler.startswith((".", "/", "~")) or filler.count("/") > 1 or Path(filler).is_dir()
    if filler and is_folder and manifest.recipe.get("augmentation") != "none":
        asked |= {"augmentation_model": filler}  # older runs did not record it
    return [
        f"was trained on {Path(source).name}, of which no hash was recorded"
        for name, source in asked.items()
        if source and name not in manifest.inputs
    ]
