"""Each objective beside plain masked-LM does what it says, every key of it acts, and resuming stays exact."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.manifest import now, read_manifest, write_manifest
from configs.recipe import StageRecipe
from corpus.shards import TokenShards, split_folder, write_shard
from pretrain.batches import build_masker, build_packer, to_device
from pretrain.config import PretrainRecipe
from pretrain.encoder import PackedMaskedLM, load_for_corpus, set_dropout
from pretrain.metrics import read_metrics
from pretrain.packing import Draw
from pretrain.run_mlm import main
from pretrain.sentence_losses import ViewSampler, anchor_loss, contrastive_loss

from .conftest import VOCABULARY, WORDS, make_documents, write_corpus

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def general_dir(tmp_path_factory):
    """A second corpus with the same tokenizer."""
    return write_corpus(tmp_path_factory.mktemp("general") / "corpus", documents=60, first_seed=50)


@pytest.fixture
def train(workspace):
    """Run the stage and return its weights."""

    def run(name: str, **overrides: object) -> dict[str, torch.Tensor]:
        main(workspace.arguments(name, **({"max_steps": 2, "dropout": 0.0} | overrides)), "mindshift pretrain")
        return load_file(workspace.folder / name / "model.safetensors")

    return run


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(one[name], other[name]) for name in one)


def lexicon(folder):
    path = folder / "lexicon.txt"
    path.write_text("# made up\n" + "\n".join(WORDS[:3]) + f"\n{WORDS[4]}\t5\n")
    return path


@pytest.mark.parametrize(
    ("overrides", "base"),
    [
        ({"final_mlm_probability": 0.5}, {}),
        ({"masking": "whole_word"}, {}),
        ({"masking": "span"}, {}),
        ({"masking_lexicon": lexicon}, {}),
        ({"masking_lexicon": lexicon, "masking_strength": 9}, {"masking_lexicon": lexicon}),
        ({"masking_contrast": "general"}, {}),
        ({"general_corpus": "general", "replay_share": 0.4}, {"general_corpus": "general"}),
        ({"contrastive_weight": 1.0}, {}),
        ({"contrastive_weight": 1.0, "contrastive_views": "halves"}, {"contrastive_weight": 1.0}),
        ({"contrastive_weight": 1.0, "contrastive_pairs": 5}, {"contrastive_weight": 1.0}),
        ({"contrastive_weight": 1.0, "contrastive_temperature": 0.5}, {"contrastive_weight": 1.0}),
        ({"anchor_weight": 1.0}, {}),
    ],
    ids=lambda values: "+".join(values) or "plain",
)
def test_every_key_of_an_objective_acts(train, workspace, general_dir, overrides, base):
    def resolve(values):
        paths = {"general": general_dir, lexicon: lexicon(workspace.folder)}
        return {key: paths.get(value, value) for key, value in values.items()}

    assert differ(train("with", **resolve(overrides)), train("without", **resolve(base)))


EVERYTHING = {
    "max_steps": 8,
    "mlm_probability": 0.3,
    "final_mlm_probability": 0.15,
    "lr_scheduler_type": "wsd",
    "masking": "span",
    "replay_share": 0.2,
    "contrastive_weight": 0.5,
    "anchor_weight": 0.5,
    "contrastive_pairs": 4,
    "dropout": 0.1,
    "save_steps": 3,
}


def test_an_interrupted_run_with_everything_on_goes_on_to_the_same_weights(workspace, general_dir, interrupt):
    settings = EVERYTHING | {"general_corpus": general_dir, "masking_lexicon": lexicon(workspace.folder)}
    main(workspace.arguments("whole", **settings), "mindshift pretrain")
    interrupt(workspace.arguments("resumed", **settings), at_step=5)
    main(workspace.arguments("resumed", **settings), "mindshift pretrain")
    folders = [workspace.folder / name for name in ("whole", "resumed")]
    one, other = (load_file(folder / "model.safetensors") for folder in folders)
    assert not differ(one, other)
    ignored = {"tokens_per_second"}
    lines = [[{k: v for k, v in line.items() if k not in ignored} for line in read_metrics(f)] for f in folders]
    assert lines[0] == lines[1]
    assert [line["mlm_probability"] for line in lines[0]] == [0.3] * 6 + [0.15] * 2
    assert set(read_manifest(folders[0]).inputs) >= {"corpus", "general_corpus", "masking_lexicon"}
    results = [(folder / "evaluation.json").read_text() for folder in folders]
    assert results[0] == results[1]
    assert "general" in json.loads(results[0])


def test_general_text_is_scored_before_and_after(workspace, general_dir):
    settings = {"general_corpus": general_dir, "max_steps": 40, "learning_rate": 3e-3, "eval_steps": 20, "dropout": 0.0}
    main(workspace.arguments(**settings), "mindshift pretrain")
    result = json.loads((workspace.folder / "run" / "evaluation.json").read_text())
    general = result["general"]
    assert general["after"]["overall"]["loss"] < general["before"]["overall"]["loss"] - 0.1
    assert general["after"]["overall"] != result["after"]["overall"]
    assert [line["step"] for line in read_metrics(workspace.folder / "run") if "general_loss" in line] == [20]


def test_what_stands_in_the_training_part_is_not_scored_as_held_out(workspace, tmp_path):
    """Corpora of one source with other shares: the general one holds posts out that the domain trains on."""
    general = write_corpus(tmp_path / "general", first_seed=200)
    unseen = make_documents(20, 299)
    for name, documents in (("mixed", [*make_documents(60, 0)[:30], *unseen]), ("seen", make_documents(60, 0)[:30])):
        folder = tmp_path / name
        shutil.copytree(general, folder)
        write_shard(split_folder(folder, "held_out"), 0, documents, len(VOCABULARY))
        (folder / "manifest.json").unlink()
        write_manifest(
            folder, stage="corpus", recipe=StageRecipe(output_dir=folder), inputs={}, counts={}, started_at=now()
        )
    for name, folder in (("plain", general), ("mixed", tmp_path / "mixed")):
        main(workspace.arguments(f"run-{name}", general_corpus=folder, max_steps=1), "mindshift pretrain")
    runs = [workspace.folder / f"run-{name}" for name in ("plain", "mixed")]
    found = [json.loads((run / "evaluation.json").read_text()) for run in runs]
    assert found[0]["general"] == found[1]["general"]
    with pytest.raises(UserError, match="every held-out document stands in the training part"):
        main(workspace.arguments("none", general_corpus=tmp_path / "seen"), "mindshift pretrain")


def test_a_general_corpus_with_another_vocabulary_is_refused(workspace, tmp_path):
    other = write_corpus(tmp_path / "other", documents=8, extra_words=["anotherword"])
    with pytest.raises(UserError, match="tokenized with another vocabulary than the corpus"):
        main(workspace.arguments(general_corpus=other), "mindshift pretrain")
    with pytest.raises(UserError, match="general_corpus is None"):
        main(workspace.arguments("second", replay_share=0.1), "mindshift pretrain")


# Losses on whole texts


def build_parts(workspace, **overrides):
    """A recipe, the packed model without dropout, its tokenizer and the training split."""
    values = {"max_seq_length": 64, "max_steps": 1, "contrastive_pairs": 6, "contrastive_weight": 1.0} | overrides
    recipe = PretrainRecipe(output_dir=workspace.folder, corpus=workspace.corpus, **values)
    model, tokenizer = load_for_corpus(resolve_model(str(workspace.model)), workspace.corpus / "tokenizer", 64)
    set_dropout(model, 0.0)
    return recipe, PackedMaskedLM(model), tokenizer, TokenShards(workspace.corpus, "train")


def test_views_are_title_and_body_of_posts_that_have_both(workspace):
    recipe, _, tokenizer, shards = build_parts(workspace)
    sampler = ViewSampler(shards, tokenizer, recipe)
    views = sampler.draw(3, 1, CPU)
    assert views.count == 12
    assert len(views.input_ids) % 256 == 0
    texts = [part.tolist() for part in torch.split(views.input_ids, views.lengths)[:12]]
    posts = [shards[number].tolist() for number in sampler.posts.tolist()]
    pairs = [([2, *post[:3], 3], [2, *post[3:][:62], 3]) for post in posts]
    for title, body in zip(texts[:6], texts[6:], strict=True):
        assert (title, body) in pairs
    again = sampler.draw(3, 1, CPU)
    assert torch.equal(again.input_ids, views.input_ids)
    assert not torch.equal(sampler.draw(3, 2, CPU).input_ids[:20], views.input_ids[:20])


def test_halves_hold_the_whole_post_once(workspace):
    recipe, _, tokenizer, shards = build_parts(workspace, contrastive_views="halves", contrastive_pairs=2)
    views = ViewSampler(shards, tokenizer, recipe).draw(0, 0, CPU)
    texts = [part.tolist()[1:-1] for part in torch.split(views.input_ids, views.lengths)[:4]]
    documents = [shards[number].tolist() for number in range(len(shards))]
    for first, second in zip(texts[:2], texts[2:], strict=True):
        assert first + second in documents


def test_too_few_posts_with_two_views_are_refused(workspace):
    recipe, _, tokenizer, shards = build_parts(workspace, contrastive_pairs=5000)
    with pytest.raises(UserError, match="a batch needs 5000"):
        ViewSampler(shards, tokenizer, recipe)


def test_one_pass_over_masked_tokens_and_views_equals_two(workspace):
    recipe, packed, tokenizer, shards = build_parts(workspace)
    views = ViewSampler(shards, tokenizer, recipe).draw(0, 0, CPU)
    flat = build_packer(shards, tokenizer, recipe).pack([Draw(0, number) for number in range(4)], 256)
    batch = to_device(flat, build_masker(tokenizer, 1).mask(flat, 0.3), CPU)
    inputs = (batch.input_ids, batch.position_ids, batch.lengths, batch.asked)
    logits, vectors = packed(*inputs, views)
    torch.testing.assert_close(logits, packed(*inputs), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(vectors, packed.mean_vectors(views), atol=1e-6, rtol=1e-5)
    # … and equals plain Hugging Face, one text at a time.
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(workspace.model, local_files_only=True).eval()
    for number, text in enumerate(torch.split(views.input_ids, views.lengths)[: views.count]):
        expected = plain(text[None]).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(vectors[number], expected, atol=1e-5, rtol=1e-4)


def test_the_contrastive_loss_is_infonce_both_ways():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit[:3] @ unit[3:].T / 0.1
    rows = [-math.log(math.exp(scores[i, i]) / np.exp(scores[i]).sum()) for i in range(3)]
    columns = [-math.log(math.exp(scores[i, i]) / np.exp(scores[:, i]).sum()) for i in range(3)]
    loss = contrastive_loss(torch.tensor(vectors), 0.1)
    assert loss.item() == pytest.approx((np.mean(rows) + np.mean(columns)) / 2)
    aligned = torch.eye(8)[:3].repeat(2, 1)
    assert contrastive_loss(aligned, 0.01).item() < 1e-6


def test_the_anchor_is_one_minus_cosine():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    anchors = torch.tensor([[3.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    assert anchor_loss(vectors, anchors).item() == pytest.approx((0 + 2 + 1 - 1 / math.sqrt(2)) / 3)


def test_the_contrastive_loss_is_learned(workspace):
    """Halves of a synthetic post share little but its length, so learning is slow."""
    settings = {"max_steps": 40, "learning_rate": 3e-3, "dropout": 0.0, "save_steps": 100, "eval_max_tokens": 200}
    settings |= {"contrastive_views": "halves", "contrastive_temperature": 0.2, "contrastive_pairs": 8}
    main(workspace.arguments(**settings, contrastive_weight=1.0), "mindshift pretrain")
    losses = [line["contrastive_loss"] for line in read_metrics(workspace.folder / "run")]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.02


def test_the_anchor_holds(workspace):
    settings = {"max_steps": 15, "learning_rate": 3e-3, "dropout": 0.0, "save_steps": 100, "eval_max_tokens": 200}
    drifts = {}
    for weight in (1e-6, 20.0):
        main(workspace.arguments(f"weight{weight:g}", **settings, anchor_weight=weight), "mindshift pretrain")
        lines = read_metrics(workspace.folder / f"weight{weight:g}")
        assert lines[0]["anchor_loss"] == pytest.approx(0, abs=1e-6)  # it starts where it is held
        drifts[weight] = lines[-1]["anchor_loss"]
    assert drifts[20.0] < drifts[1e-6] / 5


def test_the_logged_contrastive_loss_is_the_mean_over_micro_batches(train, workspace):
    """So neither accumulation nor the number of processes changes its weight."""
    recipe, packed, tokenizer, shards = build_parts(workspace, seed=13)
    sampler = ViewSampler(shards, tokenizer, recipe)
    vectors = [packed.mean_vectors(sampler.draw(0, number, CPU)) for number in range(4)]
    expected = np.mean([contrastive_loss(found, recipe.contrastive_temperature).item() for found in vectors])
    train("four", gradient_accumulation_steps=4, max_steps=1, contrastive_weight=1.0, contrastive_pairs=6)
    logged = read_metrics(workspace.folder / "four")[0]["contrastive_loss"]
    assert logged == pytest.approx(expected, rel=1e-5)
