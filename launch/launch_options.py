"""The options of `mindshift launch` itself, told apart from the keys of the stage it starts."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import docstring_parser

from configs.errors import UserError
from launch.site_settings import SiteSettings, load_site
from launch.stages import STAGES

USAGE = """\
usage: {program} STAGE RECIPE.yaml --on local|slurm [--dry-run] [--nodes N] [--key value ...]
       {program} all CHAIN.yaml --on local|slurm [--dry-run] [--STAGE.key value ...]
       {program} sweep SWEEP.yaml --on local|slurm [--dry-run]
       {program} status [FOLDER]
       {program} cancel FOLDER

Starts a stage ({stages}), the whole chain, or many small runs.

  --on local|slurm   run it here, or submit it as jobs of this cluster
  --dry-run          print the commands and job files instead
  --nodes N          nodes of this one stage (default: the site's `nodes`, else 1)
  --site FILE        settings of the cluster (default: {site})
  --site.KEY VALUE   one setting of the cluster for this once:
"""


@dataclasses.dataclass(kw_only=True)
class LaunchOptions:
    """The options of `mindshift launch` itself; everything else goes to the stage."""

    on: str = ""
    dry_run: bool = False
    nodes: str = ""
    site_file: Path | None = None
    site_overrides: list[str] = dataclasses.field(default_factory=list)
    rest: list[str] = dataclasses.field(default_factory=list)

    def site(self, stage: str = "") -> SiteSettings:
        """Load the site's settings, with what the command line says about them.

        Args:
            stage: the one stage that is launched. Empty: several are, or the runs of a sweep.

        Raises:
            UserError: a mistake in them, or `--nodes` without one stage that it could mean.
        """
        site = load_site(self.site_file, self.site_overrides)
        if self.nodes and not stage:
            raise UserError(
                "--nodes is for one stage",
                fix="In a chain, say which: --site.nodes '{pretrain: 4}'. Each run of a sweep takes one node.",
            )
        if self.nodes:
            if not self.nodes.isdecimal() or int(self.nodes) < 1:
                raise UserError(f"--nodes is {self.nodes!r}; allowed: 1 or more")
            site.nodes[stage] = int(self.nodes)
        return site


def help_text(program: str) -> str:
    """Return the help of `mindshift launch`, with the site's keys from their docstrings."""
    keys = docstring_parser.parse_from_object(SiteSettings).params
    lines = [f"    {key.arg_name:<19} {' '.join((key.description or '').split())}" for key in keys]
    return USAGE.format(program=program, stages=", ".join(STAGES), site="launch/site.yaml") + "\n".join(lines)


def parse_options(arguments: Sequence[str]) -> LaunchOptions:
    """Split the options of `mindshift launch` from those of the stage.

    Raises:
        UserError: `--on` is missing or names neither `local` nor `slurm`, or an option lacks its value.
    """
    options = LaunchOptions()
    words = iter(part for word in arguments for part in _split_equals(word))
    for word in words:
        if word in ("--dry-run", "--dry_run"):
            options.dry_run = True
        elif word in ("--on", "--nodes", "--site") or word.startswith("--site."):
            value = next(words, None)
            if value is None:
                raise UserError(f"{word} needs a value", fix="See `mindshift launch --help`.")
            if word == "--on":
                options.on = value
            elif word == "--nodes":
                options.nodes = value
            elif word == "--site":
                options.site_file = Path(value)
            else:
                options.site_overrides += [f"--{word.removeprefix('--site.')}", value]
        else:
            options.rest.append(word)
    asks_help = any(word in ("-h", "--help", "--print_config") for word in options.rest)
    if options.on not in ("local", "slurm") and not asks_help:
        raise UserError(f"--on is {options.on!r}; allowed: local, slurm", fix="See `mindshift launch --help`.")
    return options


def _split_equals(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    is_ours = name in ("--on", "--nodes", "--site") or name.startswith("--site.")
    return [name, value] if equals and is_ours else [word]
