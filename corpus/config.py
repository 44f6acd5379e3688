"""The corpus recipe: what `mindshift corpus build` is asked."""

import dataclasses
import re
from pathlib import Path
from typing import ClassVar, Literal

from configs.recipe import StageRecipe, require

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


@dataclasses.dataclass(kw_only=True)
class CorpusRecipe(StageRecipe):
    """Build a de-identified, de-duplicated corpus and its token shards from Reddit dumps.

    Not a diagnosis: what people write about their health is their word, and a corpus of it is sensitive data.
    """

    HOW: ClassVar[frozenset[str]] = StageRecipe.HOW | {
        *("executor", "workers", "task_memory_gb", "slurm_partition", "slurm_time", "slurm_qos", "slurm_setup")
    }

    inputs: list[str]
    """Dump files, as paths or globs: .zst, .jsonl, .ndjson, also .gz, .bz2 or .xz. Submissions and comments."""
    tokenizer: str
    """Folder, Hub id (OWNER/NAME) or package:minilm whose tokenizer cuts the text for the token shards."""
    keys_dir: Path = Path("keys")
    """Folder of the secrets that must stay apart from the corpus: author key, signing key, tombstones. Made if absent.
    Removing author.key makes the author hashes of every corpus built with it meaningless."""

    subreddits: list[str] = dataclasses.field(default_factory=list)
    """Keep these subreddits only (any case). Empty: keep all."""
    since: str = ""
    """Keep posts from this month on (2019-01); undated ones stay. Empty: no bound."""
    until: str = ""
    """Keep posts up to this month, included; undated ones stay. Empty: no bound."""
    min_words: int = 5
    """Drop posts with fewer words in title and body together."""
    max_characters: int = 100_000
    """Drop posts with more characters than any real post has (Reddit's own limit is 40,000)."""
    languages: list[str] = dataclasses.field(default_factory=lambda: ["en"])
    """Keep posts in these languages (ISO 639-1), and those too short or mixed to tell. Empty: keep all."""
    max_link_share: float = 0.3
    """Drop posts in which links make up more than this share of the words."""
    over_18: Literal["keep", "drop"] = "keep"
    """What to do with posts marked over_18; unmarked ones stay. Many posts about self-harm carry the mark."""
    deleted_accounts: Literal["keep", "drop"] = "drop"
    """What to do with posts whose author has deleted the account: deleting it is taken as withdrawal."""
    max_posts_per_author: int = 100
    """Keep at most this many posts of one author, drawn by hash. 0: no cap. Posts without author are not capped."""

    near_duplicates: bool = True
    """Remove near duplicates by MinHash; the earliest post of a cluster stays."""
    near_duplicate_similarity: float = 0.42
    """Estimated Jaccard similarity of word 3-grams from which two posts count as near duplicates."""
    decontaminate_against: list[str] = dataclasses.field(default_factory=list)
    """Task folders (all their splits) or .jsonl files, as paths or globs, whose texts must not be in the corpus."""
    deidentifier: str = "default"
    """Backend that finds personal information; see `mindshift corpus deidentify --help`."""

    held_out_share: float = 0.01
    """Share of authors (of posts, where the author is unknown) whose posts are held out from training."""
    held_out_months: int = 0
    """Hold out the latest months instead, this many; earlier posts of their authors are dropped. 0: by hash only."""

    canaries_per_band: int = 0
    """Plant this many invented sentences 0, 1 and 4 times each, for the release audit (64 or more). 0: none."""
    vault_key: Path | None = None
    """Key file that opens locked dumps (.age) and locks intermediate files; see `mindshift corpus vault --help`."""

    damaged_inputs: Literal["refuse", "keep_readable"] = "refuse"
    """A truncated or corrupt dump: stop, or keep what comes before the damage and report it."""
    max_line_bytes: int = 16 * 2**20
    """Longer lines are quarantined unread, in bytes."""
    chunk_documents: int = 20_000
    """Documents per chunk: the unit of work after reading, and the most a shard holds."""

    executor: Literal["local", "slurm", "ray"] = "local"
    """Where tasks run: worker processes of this machine, SLURM jobs, or a Ray cluster."""
    workers: int = 0
    """Tasks at a time. 0: one per CPU core (local), no limit (slurm, ray)."""
    task_memory_gb: int = 4
    """Memory asked for each task on SLURM or Ray, in GiB. 0: ask for none."""
    slurm_partition: str = "main"
    """SLURM partition of the tasks."""
    slurm_time: str = "24:00:00"
    """Time limit of a SLURM task; a task that meets it is done anew by the next run."""
    slurm_qos: str = ""
    """SLURM quality of service. Empty: the cluster's default."""
    slurm_setup: str = "true"
    """Shell command that prepares a SLURM job, such as `source .venv/bin/activate`."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(bool(self.inputs), "inputs", self.inputs, "at least one path or glob")
        for key in ("since", "until"):
            value = getattr(self, key)
            require(not value or bool(MONTH.fullmatch(value)), key, value, "a month such as 2019-01")
        for key in ("max_link_share", "held_out_share", "near_duplicate_similarity"):
            require(0 <= getattr(self, key) <= 1, key, getattr(self, key), "a share from 0 to 1")
        for key in (
            "min_words",
            "max_posts_per_author",
            "held_out_months",
            "canaries_per_band",
            "workers",
            "task_memory_gb",
        ):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        for key in ("max_characters", "max_line_bytes", "chunk_documents"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
