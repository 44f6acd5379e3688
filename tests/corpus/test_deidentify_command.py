"""`mindshift corpus deidentify`: files in, files out, whatever the lines hold."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import UserError
from corpus.deidentify import mask
from corpus.deidentify.command import LINES_PER_TASK, main
from corpus.deidentify.spans import Span

ROOT = Path(__file__).resolve().parents[2]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(source, target, *more):
    main([f"--input={source}", f"--output={target}", *more], "mindshift corpus deidentify")


def test_spans_point_into_the_input_and_text_is_masked(tmp_path):
    rows = [
        {"id": "a", "text": "😭 mail jo@example.org or u/some_one 😭"},
        {"id": 2, "text": "i feel so tired"},
        {"id": "c", "text": "lone \ud83d surrogate, @jane_d"},
    ]
    write_jsonl(tmp_path / "in.jsonl", rows)
    run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--backend=rules")
    written = read_jsonl(tmp_path / "out.jsonl")
    assert [row["id"] for row in written] == ["a", 2, "c"]
    for row, source in zip(written, rows, strict=True):
        spans = [Span(span["start"], span["end"], span["label"]) for span in row["spans"]]
        assert mask(source["text"], spans) == row["text"]
    assert written[0]["text"] == "😭 mail [email] or [user] 😭"
    assert written[1] == {"id": 2, "text": "i feel so tired", "spans": []}
    assert not (tmp_path / "out.jsonl.quarantine.jsonl").exists()


def test_bad_lines_are_quarantined_by_number_without_their_text(tmp_path):
    secret = "call 555-867-5309"
    lines = ['{"id": 1, "text": "fine"}', f'{{"id": 2, "text": "{secret}', '{"id": 3}', "", "[1]", '{"text": "no id"}']
    (tmp_path / "in.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--backend=rules")
    assert [row["id"] for row in read_jsonl(tmp_path / "out.jsonl")] == [1]
    quarantine = (tmp_path / "out.jsonl.quarantine.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["line"] for line in quarantine.splitlines()] == [2, 3, 5, 6, 7]
    assert secret not in quarantine


def test_other_fields_stay_and_those_with_words_are_named(tmp_path, caplog):
    rows = [{"id": n, "text": "mail jo@example.org", "labels": ["low"], "patient": f"p{n}", "age": 40} for n in (1, 2)]
    write_jsonl(tmp_path / "in.jsonl", rows)
    with caplog.at_level("WARNING"):
        run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--backend=rules")
    written = read_jsonl(tmp_path / "out.jsonl")
    assert [row.pop("spans")[0]["label"] for row in written] == ["EMAIL", "EMAIL"]
    assert written == [row | {"text": "mail [email]"} for row in rows]
    assert "copied as they are, not masked: patient" in caplog.text


@pytest.mark.parametrize("name", ["notes.csv", "notes.tsv", "notes.parquet", "notes.json"])
def test_tables_are_read_as_fine_tuning_reads_them(tmp_path, name):
    frame = pd.DataFrame([{"patient": f"p{n}", "statement": "call u/some_one", "label": "low"} for n in range(3)])
    write = {"csv": frame.to_csv, "tsv": functools.partial(frame.to_csv, sep="\t"), "parquet": frame.to_parquet}
    path = tmp_path / name
    if name.endswith("json"):
        frame.to_json(path, orient="records")
    else:
        write[name.partition(".")[2]](path, index=False)
    run(path, tmp_path / "out.jsonl", "--backend=rules")
    written = read_jsonl(tmp_path / "out.jsonl")
    assert [(row["patient"], row["statement"], row["label"]) for row in written] == [
        (f"p{n}", "call [user]", "low") for n in range(3)
    ]
    run(path, tmp_path / "other.jsonl", "--backend=rules", "--text_column=patient")
    assert [row["statement"] for row in read_jsonl(tmp_path / "other.jsonl")] == ["call u/some_one"] * 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "in.jsonl",
            b"id,text\n1,fine\n",
            r"in.jsonl: no readable text \(2 unreadable rows\): .*quarantine.jsonl says why",
        ),
        ("in.csv", b"", "no readable text"),
        ("in.csv", b"id,words\n1,fine\n", "which column is the text"),
    ],
)
def test_a_file_of_which_nothing_could_be_read_leaves_no_output(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(tmp_path / name, tmp_path / "out.jsonl", "--backend=rules")
    assert not (tmp_path / "out.jsonl").exists()


def test_processes_keep_the_order_and_give_the_same_bytes(tmp_path):
    rows = [
        {"id": n, "text": f"post {n} of u/user_{n % 7}, see https://example.org/{n}"} for n in range(3 * LINES_PER_TASK)
    ]
    write_jsonl(tmp_path / "in.jsonl", rows)
    run(tmp_path / "in.jsonl", tmp_path / "one.jsonl", "--backend=rules", "--workers=1")
    run(tmp_path / "in.jsonl", tmp_path / "two.jsonl", "--backend=rules", "--workers=2")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert [row["id"] for row in read_jsonl(tmp_path / "one.jsonl")] == list(range(len(rows)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input=absent.jsonl", "--output=out.jsonl"], "no such file"),
        (["--input=in.jsonl", "--output=in.jsonl"], "same file"),
        (["--input=in.jsonl", "--output=nowhere/out.jsonl"], "no such folder"),
        (["--input=in.jsonl", "--output=out.csv"], "the output is JSON lines"),
        (["--input=in.jsonl", "--output=out.jsonl", "--backend=magic"], "allowed: default, rules, presidio"),
        (["--input=in.jsonl", "--output=out.jsonl", "--workers=-1"], "allowed: 0 or more"),
        (["--input=in.jsonl", "--outptu=out.jsonl"], "did you mean 'output'"),
    ],
)
def test_mistakes_are_user_errors(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "x"}])
    with pytest.raises(UserError, match=message):
        main(arguments, "mindshift corpus deidentify")
    assert not (tmp_path / "out.jsonl").exists()


def test_killed_in_the_middle_leaves_no_output_and_the_rerun_is_complete(tmp_path):
    rows = [{"id": n, "text": f"u/user_{n} " + "word " * 200} for n in range(8_000)]
    write_jsonl(tmp_path / "in.jsonl", rows)
    target, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    command = [sys.executable, "-m", "launch.cli", "corpus", "deidentify", "--backend=rules", "--workers=1"]
    command += [f"--input={tmp_path / 'in.jsonl'}", f"--output={target}"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (partial.exists() and partial.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not target.exists()
    write_jsonl(tmp_path / "in.jsonl", rows[:500])
    subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    assert len(read_jsonl(target)) == 500
    assert not partial.exists()
