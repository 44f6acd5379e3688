"""Estimates: arithmetic as the model does it, tokens as the stage reads them, guesses called guesses."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, BertConfig, DistilBertConfig, ModernBertConfig

from configs.errors import UserError
from pretrain.encoder import freeze_encoder
from pretrain.flops import GPUS, flops_per_token, model_size, peak_flops, utilisation
from pretrain.metrics import read_metrics
from pretrain.optimization import build_optimizer
from pretrain.run_estimate import EstimateRecipe, describe, estimate, load_config, main, plan
from pretrain.run_mlm import main as pretrain

TINY = BertConfig(vocab_size=500, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256)


def test_flops_of_a_token_are_those_that_torch_counts():
    """At 100 % masking the plain model, which projects every position, does what the formula says."""
    model = AutoModelForMaskedLM.from_config(TINY, attn_implementation="eager")
    input_ids = torch.randint(0, 500, (4, 128))
    with FlopCounterMode(display=False) as counter:
        model(input_ids).logits.sum().backward()
    counted = counter.get_total_flops() / input_ids.numel()
    expected = flops_per_token(model_size(TINY), mean_keys=128, mlm_probability=1.0)
    assert counted == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("tied", [True, False])
def test_flops_of_a_frozen_encoder_are_those_that_torch_counts(tied):
    config = BertConfig(**TINY.to_diff_dict() | {"tie_word_embeddings": tied})
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager")
    freeze_encoder(model)
    input_ids = torch.randint(0, 500, (4, 128))
    with FlopCounterMode(display=False) as counter:
        model(input_ids).logits.sum().backward()
    expected = flops_per_token(model_size(config), mean_keys=128, mlm_probability=1.0, encoder_is_frozen=True)
    assert counter.get_total_flops() / input_ids.numel() == pytest.approx(expected, rel=0.03)


def test_the_head_alone_takes_less_of_everything(workspace, monkeypatch):
    trained = []

    def spy(module, recipe):
        trained.append(sum(weight.requires_grad for weight in module.parameters()))
        return build_optimizer(module, recipe)

    monkeypatch.setattr("pretrain.optimization.build_optimizer", spy)
    whole, head = (
        estimate(*_parts(recipe_for(workspace, max_steps=10, trainable=trainable))) for trainable in ("all", "head")
    )
    assert trained[1] < trained[0]
    for more, less in zip(whole, head, strict=True):
        assert less.memory_gb < more.memory_gb
        assert less.hours < more.hours or less.basis == "measured here"


def test_local_layers_attend_to_fewer_keys():
    config = ModernBertConfig()
    size = model_size(config)
    assert size.local_layers > size.layers / 2
    far = flops_per_token(size, mean_keys=4096, mlm_probability=0.15)
    all_global = flops_per_token(
        model_size(ModernBertConfig(local_attention=8192)), mean_keys=4096, mlm_probability=0.15
    )
    assert far < all_global


def test_parameters_of_bert_base():
    assert model_size(BertConfig()).parameters == pytest.approx(109.5e6, rel=0.01)


def test_utilisation_is_a_share_of_the_named_peak():
    assert peak_flops("NVIDIA H200") == 989e12
    assert peak_flops("Some Accelerator") is None
    size = model_size(TINY)
    rate = 0.4 * 989e12 / flops_per_token(size, mean_keys=100, mlm_probability=0.15)
    share = utilisation(size, "NVIDIA H200", rate, mean_keys=100, mlm_probability=0.15)
    assert share == pytest.approx(0.4)
    assert utilisation(size, "Some Accelerator", rate, mean_keys=100, mlm_probability=0.15) is None


@pytest.mark.parametrize(
    ("device_name", "tflops"),
    [
        ("NVIDIA L4", 121),
        ("NVIDIA L40", None),
        ("NVIDIA L40S", None),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
    ],
)
def test_a_device_has_the_peak_of_its_own_name_only(device_name, tflops):
    assert peak_flops(device_name) == (tflops and tflops * 1e12)


def test_a_private_run_is_planned_by_its_units_and_says_its_epsilon(workspace):
    keys = {"dp_noise_multiplier": 1.0, "dp_units_per_step": 30, "dp_unit": "document", "max_steps": 50}
    workload = plan(recipe_for(workspace, **keys))
    pretrain(workspace.arguments(**keys | {"max_steps": 1}), "mindshift pretrain")
    assert workload.batch_tokens == read_metrics(workspace.folder / "run")[0]["tokens"]
    assert workload.tokens == pytest.approx(50 * workload.batch_tokens, rel=1e-3)
    assert "120 documents, of whom a step draws 30; ε = " in workload.source
    with pytest.raises(UserError, match="no corpus to count"):
        plan(recipe_for(workspace, **keys, corpus=workspace.folder / "nowhere"))


def recipe_for(workspace, **values) -> EstimateRecipe:
    return EstimateRecipe(
        **(
            {"corpus": workspace.corpus, "model": str(workspace.model), "max_seq_length": 64, "micro_batch_size": 4}
            | values
        )
    )


def test_the_plan_counts_what_the_stage_then_reads(workspace):
    workload = plan(recipe_for(workspace, num_train_epochs=2))
    words = workspace.arguments(num_train_epochs=2, logging_steps=100)
    place = words.index("--max_steps")
    pretrain(words[:place] + words[place + 2 :], "mindshift pretrain")
    last = read_metrics(workspace.folder / "run")[-1]
    assert last["step"] == workload.steps
    assert last["tokens"] == pytest.approx(workload.tokens, rel=0.05)  # micro-batches this small are not full


def test_hundreds_of_passes_are_said_before_a_run_and_at_its_start(workspace, interrupt, capsys, caplog):
    few = recipe_for(workspace, num_train_epochs=2)
    assert plan(few).passes == pytest.approx(2, rel=0.1)
    assert "many" not in "\n".join(describe(few, load_config(few.model), plan(few), []))
    steps = 60 * plan(few).steps
    main(workspace.arguments(max_steps=steps, measure=False), "mindshift pretrain estimate")
    printed = capsys.readouterr().out
    assert re.search(r"M tokens, 1[12]\d\.\d passes\n1[12]\d passes over this corpus are many", printed)
    with caplog.at_level("INFO"):
        interrupt(workspace.arguments(max_steps=4), at_step=0)
        assert "4 steps, about " in caplog.text
        assert "are many" not in caplog.text
        interrupt(workspace.arguments("long", max_steps=steps), at_step=0)
    assert "passes over this corpus are many" in caplog.text


def test_a_gpu_that_shares_the_work_takes_half_as_long_and_costs_the_same(workspace):
    one = estimate(*_parts(recipe_for(workspace, max_steps=100, global_batch_tokens=512, measure=False)))
    two = estimate(*_parts(recipe_for(workspace, max_steps=100, global_batch_tokens=512, measure=False, gpu_count=2)))
    assert len(one) == len(two) == len(GPUS)
    for single, pair in zip(one, two, strict=True):
        assert pair.hours == pytest.approx(single.hours / 2)
        assert pair.dollars == pytest.approx(single.dollars)
        assert single.basis.startswith("projected")


def _parts(recipe):
    return recipe, load_config(recipe.model), plan(recipe)


def test_this_machine_is_measured_and_the_others_are_called_projected(workspace, capsys):
    words = workspace.arguments(max_steps=10, price_per_hour=7)
    main(words, "mindshift pretrain estimate")
    printed = capsys.readouterr().out
    assert "measured here" in printed
    assert printed.count("projected") == len(GPUS)
    assert not (workspace.folder / "run").exists()


def test_epochs_without_a_corpus_cannot_be_counted(workspace):
    recipe = recipe_for(workspace, corpus=workspace.folder / "absent", num_train_epochs=1)
    with pytest.raises(UserError, match="no corpus to count tokens in"):
        plan(recipe)
    full = plan(recipe_for(workspace, corpus=workspace.folder / "absent", max_steps=10))
    assert (full.tokens, full.source) == (10 * 256, "rows taken to be full")


def test_known_encoders_need_no_network_and_a_recipe_that_has_not_run_is_named():
    assert load_config("google-bert/bert-base-uncased").hidden_size == 768
    with pytest.raises(UserError, match="has not run yet"):
        load_config("runs/pretrain/never")


@pytest.mark.parametrize(
    ("config", "dropout", "told"),
    [
        (TINY, None, True),
        (TINY, 0.0, False),
        (ModernBertConfig(), None, False),
        (ModernBertConfig(), 0.1, True),
        (DistilBertConfig(), None, True),
    ],
)
def test_dropout_that_keeps_gpus_off_flash_attention_is_told(workspace, config, dropout, told):
    recipe = recipe_for(workspace, max_steps=10, dropout=dropout)
    assert ("FlashAttention" in "\n".join(describe(recipe, config, plan(recipe), []))) is told
