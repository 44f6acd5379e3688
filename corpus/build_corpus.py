"""`mindshift corpus build`: dumps to de-identified documents and token shards, in steps that can be killed anywhere.

ingest    one task a dump file   read, set aside what is malformed, drop by rule, hash authors  → chunks
describe  one task a chunk       hashes, clocks, MinHash signature, comparison with task texts  → facts
pairs     one task a MinHash band near-duplicate candidates, verified                           → pairs
decide    one task               duplicates, author cap, held-out part                          → decisions
finish    one task a chunk       de-identify, tokenize                                          → documents, shards
report    here                   counts, quarantine, manifest
"""

import dataclasses
import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.base_models import resolve_model
from configs.console import start_console
from configs.errors import UserError, run_program
from configs.manifest import MANIFEST_NAME, read_manifest
from configs.recipe import load_recipe
from configs.run_folder import (
    open_run_folder,
    publish_run_folder,
    remove_folder,
    time_taken,
    write_atomically,
    write_run_manifest,
)
from corpus.authors import key_fingerprint, load_author_key
from corpus.canaries import make_canaries, seal_canaries
from corpus.card import write_card
from corpus.config import CorpusRecipe
from corpus.decide import Decide, DecisionRules
from corpus.decontaminate import build_index, read_tasks, task_files, task_texts
from corpus.deidentify import check_backend
from corpus.describe import FACTS, Describe, MarkErased
from corpus.dumps import find_inputs
from corpus.engine import forget_tasks, run_step, step_counts, step_usage
from corpus.erasure import erase_entombed
from corpus.filters import RuleChain, rules_of
from corpus.finish import Finish, FinishSettings
from corpus.ingest import QUARANTINE_NAME, ChunkWriter, DumpReader, file_state, list_chunks
from corpus.minhash import BANDS, FindPairs
from corpus.report import render_report
from corpus.shards import SPLITS, TokenShards, remove_shard
from corpus.tombstones import make_tombstones, tombstones_size
from corpus.vault import open_vault

STEPS = ("ingest", "describe", "pairs", "decide", "finish")
WRITTEN = ("intermediate/chunks", "intermediate/facts", "intermediate/pairs", "documents", "tokens")
REPORT_NAME, TOMBSTONES_NOTED = "report.json", "tombstones.size"
AUDITED_HELD_OUT = 3000
"""Held-out posts that the membership audit wants: 2,000 that were never seen, 1,000 for its shadow model."""
logger = logging.getLogger("corpus")


def main(arguments: Sequence[str], program: str) -> None:
    """Build a corpus from a recipe."""
    recipe = load_recipe(CorpusRecipe, arguments, program)
    inputs = find_inputs(recipe.inputs)
    check_backend(recipe.deidentifier)  # the last step needs it, hours from here
    working = open_run_folder(recipe)
    # The report is written when everything else is there: a run killed after that only has to tidy up.
    if not (working / REPORT_NAME).is_file():
        Build(recipe, working, inputs).run()
    report = json.loads((working / REPORT_NAME).read_text(encoding="utf-8"))
    remove_folder(working / "intermediate")
    # A manifest that is there may hold the proof of an erasure that was killed: it is gone on with.
    if not (working / MANIFEST_NAME).is_file():
        for leftover in working.rglob("*.tmp"):
            leftover.unlink()
        recorded = {str(path): path for path in inputs}
        write_run_manifest(recipe, stage="corpus", inputs=recorded, counts=report["counts"])
    # The last word: a build that was killed after its report may go on days later.
    if report.get("tombstones") != tombstones_size(recipe.keys_dir):
        erase_entombed(working, recipe.keys_dir)
    publish_run_folder(recipe)
    counts = read_manifest(recipe.output_dir).counts
    _print_summary(recipe.output_dir, counts)
    if recipe.canaries_per_band:
        _warn_of_few_held_out(recipe.output_dir, counts)


class Build:
    """One build, from its inputs to everything but the manifest."""

    def __init__(self, recipe: CorpusRecipe, working: Path, inputs: list[Path]) -> None:
        self.recipe, self.working, self.inputs = recipe, working, inputs
        self.intermediate = working / "intermediate"
        self.intermediate.mkdir(exist_ok=True)
        self.tasks = read_tasks(recipe.decontaminate_against)
        self.vault = open_vault(recipe.vault_key)
        self.author_key = load_author_key(recipe.keys_dir)
        self.project = make_tombstones(recipe.keys_dir)
        self.started_at, self.states = time_taken(working)[0], self._recall_inputs()

    def run(self) -> None:
        """Run all steps; finished ones are skipped."""
        save_tokenizer(self.recipe.tokenizer, self.working / "tokenizer")
        self._ingest()
        chunks, sizes = list_chunks(self.intermediate / "chunks")
        if not sizes:
            raise UserError(
                "no post is left after reading and filtering",
                where=", ".join(self.recipe.inputs),
                fix=f"Look at the reasons: {self._reasons_text()}.",
            )
        self._describe(chunks, sizes)
        decisions = self._decide(sizes)
        # Other corpora of the project are erased from while a build takes days or waits to be continued.
        self._take_out_erased(chunks, sizes)
        settings = FinishSettings(
            decisions=decisions,
            chunk_starts=[sum(sizes[:chunk]) for chunk in range(len(sizes))],
            tokenizer_dir=self.working / "tokenizer",
            deidentifier=self.recipe.deidentifier,
            output=self.working,
            canaries=self._seal_canaries(),
            task_index=self._index_tasks(),
            vault=self.vault,
        )
        self._run("finish", [Finish(chunks, settings)], sizes, "posts")
        while self._take_out_erased(chunks, sizes):
            self._run("finish", [Finish(chunks, settings)], sizes, "posts")
        self._report()

    def _ingest(self) -> None:
        chunks = self.intermediate / "chunks"
        chunks.mkdir(exist_ok=True)
        reader = DumpReader(
            self.inputs,
            self.states,
            chunks,
            max_line_bytes=self.recipe.max_line_bytes,
            keep_readable=self.recipe.damaged_inputs == "keep_readable",
            vault=self.vault,
        )
        writer = ChunkWriter(chunks, self.recipe.chunk_documents, self.recipe.keys_dir, self.vault)
        pipeline = [reader, RuleChain(rules_of(self.recipe), chunks), writer]
        self._run("ingest", pipeline, [size for size, _ in self.states], "bytes")

    def _describe(self, chunks: list[Path], sizes: list[int]) -> None:
        recipe, facts = self.recipe, self.intermediate / "facts"
        noted = self.intermediate / TOMBSTONES_NOTED
        if not noted.exists():
            write_atomically(noted, str(tombstones_size(recipe.keys_dir)))
        index = self._index_tasks()
        describe = Describe(
            chunks,
            facts,
            signatures=recipe.near_duplicates,
            task_index=index,
            keys_dir=recipe.keys_dir,
            vault=self.vault,
        )
        self._run("describe", [describe], sizes, "posts")
        if recipe.near_duplicates:
            find = FindPairs(facts, sizes, self.intermediate / "pairs", recipe.near_duplicate_similarity)
            self._run("pairs", [find], [1] * BANDS, "bands")

    def _decide(self, sizes: list[int]) -> Path:
        recipe = self.recipe
        chunks, facts, pairs, decisions = (
            self.intermediate / name for name in ("chunks", "facts", "pairs", "decisions")
        )
        rules = DecisionRules(
            seed=recipe.seed,
            held_out_share=recipe.held_out_share,
            held_out_months=recipe.held_out_months,
            max_posts_per_author=recipe.max_posts_per_author,
            tasks=list(self.tasks),
        )
        self._run("decide", [Decide(chunks, facts, pairs, sizes, decisions, rules, self.vault)], [sum(sizes)], "posts")
        self._check_splits()
        return decisions

    def _take_out_erased(self, chunks: list[Path], sizes: list[int]) -> bool:
        """Decide anew if posts were erased since they were described, and undo the shards that this changes."""
        noted, decisions = self.intermediate / TOMBSTONES_NOTED, self.intermediate / "decisions"
        before, size = self.intermediate / "decisions_before", tombstones_size(self.recipe.keys_dir)
        if int(noted.read_text()) == size:
            return False
        facts = self.intermediate / "facts"
        self._run(f"erased_{size}", [MarkErased(chunks, facts, self.recipe.keys_dir, self.vault)], sizes, "posts")
        if not before.exists():  # one is here if an earlier try was killed: what it decided was not acted upon
            write_atomically(before, decisions.read_bytes())
        forget_tasks(self.intermediate / "steps" / "decide", [0])
        self._decide(sizes)
        starts = np.cumsum([0, *sizes])[:-1]
        differ = np.fromfile(before, dtype=np.uint8) != np.fromfile(decisions, dtype=np.uint8)
        changed = np.flatnonzero(np.add.reduceat(differ, starts, dtype=np.int64)).tolist()
        forget_tasks(self.intermediate / "steps" / "finish", changed)
        for chunk in changed:
            remove_shard(self.working, chunk)
        write_atomically(noted, str(size))
        before.unlink()
        return bool(changed)

    def _index_tasks(self) -> Path | None:
        path = self.intermediate / "task_index.npz"
        if not self.tasks:
            return None
        if not path.exists():
            build_index({name: task_texts(task) for name, task in self.tasks.items()}).save(path)
        return path

    def _seal_canaries(self) -> Path | None:
        if not self.recipe.canaries_per_band:
            return None
        canaries = make_canaries(self.recipe, self.author_key)
        return seal_canaries(self.working, canaries)

    def _run(self, name: str, pipeline: list[Any], sizes: list[int], unit: str) -> None:
        folder = self.intermediate / "steps" / name
        run_step(name, pipeline, sizes=sizes, unit=unit, recipe=self.recipe, logging_dir=folder)

    def _counts(self, step: str) -> Counter[str]:
        return step_counts(self.intermediate / "steps" / step)

    def _recall_inputs(self) -> list[list[int]]:
        """Remember the inputs as they are when the build begins; a resumed build must find the same."""
        path = self.intermediate / "inputs.json"
        present: dict[str, Any] = {
            "files": {str(file): file_state(file) for file in self.inputs},
            "task_files": {str(file): file_state(file) for task in self.tasks.values() for file in task_files(task)},
            "author_key": key_fingerprint(self.author_key),
            "facts": [list(field) for field in FACTS.descr],
        }
        if path.exists():
            recalled = json.loads(path.read_text(encoding="utf-8"))
            for name, state in recalled["files"].items():
                if present["files"].get(name) != state:
                    raise UserError(
                        "this input changed since the interrupted build began",
                        where=name,
                        fix=f"Remove {self.working} and run the build again.",
                    )
            names = {"files": "inputs", "task_files": "tasks of decontaminate_against", "author_key": "author key"}
            names |= {"facts": "steps of this version"}
            if changed := [name for key, name in names.items() if recalled.get(key) != present[key]]:
                raise UserError(
                    f"the {' and the '.join(changed)} are not those of the interrupted build",
                    where=self.working,
                    fix="Remove this folder and run the build again.",
                )
            return list(recalled["files"].values())
        write_atomically(path, json.dumps(present))
        return [file_state(file) for file in self.inputs]

    def _check_splits(self) -> None:
        counts = self._counts("decide")
        if not counts["decided_train"]:
            raise UserError("no post is left for training", fix=f"Look at the reasons: {self._reasons_text()}.")
        if counts["text_ids_repeated"]:
            raise UserError(
                f"{counts['text_ids_repeated']:,} texts have the id of another text with other words",
                where=", ".join(self.recipe.inputs),
                fix="Give every text an id of its own over all inputs, such as TASK-SPLIT-NUMBER, and build anew.",
            )
        wants_held_out = self.recipe.held_out_months or self.recipe.held_out_share
        if wants_held_out and not counts["decided_held_out"]:
            raise UserError(
                "no post fell into the held-out part",
                where=f"held_out_share {self.recipe.held_out_share}",
                fix="Raise held_out_share: the corpus is small (or set it to 0 for none).",
            )

    def _reasons_text(self) -> str:
        reasons = _by_prefix(self._counts("ingest") + self._counts("decide"), "dropped_", "quarantined_", "decided_")
        return ", ".join(f"{reason} {count:,}" for reason, count in reasons.items() if count) or "no record was read"

    def _report(self) -> None:
        _collect_quarantine(self.intermediate / "chunks", self.working / "quarantine")
        ingest, decide, finish = (self._counts(step) for step in ("ingest", "decide", "finish"))
        decided = _by_prefix(decide, "decided_")
        decided["contaminated"] += finish["contaminated"]
        usage = {step: step_usage(self.intermediate / "steps" / step) for step in STEPS}
        counts: dict[str, Any] = {
            "read": ingest["read"],
            "quarantined": _by_prefix(ingest, "quarantined_"),
            "dropped": _by_prefix(ingest, "dropped_")
            | {reason: count for reason, count in decided.items() if reason not in SPLITS and count},
            "canary_copies": finish["canary_copies"],
            "kept": finish["documents_train"] + finish["documents_held_out"],
            "documents": _by_prefix(finish, "documents_"),
            "tokens": _by_prefix(finish, "tokens_"),
            "identifiers": _by_prefix(finish, "identifier:"),
            "months": _by_prefix(finish, "month:"),
            "subreddits": _by_prefix(finish, "subreddit:"),
            "lengths": _by_prefix(finish, "length:"),
            "author_key": key_fingerprint(self.author_key),
            "project": self.project,
            "contaminated_by_task": _by_prefix(decide + finish, "task:"),
            "near_duplicate_clusters": _by_prefix(decide, "cluster:"),
            "cpu_seconds": {step: seconds for step, (seconds, _) in usage.items()},
            "peak_memory_mb": {step: peak for step, (_, peak) in usage.items()},
            "megabytes": {name: folder_megabytes(self.working / name) for name in WRITTEN},
        }
        report = {
            "started_at": self.started_at,
            "tombstones": int((self.intermediate / TOMBSTONES_NOTED).read_text()),
            "recipe": dataclasses.asdict(self.recipe),
            "counts": counts,
        }
        write_atomically(self.working / "report.html", render_report(counts))
        write_card(self.working, self.recipe, counts, self.started_at)
        write_atomically(self.working / REPORT_NAME, json.dumps(report, indent=2, default=str) + "\n")


def save_tokenizer(name: str, folder: Path) -> None:
    """Put a copy of the tokenizer into the corpus.

    Raises:
        UserError: it cannot be loaded or is not a fast one.
    """
    if folder.is_dir():
        return
    from transformers import AutoTokenizer

    source = resolve_model(name)
    temporary = folder.with_name(folder.name + ".tmp")
    remove_folder(temporary)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
    except (OSError, ValueError) as error:
        raise UserError(
            "no tokenizer could be loaded", where=name, fix="Name a folder, a Hub id, or package:minilm."
        ) from error
    tokenizer.save_pretrained(temporary)
    if not (temporary / "tokenizer.json").is_file():
        raise UserError("this tokenizer has no tokenizer.json (it is not a fast one)", where=name)
    temporary.rename(folder)


def folder_megabytes(folder: Path) -> float:
    """Return how much the files of a folder hold, in MB of 10⁶ bytes."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 3)


def _by_prefix(counts: Counter[str], *prefixes: str) -> dict[str, int]:
    found = {
        label.removeprefix(prefix): count
        for prefix in prefixes
        for label, count in counts.items()
        if label.startswith(prefix)
    }
    return dict(sorted(found.items()))


def _collect_quarantine(chunks: Path, folder: Path) -> None:
    remove_folder(folder)
    folder.mkdir()
    for path in sorted(chunks.glob(f"*/{QUARANTINE_NAME}")):
        if path.stat().st_size and not path.parent.name.endswith(".tmp"):
            shutil.copyfile(path, folder / f"{path.parent.name}.jsonl")


def _warn_of_few_held_out(corpus_dir: Path, counts: dict[str, Any]) -> None:
    """Tell now what the release audit would tell when the model is trained: the corpus cannot be cut again then."""
    held_out = counts["documents"].get("held_out", 0)
    authors = Counter(TokenShards(corpus_dir, "held_out").read_author_hashes() if held_out else [])
    units = authors[""] + len(authors.keys() - {""})
    if units < AUDITED_HELD_OUT:
        logger.warning(
            "only %s held-out posts of different authors: the release audit wants %s; raise held_out_share",
            f"{units:,}",
            f"{AUDITED_HELD_OUT:,}",
        )


def _print_summary(output_dir: Path, counts: dict[str, Any]) -> None:
    documents, tokens = counts["documents"], counts["tokens"]
    dropped, quarantined = sum(counts["dropped"].values()), sum(counts["quarantined"].values())
    logger.info("read %s, dropped %s, quarantined %s", f"{counts['read']:,}", f"{dropped:,}", f"{quarantined:,}")
    for split in documents:
        logger.info("%s: %s documents, %s tokens", split, f"{documents[split]:,}", f"{tokens[split]:,}")
    logger.info("corpus: %s  report: %s", output_dir, output_dir / "report.html")


if __name__ == "__main__":
    start_console()
    sys.exit(run_program(lambda: main(sys.argv[1:], "corpus/build_corpus.py")))
