"""Packing: every token once, whole documents, and a plan that resumes anywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from corpus.shards import TokenShards
from pretrain.packing import JoinedDocuments, SequencePacker, StepPlanner, best_fit, cut_sequences, share_read

LENGTHS = st.lists(st.integers(0, 400), min_size=1, max_size=60)


@given(lengths=LENGTHS, content=st.integers(5, 90))
def test_splitting_keeps_every_token_once_and_in_order(lengths, content):
    table = cut_sequences(np.array(lengths, dtype=np.int32), content, "split")
    for document, length in enumerate(lengths):
        mine = table.documents == document
        covered = [
            position
            for offset, part in zip(table.offsets[mine], table.lengths[mine], strict=True)
            for position in range(offset, offset + part)
        ]
        assert covered == list(range(length))
    assert len(table) == 0 or 1 <= table.lengths.min() <= table.lengths.max() <= content


def test_truncating_keeps_the_beginning_of_each_document():
    table = cut_sequences(np.array([5, 0, 200], dtype=np.int32), 50, "truncate")
    assert table.documents.tolist() == [0, 2]
    assert table.offsets.tolist() == [0, 0]
    assert table.lengths.tolist() == [5, 50]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=80),
    bins=st.integers(1, 5),
    capacity=st.integers(50, 120),
)
def test_best_fit_places_each_item_once_within_capacity(lengths, bins, capacity):
    array = np.array(lengths)
    packed, left_over = best_fit(array, bins, capacity)
    assert sorted([item for items in packed for item in items] + left_over) == list(range(len(lengths)))
    assert all(array[items].sum() <= capacity for items in packed)


def test_packing_reddit_like_lengths_wastes_under_one_percent():
    lengths = np.clip(np.random.default_rng(0).lognormal(4.6, 0.9, 5000), 8, 512).astype(np.int64)
    planner = StepPlanner(lengths, micro_batches=2, micro_batch_tokens=8192, seed=0)
    steps = [planner.next_step() for _ in range(20)]
    filled = sum(int(lengths[draw.sequence]) for step in steps for draws in step for draw in draws)
    assert filled / (20 * 2 * 8192) > 0.99


@settings(max_examples=30)
@given(seed=st.integers(0, 99), skipped=st.integers(0, 12))
def test_a_plan_resumes_at_any_position(seed, skipped):
    lengths = np.random.default_rng(seed).integers(3, 60, 40)

    def planner() -> StepPlanner:
        return StepPlanner(lengths, micro_batches=2, micro_batch_tokens=128, seed=seed)

    straight = planner()
    for _ in range(skipped):
        straight.next_step()
    resumed = planner()
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    assert [straight.next_step() for _ in range(8)] == [resumed.next_step() for _ in range(8)]


def test_an_epoch_draws_every_sequence_once():
    lengths = np.random.default_rng(1).integers(3, 60, 200)
    planner = StepPlanner(lengths, micro_batches=2, micro_batch_tokens=256, seed=5)
    drawn = []
    while planner.epoch < 3:
        drawn += [draw for draws in planner.next_step() for draw in draws]
    first_two = [draw for draw in drawn if draw.epoch < 2]
    waiting = {(epoch, sequence) for epoch, sequence in planner.state_dict()["pool"]}
    seen = {(draw.epoch, draw.sequence) for draw in first_two} | {key for key in waiting if key[0] < 2}
    assert len(first_two) == len({(draw.epoch, draw.sequence) for draw in first_two})
    assert seen == {(epoch, sequence) for epoch in range(2) for sequence in range(200)}


def test_the_plan_does_not_depend_on_how_a_step_is_dealt_out():
    """The same documents are in a step however many micro-batches it is cut into."""
    lengths = np.full(64, 32)
    one = StepPlanner(lengths, micro_batches=1, micro_batch_tokens=256, seed=3)
    four = StepPlanner(lengths, micro_batches=4, micro_batch_tokens=64, seed=3)
    for _ in range(6):
        assert {d for draws in one.next_step() for d in draws} == {d for draws in four.next_step() for d in draws}


def test_a_packed_batch_holds_the_documents_end_to_end(corpus_dir: Path):
    shards = TokenShards(corpus_dir, "train")
    table = cut_sequences(shards.lengths, 62, "split")
    packer = SequencePacker(shards, table, prefix_ids=[2], suffix_ids=[3], pad_id=0, max_seq_length=64)
    planner = StepPlanner(packer.sequence_lengths, micro_batches=1, micro_batch_tokens=300, seed=0)
    packed = packer.pack(planner.next_step()[0], 300)
    assert sum(packed.lengths) == 300
    start = 0
    for length in packed.lengths:
        ids = packed.input_ids[start : start + length]
        np.testing.assert_array_equal(packed.position_ids[start : start + length], np.arange(length))
        if start < packed.real_tokens:
            document = int(packed.documents[start])
            offset = int(packed.document_positions[start + 1])
            assert ids[0] == 2
            assert ids[-1] == 3
            np.testing.assert_array_equal(ids[1:-1], shards[document][offset : offset + length - 2])
            assert (packed.documents[start : start + length] == document).all()
        else:
            assert (ids == 0).all()
            assert length <= 64
        start += length


def test_an_empty_split_is_refused():
    with pytest.raises(UserError, match="no tokens to train on"):
        StepPlanner(np.array([], dtype=np.int64), micro_batches=1, micro_batch_tokens=64, seed=0)


# Replay of general text


def replaying(share: float, general: int = 40, seed: int = 3) -> StepPlanner:
    lengths = np.full(100 + general, 10)
    return StepPlanner(lengths, micro_batches=1, micro_batch_tokens=100, seed=seed, replay_from=100, replay_share=share)


def drawn_by_epoch(planner: StepPlanner, steps: int) -> dict[int, list[int]]:
    epochs: dict[int, list[int]] = {}
    for _ in range(steps):
        for draw in planner.next_step()[0]:
            epochs.setdefault(draw.epoch, []).append(draw.sequence)
    return epochs


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.75])
def test_replay_has_its_share_of_every_epoch_and_the_domain_is_read_once(share):
    for epoch, sequences in list(drawn_by_epoch(replaying(share), 200).items())[:3]:
        domain = [sequence for sequence in sequences if sequence < 100]
        assert sorted(domain) == list(range(100)), epoch
        assert 1 - len(domain) / len(sequences) == pytest.approx(share, abs=0.01)


def test_replay_goes_round_all_general_text_before_it_repeats():
    epochs = drawn_by_epoch(replaying(0.2), 40)  # 25 of 40 general sequences an epoch
    first, second = ([s for s in epochs[epoch] if s >= 100] for epoch in (0, 1))
    assert len(first) == len(set(first)) == 25
    assert set(range(100, 140)) - set(first) <= set(second)
    assert first != [s for s in drawn_by_epoch(replaying(0.2, seed=4), 40)[0] if s >= 100]


def test_a_planner_with_replay_goes_on_where_it_was():
    planner, again = replaying(0.3), replaying(0.3)
    for _ in range(17):
        planner.next_step()
    again.load_state_dict(planner.state_dict())
    assert [again.next_step() for _ in range(20)] == [planner.next_step() for _ in range(20)]


@pytest.mark.parametrize(("micro_batches", "micro_batch_tokens"), [(1, 512), (1, 4096), (4, 2048)])
@pytest.mark.parametrize("epochs", [1, 2, 1.5])
def test_a_pass_reads_the_corpus_however_badly_micro_batches_are_filled(micro_batches, micro_batch_tokens, epochs):
    """One row of 512 tokens is 94 % full: as many steps as full rows would take leave 6 % unread."""
    lengths = np.clip(np.random.default_rng(2).lognormal(4.6, 0.9, 1500), 8, 512).astype(np.int64)
    planner = StepPlanner(lengths, micro_batches=micro_batches, micro_batch_tokens=micro_batch_tokens, seed=0)
    steps = planner.count_steps(epochs)
    assert planner.state_dict() == {"epoch": 0, "cursor": 0, "pool": []}
    room = micro_batches * micro_batch_tokens
    assert epochs * lengths.sum() / room - 1 < steps < 1.07 * epochs * lengths.sum() / room + 2
    for _ in range(steps):
        planner.next_step()
    domain, _ = planner.count_draws()
    assert (domain >= int(epochs)).mean() >= 0.99
    assert (domain * lengths).sum() >= epochs * lengths.sum()


def test_steps_of_a_large_corpus_are_taken_from_its_first_ones(monkeypatch):
    lengths = np.clip(np.random.default_rng(2).lognormal(4.6, 0.9, 20_000), 8, 512).astype(np.int64)
    planner = StepPlanner(lengths, micro_batches=1, micro_batch_tokens=512, seed=0)
    exact = planner.count_steps(1)
    monkeypatch.setattr("pretrain.packing.PLANNED_SEQUENCES", 2_000)
    assert planner.count_steps(1) == pytest.approx(exact, rel=0.01)


@given(share=st.sampled_from([0.0, 0.1, 0.6]), general=st.integers(1, 60), steps=st.integers(0, 60))
def test_a_planner_counts_what_it_has_dealt_also_behind_a_resume(share, general, steps):
    planner, again = replaying(share, general), replaying(share, general)
    dealt = np.zeros(100 + general, dtype=int)
    for _ in range(steps):
        for draw in planner.next_step()[0]:
            dealt[draw.sequence] += 1
    again.load_state_dict(json.loads(json.dumps(planner.state_dict())))
    for found in (planner, again):
        domain, replayed = found.count_draws()
        assert [*domain, *replayed] == dealt.tolist()


@pytest.mark.parametrize(
    ("draws", "lost", "share"),
    [
        ([1, 1, 1, 1], 0, 1.0),
        ([1, 1, 0, 1], 0, 0.75),
        ([1, 1, 1, 1], 1, 0.75),
        ([2, 2, 2, 2], 1, 1.0),  # each was read another time
        ([2, 2, 2, 1], 3, 0.5),
        ([0, 0], 0, 0.0),
        ([], 0, 0.0),
    ],
)
def test_draws_that_were_lost_count_where_they_hurt_most(draws, lost, share):
    assert share_read(np.array(draws, dtype=np.int64), lost) == share


def test_joined_documents_count_on(corpus_dir):
    shards, held_out = TokenShards(corpus_dir, "train"), TokenShards(corpus_dir, "held_out")
    joined = JoinedDocuments(shards, held_out)
    assert len(joined) == len(shards) + len(held_out)
    assert joined.lengths.tolist() == [*shards.lengths, *held_out.lengths]
    np.testing.assert_array_equal(joined[len(shards)], held_out[0])
    np.testing.assert_array_equal(joined[len(shards) - 1], shards[len(shards) - 1])
