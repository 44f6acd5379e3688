"""The default backend: names found in the wild's spellings, the community's words left alone, the model's parts."""

import itertools

import pytest
import torch
from tokenizers import Tokenizer

from configs.errors import UserError
from corpus.deidentify import Deidentifier, gate
from corpus.deidentify.storage import dequantize, load_tagger, quantize, save_tagger
from corpus.deidentify.tagger import CLASSES, Tagger, TaggerConfig, casing_of, shape_of
from corpus.deidentify.tagging import MODEL_FOLDER, NameTagger
from corpus.deidentify.words import also_names, is_ordinary, keep_words

FOUND = [
    ("NAME", "My name is Johanna and I need help", "Johanna"),
    ("NAME", "my ex jessica texted me again", "jessica"),
    ("NAME", "i told my therapist Dr. Okonkwo about it", "Okonkwo"),
    ("NAME", "thanks Priya Raghunathan, you saved me", "Priya Raghunathan"),
    ("NAME", "MICHAEL WON'T STOP CALLING ME", "MICHAEL"),
    ("PLACE", "I moved to Wolverhampton last year", "Wolverhampton"),
    ("PLACE", "i live in toronto and it's cold", "toronto"),
    ("ADDRESS", "come to Lindenstrasse 14, 10969 Berlin, Germany tonight", "Lindenstrasse 14, 10969 Berlin, Germany"),
    (
        "ADDRESS",
        "Send it to 4411 Willow Bend Drive Apt. 12\nTulsa, OK 74105",
        "4411 Willow Bend Drive Apt. 12\nTulsa, OK 74105",
    ),
    ("ORGANISATION", "I was inpatient at Hartgrove Behavioral Hospital for a week", "Hartgrove Behavioral Hospital"),
]
LEFT = [
    "I have BPD, ADHD and CPTSD and CBT did nothing, DBT helped",
    "Lexapro and Zoloft made me numb, now on Wellbutrin XL 300",
    "OP, your SO sounds awful. TW: SH and SI below",
    "i hope it will get better, maybe in may",
    "Will I ever be happy? Hope so. May it end.",
    "Yesssss kinda sooooo tired lmaooo 😭😭😭",
    "😭 🤗 ❤️ <3 :) :'( ¯\\_(ツ)_/¯",
    "WHY CAN'T I JUST BE NORMAL",
    "Edit: Thank you all! Update tomorrow. TL;DR I Am Tired",
    "My Mom and Dad, my GP and my NP all say it's GAD",
    "Anxiety and Depression Are Killing Me",
]
CARRIERS = ("I was told it is {}.", "{} helped me a lot", "my friend has {} too, and my mom", "So, {}?")


@pytest.fixture(scope="module")
def deidentifier():
    return Deidentifier()


@pytest.mark.parametrize(("label", "text", "expected"), FOUND, ids=[expected for _, _, expected in FOUND])
def test_found(deidentifier, label, text, expected):
    spans = deidentifier.find([text])[0]
    assert [(span.label, text[span.start : span.end]) for span in spans] == [(label, expected)]


@pytest.mark.parametrize("text", LEFT)
def test_left_alone(deidentifier, text):
    assert [text[span.start : span.end] for span in deidentifier.find([text])[0]] == []


def test_no_word_of_the_keep_list_is_masked(deidentifier):
    texts = [carrier.format(word) for word in sorted(keep_words()) for carrier in CARRIERS]
    texts += [carrier.format(word.upper()) for word in sorted(keep_words()) for carrier in CARRIERS[:2]]
    texts += [carrier.format(word) for word in sorted(also_names()) for carrier in CARRIERS[:3]]
    masked = {
        text[span.start : span.end]
        for text, spans in zip(texts, deidentifier.find(texts), strict=True)
        for span in spans
    }
    assert masked == set()


def test_the_issue_s_words_are_on_the_list():
    listed = keep_words() | also_names()
    assert {"bpd", "cbt", "lexapro", "zoloft", "hope", "will", "may", "dbt", "op", "so", "tw"} <= listed


def test_the_gate_skips_everyday_sentences_and_reads_round_a_name():
    assert gate.stretches("i just want it to stop. I can't do this anymore, SO TIRED of everything") == []
    text = "i just want it to stop " * 20 + "and then Jorgelina said hi " + "i just want it to stop " * 20
    ((start, end),) = gate.stretches(text)
    assert "Jorgelina" in text[start:end]
    assert len(text[start:end].split()) < 5 * gate.CONTEXT_WORDS / 2


def test_stretches_cover_every_candidate_of_a_long_list_of_names():
    text = ", ".join(f"Name{chr(65 + n % 26)}x Family{n}" for n in range(300))
    stretches = gate.stretches(text)
    assert stretches[0][0] == 0
    assert stretches[-1][1] == len(text)
    assert all(after[0] < before[1] for before, after in itertools.pairwise(stretches))


@pytest.mark.parametrize(
    "long",
    [
        "日" * 700,
        "日" * 50 + " " + "本" * 700,
        "日" * 700 + " " + "本",
        "x" * 30_000,
        "Aé-" * 900,
        "😢" * 900,
        "ﷺ" * 90,
    ],
    ids=["no space", "space near the start", "space near the end", "one word", "hyphens", "emoji", "ligatures"],
)
def test_long_runs_without_spaces_are_read_and_hide_no_name(long):
    """Such windows once broke a whole build: they have more pieces than a batch has room for."""
    text = f"{long} and then my friend Jorgelina Okonkwo called. {long}"
    (spans,) = NameTagger().find([text])
    start = text.index("Jorgelina")
    assert any(span.start <= start < span.end for span in spans)


def test_ordinary_words_are_ordinary_and_names_are_not():
    assert all(map(is_ordinary, ("hallucinations", "overthinking", "sooooo", "crying", "selfishness")))
    assert not any(map(is_ordinary, ("jessica", "toronto", "okonkwo", "brad")))


def test_four_bits_keep_a_matrix_within_half_a_step():
    matrix = torch.randn(64, 128, generator=torch.Generator().manual_seed(1))
    packed, scales = quantize(matrix, 32)
    assert packed.shape == (64, 64)
    assert packed.dtype == torch.uint8
    steps = scales.float().abs().repeat_interleave(32, dim=1)
    # The far end of the range opposite the largest value is cut at 7 steps, so an error there may be a whole step.
    assert ((dequantize(packed, scales) - matrix).abs() <= 1.01 * steps).all()
    again = quantize(dequantize(packed, scales), 32)
    assert torch.allclose(dequantize(*again), dequantize(packed, scales), atol=1e-3)


def test_a_saved_tagger_computes_the_same_when_read_back(tmp_path):
    torch.manual_seed(0)
    config = TaggerConfig(
        vocabulary_size=64, hidden_size=64, embedding_size=64, intermediate_size=128, attention_heads=4, layers=1
    )
    tokenizer = Tokenizer.from_file(str(MODEL_FOLDER / "tokenizer.json"))
    save_tagger(tmp_path, Tagger(config).eval(), tokenizer, {})
    first, _ = load_tagger(tmp_path)
    save_tagger(tmp_path / "again", first, tokenizer, {})
    second, _ = load_tagger(tmp_path / "again")
    inputs = (torch.arange(12).view(2, 6), torch.zeros(2, 6, dtype=torch.long), torch.zeros(2, dtype=torch.long))
    visible = torch.ones(2, 6, dtype=torch.bool)
    one, two = first.eval()(*inputs, visible), second.eval()(*inputs, visible)
    assert one.shape == (2, 6, len(CLASSES))
    assert torch.allclose(one, two, atol=1e-2)


def test_absent_weights_are_a_user_error(tmp_path):
    with pytest.raises(UserError, match="weights are missing"):
        load_tagger(tmp_path)


def test_the_shipped_model_is_small():
    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) < 9_000_000


@pytest.mark.parametrize(
    ("word", "shape"),
    [("anna", 1), ("Anna", 2), ("ANNA", 3), ("A", 4), ("McKay", 5), ("12", 6), ("b12", 7), ("😭", 0), ("名前", 8)],
)
def test_shape_of(word, shape):
    assert shape_of(word, opens=False) == shape
    assert shape_of(word, opens=True) == shape + 9


def test_casing_of():
    assert casing_of(["i", "am", "here"]) == 0
    assert casing_of(["I", "met", "Anna", "in", "the", "park", "today"]) == 1
    assert casing_of(["Thank", "You", "So", "Much", "Friends"]) == 2
    assert casing_of(["THANK", "YOU", "SO", "MUCH", "FRIENDS"]) == 3
