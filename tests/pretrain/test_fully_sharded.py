"""FSDP in one process: the same weights, resumed exactly; two processes are in test_distributed.py (slow)."""

from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from configs.errors import UserError
from pretrain.run_mlm import main

SETTINGS = {"max_steps": 6, "save_steps": 2, "gradient_accumulation_steps": 2}


@pytest.fixture
def _sharded(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    if distributed.is_initialized():  # the stage ends it when it is done
        distributed.destroy_process_group()


def differing(workspace) -> list[str]:
    one, other = (load_file(workspace.folder / name / "model.safetensors") for name in ("plain", "sharded"))
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_a_sharded_run_resumes_to_the_weights_of_a_plain_one(workspace, request, interrupt):
    main(workspace.arguments("plain", **SETTINGS), "mindshift pretrain")
    request.getfixturevalue("_sharded")
    arguments = workspace.arguments("sharded", **SETTINGS)
    interrupt(arguments, at_step=3)
    main(arguments, "mindshift pretrain")
    assert differing(workspace) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("FSDP_VERSION", "1", "FSDP1 is not supported"), ("FSDP_OFFLOAD_PARAMS", "true", "offloading is not supported")],
    ids=["fsdp1", "offloading"],
)
@pytest.mark.usefixtures("_sharded")
def test_what_is_not_supported_is_told(workspace, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        main(workspace.arguments(), "mindshift pretrain")
