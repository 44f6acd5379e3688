import gzip
import io
import json
import re
import statistics
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from configs.errors import UserError
from corpus.sample.composition import Composer
from corpus.sample.generate import EMBEDDED_POSTS, EMBEDDED_SEED, main, write_sample
from corpus.sample.grammar import LANGUAGE_DIR, Grammar, Passage, read_sections, speak
from corpus.sample.records import KIND_SHARES, SUBREDDITS, Part
from corpus.sample.tasks import LABEL_SHARES, split_expressions

SAMPLE = Path(__file__).parents[2] / "corpus" / "sample"
DUMPS = ("RS_2023.zst", "RS_2024.zst", "RC_2023.jsonl.gz", "RC_2024.jsonl")
LABELS = {"NAME", "USERNAME", "EMAIL", "PHONE", "ADDRESS", "URL", "PLACE", "DATE_OF_BIRTH", "POSTCODE", "ID_NUMBER"}
LABELS |= {"ORGANISATION", "DATE"}


def unpack(path):
    if path.suffix == ".zst":
        with path.open("rb") as file:
            return zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file).read()
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def rows_of(path):
    return [json.loads(line) for line in unpack(path).splitlines()]


@pytest.fixture(scope="module")
def composer():
    return Composer()


@pytest.fixture(scope="module")
def records():
    return {row["name"]: row for name in DUMPS for row in rows_of(SAMPLE / name)}


def gold(name):
    return rows_of(SAMPLE / "gold" / f"{name}.jsonl")


def test_the_sample_is_big_enough_small_enough_and_says_that_it_is_synthetic(records):
    assert len(records) == EMBEDDED_POSTS >= 1_500
    assert len({row["subreddit"] for row in records.values()}) == len(SUBREDDITS) >= 8
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.suffix not in (".py", ".pyc")) < 2 * 2**20
    assert all(row["synthetic"] is True and row["id"].startswith("syn") for row in records.values())
    assert "synthetic" in (SAMPLE / "README.md").read_text().lower()
    years = Counter(name[3:7] for name in DUMPS for _ in rows_of(SAMPLE / name))
    assert set(years) == {"2023", "2024"}
    assert min(years.values()) > 500


def test_the_embedded_files_are_what_the_generator_writes(tmp_path):
    write_sample(tmp_path, EMBEDDED_POSTS, EMBEDDED_SEED, "mixed", extras=True)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) > 20
    for path in written:
        assert unpack(tmp_path / path) == unpack(SAMPLE / path), path


def test_zst_needs_the_large_window():
    content = (SAMPLE / "RS_2023.zst").read_bytes()
    parameters = zstandard.get_frame_parameters(content)
    assert parameters.window_size == 2**31
    with pytest.raises(zstandard.ZstdError, match="memory"):
        zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()


def test_records_look_like_a_dump(records):
    for name, row in records.items():
        assert {"id", "subreddit", "author", "created_utc", "score", "stickied", "distinguished", "permalink"} <= set(
            row
        )
        if name.startswith("t3_"):
            assert {"title", "selftext", "over_18", "num_comments", "url", "removed_by_category", "is_self"} <= set(row)
        else:
            assert row["link_id"].startswith("t3_")
            assert row["link_id"] in records
            assert row["parent_id"]
            assert records[row["link_id"]]["subreddit"] == row["subreddit"]
    clocks = [row["created_utc"] for row in records.values()]
    assert any(isinstance(clock, str) for clock in clocks)
    assert any(isinstance(clock, int) and clock > 10**12 for clock in clocks)
    assert 10 < sum(row.get("over_18", False) for row in records.values()) < len(records) / 10
    for name in DUMPS:
        seconds = [int(row["created_utc"]) for row in rows_of(SAMPLE / name)]
        ordinary = [second for second in seconds if second < 10**12]
        assert ordinary == sorted(ordinary)


def test_gold_spans_are_the_planted_identifiers(records, composer):
    seen = Counter()
    lists = composer.identities
    for row in gold("identifiers"):
        text = records[row["id"]][row["field"]]
        for span in row["spans"]:
            found = text[span["start"] : span["end"]]
            seen[span["label"]] += 1
            assert found == found.strip()
            assert found
            if span["label"] == "NAME":
                assert {part.casefold() for part in found.split()} <= {
                    name.casefold() for name in lists["first_names"] + lists["last_names"]
                }
            if span["label"] == "PHONE":
                assert re.fullmatch(r"[\d ().+-]{10,}", found)
            if span["label"] == "URL":
                assert re.match(r"https?://|www\.", found)
            if span["label"] == "ADDRESS":
                assert re.search(r"\d+ \w+", found)
    assert set(seen) == LABELS
    assert min(seen.values()) >= 20


def test_no_planted_name_or_handle_stands_outside_its_span(records):
    """A rare surname in a text must be covered by a span: nothing planted is missing from the gold."""
    surnames = [name for name in read_sections(LANGUAGE_DIR / "identifiers.txt")["last_names"] if len(name) > 6]
    pattern = re.compile(
        r"\b(" + "|".join(map(re.escape, surnames)) + r")\b|@\w|\bu/\w|https?://blog|555.?01", re.IGNORECASE
    )
    covered = {(row["id"], row["field"]): row["spans"] for row in gold("identifiers")}
    unmasked = {row["id"] for row in gold("drops")}
    hits = 0
    for name, record in records.items():
        for field in ("title", "selftext", "body"):
            for match in pattern.finditer(record.get(field, "")) if name not in unmasked else ():
                spans = covered.get((name, field), [])
                assert any(span["start"] <= match.end() - 1 < span["end"] for span in spans), (name, field)
                hits += 1
    assert hits > 50


def test_hard_negatives_carry_no_gold_span(records):
    identifiers = {(row["id"], row["field"]): row["spans"] for row in gold("identifiers")}
    kinds, words = Counter(), Counter()
    for row in gold("hard_negatives"):
        text = records[row["id"]][row["field"]]
        for span in row["spans"]:
            kinds[span["kind"]] += 1
            words[text[span["start"] : span["end"]].casefold()] += 1
            for other in identifiers.get((row["id"], row["field"]), []):
                assert span["end"] <= other["start"] or other["end"] <= span["start"]
    assert set(kinds) == {"word", "drug", "diagnosis", "slang", "elongation", "emoji"}
    assert min(kinds.values()) > 15
    assert {"hope", "grace", "will", "may", "lexapro", "lithium"} <= set(words)


def test_every_kind_of_record_to_drop_is_there_and_shows_why(records):
    reasons = {row["id"]: row["reason"] for row in gold("drops")}
    assert set(reasons.values()) == set(KIND_SHARES) - {"exact", "near"}
    assert min(Counter(reasons.values()).values()) >= 8
    signs = {
        "deleted": lambda row: "[deleted]" in (row.get("selftext"), row.get("body")),
        "removed": lambda row: "[removed]" in (row.get("selftext"), row.get("body")),
        "restored": lambda row: row["_meta"]["removal_type"] and len(row.get("selftext", row.get("body"))) > 20,
        "deleted_account": lambda row: row["author"] == "[deleted]" and row.get("selftext", row.get("body"))[0] != "[",
        "crosspost": lambda row: row["crosspost_parent"].startswith("t3_"),
        "stickied": lambda row: row["stickied"],
        "distinguished": lambda row: row["distinguished"] == "moderator",
        "bot": lambda row: "bot" in row["author"].lower() or row["author"] == "AutoModerator",
        "too_short": lambda row: len((row.get("title", "") + " " + row.get("selftext", row.get("body"))).split()) < 5,
    }
    for name, reason in reasons.items():
        assert signs.get(reason, bool)(records[name]), (name, reason)


def test_duplicates_are_what_the_gold_says(records):
    def content(name):
        row = records[name]
        return row.get("title"), row.get("selftext", row.get("body"))

    exact = near = 0
    for group in gold("duplicates"):
        for copy in group["exact"]:
            assert content(copy) == content(group["original"])
            exact += 1
        for copy in group["near"]:
            assert content(copy) != content(group["original"])
            one, other = ({*content(name)[1].lower().split()} for name in (copy, group["original"]))
            assert len(one & other) / len(one | other) > 0.7
            near += 1
    assert exact >= 40
    assert near >= 40
    dropped = {row["id"] for row in gold("drops")}
    listed = {name for group in gold("duplicates") for name in (group["original"], *group["exact"], *group["near"])}
    rest = [content(name) for name in records if name not in dropped | listed]
    assert len(set(rest)) == len(rest)  # nothing repeats by chance


def test_the_texts_are_varied(records):
    texts = [row["selftext"] for name, row in records.items() if name.startswith("t3_") and len(row["selftext"]) > 150]
    lengths = [len(text.split()) for text in texts]
    assert statistics.median(lengths) > 60
    assert max(lengths) > 300
    assert any(text == text.lower() and not re.search(r"[.,!?']", text) for text in texts)
    assert any(text.upper() == text or sum(map(str.isupper, text)) > len(text) / 2 for text in texts)
    openings = Counter(" ".join(text.split()[:6]) for text in texts)
    assert openings.most_common(1)[0][1] < len(texts) / 50
    assert len({word for text in texts for word in re.findall(r"[a-z']+", text.lower())}) > 2_000


def test_a_prefix_does_not_depend_on_how_many_are_asked_for(composer):
    few = list(Part(composer, 5, 0).records(300))
    many = list(Part(composer, 5, 0).records(900))
    assert many[:300] == few
    assert list(Part(Composer(), 5, 0).records(300)) == few
    other_seed = list(Part(composer, 6, 0).records(300))
    other_part = list(Part(composer, 5, 1).records(300))
    assert few != other_seed
    assert not {row["id"] for _, _, row in few} & {row["id"] for _, _, row in other_part}
    assert not {row["author"] for _, _, row in few} & {row["author"] for _, _, row in other_part} - {
        "[deleted]",
        "syn_moderator",
        *composer.bot_names,
    }


@pytest.mark.parametrize("packing", ["zst", "jsonl", "jsonl.gz"])
def test_the_packings_hold_the_same(tmp_path, packing):
    counts = write_sample(tmp_path, 60, 1, packing, extras=False)
    names = {row["name"] for path in tmp_path.glob(f"R?_202?.{packing}") for row in rows_of(path)}
    assert len(names) == 60 == sum(count for kind, count in counts.items() if not kind.startswith("planted_"))
    assert not (tmp_path / "task").exists()


def test_an_interrupted_run_keeps_the_parts_it_has(tmp_path, monkeypatch, composer):
    monkeypatch.setattr("corpus.sample.generate.RECORDS_PER_PART", 50)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    write_sample(whole, 130, 2, "jsonl", extras=False)
    write_sample(broken, 50, 2, "jsonl", extras=False)
    kept = (broken / "gold" / "counts.json").stat().st_mtime_ns
    write_sample(broken, 130, 2, "jsonl", extras=False)
    assert (broken / "gold" / "counts.json").stat().st_mtime_ns == kept
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.json*"))
    assert len(files) == 3 * (4 + 5)
    assert all((whole / path).read_bytes() == (broken / path).read_bytes() for path in files)


def test_the_program_writes_a_run_folder_and_refuses_nonsense(tmp_path):
    main(["--output_dir", str(tmp_path / "out"), "--posts", "30"], "mindshift corpus sample")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["stage"] == "sample"
    assert "gold/identifiers.jsonl" in manifest["outputs"]
    with pytest.raises(UserError, match="finished run"):
        main(["--output_dir", str(tmp_path / "out"), "--posts", "30"], "mindshift corpus sample")
    with pytest.raises(UserError, match="posts is 0"):
        main(["--output_dir", str(tmp_path / "none"), "--posts", "0"], "mindshift corpus sample")


def test_a_frame_with_an_unknown_slot_or_an_open_bracket_is_refused():
    grammar = Grammar({"pet": ["my cat"]}, {}, frozenset())
    passage = Passage()
    speak(grammar.compile("[so|so] {pet} {~may} sleep"), lambda: 0.0, passage)
    assert passage.text() == "so my cat may sleep"
    assert passage.spans() == [(10, 13, "~word")]
    for line in ("{nobody} here", "[a|b", "a]"):
        with pytest.raises(ValueError, match=r"slot|closed|unmatched"):
            grammar.compile(line)


def test_the_malformed_file_is_described_line_by_line():
    reasons = {row["line"]: row["reason"] for row in gold("../malformed/gold")}
    lines = (SAMPLE / "malformed" / "RS_2023.jsonl").read_bytes().split(b"\n")
    good = 0
    for number, line in enumerate(lines, start=1):
        if number in reasons or not line:
            continue
        record = json.loads(line)
        assert record["synthetic"]
        assert isinstance(record["selftext"], str)
        good += 1
    assert good == 5
    assert len(reasons) == 11


# Tasks


@pytest.mark.parametrize(
    ("task", "kind", "train"),
    [("task", "multi_label", 900), ("task_binary", "binary", 160), ("task_multi_class", "multi_class", 160)],
)
def test_tasks_follow_the_contract(task, kind, train):
    described = json.loads((SAMPLE / task / "labels.json").read_text())
    assert described["type"] == kind
    texts, ids = [], set()
    for split in ("train", "validation", "test"):
        rows = rows_of(SAMPLE / task / f"{split}.jsonl")
        assert len(rows) == (train if split == "train" else len(rows))
        counts = Counter(label for row in rows for label in row["labels"])
        assert set(counts) == set(described["labels"])
        assert all(len(row["labels"]) == 1 or kind == "multi_label" for row in rows)
        texts += [row["text"] for row in rows]
        ids |= {row["id"] for row in rows}
    assert len(set(texts)) == len(texts) == len(ids)


def test_the_multi_label_task_is_imbalanced_and_truly_multi_label():
    rows = rows_of(SAMPLE / "task" / "train.jsonl")
    counts = Counter(label for row in rows for label in row["labels"])
    assert list(json.loads((SAMPLE / "task" / "labels.json").read_text())["labels"]) == list(LABEL_SHARES)
    assert counts.most_common()[0][1] > 2.5 * counts.most_common()[-1][1]
    sizes = Counter(len(row["labels"]) for row in rows)
    assert min(sizes[size] for size in (0, 1, 2, 3)) > 20
    assert (len(rows_of(SAMPLE / "task" / "validation.jsonl")), len(rows_of(SAMPLE / "task" / "test.jsonl"))) == (
        200,
        300,
    )


def squash(text):
    return re.sub(r"[^a-z0-9]", "", text.lower())


def test_what_test_says_was_never_said_in_training():
    sections = read_sections(LANGUAGE_DIR / "task.txt")
    parts = {split: split_expressions(sections, split) for split in ("train", "validation", "test")}
    train = squash(" ".join(row["text"] for row in rows_of(SAMPLE / "task" / "train.jsonl")))
    test = squash(" ".join(row["text"] for row in rows_of(SAMPLE / "task" / "test.jsonl")))
    seen = 0
    for label in (*LABEL_SHARES, "distractors"):
        lines = sections[label]
        assert len(lines) >= 40
        assert len(set(lines)) == len(lines) == sum(len(part[label]) for part in parts.values())
        for line in parts["test"][label]:
            assert squash(line) not in train
            seen += squash(line) in test
    assert seen > 60


def test_no_task_text_is_in_the_dumps(records):
    sentences = {squash(line) for lines in read_sections(LANGUAGE_DIR / "task.txt").values() for line in lines}
    sentences = {sentence for sentence in sentences if len(sentence) > 20}
    dumps = squash(" ".join(row.get("selftext", row.get("body", "")) for row in records.values()))
    assert len(sentences) > 300
    assert not [sentence for sentence in sentences if sentence in dumps]
