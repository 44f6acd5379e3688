import sys

import pytest

from configs.errors import UserError
from configs.manifest import CODE_ROOT, now, write_manifest
from configs.recipe import StageRecipe
from launch.chain import Step, is_finished, run_step
from launch.run_launch import unfinished
from launch.stages import ChainRecipe, chain_links


def step(folder, program, **keys):
    return Step("toy", [sys.executable, "-c", program], StageRecipe(output_dir=folder, **keys))


def finish(recipe, **inputs):
    recipe.output_dir.mkdir(parents=True, exist_ok=True)
    write_manifest(recipe.output_dir, stage="toy", recipe=recipe, inputs=inputs, counts={}, started_at=now())


def test_a_finished_step_is_left_as_it_is(tmp_path):
    finish(StageRecipe(output_dir=tmp_path))
    assert not run_step(step(tmp_path, "raise SystemExit(1)"))


def test_a_finished_step_of_another_recipe_is_not_taken_for_this_one(tmp_path):
    finish(StageRecipe(output_dir=tmp_path))
    with pytest.raises(UserError, match=r"another recipe or other inputs \(differs in seed\)"):
        run_step(step(tmp_path, "raise SystemExit(1)", seed=99))


def test_an_unfinished_step_runs(tmp_path):
    assert run_step(step(tmp_path / "new", "pass"))


def test_a_users_error_in_a_step_stops_the_chain(tmp_path):
    with pytest.raises(UserError, match="the toy step stopped"):
        run_step(step(tmp_path / "new", "raise SystemExit(2)"))


def test_a_defect_in_a_step_is_no_users_error(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 3"):
        run_step(step(tmp_path / "new", "raise SystemExit(3)"))


def test_a_step_does_not_look_for_the_nodes_of_the_job_it_runs_in(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NNODES", "4")
    assert run_step(step(tmp_path / "new", "import os; assert 'SLURM_NNODES' not in os.environ"))


@pytest.fixture
def links(tmp_path, monkeypatch):
    """A chain of corpus, pretraining and audit; the first two can be finished."""
    monkeypatch.chdir(CODE_ROOT)
    names = ("corpus", "pretrain")
    recipes = {name: CODE_ROOT / "configs" / name / "sample.yaml" for name in names}
    (tmp_path / "audit.yaml").write_text("model_dir: x\nbase_model: b\ndata_dir: y\noutput_dir: z\n")

    def links(**overrides):
        chain = ChainRecipe(output_dir=tmp_path / "run", audit=tmp_path / "audit.yaml", **recipes)
        return chain_links(chain, {"pretrain": [word for pair in overrides.items() for word in pair]})

    corpus, pretrain, _ = links()
    finish(corpus.recipe)
    finish(pretrain.recipe, corpus=corpus.output_dir)
    return links


def test_a_finished_link_counts_only_for_the_same_recipe_and_inputs(links):
    assert unfinished(links()) == ["audit"]
    with pytest.raises(UserError, match=r"differs in learning_rate\)"):
        unfinished(links(**{"--learning_rate": "3e-3"}))
    finish(links()[0].recipe)  # built anew: a manifest of another time
    manifest = links()[0].output_dir / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(UserError, match=r"differs in corpus\)"):
        unfinished(links())


def test_a_link_that_is_fed_by_one_that_will_run_is_not_finished(links, tmp_path):
    (tmp_path / "run" / "corpus").rename(tmp_path / "away")
    with pytest.raises(UserError, match="the corpus that it was made of will be made anew"):
        unfinished(links())
    (tmp_path / "run" / "encoder").rename(tmp_path / "away-too")
    assert unfinished(links()) == ["corpus", "pretrain", "audit"]


def test_every_link_waits_for_all_before_it(links):
    assert [link.after for link in links()] == [[], ["corpus"], ["corpus", "pretrain"]]


def test_a_benchmark_of_an_edited_fine_tuning_recipe_is_not_finished(tmp_path, monkeypatch):
    from finetune.benchmark_config import BenchmarkRecipe

    monkeypatch.setattr("finetune.benchmark_baselines.made_of_other", lambda *_: ["task--base--seed-1"])
    recipe = BenchmarkRecipe(output_dir=tmp_path, tasks=["task"], models=["base=x"])
    finish(recipe)
    with pytest.raises(UserError, match="differs in task--base--seed-1"):
        is_finished(recipe)
