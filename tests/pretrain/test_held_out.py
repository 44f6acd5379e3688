"""What a capped held-out evaluation reads: every file of the dumps, the same texts each time."""

import torch

from corpus.shards import TokenizedDocument, TokenShards, split_folder, write_shard
from pretrain.config import PretrainRecipe
from pretrain.held_out import HeldOutTexts

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
    return folder


def choose(folder, most_tokens):
    return read(folder, eval_max_tokens=most_tokens).ids


def read(folder, **keys):
    values = {"output_dir": "x", "corpus": folder, "max_steps": 1, "max_seq_length": 64, "micro_batch_size": 2}
    return HeldOutTexts(folder, build_tokenizer(), PretrainRecipe(**values | keys))


def test_a_cap_takes_texts_of_every_shard(tmp_path):
    folder = write_held_out(tmp_path, ["garden", "kitchen"])
    found = choose(folder, 40 * (LENGTH + 2))
    assert len(found) == 40
    assert 10 <= sum(name.startswith("garden") for name in found) <= 30


def test_a_larger_cap_holds_what_a_smaller_one_reads_and_no_cap_reads_all(tmp_path):
    folder = write_held_out(tmp_path, ["garden", "kitchen"])
    smaller, larger = (choose(folder, count * (LENGTH + 2)) for count in (10, 90))
    assert smaller < larger
    assert choose(folder, None) == choose(folder, 10**9) == set(TokenShards(folder, "held_out").ids)


def test_a_text_is_chosen_by_its_id_whatever_file_it_lies_in(tmp_path):
    one = choose(write_held_out(tmp_path / "one", ["garden", "kitchen"]), 40 * (LENGTH + 2))
    other = choose(write_held_out(tmp_path / "other", ["kitchen", "garden"]), 40 * (LENGTH + 2))
    assert one == other


def masks(texts):
    """Corrupted tokens of each document, by its id."""
    found = {}
    for batch in texts.batches(rank=0, world_size=1, device=torch.device("cpu")):
        owner = torch.repeat_interleave(torch.arange(len(batch.lengths)), torch.tensor(batch.lengths))
        for sequence, document in zip(owner[batch.asked.positions].tolist(), batch.documents.tolist(), strict=True):
            if document >= 0:
                name = texts._ids[document]
                found[name] = tuple(batch.input_ids[owner == sequence].tolist())
    return found


def test_masks_of_a_text_depend_on_its_id_alone(tmp_path):
    """Not on what else is held out, in which order, or what a recipe has beside it."""
    folder = write_held_out(tmp_path / "one", ["garden", "kitchen"])
    whole = masks(read(folder))
    for other in (
        read(folder, eval_max_tokens=30 * (LENGTH + 2), seed=5, micro_batch_size=3, mlm_probability=0.4),
        read(write_held_out(tmp_path / "other", ["kitchen", "shed", "garden"])),
    ):
        found = masks(other)
        both = found.keys() & whole.keys()
        assert len(both) > 20
        assert {name: found[name] for name in both} == {name: whole[name] for name in both}
    assert len(set(whole.values())) > 100  # no two texts need be alike
