"""Differential privacy: what a unit can change, what comes out, what it costs, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import BertForMaskedLM

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.manifest import read_manifest
from configs.recipe import load_recipe
from corpus.shards import TokenizedDocument, split_folder, write_shard
from pretrain import private_gradient
from pretrain.config import PretrainRecipe
from pretrain.distributed import start_accelerator
from pretrain.encoder import PackedMaskedLM, load_for_corpus, set_dropout
from pretrain.metrics import read_metrics
from pretrain.privacy_accounting import epsilon_of, noise_for, renyi_divergence
from pretrain.private_gradient import PrivateGradient, clip_into
from pretrain.run_mlm import main
from pretrain.training_data import TrainingData
from pretrain.training_loop import PretrainingRun

from .conftest import VOCABULARY, build_tokenizer, make_documents

PRIVATE = {"dp_noise_multiplier": 0.8, "dp_units_per_step": 6, "dp_unit": "document", "max_steps": 3, "save_steps": 1}


@pytest.fixture(autouse=True)
def _known_secret(monkeypatch):
    monkeypatch.setattr("pretrain.private_gradient.secrets.randbits", lambda bits: 12345)


def write_authors(folder, authors: list[str]) -> None:
    """A training split with one document an entry."""
    documents = [
        TokenizedDocument(id=f"d{number}", token_ids=document.token_ids, author_hash=author)
        for number, (author, document) in enumerate(zip(authors, make_documents(len(authors), 3), strict=True))
    ]
    write_shard(split_folder(folder, "train"), 0, documents, len(VOCABULARY))
    write_shard(split_folder(folder, "held_out"), 0, documents[:3], len(VOCABULARY))
    build_tokenizer().save_pretrained(folder / "tokenizer")


def gradient_of(workspace, corpus, **keys) -> tuple[PrivateGradient, PackedMaskedLM]:
    values = {"dp_noise_multiplier": 1.0, "dp_units_per_step": 4, "max_steps": 1, "max_seq_length": 64} | keys
    recipe = PretrainRecipe(output_dir=workspace.folder / "x", corpus=corpus, **values)
    model, tokenizer = load_for_corpus(resolve_model(str(workspace.model)), corpus / "tokenizer", 64)
    set_dropout(model, 0.1)
    module = PackedMaskedLM(model).train()
    data = TrainingData(recipe, tokenizer, 1)
    return PrivateGradient(recipe, data, tokenizer, steps=10, accelerator=start_accelerator()), module


def filled(gradient: PrivateGradient, module: PackedMaskedLM, step: int) -> torch.Tensor:
    gradient.fill(module, step, 0.3)
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None])


# What a unit can change


@settings(max_examples=60)
@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), max_size=12), st.floats(1e-3, 1e3))
def test_no_unit_moves_the_sum_further_than_the_clipping_norm(vectors, max_norm):
    sums = [torch.zeros(2), torch.zeros(1)]
    for vector in vectors:
        before = torch.cat(sums).double()
        clip_into(sums, [torch.tensor(vector[:2]), torch.tensor(vector[2:])], max_norm)
        assert (torch.cat(sums).double() - before).norm() <= max_norm * (1 + 1e-4 * len(vectors))
    assert torch.cat(sums).norm() <= max_norm * len(vectors) * (1 + 1e-4)


def test_a_short_gradient_is_kept_a_long_one_shortened_a_broken_one_left_out():
    sums = [torch.zeros(2)]
    clip_into(sums, [torch.tensor([0.3, 0.4])], 1.0)
    assert sums[0].tolist() == pytest.approx([0.3, 0.4])
    clip_into(sums, [torch.tensor([30.0, 40.0])], 1.0)
    assert sums[0].tolist() == pytest.approx([0.9, 1.2], rel=1e-5)
    for broken in (math.nan, math.inf):
        clip_into(sums, [torch.tensor([broken, 1.0])], 1.0)
    assert sums[0].tolist() == pytest.approx([0.9, 1.2], rel=1e-5)


def test_leaving_out_an_author_changes_a_step_by_the_clipping_norm_at_most(workspace, monkeypatch):
    """The whole path: drawing, packing, masking, dropout, backward. Noise is the same on both sides and cancels."""
    authors = [f"author{number % 7}" for number in range(28)]
    full, without = workspace.folder / "full", workspace.folder / "without"
    write_authors(full, authors)
    last = [author for author in authors if author != "author6"]
    documents = [
        TokenizedDocument(id=f"d{number}", token_ids=document.token_ids, author_hash=author)
        for number, (author, document) in enumerate(zip(authors, make_documents(28, 3), strict=True))
        if author != "author6"
    ]
    write_authors(without, last)
    write_shard(split_folder(without, "train"), 0, documents, len(VOCABULARY))
    # The secret's streams go by number; with the sampling rate fixed, the others are drawn and masked alike.
    monkeypatch.setattr("pretrain.private_units.PrivateUnits.draw", draw_all)
    monkeypatch.setattr("pretrain.masking.Masker._keys", keys_by_tokens)
    found = []
    for corpus in (full, without):
        gradient, module = gradient_of(workspace, corpus, dp_max_grad_norm=0.05, dp_units_per_step=4)
        found.append(filled(gradient, module, 0) * 4)
    difference = float((found[0] - found[1]).double().norm())
    assert 0.04 < difference <= 0.05


def draw_all(self, secret, step):
    return [(unit, self._draw_sequences(secret, step, unit)) for unit in range(self.count)]


def keys_by_tokens(self, packed, tokens):
    """Masks by what stands there: documents are numbered otherwise when some are left out."""
    return (packed.input_ids[tokens].astype(np.uint64) + np.uint64(3)) * np.uint64(0x9E3779B97F4A7C15)


def test_a_units_gradient_is_that_of_the_plain_model_with_its_tied_weights(workspace, monkeypatch):
    """One unit, no noise, nothing clipped: the gradient of Hugging Face's own forward, embeddings and head in one."""
    corpus = workspace.folder / "corpus"
    write_authors(corpus, ["one"])
    monkeypatch.setattr("pretrain.private_units.PrivateUnits.draw", draw_all)
    gradient, module = gradient_of(workspace, corpus, dp_max_grad_norm=1e9, dp_units_per_step=1)
    set_dropout(module, 0.0)
    seen = []
    real = private_gradient.to_device

    def spy(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(private_gradient, "to_device", spy)
    monkeypatch.setattr(private_gradient.torch, "randn", lambda shape, **keywords: torch.zeros(shape))
    filled(gradient, module, 0)
    batch = seen[0]
    plain = BertForMaskedLM.from_pretrained(workspace.model).train()
    set_dropout(plain, 0.0)
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.asked.positions[: batch.masked_count]] = batch.labels[: batch.masked_count]
    rows = [torch.split(tensor, batch.lengths)[:-1] for tensor in (batch.input_ids, labels)]  # the last is padding
    ids, labels = (
        torch.nn.utils.rnn.pad_sequence(row, batch_first=True, padding_value=pad)
        for row, pad in zip(rows, (0, -100), strict=True)
    )
    plain(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss.backward()
    assert plain.bert.embeddings.word_embeddings.weight is plain.cls.predictions.decoder.weight
    ours = dict(module.model.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.allclose(ours[name].grad, parameter.grad, rtol=1e-4, atol=1e-6), name


def test_an_authors_documents_are_one_unit_and_unknown_authors_stand_alone(workspace):
    corpus = workspace.folder / "corpus"
    write_authors(corpus, ["a", "", "b", "a", "", "a"])
    guarantee = gradient_of(workspace, corpus)[0].guarantee
    assert (guarantee.units, guarantee.without_author) == (4, 2)
    assert gradient_of(workspace, corpus, dp_unit="document")[0].guarantee.units > 5
    gradient, _ = gradient_of(workspace, corpus, dp_sequences_per_unit=2)
    draws = dict(draw_all(gradient._units, 1, step=0))
    assert max(len(own) for own in draws.values()) == 2
    assert draws != dict(draw_all(gradient._units, 1, step=1))


def test_units_are_drawn_independently_with_one_probability(workspace):
    gradient, _ = gradient_of(workspace, workspace.corpus, dp_unit="document", dp_units_per_step=12)
    units = gradient._units
    drawn = [{unit for unit, _ in units.draw(7, step)} for step in range(600)]
    sizes = [len(step) for step in drawn]
    assert np.mean(sizes) == pytest.approx(12, rel=0.05)
    assert np.var(sizes) == pytest.approx(12 * (1 - 12 / units.count), rel=0.25)  # a fixed size would have none
    rates = np.array([sum(unit in step for step in drawn) for unit in range(units.count)]) / 600
    assert rates.mean() == pytest.approx(units.sample_rate, rel=0.05)
    assert rates.std() < 2 * math.sqrt(units.sample_rate / 600)


def test_noise_has_the_promised_deviation_whatever_was_drawn(workspace, monkeypatch):
    monkeypatch.setattr("pretrain.private_units.PrivateUnits.draw", lambda *_: [])
    gradient, module = gradient_of(
        workspace, workspace.corpus, dp_unit="document", dp_max_grad_norm=0.5, dp_noise_multiplier=3.0
    )
    noise = filled(gradient, module, 0)
    assert float(noise.std()) == pytest.approx(3.0 * 0.5 / 4, rel=0.03)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert not torch.equal(noise, filled(gradient, module, 1))


# The accountant


@pytest.mark.parametrize(
    ("noise_multiplier", "sample_rate", "steps", "delta", "opacus"),
    [
        (1.0, 0.01, 1000, 1e-5, 2.1013652716430564),
        (0.6, 0.02, 500, 1e-4, 10.083256557041071),
        (2.0, 0.5, 100, 1e-5, 15.392464192990985),
        (0.4, 0.001, 10000, 1e-6, 17.598008392707197),
        (8.0, 1.0, 1000, 1e-5, 25.518420950267984),
        (1.1, 256 / 60000, 14062, 1e-5, 2.5965558689607486),
        (0.8, 1e-4, 100000, 1e-7, 1.3123471693497808),
    ],
)
def test_epsilon_is_that_of_opacus(noise_multiplier, sample_rate, steps, delta, opacus):
    """Figures of opacus 1.6.0: `RDPAccountant().get_epsilon(delta)` with this history."""
    mine = epsilon_of(renyi_divergence(noise_multiplier, sample_rate), steps, delta)
    assert mine == pytest.approx(opacus, rel=1e-9)


def test_the_noise_for_an_epsilon_spends_it_and_no_more():
    noise = noise_for(3.0, sample_rate=0.01, steps=1000, delta=1e-5)
    assert noise == pytest.approx(0.8655, abs=0.001)  # opacus.accountants.utils.get_noise_multiplier
    assert 2.98 < epsilon_of(renyi_divergence(noise, 0.01), 1000, 1e-5) <= 3.0
    with pytest.raises(UserError, match="no noise keeps"):
        noise_for(1e-4, sample_rate=1.0, steps=10**6, delta=1e-5)


# A run


def test_a_private_run_says_what_it_spent_and_nothing_else_of_its_texts(workspace, capsys):
    main(workspace.arguments(**PRIVATE), "mindshift pretrain")
    run = workspace.folder / "run"
    privacy = json.loads((run / "evaluation.json").read_text())["privacy"]
    expected = epsilon_of(renyi_divergence(0.8, privacy["sample_rate"]), 3, privacy["delta"])
    assert (privacy["epsilon"], privacy["unit"], privacy["noised_steps"]) == (expected, "document", 3)
    assert privacy["delta"] == 1 / (10 * privacy["units"])
    assert read_manifest(run).counts["privacy"] == privacy
    assert f"Differential privacy of each document of the training texts: ε = {expected:.3f}" in capsys.readouterr().out
    assert f"ε = {expected:.3f}" in (run / "training.html").read_text()
    lines = read_metrics(run)
    assert [line["epsilon"] for line in lines] == sorted(line["epsilon"] for line in lines)
    assert lines[-1]["epsilon"] == expected
    unnoised = {"loss", "padding_share", "tokens_per_second"}
    assert not any(unnoised & line.keys() for line in lines)
    assert [line["tokens"] for line in lines] == [round(n * lines[2]["tokens"] / 3) for n in (1, 2, 3)]
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret" in path.read_bytes() or hex(12345).encode() in path.read_bytes()]


def test_a_target_epsilon_is_kept(workspace):
    keys = PRIVATE | {"dp_epsilon": 4.0, "dp_delta": 1e-4}
    del keys["dp_noise_multiplier"]
    main(workspace.arguments(**keys), "mindshift pretrain")
    privacy = json.loads((workspace.folder / "run" / "evaluation.json").read_text())["privacy"]
    assert 3.9 < privacy["epsilon"] <= 4.0


def interrupted(arguments) -> None:
    train_step = PretrainingRun._train_step

    def die(self, learning_rate):
        if self.step == 2:
            raise MemoryError("as good as a kill")
        return train_step(self, learning_rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainingRun, "_train_step", die)
        with pytest.raises(MemoryError):
            main(arguments, "mindshift pretrain")


def test_a_private_run_resumes_with_its_own_secret_and_account(workspace, monkeypatch):
    main(workspace.arguments("whole", **PRIVATE), "mindshift pretrain")
    arguments = workspace.arguments("run", **PRIVATE)
    interrupted(arguments)
    monkeypatch.setattr("pretrain.private_gradient.secrets.randbits", lambda bits: 999)
    main(arguments, "mindshift pretrain")
    one, other = (load_file(workspace.folder / name / "model.safetensors") for name in ("whole", "run"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    main(workspace.arguments("other_secret", **PRIVATE), "mindshift pretrain")
    other = load_file(workspace.folder / "other_secret" / "model.safetensors")
    assert [name for name in one if not torch.equal(one[name], other[name])]


def test_a_checkpoint_without_an_account_is_refused(workspace, monkeypatch):
    arguments = workspace.arguments(**PRIVATE)
    monkeypatch.setattr(PrivateGradient, "state_dict", lambda self: None)
    interrupted(arguments)
    monkeypatch.undo()
    with pytest.raises(UserError, match="does not say what its steps cost in privacy"):
        main(arguments, "mindshift pretrain")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dp_epsilon": 3.0}, "one of the two"),
        ({"dp_noise_multiplier": 0.1}, "0.2 or more"),
        ({"contrastive_weight": 0.5}, "contrastive_weight is 0.5"),
        ({"anchor_weight": 0.5}, "anchor_weight is 0.5"),
        ({"general_corpus": "x", "replay_share": 0.1}, "replay_share is 0.1"),
        ({"masking_contrast": "x"}, "masking_contrast"),
        ({"masking_lexicon": "x"}, "masking_lexicon"),
        ({"global_batch_tokens": 512}, "global_batch_tokens is 512"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps is 2"),
        ({"dp_delta": 1.5}, "dp_delta is 1.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "refused",
)
def test_what_would_break_the_guarantee_is_refused(workspace, keys, message):
    with pytest.raises(UserError, match=message):
        load_recipe(PretrainRecipe, workspace.arguments(**PRIVATE | keys), "mindshift pretrain")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dp_units_per_step": 10_000}, "units"),
        ({"dp_delta": 0.5}, "give away one of the"),
        ({"dp_unit": "author"}, "knows no authors"),
    ],
    ids=["too_few_units", "too_large_delta", "no_authors"],
)
def test_what_the_corpus_cannot_promise_is_refused(workspace, keys, message):
    with pytest.raises(UserError, match=message):
        main(workspace.arguments(**PRIVATE | keys), "mindshift pretrain")


def test_sharded_gradients_are_refused(workspace, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="DeepSpeed and FSDP do not keep"):
        main(workspace.arguments(**PRIVATE), "mindshift pretrain")


def test_the_share_that_private_steps_read_is_told_in_the_mean(workspace, tmp_path):
    """Exactly it would say something about the draws."""
    write_authors(tmp_path / "corpus", [f"author{number % 20}" for number in range(100)])
    values = {"dp_noise_multiplier": 1.0, "dp_units_per_step": 4, "dp_sequences_per_unit": 2, "max_seq_length": 64}
    recipe = PretrainRecipe(output_dir=workspace.folder / "x", corpus=tmp_path / "corpus", max_steps=1, **values)
    data = TrainingData(recipe, build_tokenizer(), 1)
    units, found = data.private_units(), []
    for secret in range(60):
        draws = [draw for step in range(6) for _, drawn in units.draw(secret, step) for draw in drawn]
        found.append(len({draw.sequence for draw in draws}) / len(data.packer.sequence_lengths))
    assert units.share_read(6) == pytest.approx(np.mean(found), abs=0.03)
    assert units.share_read(0) == 0
    assert units.share_read(500) > 0.99


def test_a_private_manifest_tells_what_share_was_read(workspace):
    main(workspace.arguments("run", **PRIVATE), "mindshift pretrain")
    assert 0 < read_manifest(workspace.folder / "run").counts["shares_read"]["corpus"] < 1
