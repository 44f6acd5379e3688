import bz2
import gzip
import lzma
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import UserError
from corpus.deidentify import Deidentifier, mask_posts
from corpus.document import MalformedRecord, month_of, parse_clock, parse_record
from corpus.dumps import DamagedInput, Line, find_inputs, read_lines
from corpus.ingest import decode_line
from tests.corpus.conftest import make_comment, make_post, pack_lines, pack_zstd

CONTENT = pack_lines(make_post(number) for number in range(300))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zst", pack_zstd(CONTENT)),
        ("b.jsonl", CONTENT),
        ("c.jsonl.gz", gzip.compress(CONTENT)),
        ("d.bz2", bz2.compress(CONTENT)),
        ("e.xz", lzma.compress(CONTENT)),
        ("several_frames.zst", pack_zstd(CONTENT[:1000]) + pack_zstd(CONTENT[1000:])),
        ("skippable_frame.zst", b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + pack_zstd(CONTENT)),
        ("several_members.jsonl.gz", gzip.compress(CONTENT[:777]) + gzip.compress(CONTENT[777:])),
        ("no_last_newline.jsonl", CONTENT[:-1]),
    ],
)
def test_every_packing_gives_the_same_lines(tmp_path: Path, name: str, content: bytes) -> None:
    lines = list(read_lines(write(tmp_path / name, content), 10**6))
    assert [line.content for line in lines] == CONTENT.splitlines()
    assert [line.number for line in lines] == list(range(1, 301))
    assert all(CONTENT[line.offset :].startswith(line.content or b"?") for line in lines)


@pytest.mark.parametrize("name", ["a.zst", "a.jsonl.gz", "a.bz2", "a.xz"])
def test_a_truncated_stream_gives_what_is_readable_and_then_says_so(tmp_path: Path, name: str) -> None:
    pack = {"zst": pack_zstd, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[name.rpartition(".")[2]]
    noise = "".join(chr(97 + (i * i * 7919) % 26) for i in range(200_000))  # so that it fills several blocks
    packed = pack(CONTENT + pack_lines([{"id": "x", "body": noise}]))
    lines: list[Line] = []
    with pytest.raises(DamagedInput) as error:
        lines.extend(read_lines(write(tmp_path / name, packed[:-20]), 10**6))
    assert error.value.reason == "truncated"
    if name == "a.zst":
        assert [line.content for line in lines[:300]] == CONTENT.splitlines()


def test_a_corrupt_stream_is_told_from_a_truncated_one(tmp_path: Path) -> None:
    packed = bytearray(pack_zstd(CONTENT))
    packed[:4] = b"junk"
    with pytest.raises(DamagedInput, match="corrupt"):
        list(read_lines(write(tmp_path / "a.zst", bytes(packed)), 10**6))


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30), limit=st.integers(1, 30), block=st.integers(1, 50)
)
def test_long_lines_are_skipped_and_offsets_stay_true(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], limit: int, block: int
) -> None:
    content = b"\n".join(b"x" * length for length in lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corpus.dumps.READ_BYTES", block)
        lines = list(read_lines(write(tmp_path_factory.mktemp("lines") / "a.jsonl", content), limit))
    expected, offset = [], 0
    for number, length in enumerate(lengths, start=1):
        expected.append(Line(number, offset, b"x" * length if length <= limit else None))
        offset += length + 1
    if not lengths[-1]:
        expected.pop()  # a last line of nothing is no line
    assert lines == expected


def test_a_line_of_100_megabytes_costs_no_such_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = write(tmp_path / "a.jsonl", b'{"id":"a","body":"' + b"x" * 10**8 + b'"}\n' + CONTENT)
    tracemalloc.start()
    lines = list(read_lines(path, 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines[0].content is None
    assert [line.content for line in lines[1:]] == CONTENT.splitlines()
    assert peak < 2 * 10**7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "not_json"),
        (b'{"id": "a", "body": "cut', "not_json"),
        (b"[1, 2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"id": "a", "url": "x"}', "no_text_field"),
        (b'{"body": "text"}', "no_id"),
        (b'{"text": "text"}', "no_id"),
        (b'{"id": "a/../b", "text": "text"}', "no_id"),
        (b'{"id": "a", "text": ["text"]}', "text_not_a_string"),
        (b'{"id": "a/../b", "body": "text"}', "no_id"),
        (b'{"id": "a", "body": 7}', "text_not_a_string"),
        (b'{"id": "a", "body": "a\0b"}', "nul_byte"),
        (rb'{"id": "a", "body": "a\u0000b"}', "nul_byte"),
        (rb'{"id": "a", "body": "a\ud83d"}', "lone_surrogate"),
        (b'{"id": "a", "body": "\xff\xfe"}', "not_utf8"),
        (b'{"id": "a", "body": "\xed\xa0\xbd"}', "not_utf8"),
        (b"[" * 5000, "not_json"),
    ],
)
def test_a_malformed_line_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(MalformedRecord) as error:
        decode_line(Line(2, 0, content))
    assert error.value.reason == reason


def test_a_byte_order_mark_is_no_content() -> None:
    assert decode_line(Line(1, 0, b'\xef\xbb\xbf{"id": "a", "body": "text"}')).text == "text"


@pytest.mark.parametrize(
    ("value", "month"),
    [
        (1_546_300_800, "2019-01"),
        (1_546_300_800.5, "2019-01"),
        ("1546300800", "2019-01"),
        (1_546_300_800_000, "2019-01"),
        ("1546300800000", "2019-01"),
        (1_546_300_800_000_000, "2019-01"),
        (None, ""),
        (True, ""),
        ("yesterday", ""),
        ([], ""),
        (-5, ""),
        (7, ""),
        (float("inf"), ""),
        (float("nan"), ""),
    ],
)
def test_clocks(value: object, month: str) -> None:
    assert month_of(parse_clock(value)) == month


def test_submissions_and_comments_have_different_ids() -> None:
    post, comment = parse_record(make_post(1)), parse_record(make_comment(1))
    assert (post.id, comment.id) == ("t3_p1", "t1_p1")
    assert comment.metadata["title"] == ""


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("me &amp; my cat &gt; all &lt;3", "me & my cat > all <3"),
        ("one&amp;#x200B;\n\n&#x200B;two&amp;nbsp;three", "one\n\ntwo\u00a0three"),
        ("https://example.com/?a=1&amp;copy=2&amp;lt_id=3&amp;reg=4", "https://example.com/?a=1&copy=2&lt_id=3&reg=4"),
        (
            "a\u200b\ufeffb \U0001f469\u200d\U0001f52c",
            "ab \U0001f469\u200d\U0001f52c",
        ),  # the joiner makes one emoji of two
        ("&amp;amp; R&D; &#0; &#xD83D;", "& R&D; \ufffd \ufffd"),
    ],
)
def test_entities_are_decoded_as_reddit_shows_them(raw: str, shown: str) -> None:
    post = parse_record(make_post(1, title=raw, selftext=raw))
    assert (post.metadata["title"], post.text) == (shown, shown)
    assert parse_record(make_comment(1, selftext=raw)).text == shown
    assert parse_record({"id": "a", "text": raw}).text == raw  # a task's text stays as the classifier reads it


def test_a_link_with_escaped_ampersands_is_masked_whole() -> None:
    text = parse_record(make_post(1, selftext="look at https://example.com/?u=1&amp;name=someone&amp;x=2 today")).text
    (post,) = mask_posts(Deidentifier("rules"), [("", text)])
    assert post == ("", "look at [link] today", ["URL"])


def test_the_latest_clock_of_a_version_counts() -> None:
    def retrieved(**changes: object) -> object:
        return parse_record(make_post(1, **changes)).metadata["retrieved"]

    assert retrieved() is None
    assert retrieved(edited=False) is None
    assert retrieved(retrieved_on=1_600_000_500, edited=1_600_000_900.0) == 1_600_000_900
    assert retrieved(retrieved_utc="1600000500", edited=True) == 1_600_000_500


def test_numbers_are_ids_of_texts_from_elsewhere_only() -> None:
    assert parse_record({"id": 7, "text": "words"}).id == "text_7"
    for record in ({"id": True, "text": "words"}, make_post(1, id=7)):
        with pytest.raises(MalformedRecord, match="no_id"):
            parse_record(record)


@pytest.mark.parametrize("absent", [None, ...])
def test_author_subreddit_and_clock_may_be_null_or_absent(absent: object) -> None:
    post = parse_record(make_post(1, author=absent, subreddit=absent, created_utc=absent, title=absent))
    assert [post.metadata[key] for key in ("author", "subreddit", "created_utc", "month", "title")] == [
        "", "", None, "", "",
    ]  # fmt: skip


def test_inputs_are_found_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b.zst", "a.jsonl", "c.txt"):
        write(tmp_path / name, b"")
    found = find_inputs([str(tmp_path / "*.zst"), str(tmp_path / "[ab].*")])
    assert [path.name for path in found] == ["a.jsonl", "b.zst"]
    with pytest.raises(UserError, match="no such dump file"):
        find_inputs([str(tmp_path / "*.bz2")])
    with pytest.raises(UserError, match=re.escape("c.txt")):
        find_inputs([str(tmp_path / "*")])
