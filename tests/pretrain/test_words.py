"""Words, spans and weights: what is masked together, how often, and by whose weight."""

import itertools

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from configs.errors import UserError
from corpus.shards import TokenizedDocument, TokenShards, split_folder, write_shard
from pretrain.batches import build_masker
from pretrain.masking import IGNORED_LABEL
from pretrain.packing import PackedSequences
from pretrain.words import (
    WordWeights,
    count_words,
    difference_weights,
    find_words,
    hash_words,
    marks_spaces,
    read_lexicon,
    weigh,
    word_edges,
)

from .conftest import VOCABULARY, WORDS, build_byte_level_tokenizer, build_tokenizer

FIRST_PIECE = VOCABULARY.index("##piece0")


def ids(text: str) -> np.ndarray:
    return np.array(build_tokenizer()(text, add_special_tokens=False)["input_ids"], dtype=np.int64)


def stream(*, tokens: int = 60_000, longest: int = 50, seed: int = 0) -> PackedSequences:
    """Sequences of random words of one to four pieces."""
    rng = np.random.default_rng(seed)
    input_ids = np.where(rng.random(tokens) < 0.4, rng.integers(FIRST_PIECE, 200, tokens), rng.integers(5, 185, tokens))
    length = longest
    positions = np.tile(np.arange(length), tokens // length)
    input_ids[positions == 0], input_ids[positions == length - 1] = 2, 3
    inside = (positions > 0) & (positions < length - 1)
    documents = np.repeat(np.arange(tokens // length), length)
    return PackedSequences(
        input_ids=input_ids,
        position_ids=positions,
        lengths=[length] * (tokens // length),
        documents=documents,
        document_positions=np.where(inside, positions - 1, -1),
        epochs=np.zeros(tokens, dtype=np.int64),
        real_tokens=tokens,
    )


def masked_flags(packed: PackedSequences, probability: float, **settings: object) -> np.ndarray:
    """(N,) whether a token is predicted."""
    masked = build_masker(build_tokenizer(), 5, **settings).mask(packed, probability)
    real = masked.labels != IGNORED_LABEL
    flags = np.zeros(len(packed.input_ids), dtype=bool)
    flags[masked.masked_positions[real]] = True
    assert real.sum() == masked.masked_count == flags.sum()
    return flags


def test_a_word_is_its_first_token_and_the_pieces_behind_it():
    token_ids = np.array([2, 10, FIRST_PIECE, FIRST_PIECE + 1, 11, 3, 2, FIRST_PIECE, 12, 3, 0])
    document_positions = np.array([-1, 0, 1, 2, 3, -1, -1, 4, 5, -1, -1])
    words = find_words(token_ids, document_positions, word_edges(build_tokenizer()))
    assert words.starts.tolist() == [1, 4, 7, 8]  # a piece at a sequence's start begins a word there
    assert words.word_of.tolist() == [-1, 0, 0, 0, 1, -1, -1, 2, 3, -1, -1]


def test_the_same_pieces_have_the_same_hash_anywhere_and_their_order_counts():
    edges = word_edges(build_tokenizer())

    def digests(*token_ids: int) -> list[int]:
        array = np.array(token_ids)
        return hash_words(array, find_words(array, np.arange(len(array)), edges)).tolist()

    one, two, three = FIRST_PIECE, FIRST_PIECE + 1, 10
    assert digests(three, one, two)[0] == digests(11, three, one, two)[1]
    assert digests(three, one, two) != digests(three, two, one)


def words_of(text: str, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The words of a text as the vocabulary's edges cut it, spelled by their tokens."""
    token_ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)
    found = find_words(token_ids, np.arange(len(token_ids)), word_edges(tokenizer))
    tokens = tokenizer.convert_ids_to_tokens(token_ids.tolist())
    return ["".join(tokens[first:last]) for first, last in itertools.pairwise([*found.starts.tolist(), len(tokens)])]


def test_punctuation_and_line_breaks_are_words_of_their_own_in_byte_level_vocabularies():
    tokenizer = build_byte_level_tokenizer(["tea", "Ġtea", "Ġgar", "den", "Ċ", 'Ġ"', "ĠâĢĶ"])
    found = words_of('tea garden, tea\ntea "tea" — 2tea', tokenizer)
    assert found == ["tea", "Ġgarden", ",", "Ġtea", "Ċ", "tea", 'Ġ"', "tea", '"', "ĠâĢĶ", "Ġ2tea"]


def test_the_bytes_of_a_letter_stay_together():
    tokenizer = build_byte_level_tokenizer(["tea", "Ġtea"])
    assert words_of("tea té tea", tokenizer) == ["tea", "ĠtÃ©", "Ġtea"]


def test_a_bare_space_mark_begins_the_word_behind_it():
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("tea", -1.0), (",", -1.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    assert words_of("tea, tea,tea", PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")) == [
        "▁tea",
        ",",
        "▁tea",
        ",",
        "tea",
    ]


def test_a_word_behind_punctuation_is_counted_as_itself_in_byte_level_vocabularies(tmp_path):
    tokenizer = build_byte_level_tokenizer(["tea", "Ġtea"])
    path = tmp_path / "lexicon.txt"
    path.write_text("tea\n")
    token_ids = tokenizer('"tea" tea', add_special_tokens=False)["input_ids"]
    digests, _ = count_words(write_documents(tmp_path, [token_ids]), word_edges(tokenizer))
    assert set(read_lexicon(path, tokenizer, 3.0)[1]) < set(digests.tolist())


def test_wordpiece_words_end_where_the_next_begins():
    edges = word_edges(build_tokenizer())
    assert not edges.ends.any()
    assert edges.begins.tolist() == [not token.startswith("##") for token in VOCABULARY]


@pytest.mark.parametrize("kind", ["token", "whole_word", "span"])
@pytest.mark.parametrize("probability", [0.15, 0.3])
def test_the_masked_share_is_the_asked_one(kind, probability):
    packed = stream()
    share = masked_flags(packed, probability, kind=kind)[packed.document_positions >= 0].mean()
    assert share == pytest.approx(probability, rel=0.03)


@pytest.mark.parametrize("kind", ["whole_word", "span"])
def test_a_word_is_masked_as_a_whole(kind):
    packed = stream()
    flags = masked_flags(packed, 0.2, kind=kind)
    words = find_words(packed.input_ids, packed.document_positions, word_edges(build_tokenizer()))
    inside = words.word_of >= 0
    sizes = np.bincount(words.word_of[inside])
    masked = np.bincount(words.word_of[inside], weights=flags[inside])
    assert ((masked == 0) | (masked == sizes)).all()
    assert (masked[sizes > 1] > 0).any()


def test_spans_are_runs_of_words_that_end_with_their_sequence():
    packed = stream()
    runs = {}
    for kind in ("whole_word", "span"):
        flags = masked_flags(packed, 0.15, kind=kind)
        words = find_words(packed.input_ids, packed.document_positions, word_edges(build_tokenizer()))
        of_word = flags[words.starts]
        sequence = packed.documents[words.starts]
        begins = of_word & ~(np.roll(of_word, 1) & (np.roll(sequence, 1) == sequence))
        runs[kind] = of_word.sum() / begins.sum()
    assert runs["whole_word"] < 1.4
    assert 3.2 < runs["span"] < 4.6  # 3.8 words; the end of a sequence cuts, spans that touch count as one


def test_weighty_words_are_masked_more_often_and_the_share_is_kept(tmp_path):
    packed, tokenizer = stream(), build_tokenizer()
    path = tmp_path / "lexicon.txt"
    path.write_text("\n".join(WORDS[:20]) + "\n")
    documents = write_documents(tmp_path, [packed.input_ids[packed.document_positions >= 0]])
    weights = weigh(read_lexicon(path, tokenizer, 4.0), documents, word_edges(tokenizer))
    flags = masked_flags(packed, 0.15, kind="token", weights=weights)
    words = find_words(packed.input_ids, packed.document_positions, word_edges(tokenizer))
    alone = np.append(np.diff(words.starts) == 1, False)  # single-token words
    token_ids = packed.input_ids[words.starts]
    listed = alone & (token_ids >= 5) & (token_ids < 25)
    other = alone & (token_ids >= 25)
    ratio = flags[words.starts][listed].mean() / flags[words.starts][other].mean()
    assert ratio == pytest.approx(4.0, rel=0.2)
    assert flags[packed.document_positions >= 0].mean() == pytest.approx(0.15, rel=0.05)


@pytest.mark.parametrize("listed", [10, 20, 40], ids=lambda listed: f"{listed / 2} % of the words")
def test_spans_with_weights_keep_the_share_too(tmp_path, listed):
    packed, tokenizer = stream(tokens=200_000), build_tokenizer()
    path = tmp_path / "lexicon.txt"
    path.write_text("\n".join(WORDS[:listed]) + "\n")
    documents = write_documents(tmp_path, [packed.input_ids[packed.document_positions >= 0]])
    weights = weigh(read_lexicon(path, tokenizer, 4.0), documents, word_edges(tokenizer))
    flags = masked_flags(packed, 0.15, kind="span", weights=weights)
    assert flags[packed.document_positions >= 0].mean() == pytest.approx(0.15, rel=0.03)
    of_word = flags[find_words(packed.input_ids, packed.document_positions, word_edges(tokenizer)).starts]
    assert (of_word[1:] & of_word[:-1]).mean() > 1.5 * 0.15**2  # runs, still


def test_all_of_a_span_is_corrupted_alike():
    """SpanBERT decides between [MASK], random and unchanged once a span, BERT once a token."""
    packed, tokenizer = stream(tokens=200_000), build_tokenizer()
    differing = {}
    for kind in ("span", "whole_word"):
        masked = build_masker(tokenizer, 5, kind=kind).mask(packed, 0.15)
        positions = np.sort(masked.masked_positions[masked.labels != IGNORED_LABEL])
        is_mask = masked.input_ids[positions] == tokenizer.mask_token_id
        assert is_mask.mean() == pytest.approx(0.8, abs=0.02)
        assert (masked.input_ids[positions] == packed.input_ids[positions]).mean() == pytest.approx(0.1, abs=0.02)
        inside = np.diff(positions) == 1
        differing[kind] = (is_mask[1:] != is_mask[:-1])[inside].mean()
    assert differing["whole_word"] == pytest.approx(0.32, abs=0.03)  # 2 x 0.8 x 0.2
    assert differing["span"] < 0.08  # where two spans touch


def weights_in(text: str, tokenizer: PreTrainedTokenizerFast, lexicon: str, folder) -> dict[str, float]:
    """The weight of each word of a text, by its spelling."""
    path = folder / "lexicon.txt"
    path.write_text(lexicon)
    token_ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)
    words = find_words(token_ids, np.arange(len(token_ids)), word_edges(tokenizer))
    found = WordWeights(read_lexicon(path, tokenizer, 3.0)).of(token_ids, words)
    return dict(zip(words_of(text, tokenizer), found.tolist(), strict=True))


LEXICON = "panic attack\nself-harm\t5\nself\t2\ncan't\n"


def test_entries_of_several_words_weigh_where_they_stand_together(tmp_path):
    """Hyphens, apostrophes and spaces cut an entry into words; in whatever vocabulary."""
    wordpiece = build_tokenizer(["panic", "attack", "self", "-", "harm", "can", "'", "t"])
    found = weights_in("attack panic harm self - harm can ' t word1", wordpiece, LEXICON, tmp_path)
    assert found == {"attack": 1, "panic": 1, "harm": 5, "self": 5, "-": 5, "can": 3, "'": 3, "t": 3, "word1": 1}
    assert weights_in("panic attack t", wordpiece, LEXICON, tmp_path) == {"panic": 3, "attack": 3, "t": 1}
    assert weights_in("self harm", wordpiece, LEXICON, tmp_path) == {"self": 2, "harm": 1}
    byte_level = build_byte_level_tokenizer(["panic", "Ġpanic", "Ġattack", "Ġself", "harm", "Ġcan", "'t", "Ġtea"])
    found = weights_in("panic attack, panic tea self-harm can't", byte_level, LEXICON, tmp_path)
    expected = {"panic": 3, "Ġattack": 3, ",": 1, "Ġpanic": 1, "Ġtea": 1, "Ġself": 5, "-": 5, "harm": 5}
    assert found == expected | dict.fromkeys(words_of(" can't", byte_level), 3)
    assert weights_in("self", wordpiece, "self harm self harm self\nself", tmp_path) == {"self": 3}  # fewer than a run


def test_a_run_does_not_reach_over_the_end_of_a_sequence(tmp_path):
    tokenizer = build_tokenizer(["panic", "attack"])
    path = tmp_path / "lexicon.txt"
    path.write_text("panic attack\n")
    panic, attack = tokenizer.convert_tokens_to_ids(["panic", "attack"])
    token_ids = np.array([2, panic, 3, 2, attack, 3, 2, panic, attack, 3])
    words = find_words(token_ids, np.array([-1, 0, -1, -1, 0, -1, -1, 0, 1, -1]), word_edges(tokenizer))
    assert WordWeights(read_lexicon(path, tokenizer, 3.0)).of(token_ids, words).tolist() == [1, 1, 3, 3]


def test_the_share_is_kept_with_runs_of_words(tmp_path):
    packed, tokenizer = stream(tokens=100_000), build_tokenizer()
    path = tmp_path / "lexicon.txt"
    path.write_text("".join(f"{WORDS[number % 180]} {WORDS[number * 7 % 180]}\n" for number in range(3000)))
    documents = write_documents(tmp_path, [packed.input_ids[packed.document_positions >= 0]])
    weights = weigh(read_lexicon(path, tokenizer, 4.0), documents, word_edges(tokenizer))
    flags = masked_flags(packed, 0.15, kind="whole_word", weights=weights)
    assert flags[packed.document_positions >= 0].mean() == pytest.approx(0.15, rel=0.03)


def test_lines_that_the_tokenizer_does_not_know_are_told_by_their_numbers(tmp_path, caplog):
    path = tmp_path / "lexicon.txt"
    path.write_text("word1\nnever heard\nword2 word3\nunheard\n")
    with caplog.at_level("WARNING"):
        found = read_lexicon(path, build_tokenizer(), 3.0)
    assert {length: len(entries) for length, entries in found.items()} == {1: 1, 2: 1}
    assert "2 lines are left out, this tokenizer does not know them: 2, 4" in caplog.text
    assert "heard" not in caplog.text
    path.write_text("unheard\n")
    with pytest.raises(UserError, match="holds nothing that this tokenizer knows"):
        read_lexicon(path, build_tokenizer(), 3.0)


def test_a_wordpiece_vocabulary_with_a_sign_like_a_space_mark_stays_one():
    """Ġ is a letter of Maltese."""
    tokenizer = build_tokenizer(["Ġimgħa", "▁"])
    assert not marks_spaces(tokenizer)
    assert words_of("word1 ##piece0", tokenizer) == words_of("word1 ##piece0", build_tokenizer())
    assert words_of("word1piece0 word2", tokenizer) == words_of("word1piece0 word2", build_tokenizer())
    assert marks_spaces(build_byte_level_tokenizer(["Ġtea", "##"]))


def write_documents(folder, documents) -> TokenShards:
    rows = [TokenizedDocument(id=str(number), token_ids=found) for number, found in enumerate(documents)]
    write_shard(split_folder(folder, "train"), 0, rows, len(VOCABULARY))
    return TokenShards(folder, "train")


def test_counting_is_in_tokens_of_a_word_and_never_joins_documents(tmp_path):
    documents = write_documents(tmp_path, [[10, FIRST_PIECE, 11], [FIRST_PIECE, 11], [11]])
    edges = word_edges(build_tokenizer())
    digests, counts = count_words(documents, edges)
    found = dict(zip(digests.tolist(), counts.tolist(), strict=True))

    def digest(*token_ids: int) -> int:
        array = np.array(token_ids)
        return int(hash_words(array, find_words(array, np.arange(len(array)), edges))[0])

    assert found == {digest(10, FIRST_PIECE): 2, digest(FIRST_PIECE): 1, digest(11): 3}


def test_words_that_set_the_domain_apart_weigh_most(tmp_path):
    rng = np.random.default_rng(0)
    general = [rng.integers(5, 150, 4000)]
    domain = [np.concatenate([rng.integers(5, 150, 3000), np.full(300, 170), np.full(40, 30)])]
    edges = word_edges(build_tokenizer())
    here, there = (
        count_words(write_documents(tmp_path / name, found), edges)
        for name, found in (("domain", domain), ("general", general))
    )
    weights = difference_weights(here, there, 3.0)[1]

    def weight(token_id: int) -> float:
        array = np.array([token_id])
        return weights.get(int(hash_words(array, find_words(array, np.arange(1), edges))[0]), 1.0)

    assert weight(170) == pytest.approx(3.0)  # 300 times here, never there
    assert 1.2 < weight(30) < 2.6  # about three times as frequent here
    assert np.mean([weight(token_id) for token_id in range(40, 140)]) < 1.15


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("word1\tmany\n", r"lexicon.txt:1: the weight behind the tab is no positive number"),
        ("word1\nword2\t-3\n", r"lexicon.txt:2: the weight"),
        ("# only a comment\n\n", "holds nothing that this tokenizer knows"),
    ],
)
def test_a_broken_lexicon_is_refused(tmp_path, content, message):
    path = tmp_path / "lexicon.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_lexicon(path, build_tokenizer(), 3.0)
    with pytest.raises(UserError, match="cannot read the lexicon"):
        read_lexicon(tmp_path / "absent.txt", build_tokenizer(), 3.0)


def test_counting_a_part_of_the_tokens_reads_every_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("pretrain.words.COUNTED_TOKENS", 1_000)
    for number, token_id in enumerate((10, 11)):  # one subreddit's words in each shard
        rows = [TokenizedDocument(id=f"{number}-{place}", token_ids=[token_id] * 10) for place in range(300)]
        write_shard(split_folder(tmp_path, "train"), number, rows, len(VOCABULARY))
    _, counts = count_words(TokenShards(tmp_path, "train"), word_edges(build_tokenizer()))
    assert counts.tolist() == [500, 500]
