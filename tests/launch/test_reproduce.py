"""The experiment: every recipe it names loads, arms get what their source says, and the chain runs on the sample."""

import json
from pathlib import Path

import pytest
import yaml

from configs.errors import UserError
from configs.manifest import CODE_ROOT, now, write_manifest
from configs.recipe import load_recipe
from corpus.config import CorpusRecipe
from finetune.benchmark_config import BenchmarkRecipe
from launch.experiment_config import ExperimentRecipe, describe_arms, describe_caps, split_source
from launch.experiment_page import _hours
from launch.reproduce import Experiment, main, screening_scores
from pretrain.config import PretrainRecipe
from pretrain.run_soup import SoupRecipe

RECIPES = sorted((CODE_ROOT / "configs" / "experiments").glob("*.yaml"))
RECIPE = CODE_ROOT / "configs" / "experiments" / "does-adaptation-help.yaml"
SPLADE_TINY = CODE_ROOT / "configs" / "experiments" / "does-adaptation-help-splade-tiny.yaml"
PARTS = sorted((CODE_ROOT / "configs" / "experiments" / "adaptation").glob("*.yaml"))
KINDS = {"corpus": CorpusRecipe, "arm": PretrainRecipe, "head": PretrainRecipe}
SOUP = "arm_soup.yaml"


def load(*arguments):
    return load_recipe(ExperimentRecipe, [str(RECIPE), *arguments], "mindshift reproduce")


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.name)
def test_every_part_loads(path):
    kind = SoupRecipe if path.name == SOUP else KINDS.get(path.stem.partition("_")[0], BenchmarkRecipe)
    load_recipe(kind, [str(path)], "test")


def test_every_part_is_used_and_every_arm_trains_as_long():
    named: set[Path] = set()
    for path in RECIPES:
        recipe = load_recipe(ExperimentRecipe, [str(path)], "mindshift reproduce")
        named |= {*recipe.corpora.values(), *recipe.arms.values(), recipe.head, recipe.benchmark}
        named |= {recipe.screening} - {None}
        arms = {name: yaml.safe_load(path.read_text()) for name, path in recipe.arms.items() if path.name != SOUP}
        for key in ("max_steps", "micro_batch_size", "max_seq_length", "learning_rate"):
            assert len({arm[key] for arm in arms.values()}) == 1, key
    assert {path.name for path in PARTS} == {path.name for path in named}


def test_another_base_shares_the_corpora(tmp_path):
    words = [str(SPLADE_TINY), "--output_dir", str(tmp_path / "second"), "--corpora_of", str(tmp_path / "first")]
    experiment = Experiment(load_recipe(ExperimentRecipe, words, "mindshift reproduce"))
    ran: dict[str, dict[str, str]] = {}

    def note(name, _stage, arguments):
        ran[name] = dict(zip(arguments[1::2], arguments[2::2], strict=True))

    experiment._run = note
    experiment.prepare()
    assert experiment.screen() == ["domain"]
    assert ran["corpus domain"]["--output_dir"] == str(tmp_path / "first" / "corpus" / "domain")
    assert {ran[f"corpus {name}"]["--keys_dir"] for name in experiment.recipe.corpora} == {
        str(tmp_path / "first" / "keys")
    }
    assert ran["head"] == {
        "--model": "package:splade_tiny",
        "--corpus": str(tmp_path / "first" / "corpus" / "general"),
        "--output_dir": str(tmp_path / "second" / "encoder" / "head"),
    }
    experiment._benchmark(experiment.recipe.benchmark, tmp_path / "second" / "benchmark", ["domain"], 4000)
    domain = tmp_path / "second" / "encoder" / "domain-4000"
    assert json.loads(ran["benchmark"]["--models"]) == ["base=package:splade_tiny", f"domain={domain}"]
    assert load().base_model == "package:minilm"


def test_arms_read_and_start_from_what_their_source_says(tmp_path):
    experiment = Experiment(load("--output_dir", str(tmp_path), "--budget_hours", "7.25"))
    # 3.5 hours are fixed and two seeds take 2: half of the 3.5 that the arms would take are left.
    assert (experiment.steps, experiment.screening_steps, experiment.plan.seeds) == (1000, 125, 2)

    def given(name):
        stage, words = experiment.arm_command(name, 500)
        return stage, dict(zip(words[::2], words[1::2], strict=True))

    stage, options = given("domain_tapt")
    assert stage == "pretrain"
    assert options["--corpus"] == str(tmp_path / "corpus" / "tasks")
    assert options["--model"] == str(tmp_path / "encoder" / "domain-500")
    assert options["--general_corpus"] == str(tmp_path / "corpus" / "general")
    assert options["--max_steps"] == "500"
    stage, options = given("general_soup")
    assert stage == "pretrain soup"
    assert json.loads(options["--models"]) == [str(tmp_path / "encoder" / name) for name in ("head", "general-500")]
    assert options["--corpus"] == str(tmp_path / "corpus" / "general")
    assert split_source("general") == ("general", "head")
    # Not the corpus of the folder that the arm's own recipe names.
    assert given("weighted")[1]["--masking_contrast"] == str(tmp_path / "corpus" / "general")


def test_the_page_says_what_each_arm_is_and_what_is_capped():
    arms = {name: row for name, *row in describe_arms(load())}
    assert arms["domain_tapt"][1:] == ["tasks", "domain"]
    assert arms["general_soup"][1:] == ["", "head, general"]
    assert "title-and-body" in arms["contrastive"][0]
    assert describe_caps(load()) == (
        "Of each task, fine-tuning reads at most about 1,500 training rows, 500 validation rows, 1,000 test rows, "
        "128 tokens of a text: equal texts and groups stay together."
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("controls", '["nothing"]', "controls"),
        ("matched_controls", '{"soup": "domain"}', "matched_controls"),
        ("matched_controls", '{"nobody": "general"}', "matched_controls"),
        ("budget_hours", "0", "budget_hours"),
        ("fixed_hours", "12", "fixed_hours"),
        ("always", '["domain", "domain_tapt"]', "domain_tapt trains 2 times, general 1 times"),
        ("seeds", "0", "seeds"),
        ("always", '["general"]', "always"),  # a control
        ("survivors", "-1", "survivors"),
        ("sources", '{"nobody": "domain"}', "sources"),
        ("sources", '{"domain": "nowhere"}', "sources"),
        ("sources", '{"domain": "domain from tapt"}', "sources"),  # tapt stands behind it
        ("sources", '{"soup": "soup"}', "sources"),
    ],
)
def test_impossible_values_are_refused(key, value, message):
    with pytest.raises(UserError, match=message):
        load(f"--{key}", value)


def test_screening_takes_the_mean_over_tasks():
    scores = {"a": {"frozen x": 0.5, "frozen y": 0.6, "majority": 0.1}, "b": {"frozen x": 0.9, "frozen y": 0.4}}
    assert screening_scores({"baselines_on_validation": scores}) == pytest.approx({"x": 0.7, "y": 0.5})


@pytest.mark.parametrize(
    ("budget", "share", "seeds"), [("12", 1.0, 5), ("20", 1.0, 5), ("11", 1.0, 4), ("5.6", 0.1 / 3.5, 2)]
)
def test_a_budget_is_kept(budget, share, seeds):
    recipe = load("--budget_hours", budget)
    plan = recipe.plan(5)
    assert (plan.share, plan.seeds) == (pytest.approx(share), seeds)
    spent = recipe.fixed_hours + plan.seeds * recipe.seed_hours + plan.share * 3.5
    assert spent <= float(budget) + 1e-9


def test_a_budget_below_the_least_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"budget_hours is 3.0; allowed: 5.5 or more"):
        Experiment(load("--output_dir", str(tmp_path), "--budget_hours", "3"))


def test_an_arm_trained_longer_than_its_control_is_screened_only(tmp_path):
    recipe = load("--output_dir", str(tmp_path), "--survivors", "9")
    assert {arm: recipe.trainings(arm) for arm in ("soup", "tapt", "domain_tapt")} == {
        "soup": 1,
        "tapt": 1,
        "domain_tapt": 2,
    }
    experiment = Experiment(recipe)
    experiment._run = lambda *_: None
    folder = tmp_path / "screening-250"
    folder.mkdir()
    scores = {"task": {f"frozen {name}": 0.5 for name in recipe.arms} | {"frozen domain_tapt": 0.9}}
    (folder / "benchmark.json").write_text(json.dumps({"baselines_on_validation": scores}))
    assert experiment.screen() == ["domain", "soup", "weighted", "anchor", "contrastive", "tapt"]


def test_steps_run_where_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.__new__(Experiment)
    with pytest.raises(UserError, match=r"nothing\.yaml: no such recipe"):
        experiment._run("arm", "pretrain", ["nothing.yaml"])
    (tmp_path / "arm.yaml").write_text("corpus: corpus\nmodel: base\nmax_steps: 5\noutput_dir: run\n")
    (tmp_path / "run").mkdir()
    recipe = load_recipe(PretrainRecipe, ["arm.yaml"], "test")
    write_manifest(tmp_path / "run", stage="pretrain", recipe=recipe, inputs={}, counts={}, started_at=now())
    experiment._run("arm", "pretrain", ["arm.yaml"])  # finished before
    with pytest.raises(UserError, match=r"differs in max_steps\)"):
        experiment._run("arm", "pretrain", ["arm.yaml", "--max_steps", "6"])


def test_hours_are_read_from_manifests_steps_and_runs(tmp_path):
    corpus, arm, benchmark = (tmp_path / name for name in ("corpus", "domain-5", "benchmark-5"))
    recipe = load_recipe(BenchmarkRecipe, [str(load().benchmark)], "test")
    for folder, started in ((corpus, 90), (arm, 15), (benchmark, 1)):
        folder.mkdir()
        write_manifest(folder, stage="x", recipe=recipe, inputs={}, counts={}, started_at=now())
        values = json.loads((folder / "manifest.json").read_text())
        moments = {
            "started_at": "2026-01-01T00:00:00",
            "finished_at": f"2026-01-01T{started // 60:02}:{started % 60:02}:00",
        }
        (folder / "manifest.json").write_text(json.dumps(values | moments))
    lines = [{"tokens": 3600 * step, "tokens_per_second": 2.0} for step in (1, 2)]
    lines[1:1] = [{"step": 1, "held_out_loss": 3.0}, {"step": 1, "rewound_from": 2, "rewinds": 1}]
    lines.append({"tokens": 7200, "tokens_per_second": 0.001})  # the machine was busy
    (arm / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (arm / "evaluation.json").write_text(json.dumps({"tokens": 7200}))
    for part, seconds in (("cells", 7200.0), ("baselines", 1800.0)):
        (benchmark / part).mkdir()
        (benchmark / part / "a.json").write_text(json.dumps({"seconds": seconds}))
    table = _hours({"corpus": corpus}, {"domain-5": arm}, {"Comparison": benchmark})
    assert "| domain-5 | 1.00 |" in table  # its steps, as it was interrupted
    assert "| benchmark-5 | 1.50 |" in table  # two runs at a time, then the baseline
    assert "| all | 4.00 |" in table
    (benchmark / "cells" / "b.json").write_text("{}")  # older than the field
    table = _hours({"corpus": corpus}, {"domain-5": arm}, {"Comparison": benchmark})
    assert "| benchmark-5 | at least 1.50 |" in table
    assert "| all | at least 4.00 |" in table


def test_a_benchmark_of_other_arms_is_not_taken_for_this_one(tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.benchmark_baselines.made_of_other", lambda *_: [])
    experiment = Experiment(load("--output_dir", str(tmp_path)))
    path, folder = experiment.recipe.screening, tmp_path / "screening-5"
    folder.mkdir()
    models = json.dumps(["base=package:minilm", f"domain={experiment.encoder('domain', 5)}"])
    made = load_recipe(BenchmarkRecipe, [str(path), "--models", models, "--references", '["base"]'], "test")
    write_manifest(folder, stage="benchmark", recipe=made, inputs={}, counts={}, started_at=now())
    experiment._benchmark(path, folder, ["domain"], 5)  # finished before
    with pytest.raises(
        UserError, match=r"(?s)compares base, domain, .* asks for base, domain, tapt.*screening-5-before"
    ):
        experiment._benchmark(path, folder, ["domain", "tapt"], 5)
    other = Experiment(load("--output_dir", str(tmp_path), "--base", "google-bert/bert-base-uncased"))
    with pytest.raises(UserError, match=r"differs in models\)"):
        other._benchmark(path, folder, ["domain"], 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_experiment_runs_on_the_sample_and_goes_on_where_it_was(tmp_path, capfd):
    sample = CODE_ROOT / "corpus" / "sample"

    def write(name: str, **values: object) -> Path:
        (tmp_path / name).write_text(yaml.safe_dump(values))
        return tmp_path / name

    corpus = yaml.safe_load((CODE_ROOT / "configs" / "corpus" / "sample.yaml").read_text())
    corpus |= {"deidentifier": "rules", "inputs": [str(sample / "RS_2023.zst")]}
    corpora = {name: write(f"{name}.yaml", **corpus | {"seed": seed}) for name, seed in (("domain", 1), ("general", 2))}
    arm = {"corpus": "x", "model": "package:minilm", "output_dir": "x", "max_steps": 2, "max_seq_length": 32}
    arm |= {"micro_batch_size": 2, "eval_max_tokens": 500, "dropout": 0.0}
    capped = write("capped.yaml", task="x", model="package:minilm", output_dir="x", train_rows=60, epochs=1.0)
    values = {
        "page": str(tmp_path / "page.md"),
        "output_dir": str(tmp_path / "runs"),
        "corpora": {name: str(path) for name, path in corpora.items()},
        "head": str(write("head.yaml", **arm | {"trainable": "head"})),
        "arms": {name: str(write("arm.yaml", **arm)) for name in ("general", "domain", "second")},
        "sources": {"general": "general", "second": "domain from domain", "soup": "soup of domain"},
        "screening_steps": 1,
        "steps": 2,
        "always": ["domain"],
        "survivors": 1,
        "matched_controls": {"second": "general"},
    }
    soup = {"models": ["x", "y"], "corpus": "x", "output_dir": "x", "max_seq_length": 32, "eval_max_tokens": 500}
    values["arms"] |= {"soup": str(write("soup.yaml", **soup))}
    cells = {"tasks": [str(sample / "task")], "models": ["base=x"], "seeds": [1, 2], "output_dir": "x"}
    cells |= {"finetune_recipe": str(capped), "leakage": "drop"}
    values["screening"] = str(write("screening.yaml", **cells, frozen_only=True))
    values["benchmark"] = str(write("benchmark.yaml", **cells, frozen_encoder=False, train_sizes=[40]))
    recipe = write("experiment.yaml", **values)
    main([str(recipe)], "mindshift reproduce")
    page = (tmp_path / "page.md").read_text()
    found = json.loads((tmp_path / "runs" / "benchmark-2-steps-2-seeds" / "benchmark.json").read_text())
    (survivor,) = {comparison["model"] for comparison in found["comparisons"]} - {"base", "domain"}
    assert survivor in ("second", "soup")
    pairs = {(comparison["model"], comparison["reference"]) for comparison in found["comparisons"]}
    arms = ("domain", survivor)
    assert pairs == {("base", "general"), *((arm, reference) for arm in arms for reference in ("general", "base"))}
    shown = [*found["comparisons"], *found["few_label_comparisons"]["40"]]
    assert all(f"{100 * comparison['pooled_mean']:+.2f} points" in page for comparison in shown)
    losses = json.loads((tmp_path / "runs" / "held-out-2" / "held_out.json").read_text())
    assert set(losses) == {"head", "general", *arms}
    assert all(f"{losses[survivor][corpus]['loss']:.4f}" in page for corpus in ("domain", "general"))
    plots = {path.stem for path in (tmp_path / "page").iterdir()}
    assert plots == {"effects", "effects-40-rows", "losses", "learning-curves"}
    assert all(f"](page/{plot}.svg)" in page for plot in plots)
    assert {"general-1", "domain-1", "second-1", "soup-1", "general-2"} <= {
        path.name for path in (tmp_path / "runs" / "encoder").iterdir()
    }
    assert "Screened only, as no control was trained for as many steps: second." in page
    assert "| all | " in page
    main([str(recipe)], "mindshift reproduce")
    assert (tmp_path / "page.md").read_text() == page
    (tmp_path / "arm.yaml").write_text(yaml.safe_dump(arm | {"learning_rate": 1e-3}))
    with pytest.raises(UserError, match=r"general-1: .*differs in learning_rate\)"):
        main([str(recipe)], "mindshift reproduce")
