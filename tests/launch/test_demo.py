import json
import os
import subprocess

import pytest

from configs.errors import USER_ERROR_EXIT_CODE
from configs.manifest import CODE_ROOT, write_manifest
from configs.recipe import StageRecipe
from launch.cli import main
from launch.demo import chain, summary

ENVIRONMENT = {"PYTHONPATH": str(CODE_ROOT), "OMP_NUM_THREADS": "1"}


def test_each_stage_reads_the_folder_of_the_one_before(tmp_path):
    corpus, pretrain, finetune = chain(tmp_path)
    assert str(corpus.folder) in pretrain.command
    assert str(pretrain.folder) in finetune.command


def test_a_mistake_in_a_stage_keeps_its_exit_code(tmp_path):
    for step in chain(tmp_path)[1:]:
        command = [*step.command, "--output_dir", "/"]
        done = subprocess.run(command, cwd=CODE_ROOT, env=os.environ | ENVIRONMENT, capture_output=True, check=False)
        assert done.returncode == USER_ERROR_EXIT_CODE, done.stderr.decode()


def test_the_summary_says_where_things_lie_and_what_came_out(tmp_path):
    corpus, encoder, classifier = (tmp_path / name for name in ("corpus", "encoder", "classifier"))
    for folder in (corpus, encoder, classifier):
        folder.mkdir()
    counts = {"read": 10, "documents": {"train": 6, "held_out": 1}, "tokens": {"train": 600, "held_out": 100}}
    write_manifest(
        corpus, stage="corpus", recipe=StageRecipe(output_dir=corpus), inputs={}, counts=counts, started_at=""
    )
    before, after = {"overall": {"loss": 9.0, "perplexity": 8103.1}}, {"overall": {"loss": 4.0, "perplexity": 54.6}}
    (encoder / "evaluation.json").write_text(json.dumps({"before": before, "after": after}))
    scores = {"classifier": 0.612, "tfidf_logistic_regression": 0.45, "majority": 0.1}
    test = {name: {"macro": {"f1": value}} for name, value in scores.items()}
    (classifier / "metrics.json").write_text(json.dumps({"test": test}))
    text = summary(tmp_path, seconds=120)
    for expected in ("2.0 minutes", "7 of 10 posts kept, 700 tokens", "9.00 before, 4.00 after", "8,103 to 55"):
        assert expected in text
    assert "this classifier 61.2, TF-IDF + logistic regression 45.0, majority 10.0" in text
    assert str(corpus / "report.html") in text


@pytest.mark.slow
def test_the_demo_runs_and_goes_on_where_it_was(tmp_path, capfd):
    assert main(["demo", "--output_dir", str(tmp_path / "demo")]) == 0
    assert "macro-F1 on test" in capfd.readouterr().out
    evaluation = json.loads((tmp_path / "demo" / "encoder" / "evaluation.json").read_text())
    assert evaluation["after"]["overall"]["loss"] < evaluation["before"]["overall"]["loss"]
    assert main(["demo", "--output_dir", str(tmp_path / "demo")]) == 0
