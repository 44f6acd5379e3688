"""New tokens: the words that save most, rows that are their pieces' means, and a folder that trains."""

import orjson
import pytest
import torch
import zstandard
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM

from configs.errors import UserError
from configs.manifest import now, verify_folder, write_manifest
from configs.recipe import StageRecipe
from corpus.shards import documents_path
from pretrain.vocabulary import choose_words, extend, main, read_texts
from pretrain.words import word_edges

from .conftest import build_byte_level_tokenizer, build_tokenizer

PIECES = ["gar", "##den", "##ing", "tea", "##pot"]


def tokenizer_with_letters():
    return build_tokenizer(PIECES)


def write_texts(folder, texts, author_hashes=()):
    path = documents_path(folder, "train", 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": str(number), "title": "word1", "text": text} for number, text in enumerate(texts)]
    rows = [row | {"author_hash": author} for row, author in zip(rows, author_hashes or [""] * len(rows), strict=True)]
    path.write_bytes(zstandard.compress(b"".join(orjson.dumps(row) + b"\n" for row in rows)))
    recipe = StageRecipe(output_dir=folder)
    write_manifest(folder, stage="corpus", recipe=recipe, inputs={}, counts={}, started_at=now())


def by_strangers(texts):
    return [(f"author{number}", text) for number, text in enumerate(texts)]


def test_words_that_save_most_tokens_come_first_and_rare_ones_never():
    texts = by_strangers(
        ["gardening teapot"] * 6 + ["gardening"] * 4 + ["teapot garden"] * 3 + ["word1 tea4pot gar"] * 20
    )
    tokenizer = tokenizer_with_letters()
    assert choose_words(lambda: texts, tokenizer, 10, 5) == ["gardening", "teapot"]  # 10 x 2 and 9 x 1
    assert choose_words(lambda: texts, tokenizer, 1, 5) == ["gardening"]
    assert choose_words(lambda: texts, tokenizer, 10, 3) == ["gardening", "teapot", "garden"]
    assert (
        choose_words(lambda: by_strangers(["gardening " * 50]), tokenizer, 10, 2) == []
    )  # one document, however often


def test_a_word_that_one_author_repeats_in_many_posts_is_not_published(tmp_path):
    tokenizer = tokenizer_with_letters()
    texts = [("ann", "gardening teapot")] * 20 + [("bob", "teapot"), ("zoe", "teapot")]
    assert choose_words(lambda: texts, tokenizer, 10, 3) == ["teapot"]
    write_texts(tmp_path, ["teapot"] * 3, author_hashes=["ann", "ann", ""])
    assert [author for author, _ in read_texts(tmp_path)] == ["ann", "ann", "document 2"]


@pytest.mark.parametrize("text", ["a gardening tool", "gardening, gardening"])
def test_a_new_token_takes_the_space_before_it_in_byte_level_vocabularies(text):
    tokenizer = build_byte_level_tokenizer(["Ġgar", "gar", "den", "ing", "Ġtool"])
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = len(tokenizer(" gardening", add_special_tokens=False)["input_ids"])
    extend(BertForMaskedLM(config), tokenizer, ["gardening"])
    after = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(before) - len(after) == text.count("gardening") * (pieces - 1)
    assert "Ġ" not in tokenizer.convert_ids_to_tokens(after)


def test_an_extended_encoder_starts_at_its_pieces_means_and_reads_whole_words(workspace, tmp_path):
    base = tmp_path / "base"
    tokenizer = tokenizer_with_letters()
    tokenizer.save_pretrained(base)
    model = AutoModelForMaskedLM.from_pretrained(workspace.model)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    torch.nn.init.normal_(model.get_output_embeddings().bias)
    model.save_pretrained(base)
    write_texts(tmp_path / "corpus", ["gardening teapot"] * 5)
    arguments = ["--corpus", str(tmp_path / "corpus"), "--model", str(base), "--output_dir", str(tmp_path / "out")]
    main([*arguments, "--min_documents", "3"], "mindshift pretrain extend-vocabulary")
    verify_folder(tmp_path / "out", stage="vocabulary")

    longer = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    extended, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    ids = longer("word1 gardening gar", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    assert word_edges(longer).begins[ids].all()
    pieces = tokenizer("gardening", add_special_tokens=False)["input_ids"]
    old, new = model.get_input_embeddings().weight, extended.get_input_embeddings().weight
    torch.testing.assert_close(new[ids[1]], old[pieces].mean(dim=0))
    assert torch.equal(new[: len(tokenizer)], old)
    old_bias, new_bias = model.get_output_embeddings().bias, extended.get_output_embeddings().bias
    torch.testing.assert_close(new_bias[ids[1]], old_bias[pieces].mean())


def test_nothing_to_add_is_said(workspace, tmp_path):
    write_texts(tmp_path / "corpus", ["word1 word2"] * 5)
    arguments = ["--corpus", str(tmp_path / "corpus"), "--model", str(workspace.model)]
    with pytest.raises(UserError, match="no word of 3 authors' documents is cut into pieces"):
        main([*arguments, "--output_dir", str(tmp_path / "out"), "--min_documents", "3"], "mindshift pretrain")
