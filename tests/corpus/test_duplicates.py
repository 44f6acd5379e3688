import gzip
import itertools
import json
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import UserError
from configs.word_runs import hash_runs, match_keys
from corpus.decide import CODES, DecisionRules, decide
from corpus.decontaminate import LONG_WORDS, build_index, one_edit_keys, read_tasks, task_texts
from corpus.deduplicate import drop_near_duplicates, hash_words, normalized_words, words_that_count
from corpus.describe import FACTS, UNDATED
from corpus.minhash import (
    BANDS,
    ROWS,
    FindPairs,
    candidate_pairs,
    read_pairs,
    sign,
    write_signatures,
)
from corpus.report import funnel
from corpus.shards import TokenizedDocument, TokenShards, write_shard
from tests.corpus.conftest import make_post, pack_lines

VOCABULARY = [f"w{number}" for number in range(3000)]
RULES = DecisionRules(seed=1, held_out_share=0, held_out_months=0, max_posts_per_author=0, tasks=["a", "b"])


def random_words(random: np.random.Generator, length: int) -> list[str]:
    return [VOCABULARY[place] for place in random.integers(0, len(VOCABULARY), size=length)]


def edited(words: list[str], random: np.random.Generator, share: float) -> list[str]:
    """A copy with a share of the words replaced, removed or preceded by a new one."""
    copy = list(words)
    for place in sorted(random.choice(len(words), max(1, round(share * len(words))), replace=False), reverse=True):
        kind, new = random.integers(0, 4), random_words(random, 1)
        copy[place : place + (0 if kind == 3 else 1)] = [] if kind == 2 else new
    return copy


def facts_of(rows: list[dict[str, int]]) -> np.ndarray:
    defaults = {"id": 0, "words": 0, "author": 0, "created": UNDATED, "month": -1, "task": 0, "erased": 0}
    defaults |= {"retrieved": 0, "elsewhere": 0}
    filled = [defaults | {"id": place + 1, "words": place + 1} | row for place, row in enumerate(rows)]
    return np.array([tuple(row[name] for name in FACTS.names or ()) for row in filled], dtype=FACTS)


def names(decisions: np.ndarray) -> list[str]:
    return [next(name for name, code in CODES.items() if code == decision) for decision in decisions]


NO_PAIRS = np.empty((0, 2), dtype=np.int64)


def test_words_are_compared_without_case_punctuation_and_title() -> None:
    body = "I can't sleep — again, and again; it NEVER stops!!"
    assert words_that_count("A", body) == words_that_count("B", "i can t sleep again and again it never stops")
    assert words_that_count("one title", "short body") != words_that_count("other title", "short body")
    assert normalized_words("ﬁne Ⅳ") == ["fine", "iv"]


@pytest.mark.parametrize("length", [20, 50, 150])
@pytest.mark.parametrize(("share", "least"), [(0.05, 0.99), (0.10, 0.80)])
def test_recall_of_edited_short_posts(length: int, share: float, least: float) -> None:
    random = np.random.default_rng(length)
    texts = [random_words(random, length) for _ in range(300)]
    copies = [edited(words, random, share) for words in texts]
    signatures = np.array([sign(words) for words in [*texts, *copies]]).reshape(-1, BANDS, ROWS)
    pairs = {(int(a), int(b)) for band in range(BANDS) for a, b in candidate_pairs(signatures[:, band])}
    good = {(a, b) for a, b in pairs if (signatures[a] == signatures[b]).mean() >= 0.42}
    assert sum((place, place + 300) in good for place in range(300)) / 300 >= least
    assert good <= {(place, place + 300) for place in range(300)}  # no false pair


def test_signatures_estimate_the_similarity_of_3_grams() -> None:
    random = np.random.default_rng(3)
    errors = []
    for _ in range(200):
        words = random_words(random, 60)
        other = edited(words, random, 0.08)
        grams = [{tuple(text[place : place + 3]) for place in range(len(text) - 2)} for text in (words, other)]
        errors.append((sign(words) == sign(other)).mean() - len(grams[0] & grams[1]) / len(grams[0] | grams[1]))
    assert abs(float(np.mean(errors))) < 0.01
    assert float(np.std(errors)) < 0.07


def test_more_chunks_than_files_may_be_open(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    texts = [random_words(random, 30) for _ in range(240)]
    texts[239] = texts[0]
    for chunk in range(120):
        signatures = [sign(words) for words in texts[2 * chunk : 2 * chunk + 2]]
        write_signatures(tmp_path / f"{chunk:05d}.signatures", signatures)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 20, hard))
    try:
        list(FindPairs(tmp_path, [2] * 120, tmp_path / "pairs", 0.42).run(iter([])))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert read_pairs(tmp_path / "pairs").tolist() == [[0, 239]]


@pytest.mark.parametrize("may_raise", [True, False])
def test_more_shards_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_raise: bool) -> None:
    for number in range(120):
        write_shard(tmp_path / "tokens" / "train", number, [TokenizedDocument("t3_a", [number])], 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 20, hard))
    try:
        if may_raise:
            shards = TokenShards(tmp_path, "train")
            assert [shards[place].tolist() for place in range(120)] == [[number] for number in range(120)]
        else:
            with monkeypatch.context() as patch:
                patch.setattr("corpus.shards._allow_open_files", lambda _: None)
                with pytest.raises(UserError, match="120 shards are more files than a program may open"):
                    TokenShards(tmp_path, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_signature_is_the_same_on_every_machine_and_day() -> None:
    assert sign(["one", "two", "three", "four", "five"])[:3].tolist() == [212_371_340, 560_528_953, 739_172_130]


def test_texts_shorter_than_a_shingle_are_one_run() -> None:
    assert len(hash_runs(["a", "b"], 3)) == 1
    assert hash_runs(["a", "b"], 3) != hash_runs(["b", "a"], 3)


def test_candidates_hold_every_group_together_at_bounded_cost() -> None:
    band = np.array([[7, 7, 7]] * 50 + [[8, 8, 8]] + [[9, 9, 9]] * 2, dtype=np.uint32)
    pairs = candidate_pairs(band)
    assert len(pairs) <= 2 * len(band)
    assert {tuple(pair) for pair in pairs.tolist()} >= {(0, 1), (0, 49), (48, 49), (51, 52)}
    assert not any(50 in pair for pair in pairs.tolist())


def test_the_earliest_stays_and_similarity_does_not_chain() -> None:
    # 0 ~ 1 ~ 2: without chaining 2 stays, since 1, which it resembles, goes.
    pairs, alive = np.array([[0, 1], [1, 2]]), np.ones(4, dtype=bool)
    dropped, sizes = drop_near_duplicates(pairs, np.arange(4), alive)
    assert (dropped.tolist(), sizes.tolist()) == ([1], [2])
    dropped, sizes = drop_near_duplicates(pairs, np.array([2, 0, 1, 3]), alive)
    assert (dropped.tolist(), sizes.tolist()) == ([0, 2], [3])


@given(st.permutations(range(12)), st.integers(0, 2**32))
def test_decisions_do_not_hang_on_the_order_of_posts(order: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [
        {"id": 1 + int(random.integers(9)), "words": int(random.integers(8)), "author": int(random.integers(4))}
        | {"created": int(random.integers(4)), "month": 12 * 2020 + int(random.integers(4)), "task": 0}
        | {"task": int(random.integers(3)) * int(random.integers(2))}
        for _ in range(12)
    ]
    # Posts that are the same in every fact are interchangeable; the hash of the id settles the rest.
    for place, row in enumerate(rows):
        row["id"] = row["id"] * 100 + place % 3
    pairs = random.integers(0, 12, size=(6, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    rules = DecisionRules(seed=seed, held_out_share=0.4, held_out_months=1, max_posts_per_author=2, tasks=["a", "b"])
    facts = facts_of(rows)
    if len({(row["id"], row["created"]) for row in rows}) < 12:
        return
    decisions, _ = decide(facts, pairs, rules)
    places = np.argsort(order)
    again, _ = decide(facts[order], places[pairs], rules)
    assert names(again) == [names(decisions)[place] for place in order]


def test_each_decision_has_its_reason() -> None:
    facts = facts_of(
        [
            {"created": 5},
            {"created": 9, "id": 1},  # the id of the first
            {"created": 9, "words": 1},  # the words of the first
            {"task": 2},
            {"words": 4},  # the words of a contaminated post, met by another way
            {"created": 3},
            {"created": 4},  # near duplicate of the one before
            {},  # near duplicate of a contaminated one
            {"erased": 1},
            {"words": 9, "created": 1},  # the words of the erased one
            {"created": 1},  # near duplicate of the erased one
        ]
    )
    facts["task"][4] = 2
    decisions, sizes = decide(facts, np.array([[5, 6], [3, 7], [8, 10]]), RULES)
    assert names(decisions) == [
        *("train", "duplicate_id", "exact_duplicate", "contaminated", "contaminated", "train", "near_duplicate"),
        *("contaminated", "erased", "erased", "erased"),
    ]
    assert sizes.tolist() == [2]


def test_of_an_edited_post_the_latest_version_stays() -> None:
    versions = [{"id": 7, "words": 3, "retrieved": 5}, {"id": 7, "words": 2, "retrieved": 9}, {"id": 7, "words": 1}]
    for order in itertools.permutations(versions):
        decided = names(decide(facts_of(list(order)), NO_PAIRS, RULES)[0])
        assert dict(zip((row["words"] for row in order), decided, strict=True)) == {
            **{1: "duplicate_id", 2: "train", 3: "duplicate_id"}
        }
    tied = [{"id": 7, "words": 3, "created": 1}, {"id": 7, "words": 2, "created": 1}]
    assert names(decide(facts_of(tied), NO_PAIRS, RULES)[0]) == ["duplicate_id", "train"]
    assert names(decide(facts_of(tied[::-1]), NO_PAIRS, RULES)[0]) == ["train", "duplicate_id"]


def test_contamination_spreads_one_step_whatever_the_order() -> None:
    facts = facts_of([{}, {"task": 2}, {}, {}])
    for pairs in ([[0, 1], [0, 2], [1, 3]], [[1, 0], [2, 0], [3, 1]], [[2, 0], [0, 1], [3, 1]]):
        assert names(decide(facts, np.array(pairs), RULES)[0]) == [
            "contaminated",
            "contaminated",
            "train",
            "contaminated",
        ]


def test_texts_of_one_id_and_other_words_are_refused(build: Callable[..., Path], tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for start, file in enumerate(files):
        rows = [{"id": number, "text": make_post(100 * start + number)["selftext"]} for number in range(40)]
        file.write_bytes(pack_lines(rows))
    with pytest.raises(UserError, match="40 texts have the id of another text with other words"):
        build(files)
    (tmp_path / "corpus.partial").rename(tmp_path / "refused")
    folder = build([files[0]])
    found = {name for split in ("train", "held_out") for name in TokenShards(folder, split).ids}
    assert found == {f"text_{number}" for number in range(40)}


def test_the_cap_per_author_leaves_unknown_authors_alone() -> None:
    facts = facts_of([{"author": 7}] * 10 + [{"author": 8}] * 2 + [{"author": 0}] * 5)
    rules = DecisionRules(seed=1, held_out_share=0, held_out_months=0, max_posts_per_author=3, tasks=[])
    decided = names(decide(facts, NO_PAIRS, rules)[0])
    assert decided[:10].count("train") == 3
    assert decided[10:] == ["train"] * 7


def test_the_latest_months_are_held_out_and_their_authors_leave_training() -> None:
    facts = facts_of(
        [{"author": 1, "month": 10}, {"author": 1, "month": 12}, {"author": 2, "month": 10}, {"month": 11}, {}]
    )
    rules = DecisionRules(seed=1, held_out_share=0.5, held_out_months=2, max_posts_per_author=0, tasks=[])
    assert names(decide(facts, NO_PAIRS, rules)[0]) == ["author_in_held_out", "held_out", "train", "held_out", "train"]


def test_the_share_held_out_is_the_share_asked_for() -> None:
    facts = facts_of([{"id": hash_words([str(number)])} for number in range(20_000)])
    rules = DecisionRules(seed=1, held_out_share=0.1, held_out_months=0, max_posts_per_author=0, tasks=[])
    assert names(decide(facts, NO_PAIRS, rules)[0]).count("held_out") == pytest.approx(2000, rel=0.1)


# ---------------------------------------------------------------------------------------------------- contamination


def test_planted_texts_of_any_length_are_found() -> None:
    random = np.random.default_rng(11)
    texts = [" ".join(random_words(random, 3 + place % 40)) for place in range(400)]
    index = build_index({"a": texts[::2], "b": texts[1::2]})
    for place, text in enumerate(texts):
        task, words = place % 2, text.split()
        assert index.find("", text.upper() + "!!!") == task  # case and punctuation
        assert index.find("a new title", text) == task  # re-titled
        assert index.find(text, "") == task  # as a title
        assert index.find(" ".join(words[:2]), " ".join(words[2:])) == task  # cut into title and body
        if len(words) >= 5:
            assert index.find("", f"so.\n\n{text}\n\nEdit: thank you all") == task  # as one line
            assert index.find("", " ".join(edited(words, random, 0.05))) == task  # lightly edited


def test_a_title_of_the_task_may_change() -> None:
    index = build_index({"a": ["the old title here\nand a body of six words"]})
    assert index.find("another one", "and a body of six words") == 0


def test_long_texts_are_found_inside_posts_and_around_them() -> None:
    random = np.random.default_rng(12)
    texts = [random_words(random, 60) for _ in range(50)]
    index = build_index({"a": [" ".join(words) for words in texts]})
    for words in texts:
        inside = [*random_words(random, 300), *edited(words, random, 0.1), *random_words(random, 300)]
        assert index.find("", " ".join(inside)) == 0
        assert index.find("", " ".join(words[20:40])) == 0  # a part of the text


@pytest.mark.parametrize(
    ("task", "post"),
    [
        ("I don't know", "i dont know"),
        ("do n't ask me why", "Don’t ask me why"),
        ("we don t talk now", "we don't talk now!"),
        ("black &amp; white &gt; grey", "black & white > grey"),
        ("[NAME] needs help", "[name] needs help"),
        ("ask [NAME] [NAME] first", "ask [name3] first"),
    ],
)
def test_apostrophes_entities_and_placeholders_hide_no_text(task: str, post: str) -> None:
    assert build_index({"a": [task]}).find("", post) == 0
    assert build_index({"a": [post]}).find("", task) == 0
    assert build_index({"a": [task]}).find("", "quite other words") == -1


def test_a_short_text_is_found_as_sentences_within_a_line() -> None:
    index = build_index({"a": ["w1 w2 w3 w4 w5 w6 w7", "w11 w12 w13. w14 w15 w16 w17?", "w21 w22 w23"]})
    assert index.find("", "other words here. W1 w2 w3, w4 w5 w6 w7! and others") == 0
    assert index.find("", "other words here. w11 w12 w13. w14 w15 w16 w17? and others") == 0
    assert index.find("other words. w1 w2 w3 w4 w5 w6 w7.", "") == 0
    assert index.find("", "other words w1 w2 w3 w4 w5 w6 w7 and others") == -1  # not a sentence
    assert index.find("", "other words. w21 w22 w23. and others") == -1  # people say three words anyway


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.integers(0, 47), st.integers(10, 16))
def test_whatever_the_gate_of_the_benchmark_refuses_is_found(words: list[str], start: int, length: int) -> None:
    random = np.random.default_rng(start)
    post = " ".join([*random_words(random, 300), *words[start : start + length], *random_words(random, 300)])
    for title, body in (("", post), (" ".join(words[:2]), " ".join(words[2:]))):
        if np.isin(match_keys(f"{title}\n{body}"), match_keys(" ".join(words))).any():
            assert build_index({"a": [" ".join(words)]}).find(title, body) == 0


def test_a_run_of_13_words_is_found_although_half_of_the_3_grams_are_not() -> None:
    random = np.random.default_rng(15)
    text = random_words(random, 80)
    post = [*random_words(random, 200), *text[30:43], *random_words(random, 200)]
    index = build_index({"a": [" ".join(text)]})
    assert index.find("", " ".join(post)) == 0
    assert index.find("", " ".join([*post[:206], *post[207:]])) == -1


def test_a_post_that_masking_makes_a_task_text_is_removed(build: Callable[..., Path], tmp_path: Path) -> None:
    posts = [make_post(number) for number in range(60)]
    posts[5] |= {"title": "", "selftext": "write me at someone@example.com please, today"}
    (tmp_path / "task.jsonl").write_text(json.dumps({"text": "write me at [EMAIL] please, today"}) + "\n")
    (tmp_path / "RS.jsonl").write_bytes(pack_lines(posts))
    folder = build([tmp_path / "RS.jsonl"], decontaminate_against=[str(tmp_path / "task.jsonl")], deidentifier="rules")
    counts = json.loads((folder / "report.json").read_text())["counts"]
    assert "t3_p5" not in {name for split in ("train", "held_out") for name in TokenShards(folder, split).ids}
    assert list(counts["contaminated_by_task"].values()) == [1]
    assert counts["dropped"]["contaminated"] == 1
    assert list(funnel(counts).values())[-1] == counts["kept"] == 59
    assert counts["identifiers"] == {}


def test_a_build_that_an_earlier_version_began_is_refused(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "RS.jsonl").write_bytes(pack_lines(make_post(number) for number in range(40)))
    with monkeypatch.context() as patch:
        patch.setattr("corpus.build_corpus.Finish", stop)
        with pytest.raises(KeyboardInterrupt):
            build([tmp_path / "RS.jsonl"])
    noted = tmp_path / "corpus.partial" / "intermediate" / "inputs.json"
    values = json.loads(noted.read_text())
    del values["facts"]
    noted.write_text(json.dumps(values))
    with pytest.raises(UserError, match="the steps of this version are not those of the interrupted build"):
        build([tmp_path / "RS.jsonl"])


def test_other_posts_are_left_alone() -> None:
    random = np.random.default_rng(13)
    texts = [" ".join(random_words(random, 3 + place % 60)) for place in range(500)]
    index = build_index({"a": texts})
    assert [index.find("", " ".join(random_words(random, 200))) for _ in range(300)] == [-1] * 300


def test_words_scattered_over_a_long_post_are_no_copy() -> None:
    random = np.random.default_rng(14)
    words = random_words(random, 30)
    index = build_index({"a": [" ".join(words)]})
    scattered = [word for place in range(0, 27, 3) for word in [*words[place : place + 3], *random_words(random, 40)]]
    assert index.find("", " ".join(scattered)) == -1
    assert index.find("", " ".join(words)) == 0


@given(st.lists(st.sampled_from("abcdefgh"), min_size=6, max_size=11), st.data())
def test_one_edit_shares_a_key(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words) - 1))
    for other in (
        [*words[:place], "z", *words[place + 1 :]],
        words[:place] + words[place + 1 :],
        [*words[:place], "z", *words[place:]],
    ):
        assert set(one_edit_keys(words)) & set(one_edit_keys(other))


def test_a_build_names_the_task_of_what_it_removed(build: Callable[..., Path], tmp_path: Path) -> None:
    posts = [make_post(number) for number in range(80)]
    for name, number in (("first", 3), ("second", 7)):
        (tmp_path / "tasks" / name).mkdir(parents=True)
        row = {"id": "1", "text": f"{posts[number]['title']}\n{posts[number]['selftext']}", "labels": []}
        (tmp_path / "tasks" / name / "test.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "RS.jsonl").write_bytes(pack_lines(posts))
    folder = build([tmp_path / "RS.jsonl"], decontaminate_against=[str(tmp_path / "tasks" / "*")])
    counts = json.loads((folder / "report.json").read_text())["counts"]
    assert counts["contaminated_by_task"] == {"first": 1, "second": 1}
    assert counts["dropped"]["contaminated"] == 2


def test_bad_task_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task folder"):
        read_tasks([str(tmp_path / "nothing")])
    (tmp_path / "test.jsonl").write_text('{"text": "fine"}\n{"label": 1}\n')
    with pytest.raises(UserError, match=r"test\.jsonl:2: not a JSON object"):
        list(task_texts(tmp_path))
    assert read_tasks([str(tmp_path / "*.jsonl")]) == {f"{tmp_path.name}/test.jsonl": tmp_path / "test.jsonl"}


def test_a_task_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(UserError, match=r"test\.jsonl:2: not a JSON object"):
        list(task_texts(tmp_path))


def test_a_task_of_any_splits_is_compared_with_and_none_is_passed_over(tmp_path: Path) -> None:
    whole, cut, packed, other = (tmp_path / name for name in ("whole", "cut", "packed", "other"))
    for task in (whole, cut, packed, other):
        task.mkdir()
    (whole / "test.jsonl").write_text('{"text": "one"}\n')
    (cut / "train.jsonl").write_text('{"text": "two"}\n')  # fine-tuning cuts its test split from it
    (packed / "train.ndjson.gz").write_bytes(gzip.compress(b'{"text": "three"}\n'))
    (other / "notes.txt").write_text("no task")
    (tmp_path / "README.md").write_text("no task")
    tasks = read_tasks([str(tmp_path / "*")])
    assert tasks == {"whole": whole, "cut": cut, "packed": packed}
    assert [text for task in tasks.values() for text in task_texts(task)] == ["two", "three", "one"]
    for name in ("train.csv", "test.parquet", "validation.tsv.gz", "train.json"):
        (other / name).write_text("text,labels\n")
        with pytest.raises(UserError, match=rf"{name}: texts are compared with .jsonl"):
            read_tasks([str(tmp_path / "*")])
        (other / name).unlink()
    with pytest.raises(UserError, match="no task folder"):
        read_tasks([str(other)])


@pytest.mark.parametrize("change", ["added", "edited"])
def test_a_build_goes_on_with_the_tasks_that_it_began_with(
    build: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def write(name: str, text: str) -> None:
        (tmp_path / "tasks" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tasks" / name / "train.jsonl").write_text(json.dumps({"text": text}) + "\n")

    write("first", "some words of a task")
    (tmp_path / "RS.jsonl").write_bytes(pack_lines(make_post(number) for number in range(40)))
    options = {"decontaminate_against": [str(tmp_path / "tasks" / "*")]}
    with monkeypatch.context() as patch:
        patch.setattr("corpus.build_corpus.Finish", stop)
        with pytest.raises(KeyboardInterrupt):
            build([tmp_path / "RS.jsonl"], **options)
    write("first" if change == "edited" else "second", "other words of another task")
    with pytest.raises(UserError, match="tasks of decontaminate_against are not those of the interrupted build"):
        build([tmp_path / "RS.jsonl"], **options)


def test_tasks_of_one_name_are_told_apart_and_none_is_left_out(tmp_path: Path) -> None:
    tasks = [tmp_path / name for name in ("old/mood", "new/mood", "new/2024/mood", "new/sleep")]
    for task in tasks:
        task.mkdir(parents=True)
        (task / "test.jsonl").write_text('{"text": "fine"}\n')
    patterns = [str(tmp_path / "*" / "*"), str(tmp_path / "new" / "2024" / "mood"), str(tmp_path / "new" / "sleep")]
    assert read_tasks(patterns) == dict(zip(("old/mood", "new/mood", "2024/mood", "sleep"), tasks, strict=True))


def test_long_texts_start_where_one_edit_ends() -> None:
    assert one_edit_keys(["a"] * LONG_WORDS)
    assert not one_edit_keys(["a"] * (LONG_WORDS + 1))
