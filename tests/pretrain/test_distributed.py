"""Two processes train what one process trains: DDP, DeepSpeed ZeRO 0 to 3 and FSDP, on CPU over gloo."""

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from configs.folder_lock import unlock_folder
from pretrain.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
STEPS = {
    "max_steps": 4,
    "global_batch_tokens": 512,
    "save_steps": 2,
    "learning_rate": 1e-3,
    "final_mlm_probability": 0.3,
    "masking": "whole_word",
    "contrastive_weight": 0.5,
    "anchor_weight": 0.5,
    "contrastive_pairs": 4,
}


ACCELERATE = ROOT / "launch" / "accelerate"
DEEPSPEED = ["zero0", "zero1", "zero2", "zero3"]


def launch(arguments: list[str], *, backend: str = "ddp", folder: Path) -> subprocess.CompletedProcess:
    """Run the program on two processes by `accelerate launch`."""
    config = {"ddp": ACCELERATE / "cpu_2.yaml", "fsdp": ACCELERATE / "fsdp_cpu_2.yaml"}.get(backend)
    if config is None:
        pytest.importorskip("deepspeed")
        config = folder / "accelerate.yaml"
        config.write_text(
            "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nnum_machines: 1\nnum_processes: 2\n"
            "main_process_port: 0\n"
            f"deepspeed_config: {{deepspeed_config_file: {ROOT / 'launch' / 'deepspeed' / backend}.json}}\n"
        )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command += [str(ROOT / "pretrain" / "run_mlm.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def run_alone(arguments: list[str]) -> None:
    from pretrain.run_mlm import main

    main(arguments, "mindshift pretrain")


def largest_difference(first: Path, second: Path) -> float:
    one, other = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def check_equal_to_one_process(workspace, name: str) -> None:
    alone, together = workspace.folder / "alone", workspace.folder / name
    for one, other in zip(read_metrics(alone), read_metrics(together), strict=True):
        assert one["tokens"] == other["tokens"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-5)
    assert largest_difference(alone, together) < 1e-6
    alone_score, together_score = (
        json.loads((folder / "evaluation.json").read_text())["after"]["overall"] for folder in (alone, together)
    )
    assert alone_score["masked_tokens"] == together_score["masked_tokens"]
    assert alone_score["loss"] == pytest.approx(together_score["loss"], rel=1e-5)


def test_apples_gpu_which_has_no_float64_is_not_taken(monkeypatch):
    from pretrain.distributed import start_accelerator

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda: True)
    assert start_accelerator().device.type == "cpu"


@pytest.mark.parametrize(("has_gpu", "backend"), [(True, "nccl"), (False, "gloo")])
def test_processes_wait_until_the_first_has_verified_a_large_corpus(monkeypatch, has_gpu, backend):
    """NCCL gives up after ten minutes by itself."""
    from pretrain import distributed

    asked = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(distributed, "Accelerator", lambda **keywords: asked.extend(keywords["kwargs_handlers"]))
    for name in ("keep_freed_memory", "tell_deepspeed_of_cpus", "use_own_cores"):
        monkeypatch.setattr(distributed, name, lambda: None)
    distributed.start_accelerator()
    assert [(handler.backend, handler.timeout) for handler in asked] == [(backend, timedelta(hours=2))]


def test_two_processes_train_the_same_model_as_one(workspace):
    """Also with dropout: its random numbers follow the micro-batch, not the process."""
    run_alone(workspace.arguments("alone", **STEPS))
    done = launch(workspace.arguments("two", **STEPS), folder=workspace.folder)
    assert done.returncode == 0, done.stderr[-2000:]
    check_equal_to_one_process(workspace, "two")


def test_a_mistake_is_told_once_by_two_processes(workspace):
    done = launch(workspace.arguments("two", corpus=workspace.folder / "nowhere"), folder=workspace.folder)
    assert done.returncode != 0
    assert done.stderr.count("this folder holds no finished run") == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", [*DEEPSPEED, "fsdp"])
def test_a_sharded_run_trains_the_same_model(workspace, backend):
    run_alone(workspace.arguments("alone", **STEPS))
    arguments = workspace.arguments("two", **STEPS)
    done = launch(arguments, backend=backend, folder=workspace.folder)
    assert done.returncode == 0, done.stderr[-2000:]
    check_equal_to_one_process(workspace, "two")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ddp", *DEEPSPEED, "fsdp"])
def test_every_backend_skips_the_same_steps(workspace, backend):
    """Behind the first 16 steps, which give the median, any norm is over a limit of next to nothing."""
    settings = {"max_steps": 20, "global_batch_tokens": 512, "save_steps": 50, "spike_factor": 1e-9}
    run_alone(workspace.arguments("alone", **settings))
    done = launch(workspace.arguments("two", **settings), backend=backend, folder=workspace.folder)
    assert done.returncode == 0, done.stderr[-2000:]
    skipped = [
        [line["skipped_steps"] for line in read_metrics(workspace.folder / name)[15:]] for name in ("alone", "two")
    ]
    assert skipped == [[0, 1, 2, 3, 4]] * 2
    assert largest_difference(workspace.folder / "alone", workspace.folder / "two") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ddp", *DEEPSPEED, "fsdp"])
def test_every_backend_goes_back_alike(workspace, backend):
    """Behind 16 steps every norm is over the limit: each run goes back three times, then gives up."""
    settings = {"max_steps": 40, "global_batch_tokens": 512, "save_steps": 5, "spike_factor": 1e-9}
    with pytest.raises(UserError, match="going back 3 times did not help"):
        run_alone(workspace.arguments("alone", **settings))
    done = launch(workspace.arguments("two", **settings), backend=backend, folder=workspace.folder)
    assert done.returncode != 0
    assert done.stderr.count("going back 3 times did not help") == 1
    one, other = (workspace.folder / f"{name}.partial" for name in ("alone", "two"))
    for line, same in zip(read_metrics(one), read_metrics(other), strict=True):
        assert (line["step"], line.get("rewound_from")) == (same["step"], same.get("rewound_from"))
        assert line.get("loss", 0.0) == pytest.approx(same.get("loss", 0.0), rel=1e-5)
    checkpoints = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (one, other)]
    assert checkpoints[0] == checkpoints[1]
    for name in checkpoints[0]:
        assert largest_difference(one / "checkpoints" / name, other / "checkpoints" / name) < 1e-5


def interrupt_after(workspace, arguments: list[str], monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Run alone up to `step`, stop there with a checkpoint."""
    from pretrain.training_loop import PretrainingRun

    train_step = PretrainingRun._train_step

    def stop(self, learning_rate):
        if self.step == step - 1:
            self.stop_request.asked = True
        return train_step(self, learning_rate)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingRun, "_train_step", stop)
        with pytest.raises(SystemExit):
            run_alone(arguments)
    for working in workspace.folder.glob("*.partial"):
        unlock_folder(working)  # the process that stops is this one, which lives on


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ddp", *DEEPSPEED, "fsdp"])
def test_a_run_resumes_on_another_number_of_processes(workspace, monkeypatch, backend):
    run_alone(workspace.arguments("alone", **STEPS))
    arguments = workspace.arguments("two", **STEPS)
    interrupt_after(workspace, arguments, monkeypatch, step=2)
    done = launch(arguments, backend=backend, folder=workspace.folder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resuming at step 2 of 4" in done.stderr
    check_equal_to_one_process(workspace, "two")


@pytest.mark.slow
def test_a_batch_that_would_grow_with_the_processes_is_refused(workspace, monkeypatch):
    """Without `global_batch_tokens` two processes make a step of twice as many micro-batches."""
    arguments = workspace.arguments("two", max_steps=4)
    interrupt_after(workspace, arguments, monkeypatch, step=2)
    done = launch(arguments, folder=workspace.folder)
    assert done.returncode != 0
    assert done.stderr.count("was begun with 1 micro-batches a step, and has 2 now") == 1


@pytest.mark.slow
def test_two_processes_add_the_same_noise_to_the_same_sum_as_one(workspace, monkeypatch):
    """Both go on from a checkpoint of one process, which holds the secret."""
    settings = {"max_steps": 4, "save_steps": 2, "dp_noise_multiplier": 0.5, "dp_units_per_step": 12}
    arguments = workspace.arguments("alone", **settings, dp_unit="document")
    interrupt_after(workspace, arguments, monkeypatch, step=2)
    shutil.copytree(workspace.folder / "alone.partial", workspace.folder / "two.partial")
    run_alone(arguments)
    done = launch(workspace.arguments("two", **settings, dp_unit="document"), folder=workspace.folder)
    assert done.returncode == 0, done.stderr[-2000:]
    for one, other in zip(*(read_metrics(workspace.folder / name) for name in ("alone", "two")), strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert largest_difference(workspace.folder / "alone", workspace.folder / "two") < 1e-6


def test_gradients_of_a_step_do_not_depend_on_the_dealing(workspace):
    """One backward over a step's sum equals the sum of its micro-batches' backwards."""
    from configs.base_models import resolve_model
    from corpus.shards import TokenShards
    from pretrain.batches import build_masker, build_packer, to_device
    from pretrain.config import PretrainRecipe
    from pretrain.encoder import PackedMaskedLM, load_for_corpus, set_dropout
    from pretrain.objective import summed_loss
    from pretrain.packing import StepPlanner

    recipe = PretrainRecipe(output_dir=workspace.folder, corpus=workspace.corpus, max_steps=1, max_seq_length=64)
    model, tokenizer = load_for_corpus(resolve_model(str(workspace.model)), workspace.corpus / "tokenizer", 64)
    set_dropout(model, 0.0)
    module = PackedMaskedLM(model)
    packer = build_packer(TokenShards(workspace.corpus, "train"), tokenizer, recipe)
    masker = build_masker(tokenizer, 1)
    draws = StepPlanner(packer.sequence_lengths, micro_batches=4, micro_batch_tokens=128, seed=0).next_step()

    def gradients(bins: list, size: int) -> list[torch.Tensor]:
        model.zero_grad()
        batches = [
            to_device(packed, masker.mask(packed, 0.15), torch.device("cpu"))
            for packed in (packer.pack(bin_, size) for bin_ in bins)
        ]
        total = sum(batch.masked_count for batch in batches)
        for batch in batches:
            (summed_loss(module, batch) / total).backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    apart = gradients(draws, 128)
    together = gradients([[draw for bin_ in draws for draw in bin_]], 512)
    for one, other in zip(apart, together, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-8
