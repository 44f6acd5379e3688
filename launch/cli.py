"""The `mindshift` command: a table from command words to the programs of the rooms.

Each program is a function that takes its arguments and its own name; its module is imported only when called, so
`mindshift --help` answers at once.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from configs.console import start_console
from configs.errors import UserError, run_program


class Command(NamedTuple):
    """Where a command's program is, and one line for `--help`."""

    program: str
    summary: str


COMMANDS: dict[str, Command] = {
    "doctor": Command("launch.doctor:main", "Show what is installed, which accelerator, which extras are missing."),
    "demo": Command("launch.demo:main", "Run the whole chain on the embedded synthetic sample."),
    "corpus build": Command("corpus.build_corpus:main", "Dumps to de-identified documents and token shards."),
    "corpus collect": Command("corpus.collect:main", "Collect posts through Reddit's API, scrubbed before writing."),
    "corpus deidentify": Command(
        "corpus.deidentify.command:main", "Mask names and other personal information in a file of texts."
    ),
    "corpus erase": Command("corpus.erase:main", "Take posts out of a finished corpus, with a signed proof."),
    "corpus resync": Command("corpus.erase:resync", "Erase what is gone from Reddit."),
    "corpus vault": Command("corpus.lock_files:main", "Make a vault key, lock and unlock files, destroy the key."),
    "corpus sample": Command("corpus.sample.generate:main", "Write any number of synthetic posts in dump format."),
    "pretrain": Command("pretrain.run_mlm:main", "Continue masked-LM pretraining on a corpus (one process)."),
    "pretrain extend-vocabulary": Command("pretrain.vocabulary:main", "Whole tokens for a corpus's frequent words."),
    "pretrain soup": Command("pretrain.run_soup:main", "Average the weights of encoders from one starting point."),
    "pretrain evaluate": Command("pretrain.run_evaluate:main", "Score encoders side by side on held-out texts."),
    "pretrain estimate": Command(
        "pretrain.run_estimate:main", "Say tokens, hours, memory and cost of a recipe beforehand."
    ),
    "finetune": Command("finetune.run_classifier:main", "Put a classification head on an encoder and evaluate it."),
    "launch": Command("launch.run_launch:main", "Start a stage here or as SLURM jobs (--on local|slurm)."),
    "launch all": Command("launch.run_launch:launch_all", "Start the chain of stages, each after the one before."),
    "launch sweep": Command("launch.sweep:main", "Start many small runs of a stage, as one array of jobs."),
    "launch status": Command("launch.run_launch:status", "Show where launches stand, and why a stage failed."),
    "launch cancel": Command("launch.run_launch:cancel_launch", "Cancel the jobs of a launch."),
    "search": Command("finetune.run_search:main", "Search for fine-tuning settings; keep the best classifier."),
    "benchmark": Command("finetune.run_benchmark:main", "Compare encoders over labelled tasks and seeds."),
    "reproduce": Command("launch.reproduce:main", "Run the adaptation experiment, or what is left of it."),
    "predict": Command("finetune.predict:main", "Classify texts with a fine-tuned model folder."),
    "explain": Command("finetune.run_explain:main", "Which words decisions rest on, and how faithful that is."),
    "export": Command("finetune.run_export:main", "Write a classifier as int8 ONNX, checked against the original."),
    "serve": Command("finetune.run_serve:main", "Answer classification requests over HTTP."),
    "chat": Command("dialogue.chat:main", "Talk to a responder (--model), or route recorded conversations (--screen)."),
    "dialogue": Command("dialogue.run_dialogue:main", "Tune a small decoder into a responder (one process)."),
    "studio": Command("studio.run_studio:main", "Open the local page: reports, fill-mask, classify, chat."),
    "release audit": Command("release.run_audit:main", "Measure what a model gives away and whether it stigmatises."),
    "release card": Command("release.run_release:card", "Write the model card from manifest, evaluation and audits."),
    "release build": Command("release.run_release:build", "Pass the gate and fill the repository folder, or refuse."),
    "release sign": Command("release.run_release:sign", "Sign the repository folder with a key, offline."),
    "release verify": Command("release.run_release:verify", "Check hashes and signature of a release or a download."),
    "release push": Command("release.run_release:push", "Publish behind a manual gate; a failure leaves nothing open."),
    "release access": Command(
        "release.run_release:access", "list | accept | reject | revoke | export access requests."
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `mindshift` console script; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_program(lambda: _dispatch(words))


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help(""))
        return
    if words[0] in ("-V", "--version"):
        from launch.doctor import own_version

        print(f"mindshift {own_version()}")
        return
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS and len(words) >= length:
            start_console()
            module_name, _, function = COMMANDS[name].program.partition(":")
            getattr(importlib.import_module(module_name), function)(words[length:], f"mindshift {name}")
            return
    group = words[0]
    if any(name.startswith(group + " ") for name in COMMANDS) and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(_help(group + " "))
        return
    asked = " ".join(word for word in words[:2] if not word.startswith("-"))
    close = difflib.get_close_matches(asked, COMMANDS, n=1, cutoff=0.4)
    suggestion = f"; did you mean 'mindshift {close[0]}'?" if close else ""
    raise UserError(f"no command 'mindshift {asked}'{suggestion}", fix="`mindshift --help` lists the commands.")


def _help(prefix: str) -> str:
    rows = [(name, command.summary) for name, command in COMMANDS.items() if name.startswith(prefix)]
    width = max(len(name) for name, _ in rows)
    lines = [
        "mindshift: domain-adaptive pretraining for mental-health language. Not a diagnosis.",
        "",
        f"usage: mindshift {prefix or 'COMMAND '}[RECIPE.yaml] [--key value ...]",
        "",
        *(f"  {name:<{width}}  {summary}" for name, summary in rows),
        "",
        "`mindshift COMMAND --help` explains every key, with its unit and default.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
