"""What a launch writes and submits, and how it reads logs and signals: everything that needs no SLURM."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import UserError
from configs.manifest import CODE_ROOT
from launch.cli import main
from launch.diagnosis import attempt_reasons, diagnose
from launch.job_end import main as end_job
from launch.journal import Launch, LaunchedStage
from launch.launch_options import parse_options
from launch.on_node import (
    FIRST_PORT,
    PORTS,
    REQUEUE_EXIT_CODE,
    Warnings,
    accelerate_options,
    exit_code,
    missing_gpus,
    note_outcome,
    outcome_note,
    own_extensions_folder,
)
from launch.on_node import main as run_on_node
from launch.run_launch import refuse_if_at_work
from launch.scheduler import SLURM_FOLDER, NoAnswerError, cancel
from launch.site_settings import SITE_FILE, SiteSettings, job_environment, load_site, sbatch_options
from launch.stages import STAGES, ChainRecipe, chain_links

CORPUS = str(CODE_ROOT / "configs" / "corpus" / "sample.yaml")
CHAIN, SWEEP = (str(CODE_ROOT / "configs" / "launch" / name) for name in ("sample.yaml", "sweep_sample.yaml"))


def option(options, name):
    return options[options.index(name) + 1]


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_each_job_file_runs_the_stage_s_program_and_nothing_else(stage):
    lines = (SLURM_FOLDER / f"{stage.name}.sbatch").read_text().splitlines()
    source, srun = [line for line in lines if line and not line.startswith("#")]
    assert source == 'source "$MINDSHIFT_HOME/launch/slurm/env.sh"'
    program = re.sub(r'"\$MINDSHIFT_HOME/([\w/.]+)"', r"\1", srun)
    assert program.startswith("srun --kill-on-bad-exit=1 $MINDSHIFT_CONTAINER python -m launch.on_node ")
    assert program.endswith(" " + " ".join(stage.program) + ' "$@"')
    for needed in ("--requeue", "--open-mode=append", "--signal=USR1@"):
        assert any(line.startswith(f"#SBATCH {needed}") for line in lines)


def test_the_site_file_has_every_key_with_its_default():
    assert load_site(None, []) == SiteSettings()
    assert SITE_FILE.read_text().count(":") > len(SiteSettings.__dataclass_fields__)


def test_site_settings_become_sbatch_options():
    site = load_site(
        None, ["--partition", "gpu", "--gpus_per_node", "8", "--nodes", "{pretrain: 4}", "--memory", "64G"]
    )
    assert sbatch_options(site, "pretrain", gpus=8) == [
        "--partition=gpu",
        "--nodes=4",
        "--gpus-per-node=8",
        "--mem=64G",
    ]
    assert sbatch_options(site, "corpus", gpus=0) == ["--partition=gpu", "--mem=64G"]
    assert job_environment(site, "pretrain", gpus=8)["MINDSHIFT_PROCESSES_PER_NODE"] == "8"
    assert job_environment(site, "corpus", gpus=0)["MINDSHIFT_PROCESSES_PER_NODE"] == "1"


@pytest.mark.parametrize(
    ("stage", "jobs", "gpus"),
    [("corpus", 1, 0), ("pretrain", 1, 8), ("finetune", 1, 8), ("audit", 1, 1)]
    + [("benchmark", jobs, min(jobs, 8)) for jobs in (1, 3, 16)],
)
def test_a_stage_asks_for_no_more_gpus_than_it_can_use(stage, jobs, gpus):
    recipe = types.SimpleNamespace(jobs=jobs)
    assert STAGES[stage].gpus(recipe, 8) == gpus
    assert STAGES[stage].gpus(recipe, 0) == 0


def test_some_gpus_of_a_node_come_with_their_share_of_it():
    site = SiteSettings(gpus_per_node=8, processes_per_node=8, cpus_per_task=100, memory="1T")
    assert sbatch_options(site, "pretrain", gpus=8) == ["--gpus-per-node=8", "--cpus-per-task=100", "--mem=1T"]
    assert sbatch_options(site, "audit", gpus=1) == ["--gpus-per-node=1", "--cpus-per-task=13", "--mem=131072M"]
    assert sbatch_options(site, "corpus", gpus=0) == ["--cpus-per-task=100", "--mem=1T"]
    assert "--mem=8192M" in sbatch_options(dataclasses.replace(site, memory="64g"), "audit", gpus=1)
    assert job_environment(site, "audit", gpus=1)["MINDSHIFT_PROCESSES_PER_NODE"] == "1"
    cpus = SiteSettings(processes_per_node=2)
    assert job_environment(cpus, "pretrain", gpus=0)["MINDSHIFT_PROCESSES_PER_NODE"] == "2"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--partitoin", "gpu"], "did you mean 'partition'"),
        (["--nodes", "{pretrain: 0}"], "nodes of pretrain is 0"),
        (["--time_limits", "{pretrain: soon}"], "time_limits of pretrain is 'soon'"),
        (["--nodes", "{pretrian: 4}"], "nodes names 'pretrian', which is no stage; did you mean 'pretrain'"),
        (["--time_limits", "{all: 1-00}"], "time_limits names 'all', which is no stage"),
        (["--gpus_per_node", "-1"], "gpus_per_node is -1"),
        (["--memory", "64gb"], "memory is '64gb'"),
    ],
)
def test_mistakes_in_the_site_s_settings(overrides, message):
    with pytest.raises(UserError, match=message):
        load_site(None, overrides)


@pytest.mark.parametrize(
    ("cuda", "sees_one", "expected"),
    [(None, False, "built for CPUs alone"), ("12.8", False, "finds none"), ("12.8", True, "")],
)
def test_a_job_with_gpus_does_not_train_on_cpus_without_a_word(cuda, sees_one, expected, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: sees_one)
    site = SiteSettings(gpus_per_node=4)
    assert expected in missing_gpus(job_environment(site, "pretrain", gpus=4))
    assert bool(missing_gpus(job_environment(site, "pretrain", gpus=4))) == bool(expected)
    assert missing_gpus(job_environment(site, "corpus", gpus=0)) == missing_gpus({}) == ""
    if expected:
        monkeypatch.setattr("signal.signal", lambda *_: None)
        monkeypatch.setenv("MINDSHIFT_GPUS_PER_NODE", "4")
        assert run_on_node(["mindshift", "doctor"]) == 2
        assert expected in capsys.readouterr().err


def test_what_no_stage_makes_is_looked_for_before_anything_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("launch.run_launch._submit", lambda *_, **__: None)
    recipes = CODE_ROOT / "configs"
    chain = ["launch", "all", "--on", "slurm", "--output_dir", "runs", "--pretrain"]
    assert main([*chain, str(recipes / "pretrain" / "sample.yaml")]) == 2
    assert "runs/demo/corpus: corpus of the pretrain stage: nothing is there" in capsys.readouterr().err
    (tmp_path / "runs/demo/corpus").mkdir(parents=True)
    assert main([*chain, str(recipes / "pretrain" / "sample.yaml")]) == 0
    chain += [str(recipes / "pretrain" / "sample.yaml"), "--finetune", str(recipes / "finetune" / "default.yaml")]
    for task in ("ward.csv", "ward7"):
        assert main([*chain, "--finetune.task", task]) == 2  # but its model is the encoder that the chain makes
        assert f"{task}: task of the finetune stage: nothing is there" in capsys.readouterr().err
    assert main([*chain, "--finetune.task", "OWNER/NAME"]) == 0
    corpus = ["launch", "corpus", str(recipes / "corpus" / "sample.yaml"), "--on", "slurm", "--inputs"]
    assert main([*corpus, '["RS_2020.zst"]']) == 2
    assert "RS_2020.zst: inputs of the corpus stage: nothing is there" in capsys.readouterr().err


def test_a_container_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        job_environment(SiteSettings(container=str(tmp_path / "mindshift.sif")), "corpus", gpus=0)
    (tmp_path / "mindshift.sif").touch()
    words = job_environment(SiteSettings(container=str(tmp_path / "mindshift.sif")), "corpus", gpus=0)
    assert words["MINDSHIFT_CONTAINER"].split()[:3] == ["apptainer", "exec", "--nv"]


def test_a_batch_that_does_not_come_out_even_is_refused_before_it_is_submitted(capsys, tmp_path):
    recipe = str(CODE_ROOT / "configs" / "pretrain" / "mentalbert.yaml")
    words = ["launch", "pretrain", recipe, "--on", "slurm", "--dry-run", "--output_dir", str(tmp_path / "run")]
    words += ["--site.gpus_per_node", "4", "--nodes", "2"]
    assert main(words) == 2
    assert "(8,192 × 8)" in capsys.readouterr().err
    assert main([*words, "--micro_batch_size", "8"]) == 0
    assert "--nodes=2 --gpus-per-node=4 " in capsys.readouterr().out


@pytest.mark.parametrize("stage", STAGES)
def test_the_accelerate_configuration_is_for_pretraining_alone(stage):
    config = "launch/accelerate/deepspeed_gpu_4.yaml"
    environment = job_environment(SiteSettings(accelerate_config=config), stage, gpus=0)
    expected = str(CODE_ROOT / config) if stage == "pretrain" else ""
    assert environment["MINDSHIFT_ACCELERATE_CONFIG"] == expected


@pytest.mark.parametrize("path", sorted(CODE_ROOT.glob("launch/accelerate/*.yaml")), ids=lambda path: path.stem)
def test_accelerate_can_read_each_of_its_configurations(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = load_config_from_file(str(path))
    assert config.num_processes == values["num_processes"] == int(path.stem[-1])
    if "deepspeed_config" in values:
        named = CODE_ROOT / values["deepspeed_config"]["deepspeed_config_file"]
        assert json.loads(named.read_text(encoding="utf-8"))["zero_optimization"]["stage"] == 1


def test_dry_run_shows_the_job_and_submits_nothing(capsys, tmp_path):
    output_dir = tmp_path / "corpus"
    words = ["launch", "corpus", CORPUS, "--on", "slurm", "--dry-run", "--output_dir", str(output_dir)]
    assert main([*words, "--site.account=lab", "--min_words", "7"]) == 0
    printed = capsys.readouterr().out
    command = next(line for line in printed.splitlines() if line.startswith("sbatch"))
    assert "--account=lab" in command
    assert command.endswith(f"corpus.sbatch {CORPUS} --output_dir {output_dir} --min_words 7")
    assert "launch.on_node mindshift corpus build" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["corpsu", CORPUS, "--on", "local"], "did you mean 'corpus'"),
        (["corpus", CORPUS], "--on is ''"),
        (["corpus", CORPUS, "--on", "moon"], "--on is 'moon'; allowed: local, slurm"),
        (["corpus", CORPUS, "--on"], "--on needs a value"),
        (["corpus", CORPUS, "--on", "slurm", "--min_word", "7"], "did you mean 'min_words'"),
        (["corpus", "absent.yaml", "--on", "slurm"], "no such recipe"),
        (["corpus", CORPUS, "--on", "slurm", "--nodes", "2"], "one process on one node"),
        (["corpus", CORPUS, "--on", "slurm", "--nodes", "two"], "--nodes is 'two'"),
        (["corpus", CORPUS, "--on", "slurm", "--site", "absent.yaml"], "no such recipe"),
        (["all", CHAIN, "--on", "slurm", "--nodes", "4"], "say which: --site.nodes '{pretrain: 4}'"),
        (["sweep", SWEEP, "--on", "slurm", "--nodes", "4"], "--nodes is for one stage"),
        (["sweep", SWEEP, "--on", "slurm", "--site.nodes", "{sweep: 2}"], "is on one node, not on 2"),
        (["all", "--on", "slurm", "--output_dir", "x"], "no stage"),
        (["status", "absent"], "nothing was launched for this folder"),
        (["cancel", "absent"], "nothing was launched for this folder"),
    ],
)
def test_mistakes_end_with_one_clear_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["launch", *words]) == 2
    assert message in capsys.readouterr().err


def test_without_slurm_a_launch_says_what_to_do(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["launch", "corpus", CORPUS, "--on", "slurm", "--output_dir", str(tmp_path / "corpus")]) == 2
    assert "there is no SLURM on this machine" in capsys.readouterr().err


def test_options_of_the_launch_and_of_the_stage_are_told_apart():
    options = parse_options(["r.yaml", "--on=slurm", "--site.partition", "p", "--learning_rate", "1e-4", "--dry_run"])
    assert (options.on, options.dry_run, options.rest) == ("slurm", True, ["r.yaml", "--learning_rate", "1e-4"])
    assert options.site().partition == "p"


def test_a_chain_feeds_each_stage_the_folders_before_it(tmp_path):
    for name, text in (("c", f"inputs: [x]\ntokenizer: t\noutput_dir: {tmp_path}/other"), ("p", "max_steps: 1")):
        (tmp_path / f"{name}.yaml").write_text(text)
    chain = ChainRecipe(output_dir=tmp_path / "run", corpus=tmp_path / "c.yaml", pretrain=tmp_path / "p.yaml")
    corpus, pretrain = chain_links(chain, {"pretrain": ["--max_steps", "5"]})
    assert corpus.output_dir == tmp_path / "run" / "corpus"
    assert option(pretrain.arguments, "--corpus") == str(corpus.output_dir)
    assert (corpus.after, pretrain.after) == ([], ["corpus"])
    assert pretrain.arguments[-2:] == ["--max_steps", "5"]


def test_ranks_meet_where_this_node_s_variables_say():
    node = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "4", "SLURM_NODEID": "3", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}
    options = accelerate_options(node | {"MINDSHIFT_PROCESSES_PER_NODE": "8"})
    assert option(options, "--machine_rank") == "3"
    assert option(options, "--main_process_ip") == "10.0.0.1"
    assert option(options, "--num_processes") == "32"
    assert option(options, "--num_machines") == "4"
    assert option(options, "--main_process_port") == str(FIRST_PORT + 7)
    assert option(options, "--deepspeed_multinode_launcher") == "standard"


def test_without_slurm_everything_is_on_this_machine(tmp_path, monkeypatch):
    assert option(accelerate_options({}), "--num_machines") == "1"
    assert "--multi_gpu" not in accelerate_options({})
    assert "--multi_gpu" in accelerate_options({"MINDSHIFT_PROCESSES_PER_NODE": "2"})
    config = tmp_path / "ds.yaml"
    config.write_text("deepspeed_config:\n  deepspeed_config_file: launch/deepspeed/zero1.json\n")
    monkeypatch.chdir(tmp_path)  # the file inside counts from the checkout, wherever the command is given
    node = {"MINDSHIFT_ACCELERATE_CONFIG": str(config), "MINDSHIFT_PROCESSES_PER_NODE": "2"}
    configured = accelerate_options(node | {"MINDSHIFT_HOME": str(CODE_ROOT)})
    assert option(configured, "--config_file") == str(config)
    assert option(configured, "--deepspeed_config_file") == str(CODE_ROOT / "launch/deepspeed/zero1.json")
    assert "--multi_gpu" not in configured


@given(st.integers(1, 10**9))
def test_ports_of_jobs_stay_below_the_ephemeral_ones(job_id):
    port = int(option(accelerate_options({"SLURM_JOB_ID": str(job_id)}), "--main_process_port"))
    assert FIRST_PORT <= port < FIRST_PORT + PORTS < 32_768


@pytest.mark.parametrize(
    ("code", "time_limit", "ended", "reported"),
    [
        (0, False, False, 0),
        (0, True, False, 0),  # it was done before the limit came
        (2, False, False, 2),
        (1, True, False, REQUEUE_EXIT_CODE),
        (-10, True, False, REQUEUE_EXIT_CODE),  # a stage that does not listen dies of SIGUSR1
        (REQUEUE_EXIT_CODE, False, False, REQUEUE_EXIT_CODE),
        (REQUEUE_EXIT_CODE, False, True, 143),  # ended because another node failed: no reason to requeue
        (-9, False, False, 137),
        (-15, False, True, 143),
    ],
)
def test_exit_codes(code, time_limit, ended, reported):
    assert exit_code(code, Warnings(time_limit=time_limit, ended=ended)) == reported


@pytest.mark.parametrize(
    ("processes", "program", "code"), [("1", "import sys; sys.exit(2)", 2), ("2", "import sys; sys.exit(75)", 75)]
)
def test_the_stage_s_exit_code_survives_accelerate(processes, program, code, tmp_path):
    script = tmp_path / "stage.py"
    script.write_text(program)
    command = [sys.executable, "-m", "launch.on_node", "accelerate", "launch", str(script)]
    environment = os.environ | {"PYTHONPATH": str(CODE_ROOT), "MINDSHIFT_PROCESSES_PER_NODE": processes}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == code


@pytest.mark.parametrize("cache", [None, "scratch"])
def test_a_killed_build_s_lock_is_removed_once_nobody_is_at_work(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if cache:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    folder = tmp_path / (cache or ".cache") / "mindshift" / "torch_extensions" / "node"
    (folder / "op").mkdir(parents=True)
    (folder / "op" / "lock").touch()
    with own_extensions_folder("node"):
        assert os.environ.pop("TORCH_EXTENSIONS_DIR") == str(folder)
        assert not (folder / "op" / "lock").exists()
        (folder / "op" / "lock").touch()
        with own_extensions_folder("node"):
            assert (folder / "op" / "lock").exists()  # the one outside may be building
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)


LOGS = {
    "": "",
    "step 5 loss 3.1\n": "",
    "error: runs/a: exists and is no run of mindshift\n  Choose another --output_dir.\nmore\n": (
        "runs/a: exists and is no run of mindshift Choose another --output_dir."
    ),
    "[rank0]: Traceback\n[rank0]: ValueError: the words of a person\n": "ValueError (the log has the traceback)",
    "srun: error: Node failure on n2\nRuntimeError: Connection closed by peer\n": "node n2 was lost",
    "error: node n2 does not answer\n": "node n2 was lost",
    "torch.OutOfMemoryError: CUDA out of memory. Tried\n": "out of GPU memory: lower micro_batch_size",
    "slurmstepd: error: Detected 1 oom_kill event in StepId=5.0\n": "out of memory: raise `memory`",
    "slurmstepd: error: *** JOB 5 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***\n": (
        "time limit: it was not requeued in time (see docs/cluster.md)"
    ),
    "RuntimeError: [../gloo/pair.cc:534] Connection closed by peer [10.0.0.2]:1\n": "the ranks lost each other",
    "OSError: [Errno 28] No space left on device\n": "the disk is full",
}


@pytest.mark.parametrize(("log", "reason"), LOGS.items())
def test_a_log_tells_why_a_job_failed(log, reason):
    assert diagnose(log) == reason


def test_each_attempt_in_a_log_has_its_own_reason(tmp_path):
    log = tmp_path / "pretrain-5.log"
    log.write_text("attempt 1 on n[1-2]\nerror: node n2 does not answer\nattempt 2 on n[1-2]\nstep 9\n")
    assert attempt_reasons(log) == ["node n2 was lost", ""]
    assert attempt_reasons(tmp_path / "absent.log") == []


def test_a_long_log_is_read_from_its_end(tmp_path):
    log = tmp_path / "pretrain-5.log"
    log.write_bytes(b"x" * 10**6 + "é".encode() * 10**5 + b"\nerror: no such corpus\n")
    assert attempt_reasons(log) == ["no such corpus"]


def test_no_traceback_s_message_is_shown():
    assert "secret" not in diagnose("ValueError: secret words\nKeyError: 'secret'\n")


def test_job_files_are_valid_bash():
    for path in [*SLURM_FOLDER.glob("*.sbatch"), SLURM_FOLDER / "env.sh"]:
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0, Path(path).name


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job on two nodes, n2 of which can be lost, with SLURM's commands replaced by ones that note their calls."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "state").write_text("JobState=RUNNING")
    for name, body in {
        "scontrol": f'case "$*" in *hostnames*) printf "n1\\nn2\\n";; *"show job"*) cat {tmp_path}/state;;'
        f' *) echo "$*" >> {tmp_path}/calls;; esac',
        "srun": f'case "$*" in *n2*) test ! -e {tmp_path}/n2-lost;; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return {"SLURM_JOB_ID": "5", "SLURM_JOB_NODELIST": "n[1-2]", "MINDSHIFT_LAUNCH_FOLDER": str(tmp_path)}


@pytest.mark.parametrize(
    ("reports", "noted"),
    [
        ([(75, False), (75, True)], "75"),
        ([(75, False), (1, False)], "1"),  # a failure says more than a wish to go on
        ([(1, False), (75, False)], "1"),
        ([(143, True), (0, False)], None),  # ended with the others
        ([(143, False)], None),  # the same, but torch's launcher caught the signal
    ],
)
def test_a_node_notes_how_the_stage_ended_there_by_itself(reports, noted, tmp_path):
    note = tmp_path / "note"
    for code, ended in reports:
        note_outcome(note, code, ended=ended)
    assert (note.read_text().strip() if note.exists() else None) == noted


@pytest.mark.parametrize(
    ("code", "failed", "lost", "state", "ends_with", "requeued", "says"),
    [
        (0, None, False, "RUNNING", 0, False, ""),
        (75, None, False, "RUNNING", 75, True, "its time limit was near"),
        (143, 2, False, "RUNNING", 2, False, ""),  # a node's own failure, and its neighbours ended by srun
        (143, 75, False, "RUNNING", 75, True, "its time limit was near"),  # one node saved, its neighbour was ended
        (143, 1, True, "RUNNING", 1, True, "node n2 was lost"),
        (143, None, False, "RUNNING", 143, True, "ended by SLURM and requeued"),
        (143, None, False, "PENDING", 143, False, ""),  # SLURM has requeued it already
        (137, 137, False, "RUNNING", 137, False, ""),
    ],
)
def test_what_happens_when_a_job_ends(code, failed, lost, state, ends_with, requeued, says, job, tmp_path, capfd):
    (tmp_path / "state").write_text(f"JobState={state}")
    if failed is not None:
        outcome_note(str(tmp_path), job).write_text(f"{failed}\n")
    if lost:
        (tmp_path / "n2-lost").touch()
    assert end_job(code, job) == ends_with
    assert (tmp_path / "calls").exists() == requeued
    assert diagnose(capfd.readouterr().err) == says
    record = json.loads((tmp_path / "5.exit.json").read_text())
    assert record == {"job_id": "5", "exit_code": ends_with, "nodes": "n[1-2]", "lost_nodes": ["n2"] if lost else []}


@pytest.mark.parametrize("lost", [False, True])
def test_only_the_task_of_an_array_that_asks_for_it_is_requeued(lost, job, tmp_path):
    if lost:
        (tmp_path / "n2-lost").touch()
    # The last task of an array has the array's own id: by that id, all its tasks would be requeued.
    job |= {"SLURM_JOB_ID": "5", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}
    end_job(1 if lost else 75, job)
    assert (tmp_path / "calls").read_text() == "requeue 5_3\n"
    assert json.loads((tmp_path / "5_3.exit.json").read_text())["job_id"] == "5_3"


def test_the_stage_gets_the_cores_that_its_job_asked_for(tmp_path):
    command = f'source {SLURM_FOLDER}/env.sh; trap - EXIT; echo "cores: $SRUN_CPUS_PER_TASK"'
    for cores, expected in ((None, "cores: "), ("6", "cores: 6")):
        environment = {"PATH": os.environ["PATH"], "MINDSHIFT_ENVIRONMENT": str(tmp_path)}
        environment |= {"SLURM_CPUS_PER_TASK": cores} if cores else {}
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == expected.strip()


@pytest.fixture
def slurm_says(tmp_path, monkeypatch):
    """Let SLURM's commands answer as given: what goes to stderr, and the exit code."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def says(**answers):
        for name, (text, code) in answers.items():
            (tmp_path / name).write_text(f"#!/bin/sh\necho {text!r} >&2\nexit {code}\n")
            (tmp_path / name).chmod(0o755)

    return says


DOWN = ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1)
FORGOTTEN = ("slurm_load_jobs error: Invalid job id specified", 1)


def test_no_answer_is_not_the_same_as_no_job(slurm_says, tmp_path, capsys):
    launch = Launch(folder=tmp_path / "run.launch", where="slurm")
    launch.stages = [LaunchedStage(stage="corpus", output_dir=str(tmp_path / "run"), arguments=[], job_ids=["5"])]
    launch.write()
    slurm_says(scontrol=DOWN, sacct=DOWN, sbatch=("", 1), scancel=DOWN)
    with pytest.raises(NoAnswerError):
        refuse_if_at_work(launch.folder)
    assert main(["launch", "status", str(tmp_path / "run")]) == 0
    assert "no answer" in capsys.readouterr().out
    assert main(["launch", "cancel", str(tmp_path / "run")]) == 2
    assert "SLURM does not cancel: " in capsys.readouterr().err
    slurm_says(scontrol=FORGOTTEN)
    refuse_if_at_work(launch.folder)
    slurm_says(scancel=("scancel: error: Kill job error on job id 5: Invalid job id specified", 1))
    cancel(["5"])  # it has ended
