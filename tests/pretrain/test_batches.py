"""What a capped held-out evaluation reads: every file of the dumps, the same texts each time."""

import numpy as np

from corpus.shards import TokenizedDocument, TokenShards, split_folder, write_shard
from pretrain.batches import build_packer, choose_held_out
from pretrain.config import PretrainRecipe

from .conftest import VOCABULARY, build_tokenizer

LENGTH = 20


def write_held_out(folder, shards, documents=100):
    """One shard a subreddit, as dumps of single subreddits give them."""
    for number, subreddit in enumerate(shards):
        rows = [
            TokenizedDocument(id=f"{subreddit}-{place}", token_ids=[9] * LENGTH, subreddit=subreddit)
            for place in range(documents)
        ]
        write_shard(split_folder(folder, "held_out"), number, rows, len(VOCABULARY))
    return TokenShards(folder, "held_out")


def choose(shards, most_tokens):
    recipe = PretrainRecipe(output_dir="x", corpus="y", max_steps=1, max_seq_length=64)
    packer = build_packer(shards, build_tokenizer(), recipe)
    chosen = choose_held_out(packer, shards.ids, most_tokens)
    assert (np.diff(chosen) > 0).all()
    return {shards.ids[document] for document in packer.sequence_documents[chosen]}


def test_a_cap_takes_texts_of_every_shard(tmp_path):
    shards = write_held_out(tmp_path, ["garden", "kitchen"])
    found = choose(shards, 40 * (LENGTH + 2))
    assert len(found) == 40
    assert 10 <= sum(name.startswith("garden") for name in found) <= 30


def test_a_larger_cap_holds_what_a_smaller_one_reads_and_no_cap_reads_all(tmp_path):
    shards = write_held_out(tmp_path, ["garden", "kitchen"])
    smaller, larger = (choose(shards, count * (LENGTH + 2)) for count in (10, 90))
    assert smaller < larger
    assert choose(shards, None) == choose(shards, 10**9) == set(shards.ids)


def test_a_text_is_chosen_by_its_id_whatever_file_it_lies_in(tmp_path):
    one = choose(write_held_out(tmp_path / "one", ["garden", "kitchen"]), 40 * (LENGTH + 2))
    other = choose(write_held_out(tmp_path / "other", ["kitchen", "garden"]), 40 * (LENGTH + 2))
    assert one == other
