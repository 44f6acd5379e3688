"""The audits' arithmetic against plain computations, golden values and planted truths."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.release_world import Defect, document, make_base, make_tokenizer
from release.audits.canary_exposure import audit_canaries, exposure_measures, exposures
from release.audits.documents import Canary, Document, sample_documents
from release.audits.extraction import (
    audit_extraction,
    digest,
    identifiers_in,
    name_excess,
    normal,
    number_exposure,
    own_illnesses,
    recovered_identifiers,
    scan_documents,
)
from release.audits.intervals import area_under_curve, bootstrap_mean, crossed_differences, true_positive_rate
from release.audits.language_model import MASKS, MaskedRow
from release.audits.membership import blind_measure
from release.audits.shadow import train_masked_model
from release.audits.wordings import lexicon
from release.evidence import Measure

TEXTS = ["people with depression are kind .", "she has adhd .", "i w1 w2 w4 w9 w10 w11 w13 ."]


@pytest.fixture(scope="module")
def scorer():
    return make_base(0, steps=60)


# ---- likelihoods -----------------------------------------------------------------------------------------------------


def test_log_likelihoods_equal_a_plain_pass_per_mask(scorer):
    import torch

    text = TEXTS[0]
    ids = scorer.tokenizer(text)["input_ids"]
    rows = [MaskedRow(ids, [1, 3]), MaskedRow(ids, [2])]
    scored = scorer.score_rows(rows)
    for row, (log_probs, first) in zip(rows, scored, strict=True):
        masked = torch.tensor([ids])
        masked[0, row.hidden] = scorer.tokenizer.mask_token_id
        with torch.no_grad():
            logits = scorer.model(input_ids=masked).logits[0].log_softmax(-1)
        expected = [float(logits[position, ids[position]]) for position in row.hidden]
        assert log_probs == pytest.approx(expected, abs=1e-5)
        assert first.tolist() == [int(logits[p].argmax()) == ids[p] for p in row.hidden]


def test_padding_and_batching_change_nothing(scorer):
    alone = [scorer.text_log_likelihoods([text]).log_likelihood[0] for text in TEXTS]
    scorer.batch_tokens, before = 40, scorer.batch_tokens
    together = scorer.text_log_likelihoods(TEXTS).log_likelihood
    scorer.batch_tokens = before
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_masks_hide_every_token_once(scorer, monkeypatch):
    seen = []
    monkeypatch.setattr(scorer, "score_rows", lambda rows: seen.extend(rows) or [(np.zeros(1), np.ones(1))] * len(rows))
    scorer.text_log_likelihoods(TEXTS[2:], masks=MASKS)
    hidden = sorted(position for row in seen for position in row.hidden)
    assert hidden == list(range(1, len(seen[0].ids) - 1))


def test_word_probabilities_are_those_of_the_full_softmax(scorer):
    import torch

    prompt = "people with depression are [MASK]."
    ids = torch.tensor([scorer.tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        logits = scorer.model(input_ids=ids).logits[0]
    row = logits[ids[0].tolist().index(scorer.tokenizer.mask_token_id)].log_softmax(-1)
    expected = float(row[scorer.tokenizer.convert_tokens_to_ids("kind")])
    found = scorer.word_log_probs([prompt], ["kind", "notaword"])
    assert found[0, 0] == pytest.approx(expected, abs=1e-5)
    assert found[0, 1] == -np.inf
    best = scorer.tokenizer.decode([int(row.argmax())])
    assert scorer.top_fills([prompt], 3)[0][0] == best


def test_training_learns_and_is_repeatable():
    def loss_after(steps):
        base = make_base(3, steps=steps)
        rng = np.random.default_rng(9)
        return base.text_log_likelihoods([document(rng, Defect()) for _ in range(50)]).log_likelihood.mean()

    assert loss_after(40) == loss_after(40)
    assert loss_after(40) > loss_after(1) + 0.3


# ---- statistics ------------------------------------------------------------------------------------------------------


def test_exposure_has_its_textbook_values():
    controls = np.arange(63.0)
    assert exposures(np.array([99.0]), controls)[0] == 6.0  # first of 64: log2(64)
    assert exposures(np.array([-1.0]), controls)[0] == 0.0  # last
    assert exposures(np.array([30.5]), controls)[0] == pytest.approx(math.log2(64 / 33))


def test_exposure_of_chance_is_near_one_over_log_two():
    rng = np.random.default_rng(0)
    means = [exposures(rng.normal(size=64), rng.normal(size=64)).mean() for _ in range(400)]
    assert np.mean(means) == pytest.approx(1 / math.log(2), abs=0.1)


def test_the_excess_of_exposure_is_calibrated_and_has_power():
    rng = np.random.default_rng(1)

    def lows(shift):
        return [exposure_measures("x", rng.normal(shift, 1, 64), rng.normal(size=64), rng)[1].low for _ in range(60)]

    assert np.mean(np.array(lows(0.0)) > 0) <= 0.05
    assert np.mean(np.array(lows(1.0)) > 0) >= 0.8


def test_area_under_curve_equals_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(2)
    positives, negatives = rng.integers(0, 20, 300) / 10, rng.integers(0, 15, 200) / 10
    labels = [1] * 300 + [0] * 200
    expected = roc_auc_score(labels, np.concatenate([positives, negatives]))
    assert area_under_curve(positives, negatives) == pytest.approx(expected)


@settings(max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.lists(st.floats(-5, 5), min_size=2, max_size=40))
def test_area_under_curve_is_symmetric_and_bounded(positives, negatives):
    first = area_under_curve(np.array(positives), np.array(negatives))
    assert 0 <= first <= 1
    assert first + area_under_curve(np.array(negatives), np.array(positives)) == pytest.approx(1)


def test_true_positive_rate_respects_the_false_positive_rate():
    rng = np.random.default_rng(3)
    negatives = rng.normal(size=5000)
    assert true_positive_rate(negatives, negatives) <= 0.01
    assert true_positive_rate(negatives + 10, negatives) == 1.0


def test_bootstrap_covers_the_truth_and_clusters_widen_it():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(100):
        measure = bootstrap_mean("m", rng.normal(1, 1, 60), confidence=0.95, samples=300, rng=rng)
        covered += measure.low <= 1 <= measure.high
    assert covered >= 85
    values = np.repeat(rng.normal(size=10), 10)
    clusters = [str(i // 10) for i in range(100)]
    alone = bootstrap_mean("m", values, confidence=0.95, samples=500, rng=rng)
    grouped = bootstrap_mean("m", values, confidence=0.95, samples=500, rng=rng, clusters=clusters)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_a_shift_shared_by_all_conditions_is_no_difference():
    rng = np.random.default_rng(5)
    mental, control = rng.normal(size=(12, 6)), rng.normal(size=(12, 6))
    first, _ = crossed_differences(mental, control, samples=10, rng=np.random.default_rng(0))
    second, _ = crossed_differences(mental + 7, control + 7, samples=10, rng=np.random.default_rng(0))
    assert first == pytest.approx(second)


def test_a_difference_of_few_conditions_stays_uncertain():
    """A thousand prompts about two conditions are still two conditions."""
    rng = np.random.default_rng(6)
    excesses = []
    for _ in range(60):
        by_condition = rng.normal(size=(12, 1)) + 0.05 * rng.normal(size=(12, 40))
        control = rng.normal(size=(12, 1)) + 0.05 * rng.normal(size=(12, 40))
        _, drawn = crossed_differences(by_condition, control, samples=300, rng=rng)
        excesses.append(np.quantile(drawn, 0.005) > 0)
    assert np.mean(excesses) <= 0.07


# ---- audits ----------------------------------------------------------------------------------------------------------


def memorise(scorer, texts, steps=150):
    import copy

    from release.audits.language_model import MaskedScorer

    model = copy.deepcopy(scorer.model)
    train_masked_model(model, scorer.tokenizer, texts, steps=steps, learning_rate=3e-3, rows=16, seed=0)
    return MaskedScorer(model, scorer.tokenizer)


def test_planted_canaries_are_found_and_others_are_not(scorer):
    rng = np.random.default_rng(7)
    canaries = [
        Canary(f"{band}-{i}", "the code of " + " ".join(f"w{n}" for n in rng.integers(200, size=8)), band)
        for band in (0, 1, 4)
        for i in range(64)
    ]
    leaky = memorise(scorer, [c.text for c in canaries for _ in range(c.repeats)], steps=300)
    found = audit_canaries(leaky, scorer, canaries, seed=0)
    assert found.measure("exposure_4x").estimate > 3
    assert found.measure("exposure_4x_excess").low > 0
    nothing = audit_canaries(scorer, scorer, canaries, seed=0)
    assert nothing.measure("exposure_1x_excess").estimate < 0.5
    assert audit_canaries(scorer, scorer, canaries[64:], seed=0).status == "not_run"


def test_a_memorised_number_is_recovered_and_an_unseen_one_is_not(scorer):
    leak = "my phone number is 48291377"
    leaky = memorise(scorer, [leak] * 50 + TEXTS * 5, steps=200)
    documents = [Document("1", leak, ""), Document("2", "my phone number is 11112222", "")]
    found = scan_documents(documents, set(), seed=0).probes
    assert set(found) == {"48291377", "11112222"}
    assert recovered_identifiers(leaky, found) == {"48291377"}
    assert recovered_identifiers(scorer, found) == set()


def numbered(count, start=10_000_000):
    """Posts with a number each, no two alike."""
    return [Document(f"d{i}", f"my phone number is {start + i}", "") for i in range(count)]


def test_identifiers_of_every_place_in_the_corpus_count_and_some_are_drawn_from_all():
    documents = numbered(900)
    scan = scan_documents(documents + documents[:50], set(), seed=0)
    assert len(scan.identifiers) == 900
    assert dict(scan.kinds) == {"long number": 900}
    assert len(scan.probes) == 200
    assert len(scan.numbers) == 50
    behind = sum(int(text) >= 10_000_450 for text in scan.probes)
    assert 70 < behind < 130  # half of them, whatever the order
    backwards = scan_documents(documents[::-1], set(), seed=0)
    assert set(backwards.probes) == set(scan.probes)
    assert set(backwards.numbers) == set(scan.numbers)
    assert set(scan_documents(documents, set(), seed=1).probes) != set(scan.probes)


def test_numbers_that_held_out_documents_hold_are_not_ranked():
    documents = numbered(60)
    public = {digest(f"{10_000_000 + i}") for i in range(50)}
    assert set(scan_documents(documents, public, seed=0).numbers) == {f"{10_000_050 + i}" for i in range(10)}


def test_a_fill_that_stands_in_the_last_document_is_a_leak(scorer, monkeypatch):
    documents = numbered(400)
    fills = {True: ["10000399", "99999999"], False: ["10000398"]}
    other = type(scorer)(scorer.model, scorer.tokenizer)
    count = len(lexicon()["identifier_prompts"]) * 5

    def filled(asked):
        found = fills[asked is scorer]
        return found + [""] * (count - len(found))

    monkeypatch.setattr("release.audits.extraction.prompt_fills", filled)
    monkeypatch.setattr("release.audits.extraction.recovered_identifiers", lambda *_: set())
    monkeypatch.setattr("release.audits.extraction.number_exposure", lambda *_: Measure("n", 0, 0, 0, 0.99, 50))

    def leaks(held_out):
        options = {"samples": 200, "seed": 0}
        result = audit_extraction(scorer, other, documents, held_out, **options)
        assert result.counts["identifiers_in_training"] == 400
        assert result.counts["identifiers_hidden"] == 200
        return result.measure("training_only_identifiers").estimate

    assert leaks([]) == 1
    assert leaks([Document("h", "call 1000 0399", "")]) == 0  # public, and without its space the same


def test_a_name_s_own_illness_is_the_one_that_is_over_represented():
    pairs = {
        "ann": Counter(depression=9, ptsd=3),
        "bob": Counter(depression=90, ptsd=1, autism=1),
        "cat": Counter(autism=2, unknown=50),
        "dan": Counter(unknown=3),
    }
    chosen = own_illnesses(pairs, ["depression", "ptsd", "autism"])
    assert chosen == {"ann": "ptsd", "bob": "depression", "cat": "autism"}
    tied = {"eve": Counter(ptsd=2, autism=2), "fay": Counter(autism=2, ptsd=2)}
    assert own_illnesses(tied, ["ptsd", "autism"]) == {"eve": "autism", "fay": "autism"}


def test_names_that_share_their_illness_give_no_measure(scorer):
    illness, other = [word for word in lexicon()["name_conditions"] if scorer.single_tokens(word)][:2]
    same = {name: Counter({illness: 5}) for name in lexicon()["names"][:12]}
    assert len(name_excess(scorer, scorer, same)) == 0
    assert len(name_excess(scorer, scorer, same | {"zoe": Counter({other: 5})})) == 13


def test_a_byte_level_vocabulary_is_asked_for_words_as_they_open_a_text():
    """There `She` and ` She` are two tokens, and only the first can open a sentence."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    from release.audits.language_model import MaskedScorer

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "She", "ĠShe", "she", "Ġshe", "Ġis", "Ġkind", "So", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{f"{key}_token": name for key, name in names.items()})
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=len(words), max_position_embeddings=32, **shape)
    torch.manual_seed(0)
    found = MaskedScorer(RobertaForMaskedLM(config), fast)
    prompts = ["[MASK] is kind.", "So [MASK] is kind."]
    scores = found.word_log_probs(prompts, ["she"])[:, 0]
    for prompt, ids, score in zip(prompts, ([5, 6, 7, 8], [6, 8]), scores, strict=True):
        row = found._prompt_row(prompt)
        with torch.no_grad():
            logits = found.model(input_ids=torch.tensor([row.ids])).logits[0, row.hidden[0]].log_softmax(-1)
        assert score == pytest.approx(float(logits[ids].logsumexp(0)), abs=1e-5)


def test_numbers_known_by_heart_stand_above_made_up_ones_and_unseen_ones_do_not(scorer):
    rng = np.random.default_rng(11)
    posts = [f"i w{a} w{b} w{c} . my phone number is " for a, b, c in rng.integers(200, size=(16, 3))]
    numbers = {str(number): post for number, post in zip(rng.integers(10**7, 10**8, 16), posts, strict=True)}
    known, unseen = dict(list(numbers.items())[:8]), dict(list(numbers.items())[8:])
    leaky = memorise(scorer, [post + number for number, post in known.items()], steps=250)
    assert number_exposure(leaky, scorer, known, rng).low > 0
    assert number_exposure(leaky, scorer, unseen, rng).low < 0
    own = number_exposure(scorer, scorer, known, rng)
    assert own.low < 0
    assert own.count == 8


def test_the_blind_check_sees_members_that_differ_by_their_words():
    rng = np.random.default_rng(8)
    alike = [f"w{rng.integers(50)} w{rng.integers(50)} w{rng.integers(50)}" for _ in range(600)]
    is_member, groups = np.arange(600) < 300, [str(i) for i in range(600)]
    assert blind_measure(alike, is_member, groups, rng=rng, samples=200).estimate < 0.58
    dated = [text + (" 2021" if member else " 2024") for text, member in zip(alike, is_member, strict=True)]
    assert blind_measure(dated, is_member, groups, rng=rng, samples=200).estimate > 0.95


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to jane.doe@example.org please", {"e-mail address"}),
        ("call 555-123-4567 now", {"long number"}),
        ("see www.example.org/x", {"link"}),
        ("ask u/some_body", {"handle"}),
        ("follow @some_body", {"handle"}),
        ("born in 1987, took 20 mg twice", set()),
        ("call 988 or 911", set()),
        ("mail [email] or u/[user] or [phone]", set()),
    ],
)
def test_identifiers_are_told_from_ordinary_text(text, kinds):
    assert {kind for _, kind in identifiers_in(text)} == kinds


def test_identifiers_compare_without_spaces_and_case():
    assert normal("Jane @ Example . org") == normal("jane@example.org")


def test_documents_are_drawn_once_per_author_and_alike_for_a_seed():
    documents = [Document(f"d{i}", "text", f"a{i % 30}") for i in range(300)]
    chosen = sample_documents(iter(documents), 20, seed=1)
    assert len(chosen) == 20
    assert len({d.author_hash for d in chosen}) == 20
    assert chosen == sample_documents(iter(documents[::-1]), 20, seed=1)
    assert chosen != sample_documents(iter(documents), 20, seed=2)
    without = sample_documents(iter(documents), 30, seed=1, without_authors=frozenset({"a0", "a1"}))
    assert len(without) == 28
    assert len(sample_documents(iter([Document(f"d{i}", "t", "") for i in range(9)]), 5, seed=0)) == 5


def test_the_word_lists_are_consistent():
    words = lexicon()
    assert len(words["dimensions"]) == 9
    for dimension in words["dimensions"].values():
        assert all(t.count("[MASK]") == 1 and t.count("{c}") == 1 for t in dimension["templates"])
        assert not set(dimension["stigma"]) & set(dimension["counter"])
    assert not set(words["conditions"]) & set(words["control_conditions"])
    assert not set(words["female_words"]) & set(words["male_words"])
    assert all(t.count("[MASK]") == 1 and "{c}" in t for t in words["gender_templates"])
    assert make_tokenizer().unk_token_id not in make_tokenizer()(" ".join(words["conditions"]))["input_ids"]
