import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from configs.errors import UserError
from configs.manifest import read_manifest, verify_folder
from corpus.chunks import read_rows
from corpus.erase import list_ids
from corpus.erasure import erase
from corpus.report import funnel
from corpus.shards import SPLITS, TokenShards, documents_path
from tests.corpus.conftest import make_comment, make_post, pack_lines, pack_zstd

Build = Callable[..., Path]


@pytest.fixture
def dumps(tmp_path: Path) -> list[Path]:
    """Three dumps with 600 good posts, and a little of everything that must not stay."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    posts = [make_post(number) for number in range(300)]
    bad = [
        b"not json",
        make_post(900, selftext="[removed]"),
        make_post(901, author="AutoModerator"),
        make_post(902, id="p1"),  # a duplicate id
        make_post(3, id="p903", title="the same words, reposted", created_utc=1_700_000_000),
    ]
    (folder / "RS_2020.zst").write_bytes(pack_zstd(pack_lines([*posts, *bad])))
    comments = [make_comment(number, id=f"c{number}") for number in range(300, 500)]
    (folder / "RC_2020.zst").write_bytes(pack_zstd(pack_lines(comments)))
    (folder / "more.jsonl").write_bytes(pack_lines(make_post(number, author=...) for number in range(500, 600)))
    return sorted(folder.iterdir())


def hashes(folder: Path) -> dict[str, str]:
    """The hash of every file that must be the same whatever the workers and interruptions."""
    names = ("tokens", "documents", "quarantine", "tokenizer")
    files = [path for name in names for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_build_keeps_what_it_should_and_counts_the_rest(build: Build, dumps: list[Path]) -> None:
    folder = build(dumps, chunk_documents=100)
    counts = json.loads((folder / "report.json").read_text())["counts"]
    assert counts["read"] == 605
    assert counts["quarantined"] == {"not_json": 1}
    assert counts["dropped"] == {"bot": 1, "duplicate_id": 1, "exact_duplicate": 1, "removed": 1}
    assert counts["kept"] == 600 == sum(counts["documents"].values())
    assert set(read_manifest(folder).outputs) >= {"report.html", "report.json", "tokenizer/tokenizer.json"}
    assert verify_folder(folder, stage="corpus") == []
    assert not (folder / "intermediate").exists()
    assert [path for path in folder.rglob("*") if path.suffix == ".tmp" or path.name == ".lock"] == []


def test_documents_and_shards_tell_the_same_story(build: Build, dumps: list[Path]) -> None:
    folder = build(dumps, chunk_documents=100)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    tokenizer.no_truncation()
    for split in SPLITS:
        shards = TokenShards(folder, split)
        numbers = sorted(int(path.name[:5]) for path in (folder / "documents" / split).iterdir())
        rows = [row for number in numbers for row in read_rows(documents_path(folder, split, number))]
        assert [row["id"] for row in rows] == shards.ids
        assert [row["month"] for row in rows] == shards.months
        for position, row in enumerate(rows):
            title = tokenizer.encode(row["title"], add_special_tokens=False).ids
            body = tokenizer.encode(row["text"], add_special_tokens=False).ids
            assert shards[position].tolist() == title + body  # no truncation, no special tokens
            assert shards.title_lengths[position] == len(title)
        assert list(rows[0]) == ["id", "title", "text", "subreddit", "month", "author_hash"]


def test_no_author_is_on_both_sides_and_no_name_is_on_disk(build: Build, dumps: list[Path]) -> None:
    folder = build(dumps)
    authors = []
    for split in SPLITS:
        rows = [row for path in (folder / "documents" / split).iterdir() for row in read_rows(path)]
        authors.append({row["author_hash"] for row in rows} - {""})
        assert "writer_" not in json.dumps(rows)
    assert authors[0]
    assert authors[1]
    assert not authors[0] & authors[1]


def test_shards_are_the_same_for_any_number_of_workers(build: Build, dumps: list[Path]) -> None:
    one = hashes(build(dumps, "one", chunk_documents=64))
    assert hashes(build(dumps, "three", chunk_documents=64, workers=3)) == one
    assert len(one) > 10


@pytest.mark.parametrize("most_kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_build_killed_again_and_again_ends_with_the_same_bytes(
    build: Build, dumps: list[Path], tmp_path: Path, tokenizer_dir: Path, most_kills: int
) -> None:
    expected = hashes(build(dumps, "undisturbed", chunk_documents=40))
    output = tmp_path / "killed"
    command = [
        *(sys.executable, "-m", "corpus.build_corpus", "--inputs", json.dumps([str(path) for path in dumps])),
        *("--tokenizer", str(tokenizer_dir), "--output_dir", str(output), "--keys_dir", str(tmp_path / "keys")),
        *("--workers", "2", "--held_out_share", "0.2", "--chunk_documents", "40"),
    ]
    random = np.random.default_rng(5)
    kills = 0
    while kills < most_kills and not output.exists():
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            time.sleep(float(random.uniform(1.5, 5)))
            # Only the first process dies: its workers must notice and end by themselves.
            process.send_signal(signal.SIGKILL)
        kills += 1
    if not output.exists():
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert hashes(output) == expected


def test_malformed_lines_are_quarantined_without_their_text(build: Build, tmp_path: Path) -> None:
    dump = tmp_path / "RS_2020.jsonl"
    good = pack_lines(make_post(number) for number in range(60))
    dump.write_bytes(good + b'{"id": "secretword", "selftext": "secretword\n' + pack_lines([{"id": "x", "a": "b"}]))
    folder = build([dump], max_line_bytes=4000)
    rows = [json.loads(line) for line in (folder / "quarantine" / "00000.jsonl").read_text().splitlines()]
    assert rows == [
        {"file": str(dump), "line": 61, "byte_offset": len(good), "reason": "not_json"},
        {"file": str(dump), "line": 62, "byte_offset": len(good) + 45, "reason": "no_text_field"},
    ]
    assert not [p for p in folder.rglob("*") if p.is_file() and b"secretword" in p.read_bytes()]


def test_a_truncated_dump_is_refused_or_used_up_to_the_damage(build: Build, tmp_path: Path) -> None:
    dump = tmp_path / "RS_2020.zst"
    packed = pack_zstd(pack_lines(make_post(number) for number in range(5000)))
    dump.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match="truncated after line"):
        build([dump])
    folder = build([dump], "readable", damaged_inputs="keep_readable")
    counts = json.loads((folder / "report.json").read_text())["counts"]
    assert counts["quarantined"] == {"truncated_stream": 1}
    assert counts["kept"] > 0
    assert list(funnel(counts).values())[-1] == counts["kept"]


@pytest.mark.parametrize(("lines", "refused"), [(0, True), (1, False)])
def test_a_damaged_dump_is_refused_only_without_a_post_before_the_damage(
    build: Build, tmp_path: Path, lines: int, refused: bool
) -> None:
    good, damaged = tmp_path / "RS_2020.jsonl", tmp_path / "RS_2021.zst"
    good.write_bytes(pack_lines(make_post(number) for number in range(60)))
    packed = pack_zstd(pack_lines(make_post(100 + number) for number in range(lines)))
    damaged.write_bytes((packed if lines else b"") + pack_zstd(pack_lines([make_post(200)]))[:-20])
    if refused:
        with pytest.raises(UserError, match=r"none of its 0 readable lines is a Reddit post \(truncated_stream\)"):
            build([good, damaged], damaged_inputs="keep_readable")
    else:
        counts = read_manifest(build([good, damaged], damaged_inputs="keep_readable")).counts
        assert (counts["read"], counts["kept"], counts["quarantined"]) == (62, 61, {"truncated_stream": 1})


@pytest.mark.parametrize(("canaries", "wanted", "warns"), [(4, 3000, True), (0, 3000, False), (4, 5, False)])
def test_too_few_held_out_posts_for_the_audit_are_told_at_once(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    canaries: int, wanted: int, warns: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr("corpus.build_corpus.AUDITED_HELD_OUT", wanted)
    dump = tmp_path / "RS_2020.jsonl"
    dump.write_bytes(pack_lines(make_post(number, author=f"writer_{number // 2}") for number in range(100)))
    folder = build([dump], canaries_per_band=canaries)
    authors = len(set(TokenShards(folder, "held_out").read_author_hashes()))
    told = f"only {authors} held-out posts of different authors: the release audit wants 3,000; raise held_out_share"
    assert (told in caplog.text) == warns


def test_a_build_with_canaries_and_nothing_held_out_is_warned_not_failed(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dump = tmp_path / "RS_2020.jsonl"
    dump.write_bytes(pack_lines(make_post(number) for number in range(100)))
    build([dump], canaries_per_band=4, held_out_share=0)
    assert "only 0 held-out posts of different authors" in caplog.text


def test_a_file_of_another_schema_is_refused(build: Build, tmp_path: Path) -> None:
    good, other = tmp_path / "RS_2020.jsonl", tmp_path / "other.jsonl"
    good.write_bytes(pack_lines(make_post(number) for number in range(60)))
    other.write_bytes(pack_lines([{"user": "a", "tweet": "b"}] * 5))
    with pytest.raises(
        UserError, match=r"other\.jsonl: none of its 5 readable lines is a Reddit post \(no_text_field\)"
    ):
        build([good, other])


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b""), ("a.jsonl.gz", b""), ("a.zst", b""), ("a.zst", pack_zstd(b"")), ("a.ndjson", b"\n \n")],
)
def test_a_file_without_a_line_is_refused(build: Build, tmp_path: Path, name: str, content: bytes) -> None:
    good, empty = tmp_path / "RS_2020.jsonl", tmp_path / name
    good.write_bytes(pack_lines(make_post(number) for number in range(60)))
    empty.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: holds not a single line"):
        build([good, empty])


def test_texts_from_elsewhere_are_documents_too(build: Build, tmp_path: Path) -> None:
    """The training texts of a labelled task, for task-adaptive pretraining."""
    task = tmp_path / "train.jsonl"
    rows = [{"id": f"task-{number}", "text": make_post(number)["selftext"], "labels": ["a"]} for number in range(50)]
    task.write_bytes(pack_lines(rows))
    folder = build([task])
    names = {name for split in SPLITS for name in TokenShards(folder, split).ids}
    assert names == {f"text_task-{number}" for number in range(50)}
    assert list_ids(folder) == []  # Reddit is not asked about them
    erase(folder, tmp_path / "keys", ids=["text_task-7"])
    assert "text_task-7" not in {name for split in SPLITS for name in TokenShards(folder, split).ids}


@pytest.mark.parametrize(
    ("records", "message"),
    [([], "not a single line"), ([make_post(1, selftext="[deleted]")] * 3, r"no post is left[\s\S]*deleted 3")],
)
def test_an_empty_corpus_is_refused(build: Build, tmp_path: Path, records: list[dict[str, str]], message: str) -> None:
    dump = tmp_path / "RS_2020.jsonl"
    dump.write_bytes(pack_lines(records))
    with pytest.raises(UserError, match=message):
        build([dump])


def test_a_corpus_too_small_to_hold_anything_out_is_refused(build: Build, tmp_path: Path) -> None:
    dump = tmp_path / "RS_2020.jsonl"
    dump.write_bytes(pack_lines([make_post(1)]))
    with pytest.raises(UserError, match="held-out"):
        build([dump], held_out_share=0.000001)


def test_an_input_that_grows_is_refused(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = tmp_path / "RS_2020.jsonl"
    dump.write_bytes(pack_lines(make_post(number) for number in range(60)))
    from corpus import ingest

    def grow(line: ingest.Line) -> object:
        if line.number == 30:
            with dump.open("ab") as file:
                file.write(pack_lines([make_post(99)]))
        return decode(line)

    decode = ingest.decode_line
    monkeypatch.setattr(ingest, "decode_line", grow)
    with pytest.raises(UserError, match="changed while the build was reading it"):
        build([dump])
    monkeypatch.undo()
    with pytest.raises(UserError, match="changed since the interrupted build began"):
        build([dump])


def test_a_full_disk_stops_the_build_and_the_same_command_finishes_it(
    build: Build, dumps: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hashes(build(dumps, "undisturbed", chunk_documents=100))
    from configs import run_folder

    replace, count = Path.replace, 0

    def fill_up(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count > 12:
            raise OSError(28, os.strerror(28), str(target))
        return replace(path, target)

    monkeypatch.setattr(run_folder.Path, "replace", fill_up)
    with pytest.raises(OSError, match="No space left"):
        build(dumps, chunk_documents=100)
    monkeypatch.undo()
    assert hashes(build(dumps, chunk_documents=100)) == expected


def test_a_finished_corpus_is_not_overwritten(build: Build, dumps: list[Path]) -> None:
    build(dumps)
    with pytest.raises(UserError, match="already holds a finished run"):
        build(dumps)


@pytest.mark.parametrize(
    ("backend", "message"), [("defualt", "unknown"), ("presidio", "presidio_analyzer is not installed")]
)
def test_a_deidentifier_that_cannot_be_had_is_refused_before_any_work(
    build: Build, dumps: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(UserError, match=message):
        build(dumps, deidentifier=backend)
    assert not (tmp_path / "corpus.partial").exists()


def test_a_tokenizer_that_is_not_there_is_named(build: Build, dumps: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no model here"):
        build(dumps, tokenizer=str(tmp_path / "empty"))


def test_errors_are_two_lines_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.cli", "corpus", "build", "--inputs", '["nowhere.zst"]', "--tokenizer", "x"]
    run = subprocess.run([*command, "--output_dir", str(tmp_path / "out")], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.strip().splitlines()[0] == "error: nowhere.zst: no such dump file"
    assert "Traceback" not in run.stderr
