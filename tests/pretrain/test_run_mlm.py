"""The stage end to end: a model that loads anywhere, a loss that falls, mistakes told in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from configs.errors import UserError
from configs.manifest import now, read_manifest, sha256_file, verify_folder, write_manifest
from configs.recipe import StageRecipe
from corpus.shards import TokenizedDocument, split_folder, write_shard
from pretrain.metrics import read_metrics
from pretrain.run_mlm import main
from pretrain.training_loop import PretrainingRun

from .conftest import write_corpus


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def differing(first: Path, second: Path) -> list[str]:
    """Names of the weights of two runs that are not bit-equal."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_a_run_learns_and_leaves_a_plain_model_folder(workspace):
    main(workspace.arguments(max_steps=60, learning_rate=3e-3, dropout=0.0, eval_steps=20), "mindshift pretrain")
    run = workspace.folder / "run"
    verify_folder(run, stage="pretrain")
    manifest = read_manifest(run)
    assert manifest.inputs["corpus"].has_manifest
    assert not (run / "checkpoints").exists()
    assert not run.with_name("run.partial").exists()

    evaluation = json.loads((run / "evaluation.json").read_text())
    before, after = evaluation["before"]["overall"], evaluation["after"]["overall"]
    assert after["loss"] < before["loss"] - 0.3
    assert after["accuracy"] > before["accuracy"]
    assert set(evaluation["after"]["by_subreddit"]) == {"(none)", "garden", "kitchen"}
    masked = [score["masked_tokens"] for score in evaluation["after"]["by_subreddit"].values()]
    assert sum(masked) == after["masked_tokens"]

    lines = read_metrics(run)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 61))
    assert [line["step"] for line in lines if "held_out_loss" in line] == [20, 40]
    assert {"tokens", "learning_rate", "gradient_norm", "tokens_per_second"} <= lines[0].keys()

    page = (run / "training.html").read_text()
    assert page.count("<figure>") == 6
    assert "learning" in page.lower()
    assert "garden" in page
    assert "http" not in page  # self-contained
    assert "word1" not in page

    model, info = AutoModelForMaskedLM.from_pretrained(run, output_loading_info=True, local_files_only=True)
    assert not info["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(run, local_files_only=True)
    logits = model(**tokenizer("word1 [MASK] word3", return_tensors="pt")).logits
    assert logits.shape == (1, 5, 200)


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(workspace):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        main(workspace.arguments(name, seed=seed), "mindshift pretrain")
    assert differing(workspace.folder / "a", workspace.folder / "b") == []
    assert differing(workspace.folder / "a", workspace.folder / "c") != []


def test_gradient_accumulation_changes_neither_loss_nor_weights(workspace):
    """One micro-batch of 512 tokens, or the same documents in four of 128: the Trainer's loss would be 4 times."""
    settings = {"global_batch_tokens": 512, "max_seq_length": 64, "dropout": 0.0, "learning_rate": 1e-4}
    main(workspace.arguments("one", micro_batch_size=8, **settings), "mindshift pretrain")
    main(workspace.arguments("four", micro_batch_size=2, **settings), "mindshift pretrain")
    one, four = (read_metrics(workspace.folder / name) for name in ("one", "four"))
    assert one[0]["tokens"] == pytest.approx(four[0]["tokens"], rel=0.1)
    assert one[0]["loss"] == pytest.approx(four[0]["loss"], rel=0.01)
    assert one[0]["gradient_norm"] == pytest.approx(four[0]["gradient_norm"], rel=0.15)


def test_a_frozen_encoder_stays_bit_equal(workspace):
    main(workspace.arguments(trainable="head"), "mindshift pretrain")
    before, after = weights(workspace.model), weights(workspace.folder / "run")
    moved = [name for name in after if not torch.equal(before[name], after[name])]
    assert moved
    assert all(name.startswith("cls.") for name in moved)


def test_a_manifest_tells_what_share_of_each_corpus_was_read(workspace, tmp_path):
    """Of general text a pass reads the next piece only, which a release's audits have to know."""
    general = write_corpus(tmp_path / "general", first_seed=10)
    replay = {"general_corpus": general, "replay_share": 0.2}
    main(workspace.arguments("whole", max_steps="null", num_train_epochs=2, **replay), "mindshift pretrain")
    main(workspace.arguments("part", max_steps=2), "mindshift pretrain")
    whole, part = (read_manifest(workspace.folder / name).counts["shares_read"] for name in ("whole", "part"))
    assert whole.keys() == {"corpus", "general_corpus"}
    assert whole["corpus"] == 1.0
    assert whole["general_corpus"] == pytest.approx(0.5, abs=0.07)  # two pieces of a quarter of the domain each
    assert part.keys() == {"corpus"}
    assert part["corpus"] < 0.2


def test_an_interrupted_run_goes_on_to_the_same_weights(workspace, interrupt):
    arguments = workspace.arguments(max_steps=9, save_steps=4, logging_steps=2)
    main(arguments, "mindshift pretrain")
    whole = workspace.folder / "whole"
    (workspace.folder / "run").rename(whole)

    interrupt(arguments, at_step=6)
    assert not (workspace.folder / "run").exists()
    main(arguments, "mindshift pretrain")
    assert differing(whole, workspace.folder / "run") == []
    first, second = (read_manifest(folder).counts for folder in (whole, workspace.folder / "run"))
    assert first | {"hours": 0} == second | {"hours": 0}
    straight, resumed = (
        [(x["step"], x["loss"]) for x in read_metrics(folder)] for folder in (whole, workspace.folder / "run")
    )
    assert straight == resumed


def test_a_stop_signal_saves_and_asks_for_a_requeue(workspace, monkeypatch):
    arguments = workspace.arguments(save_steps=100)
    train_step = PretrainingRun._train_step

    def stop_at_step_3(self, learning_rate):
        if self.step == 3:
            self.stop_request.asked = True
        return train_step(self, learning_rate)

    monkeypatch.setattr(PretrainingRun, "_train_step", stop_at_step_3)
    with pytest.raises(SystemExit) as stopped:
        main(arguments, "mindshift pretrain")
    assert stopped.value.code == 75
    assert [path.name for path in (workspace.folder / "run.partial" / "checkpoints").iterdir()] == ["step-00000004"]
    monkeypatch.undo()
    main(arguments, "mindshift pretrain")
    assert [line["step"] for line in read_metrics(workspace.folder / "run")] == [1, 2, 3, 4, 5, 6]


def test_a_damaged_newest_checkpoint_is_passed_over(workspace, monkeypatch, caplog):
    arguments = workspace.arguments()
    main(arguments, "mindshift pretrain")
    whole = workspace.folder / "whole"
    (workspace.folder / "run").rename(whole)
    monkeypatch.setattr(PretrainingRun, "_write_result", lambda self, result: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        main(arguments, "mindshift pretrain")
    monkeypatch.undo()
    newest = workspace.folder / "run.partial" / "checkpoints" / "step-00000006" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-5] + b"12345")
    with caplog.at_level("WARNING"):
        main(arguments, "mindshift pretrain")
    assert "step-00000006 is damaged (optimizer.safetensors does not match its checksum)" in caplog.text
    assert differing(whole, workspace.folder / "run") == []


def test_a_kill_between_the_last_step_and_the_final_name_loses_nothing(workspace, monkeypatch):
    arguments = workspace.arguments()
    with monkeypatch.context() as patch:
        patch.setattr("pretrain.run_mlm.finish_run_folder", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            main(arguments, "mindshift pretrain")
    monkeypatch.setattr(PretrainingRun, "run", lambda self: pytest.fail("trained again"))
    main(arguments, "mindshift pretrain")
    verify_folder(workspace.folder / "run", stage="pretrain")


def test_a_full_disk_during_a_save_keeps_the_earlier_checkpoint(workspace, monkeypatch):
    import pretrain.checkpoint

    real = pretrain.checkpoint.save_file

    def no_space(tensors, path, **kwargs):
        if "step-00000004" in str(path) and path.name == "optimizer.safetensors":
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        real(tensors, path, **kwargs)

    monkeypatch.setattr(pretrain.checkpoint, "save_file", no_space)
    with pytest.raises(OSError, match="No space left"):  # `run_program` turns it into two lines and exit code 2
        main(workspace.arguments(), "mindshift pretrain")
    checkpoints = workspace.folder / "run.partial" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000002"]
    monkeypatch.undo()
    main(workspace.arguments(), "mindshift pretrain")
    verify_folder(workspace.folder / "run")


def refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments, "mindshift pretrain")


def test_a_missing_corpus_is_refused(workspace):
    refused(workspace.arguments(corpus=workspace.folder / "nowhere"), "no finished run")


def test_another_stages_folder_is_refused(workspace):
    main(workspace.arguments("first", max_steps=1), "mindshift pretrain")
    refused(workspace.arguments(corpus=workspace.folder / "first"), "output of stage 'pretrain', not of 'corpus'")


def test_changed_corpus_files_are_refused_unless_accepted(workspace):
    corpus = workspace.folder / "corpus"
    shutil.copytree(workspace.corpus, corpus)
    write_shard(split_folder(corpus, "train"), 0, [TokenizedDocument(id="new", token_ids=[9] * 40)], 200)
    refused(workspace.arguments(corpus=corpus), "changed since its manifest was written")
    main(workspace.arguments(corpus=corpus, accept_changed_inputs=True), "mindshift pretrain")
    assert "00000.tokens: changed" in " ".join(read_manifest(workspace.folder / "run").accepted)


def test_a_model_folder_without_tokenizer_is_refused(workspace):
    model = workspace.folder / "model"
    shutil.copytree(workspace.model, model, ignore=shutil.ignore_patterns("tokenizer*"))
    refused(workspace.arguments(model=model), "this model folder has no tokenizer")


def test_a_corpus_tokenized_for_another_model_is_refused(workspace):
    model = workspace.folder / "model"
    shutil.copytree(workspace.model, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["newword"])
    tokenizer.save_pretrained(model)
    refused(workspace.arguments(model=model), "tokenized with another vocabulary")


def test_damaged_weights_are_refused(workspace):
    model = workspace.folder / "model"
    shutil.copytree(workspace.model, model)
    (model / "model.safetensors").write_bytes(b"nothing like a tensor")
    refused(workspace.arguments(model=model), "cannot load this masked language model")


def test_sequences_longer_than_the_model_are_refused(workspace):
    refused(workspace.arguments(max_seq_length=128), "this model has 64 positions")


def test_a_finished_output_folder_is_refused(workspace):
    main(workspace.arguments(max_steps=1), "mindshift pretrain")
    refused(workspace.arguments(max_steps=1), "already holds a finished run")


def test_an_interrupted_run_with_another_recipe_is_refused(workspace, interrupt):
    interrupt(workspace.arguments(), at_step=3)
    refused(workspace.arguments(learning_rate=0.5), "differs in learning_rate")


def test_an_interrupted_run_does_not_go_on_with_another_corpus(workspace, interrupt):
    corpus = workspace.folder / "corpus"
    shutil.copytree(workspace.corpus, corpus)
    arguments = workspace.arguments(corpus=corpus)
    interrupt(arguments, at_step=3)
    kept = corpus.rename(workspace.folder / "kept")
    write_corpus(corpus, documents=40)  # as if an author had been erased
    refused(arguments, "began with another corpus")
    shutil.rmtree(corpus)
    kept.rename(corpus)
    main(arguments, "mindshift pretrain")
    assert not (workspace.folder / "run.partial").exists()


def test_a_corpus_that_is_rewritten_during_a_run_is_recorded_as_it_was_read(workspace, monkeypatch):
    corpus, run = workspace.folder / "corpus", PretrainingRun.run
    shutil.copytree(workspace.corpus, corpus)
    read = sha256_file(corpus / "manifest.json")

    def run_while_somebody_is_erased(self):
        run(self)
        (corpus / "manifest.json").write_text((corpus / "manifest.json").read_text() + "\n")

    monkeypatch.setattr(PretrainingRun, "run", run_while_somebody_is_erased)
    main(workspace.arguments(corpus=corpus), "mindshift pretrain")
    manifest = read_manifest(workspace.folder / "run")
    assert manifest.inputs["corpus"].sha256 == read
    assert manifest.accepted == [f"{corpus}: changed while the run read it"]
    assert 0 <= manifest.hours < 1


def test_a_value_that_was_refused_may_be_mended(workspace):
    refused(workspace.arguments(max_seq_length=128), "this model has 64 positions")
    main(workspace.arguments(max_steps=1), "mindshift pretrain")


def test_a_changed_base_model_is_refused_unless_accepted(workspace):
    main(workspace.arguments("first", max_steps=1), "mindshift pretrain")
    first = workspace.folder / "first"
    config = json.loads((first / "config.json").read_text())
    (first / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.3}))
    refused(workspace.arguments(model=first), "config.json: changed since its manifest was written")
    main(workspace.arguments(model=first, accept_changed_inputs=True, max_steps=1), "mindshift pretrain")
    assert "config.json: changed" in " ".join(read_manifest(workspace.folder / "run").accepted)


def test_an_uneven_global_batch_is_refused(workspace):
    refused(workspace.arguments(global_batch_tokens=1000), "is no multiple of micro_batch_size")


def test_all_checkpoints_damaged_is_said(workspace, monkeypatch):
    monkeypatch.setattr(PretrainingRun, "_write_result", lambda self, result: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        main(workspace.arguments(), "mindshift pretrain")
    for checksums in (workspace.folder / "run.partial").rglob("checksums.json"):
        checksums.write_text("{")
    refused(workspace.arguments(), "all 2 checkpoints are damaged")


def test_a_missing_lexicon_is_refused(workspace):
    refused(workspace.arguments(masking_lexicon=workspace.folder / "absent.txt"), "absent.txt: no such lexicon")


def test_a_corpus_without_a_held_out_part_is_refused_by_the_key_that_made_it(workspace):
    corpus = workspace.folder / "corpus"
    shutil.copytree(workspace.corpus, corpus)
    shutil.rmtree(corpus / "tokens" / "held_out")
    (corpus / "manifest.json").unlink()
    write_manifest(
        corpus, stage="corpus", recipe=StageRecipe(output_dir=corpus), inputs={}, counts={}, started_at=now()
    )
    refused(workspace.arguments(corpus=corpus), "held_out_share over 0")


def test_an_interrupted_run_may_begin_to_accept_changes_and_keeps_them_in_its_manifest(workspace, interrupt):
    corpus = workspace.folder / "corpus"
    shutil.copytree(workspace.corpus, corpus)
    interrupt(workspace.arguments(corpus=corpus), at_step=3)
    shard = corpus / "tokens" / "held_out" / "00000.tokens"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1, 0]))
    refused(workspace.arguments(corpus=corpus), "pass --accept_changed_inputs true")
    accepting = workspace.arguments(corpus=corpus, accept_changed_inputs=True)
    interrupt(accepting, at_step=5)
    refused(workspace.arguments(corpus=corpus), "changed since its manifest")
    shard.write_bytes(whole)
    refused(workspace.arguments(corpus=corpus), "differs in accept_changed_inputs")
    main(accepting, "mindshift pretrain")
    assert "00000.tokens: changed" in " ".join(read_manifest(workspace.folder / "run").accepted)
