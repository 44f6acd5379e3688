"""`mindshift launch`: start a stage, or the whole chain, here or under SLURM; see where it stands; cancel it.

A launch checks its recipes first, writes a journal beside the output folder and submits one job a stage, each
waiting for those before it (`afterok`). Jobs run in the folder the command was given in, so that relative paths
mean there what they mean here.
"""

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.errors import USER_ERROR_EXIT_CODE, UserError
from configs.recipe import load_recipe
from launch.journal import Launch, LaunchedStage, find_launches, launch_folder, read_launch
from launch.launch_options import LaunchOptions, help_text, parse_options
from launch.scheduler import SLURM_FOLDER, batch_command, cancel, require_slurm, submit
from launch.site_settings import SiteSettings, job_environment, node_processes, sbatch_options
from launch.stages import STAGES, ChainRecipe, Link, chain_links, check_inputs, find_stage
from launch.standing import LIVE, show, standings
from pretrain.config import PretrainRecipe

logger = logging.getLogger("launch")


def main(arguments: Sequence[str], program: str) -> None:
    """Launch one stage.

    Raises:
        UserError: a mistake in the recipe or the site's settings, SLURM refuses the job, or the stage stopped.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text(program))
        return
    stage = find_stage(arguments[0])
    options = parse_options(arguments[1:])
    recipe = stage.load(options.rest)
    link = Link(stage=stage, arguments=options.rest, recipe=recipe, after=[])
    if link_is_done(link):
        raise UserError(
            "this folder already holds a finished run", where=link.output_dir, fix="Choose another --output_dir."
        )
    launch_links([link], launch_folder(recipe.output_dir), options, options.site(stage.name))


def launch_all(arguments: Sequence[str], program: str) -> None:
    """Launch the chain of stages; those that are finished are left out."""
    options = parse_options(arguments)
    overrides: dict[str, list[str]] = {}
    words, own = iter(options.rest), []
    for word in words:
        stage, _, key = word.removeprefix("--").partition(".")
        if word.startswith("--") and key and stage in STAGES:
            value = [] if "=" in key else [next(words, "")]
            overrides.setdefault(stage, []).extend([f"--{key}", *value])
        else:
            own.append(word)
    chain = load_recipe(ChainRecipe, own, program)
    site = options.site()
    links = chain_links(chain, overrides)
    launch_links(links, launch_folder(chain.output_dir), options, site)


def status(arguments: Sequence[str], program: str) -> None:
    """Show where launches stand: one folder's, or all below `runs/`."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: {program} [FOLDER]\n\nShows where the launch for FOLDER stands; without it, all below runs/.")
        return
    launches = [read_launch(Path(arguments[0]))] if arguments else find_launches(Path("runs"))
    print("\n\n".join(show(launch) for launch in launches) or "nothing was launched below runs/")


def cancel_launch(arguments: Sequence[str], program: str) -> None:
    """Cancel every job of a launch that has not ended."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {program} FOLDER\n\nCancels the jobs launched for FOLDER; finished stages stay.")
        return
    launch = read_launch(Path(arguments[0]))
    if launch.where != "slurm":
        raise UserError("this launch runs in a terminal here", where=arguments[0], fix="Press Ctrl-C there.")
    live = [job for standing in standings(launch) if standing.state in LIVE for job in standing.stage.job_ids]
    if live:
        cancel(live)
    print(f"cancelled {', '.join(live)}" if live else "nothing to cancel: all its jobs have ended")


def launch_links(links: list[Link], folder: Path, options: LaunchOptions, site: SiteSettings) -> None:
    """Run or submit stages that build on each other, and note it in the journal.

    Raises:
        UserError: the same launch is still at work, a stage stopped, several nodes are given to one that uses one, or
            a batch cannot be dealt to the processes.
    """
    for link in links:
        if site.nodes.get(link.stage.name, 1) > 1 and not link.stage.spans_nodes:
            raise UserError(
                f"the {link.stage.name} stage is one process on one node, not on {site.nodes[link.stage.name]}",
                fix="For many nodes give its recipe `executor: slurm`, which submits its tasks as arrays.",
            )
        if isinstance(link.recipe, PretrainRecipe) and not link_is_done(link):  # rather than after hours in the queue
            nodes = site.nodes.get(link.stage.name, 1) if options.on == "slurm" else 1
            gpus = link.stage.gpus(link.recipe, site.gpus_per_node)
            link.recipe.accumulation_steps(nodes * node_processes(site, gpus=gpus))
    launch = Launch(folder=folder, where=options.on)
    launch.stages = [
        LaunchedStage(
            stage=link.stage.name, output_dir=str(link.output_dir), arguments=link.arguments, after=link.after
        )
        for link in links
    ]
    if not options.dry_run:
        check_inputs(links)
        refuse_if_at_work(folder)
    if options.on == "local":
        _run_here(launch, links, site, dry_run=options.dry_run)
    else:
        _submit(launch, links, site, dry_run=options.dry_run)


def link_is_done(link: Link) -> bool:
    """Return whether the output folder of a stage is complete."""
    return LaunchedStage(stage=link.stage.name, output_dir=str(link.output_dir), arguments=[]).is_done


def job_options(launch: Launch, name: str, site: SiteSettings, *, gpus: int, log: str) -> list[str]:
    """Return all options for sbatch but the dependency."""
    return [
        f"--job-name={name}",
        f"--output={launch.folder / log}",
        *sbatch_options(site, name, gpus=gpus),
    ]


def _submit(launch: Launch, links: list[Link], site: SiteSettings, *, dry_run: bool) -> None:
    if not dry_run:
        require_slurm()
        launch.folder.mkdir(parents=True, exist_ok=True)
    job_ids: dict[str, str] = {}
    for link, noted in zip(links, launch.stages, strict=True):
        name, gpus = link.stage.name, link.stage.gpus(link.recipe, site.gpus_per_node)
        if link_is_done(link):
            print(f"{name}: finished before, in {link.output_dir}")
            continue
        sbatch = job_options(launch, name, site, gpus=gpus, log=f"{name}-%j.log")
        waits = [job_ids[source] for source in link.after if source in job_ids]
        if waits:
            # A job whose predecessor failed can never start: without this option it would wait for ever.
            sbatch += [f"--dependency=afterok:{':'.join(waits)}", "--kill-on-invalid-dep=yes"]
        environment = job_environment(site, name, gpus=gpus) | {"MINDSHIFT_LAUNCH_FOLDER": str(launch.folder)}
        job_file = SLURM_FOLDER / f"{name}.sbatch"
        command = batch_command(sbatch, job_file, link.arguments)
        if dry_run:
            job_ids[name] = f"<{name}>"
            print_job(command, environment, job_file)
            continue
        job_ids[name] = submit(command, environment)
        noted.job_ids = [job_ids[name]]
        launch.write()  # after each job, so that none is forgotten if the next is refused
        print(f"{name}: job {job_ids[name]}, log {launch.log(job_ids[name], name)}")
    if job_ids and not dry_run:
        print(f"follow it: mindshift launch status {str(launch.folder).removesuffix('.launch')}")


def refuse_if_at_work(folder: Path) -> None:
    """Refuse to launch twice.

    Raises:
        UserError: jobs of an earlier launch for this output folder have not ended.
    """
    try:
        launch = read_launch(folder)
    except UserError:
        return
    if launch.where == "slurm":
        live = [s.stage.job_ids[0] for s in standings(launch) if s.state in LIVE and s.stage.job_ids]
        if live:
            raise UserError(
                f"already launched as job {', '.join(live)}",
                where=str(folder).removesuffix(".launch"),
                fix="Follow it with `mindshift launch status`, or end it with `mindshift launch cancel`.",
            )


def print_job(command: list[str], environment: dict[str, str], job_file: Path) -> None:
    """Print what would be submitted: environment, command and job file."""
    print("\n".join(f"{key}={shlex.quote(value)} \\" for key, value in environment.items() if value))
    print(shlex.join(command))
    print(f"# {job_file}:\n" + "\n".join(f"#   {line}" for line in job_file.read_text().splitlines()) + "\n")


def _run_here(launch: Launch, links: list[Link], site: SiteSettings, *, dry_run: bool) -> None:
    for link, noted in zip(links, launch.stages, strict=True):
        name = link.stage.name
        if link_is_done(link):
            print(f"{name}: finished before, in {link.output_dir}", flush=True)
            continue
        command = link.stage.command(link.arguments)
        if dry_run:
            print(shlex.join(command))
            continue
        launch.write()
        logger.info("%s: %s", name, shlex.join(command))
        gpus = link.stage.gpus(link.recipe, site.gpus_per_node)
        environment = {**os.environ, **job_environment(site, name, gpus=gpus)}
        environment["PYTHONPATH"] = environment["MINDSHIFT_HOME"]
        noted.exit_code = subprocess.run(command, env=environment, check=False).returncode
        launch.write()
        if noted.exit_code == USER_ERROR_EXIT_CODE:
            raise UserError(f"the {name} stage stopped; its message stands above")
        if noted.exit_code != 0:
            sys.exit(noted.exit_code)
