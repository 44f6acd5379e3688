"""The scaling benchmark's arithmetic, the projection, and that docs/cluster.md says what they and the code say."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import scaling
from benchmarks.scale_plan import Plan, project
from benchmarks.scaling import medians, parse_arguments, with_ratios
from configs.manifest import CODE_ROOT
from configs.recipe import load_recipe
from launch.diagnosis import KNOWN
from launch.stages import STAGES
from pretrain.config import PretrainRecipe

PAGE = (CODE_ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def test_ratios_of_a_table():
    rows = [
        {"strategy": "plain", "processes": 1, "tokens_per_second": 100.0},
        {"strategy": "zero1", "processes": 1, "tokens_per_second": 80.0},
        {"strategy": "plain", "processes": 2, "tokens_per_second": 180.0},
        {"strategy": "zero1", "processes": 2, "tokens_per_second": 150.0},
    ]
    plain_1, zero_1, plain_2, zero_2 = with_ratios(rows)
    assert (plain_1["overhead_percent"], zero_1["overhead_percent"], zero_2["overhead_percent"]) == (0.0, 25.0, 20.0)
    assert (plain_1["efficiency"], plain_2["efficiency"], zero_2["efficiency"]) == (1.0, 0.9, 0.938)


def test_the_recipe_to_be_run_is_what_is_measured(tmp_path, monkeypatch):
    recipe = CODE_ROOT / "configs" / "pretrain" / "mentalbert.yaml"
    monkeypatch.setattr("sys.argv", ["scaling", "--recipe", str(recipe)])
    ran = {}

    def run(words, environment):
        loaded = load_recipe(PretrainRecipe, words[4:], "test")
        ran.update(batch=loaded.global_batch_tokens, length=loaded.max_seq_length, model=loaded.model)
        ran["deepspeed"] = yaml.safe_load(Path(environment["MINDSHIFT_ACCELERATE_CONFIG"]).read_text())
        (tmp_path / "run").mkdir()
        line = json.dumps({"tokens_per_second": 10.0, "padding_share": 0.5}) + "\n"
        (tmp_path / "run" / "metrics.jsonl").write_text(line * 4)
        return 60.0

    monkeypatch.setattr(scaling, "_run", run)
    scaling.measure_pretraining(tmp_path / "run", tmp_path / "corpus", "zero2", 1, parse_arguments())
    assert (ran["batch"], ran["length"], ran["model"]) == (32_768, 512, "google-bert/bert-base-uncased")
    file = Path(ran["deepspeed"]["deepspeed_config"]["deepspeed_config_file"])
    assert json.loads(file.read_text())["zero_optimization"]["stage"] == 2


def test_the_median_round_of_each_setting_is_shown():
    rows = [{"workers": w, "documents_per_second": r} for w, r in ((1, 5.0), (2, 9.0), (1, 7.0), (2, 1.0), (1, 6.0))]
    assert medians(rows, ("workers",)) == [
        {"workers": 1, "documents_per_second": 6.0},
        {"workers": 2, "documents_per_second": 5.0},
    ]


def test_one_gpu_is_projected_to_what_was_measured():
    alone = project(Plan(tokens_per_second=1000.0, tokens=3.6e6), 1, 1)
    assert (alone["tokens_per_second"], alone["efficiency"], alone["hours"]) == (1000, 1.0, 1.0)


@given(st.floats(1e3, 1e6), st.integers(1, 64), st.integers(1, 8))
def test_more_gpus_are_never_slower_per_node_nor_better_than_linear(rate, nodes, gpus):
    plan = Plan(tokens_per_second=rate)
    assert project(plan, nodes, gpus)["efficiency"] <= 1.0
    faster = dataclasses.replace(plan, network_bandwidth=plan.network_bandwidth * 2)
    assert project(faster, nodes, gpus)["tokens_per_second"] >= project(plan, nodes, gpus)["tokens_per_second"]


def test_a_projection_worked_out_by_hand():
    # 1e6 parameters are 4e6 bytes; two GPUs of one node send 4e6 bytes at 0.7 x 1e9: 5.714 ms, computing takes 500 ms.
    plan = Plan(tokens_per_second=1000.0, parameters=1e6, global_batch_tokens=1000, node_bandwidth=1e9)
    assert project(plan, 1, 2)["efficiency"] == pytest.approx(0.5 / (0.5 + 4e6 / 0.7e9), abs=1e-3)


def test_the_page_shows_the_projection_the_formula_gives():
    plan = Plan(tokens_per_second=296_000, parameters=150e6)
    for nodes, gpus in ((1, 8), (4, 8)):
        row = project(plan, nodes, gpus)
        assert f"| {row['tokens_per_second'] / 1e6:.2f}M | {row['efficiency']:.3f} | {row['hours']:.1f} |" in PAGE


def test_every_reason_that_status_gives_is_in_the_failure_table():
    table = PAGE.partition("## Failures")[2].replace("`", "")
    for _, meaning in KNOWN:
        assert meaning.replace("`", "").partition(" (see")[0].partition(": check")[0] in table, meaning


def test_the_page_names_every_stage():
    assert [stage for stage in STAGES if stage not in PAGE.partition("## What there is")[2]] == []
