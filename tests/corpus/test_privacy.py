import io
import json
import os
import pickle
import shutil
import stat
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from configs.errors import UserError
from configs.manifest import read_manifest, verify_folder
from corpus import erase as erase_program
from corpus import erasure
from corpus.authors import hash_author, load_author_key
from corpus.canaries import REPEAT_BANDS, SEALED_PATH, make_canaries, seal_canaries
from corpus.chunks import read_rows, rows_of_lines
from corpus.config import CorpusRecipe
from corpus.erasure import erase, find_shards, verify_proof
from corpus.lock_files import main as vault_main
from corpus.reddit_api import Gone
from corpus.shards import SPLITS, TokenShards, documents_path
from corpus.tombstones import Tombstones
from corpus.vault import Vault, create_key, destroy_key
from tests.corpus.conftest import hold, make_post, pack_lines, pack_zstd

pytest.importorskip("pyrage", reason="needs pip install -e '.[vault]'")
pytest.importorskip("cryptography", reason="needs pip install -e '.[vault]'")
Build = Callable[..., Path]


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "RS_2020.zst"
    path.write_bytes(pack_zstd(pack_lines(make_post(number) for number in range(400))))
    return path


def all_rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "documents").rglob("*.zst")) for row in read_rows(path)]


def all_ids(folder: Path) -> set[str]:
    return {name for split in SPLITS for name in TokenShards(folder, split).ids}


# ---------------------------------------------------------------------------------------------------------- authors


def test_author_hashes_need_the_key(tmp_path: Path) -> None:
    key, other = load_author_key(tmp_path / "a"), load_author_key(tmp_path / "b")
    assert hash_author(key, "Someone") == hash_author(key, "someone") == hash_author(key, "SOMEONE")
    assert hash_author(key, "someone") != hash_author(other, "someone")
    assert hash_author(key, "") == ""
    assert load_author_key(tmp_path / "a") == key
    assert stat.S_IMODE((tmp_path / "a" / "author.key").stat().st_mode) == 0o600


def test_a_broken_author_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "author.key").write_text("no key\n")
    with pytest.raises(UserError, match="not a readable author key"):
        load_author_key(tmp_path)
    (tmp_path / "author.key").write_text("ab\n")
    with pytest.raises(UserError, match="has 32 bytes, this one has 1"):
        load_author_key(tmp_path)


def test_only_months_are_published(build: Build, dump: Path) -> None:
    folder = build([dump])
    rows = all_rows(folder)
    assert {len(row["month"]) for row in rows} == {7}
    clocks = [str(make_post(number)["created_utc"]).encode() for number in range(400)]
    written = b"".join(path.read_bytes() for path in folder.rglob("*.parquet"))
    assert not any(clock in json.dumps(rows).encode() or clock in written for clock in clocks)


# ------------------------------------------------------------------------------------------------------------ vault


@pytest.fixture
def key(tmp_path: Path) -> Path:
    create_key(tmp_path / "vault" / "a.key")
    return tmp_path / "vault" / "a.key"


def test_a_locked_dump_builds_the_same_corpus(build: Build, dump: Path, key: Path, tmp_path: Path) -> None:
    open_one = build([dump], "open")
    locked = Vault(key).lock_file(dump)
    assert not dump.exists()
    assert locked.name == "RS_2020.zst.age"
    with pytest.raises(UserError, match="this dump is locked"):
        build([locked], "no_key")
    folder = build([locked], "locked", vault_key=str(key))
    assert all_rows(folder) == all_rows(open_one)


def test_intermediate_files_hold_no_readable_text(
    build: Build, dump: Path, key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("corpus.build_corpus.Finish", stop)
    for name, options in (("open", {}), ("locked", {"vault_key": str(key)})):
        with pytest.raises(KeyboardInterrupt):
            build([dump], name, **options)
    chunk = next((tmp_path / "open.partial").rglob("00000.jsonl.zst"))
    assert len(list(read_rows(chunk))) == 400
    for path in (tmp_path / "locked.partial").rglob("*.jsonl.zst"):
        assert path.read_bytes().startswith(b"age-encryption.org/v1")
        destroy_key(key)
        with pytest.raises(UserError, match="not a readable vault key"):
            list(read_rows(path, Vault(key)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-30], "cut or was changed"),
        (lambda content: content[:20], "cut or was changed"),
        (lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:], "cut or was changed"),
        (lambda content: b"", "cut or was changed"),
    ],
)
def test_cut_and_changed_files_are_told(
    tmp_path: Path, key: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    vault, path = Vault(key), tmp_path / "a.jsonl"
    path.write_bytes(os.urandom(300_000))
    locked = vault.lock_file(path)
    locked.write_bytes(damage(locked.read_bytes()))
    with pytest.raises(UserError, match=message):
        vault.unlock(locked.read_bytes(), locked)
    with pytest.raises(UserError, match=message):
        list(vault.unlock_blocks(locked))
    with pytest.raises(UserError, match=message):
        vault.unlock_file(locked)
    assert not path.exists()
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [locked.name]


def test_a_tampered_locked_dump_stops_the_build(build: Build, dump: Path, key: Path) -> None:
    locked = Vault(key).lock_file(dump)
    content = bytearray(locked.read_bytes())
    content[-100] ^= 1
    locked.write_bytes(content)
    with pytest.raises(UserError, match="cut or was changed"):
        build([locked], vault_key=str(key))


@pytest.mark.parametrize("died", [False, True])
def test_a_locked_file_that_fails_to_open_does_not_hang_its_reader(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, died: bool
) -> None:
    vault, path = Vault(key), tmp_path / "a.jsonl"
    path.write_bytes(os.urandom(300_000))
    locked = vault.lock_file(path)
    if died:
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        monkeypatch.setattr(
            vault, "_pyrage", mock.Mock(DecryptError=OSError, decrypt_io=mock.Mock(side_effect=ValueError))
        )
    else:
        locked.unlink()
    failure: list[UserError] = []

    def read() -> None:
        with pytest.raises(UserError) as caught:
            list(vault.unlock_blocks(locked))
        failure.append(caught.value)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=20)
    assert [error.what for error in failure] == [
        "this locked file is cut or was changed; nothing of it is used"
        if died
        else "cannot be opened (No such file or directory)"
    ]


def test_another_key_is_told_from_damage(tmp_path: Path, key: Path) -> None:
    create_key(tmp_path / "b.key")
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 1000)
    locked = Vault(key).lock_file(path)
    for read in (lambda vault: vault.unlock(locked.read_bytes(), locked), lambda vault: vault.unlock_file(locked)):
        with pytest.raises(UserError, match="locked with another key"):
            read(Vault(tmp_path / "b.key"))


def test_the_vault_command(tmp_path: Path) -> None:
    key, file = tmp_path / "k", tmp_path / "a.jsonl"
    file.write_bytes(b"content")
    vault_main(["--create", str(key)], "vault")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(UserError, match="a key is here already"):
        vault_main(["--create", str(key)], "vault")
    vault_main(["--key", str(key), "--lock", json.dumps([str(file)])], "vault")
    assert not file.exists()
    vault_main(["--key", str(key), "--unlock", json.dumps([f"{file}.age"])], "vault")
    assert file.read_bytes() == b"content"
    vault_main(["--destroy", str(key)], "vault")
    with pytest.raises(UserError, match="not a readable vault key"):
        vault_main(["--key", str(key), "--unlock", json.dumps([f"{file}.age"])], "vault")
    with pytest.raises(UserError, match="nothing to do"):
        vault_main([], "vault")


def test_a_pickled_vault_carries_no_key(key: Path) -> None:
    assert b"AGE-SECRET-KEY" not in pickle.dumps(Vault(key))
    assert pickle.loads(pickle.dumps(Vault(key))).unlock(Vault(key).lock(b"x"), key) == b"x"


# --------------------------------------------------------------------------------------------------------- canaries


def test_canaries_are_planted_as_often_as_the_sealed_file_says(build: Build, dump: Path) -> None:
    folder = build([dump], canaries_per_band=64, chunk_documents=50)
    canaries = list(rows_of_lines((folder / SEALED_PATH).read_bytes()))
    texts = [row["text"] for row in all_rows(folder)]
    assert {band: sum(c["repeats"] == band for c in canaries) for band in REPEAT_BANDS} == {0: 64, 1: 64, 4: 64}
    assert [texts.count(canary["text"]) for canary in canaries] == [canary["repeats"] for canary in canaries]
    held_out = [row["id"] for path in (folder / "documents" / "held_out").iterdir() for row in read_rows(path)]
    assert not [name for name in held_out if name.startswith("canary")]
    assert stat.S_IMODE((folder / SEALED_PATH).stat().st_mode) == 0o600
    assert json.loads((folder / "report.json").read_text())["counts"]["canary_copies"] == 64 * 5
    assert all_ids(folder) == {row["id"] for row in all_rows(folder)}


def test_two_corpora_of_one_key_share_no_canary_and_a_rebuild_has_the_same(build: Build, dump: Path) -> None:
    def canaries_of(name: str, **keys: object) -> list[bytes]:
        # Half are held out: of the twenty authors of one subreddit none would be now and then, with a key drawn anew.
        keys = {"held_out_share": 0.5, "canaries_per_band": 64} | keys
        return (build([dump], name, **keys) / SEALED_PATH).read_bytes().splitlines()

    first = canaries_of("first")
    assert canaries_of("again", workers=2) == first
    for changed in ({"subreddits": ["anxiety"]}, {"seed": 14}, {"held_out_share": 0.6}):
        assert not set(canaries_of(f"with_{next(iter(changed))}", **changed)) & set(first)


def test_a_resumed_build_keeps_the_canaries_that_it_has_planted(tmp_path: Path) -> None:
    recipe = CorpusRecipe(output_dir=tmp_path, inputs=["x.zst"], tokenizer="x", canaries_per_band=2)
    seal_canaries(tmp_path, make_canaries(recipe, b"key"))
    before = (tmp_path / SEALED_PATH).read_bytes()
    seal_canaries(tmp_path, make_canaries(recipe, b"another version of the program"))
    assert (tmp_path / SEALED_PATH).read_bytes() == before


def test_without_the_switch_nothing_is_planted(build: Build, dump: Path) -> None:
    folder = build([dump])
    assert not (folder / SEALED_PATH).exists()
    assert not [row for row in all_rows(folder) if row["id"].startswith("canary")]


# ---------------------------------------------------------------------------------------------------------- erasure


@pytest.fixture
def corpus(build: Build, dump: Path) -> Path:
    return build([dump], chunk_documents=40)


def file_states(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_described_as_it_is(corpus: Path) -> None:
    """The card and the Croissant description say what is in the corpus now."""
    manifest = read_manifest(corpus)
    description = json.loads((corpus / "croissant.json").read_text())
    *files, every = description["distribution"]
    tables = {name: record.sha256 for name, record in manifest.outputs.items() if name.endswith(".documents.parquet")}
    assert {file["@id"]: file["sha256"] for file in files} == tables
    assert {file["@id"] for file in every["containedIn"]} == set(tables)
    card, kept = (corpus / "card.md").read_text(), f"{len(all_ids(corpus)):,}"
    assert description["description"].startswith(f"{kept} ")
    assert f"\n{kept} public Reddit posts" in card
    for split in SPLITS:
        documents, tokens = manifest.counts["documents"][split], manifest.counts["tokens"][split]
        assert f"\n| {split} | {documents:,} | {tokens:,} |\n" in card


def test_what_the_builder_wrote_into_the_card_outlives_an_erasure(corpus: Path, tmp_path: Path) -> None:
    card = corpus / "card.md"
    card.write_text(card.read_text().replace("the builder's to obtain", "obtained from an invented board"))
    erase(corpus, tmp_path / "keys", ids=["t3_p45"])
    assert "obtained from an invented board" in card.read_text()
    assert_described_as_it_is(corpus)


def test_erasing_posts_rewrites_their_shards_and_no_other(corpus: Path, tmp_path: Path) -> None:
    before, ids = file_states(corpus), all_ids(corpus)
    victims = {"t3_p45", "t3_p47"}  # both in chunk 1
    result = erase(corpus, tmp_path / "keys", ids=["t3_p45", "p47", "t3_never"])
    assert (result.posts, result.not_found) == (2, 2)  # `p47` also means a comment
    assert all_ids(corpus) == ids - victims
    assert {row["id"] for row in all_rows(corpus)} == ids - victims
    after = file_states(corpus)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed - {"manifest.json", "card.md", "croissant.json"} == {
        f"{kind}/{shard}{end}"
        for shard in result.shards
        for kind, end in (("tokens", ".tokens"), ("tokens", ".documents.parquet"), ("documents", ".jsonl.zst"))
    }
    assert set(after) == set(before)
    assert verify_folder(corpus, stage="corpus") == []


def test_the_rest_of_a_rewritten_shard_is_as_it_was(corpus: Path, tmp_path: Path) -> None:
    def tokens() -> dict[str, list[int]]:
        return {
            name: s[place].tolist()
            for split in SPLITS
            for s in [TokenShards(corpus, split)]
            for place, name in enumerate(s.ids)
        }

    before, rows = tokens(), {row["id"]: row for row in all_rows(corpus)}
    erase(corpus, tmp_path / "keys", ids=["t3_p45"])
    del before["t3_p45"], rows["t3_p45"]
    assert tokens() == before
    assert {row["id"]: row for row in all_rows(corpus)} == rows


def test_erasing_an_author_and_a_whole_shard(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "RS.jsonl"
    path.write_bytes(pack_lines(make_post(n, author="gone" if n < 40 else f"writer_{n}") for n in range(200)))
    corpus = build([path], chunk_documents=40)
    author = hash_author(load_author_key(tmp_path / "keys"), "gone")
    result = erase(corpus, tmp_path / "keys", author_hashes=[author])
    assert result.posts == 40
    assert author not in {row["author_hash"] for row in all_rows(corpus)}
    assert not [file for file in corpus.rglob("*") if result.shards[0] in str(file)]
    assert_described_as_it_is(corpus)
    assert verify_folder(corpus, stage="corpus") == []
    assert read_manifest(corpus).counts["kept"] == 160
    again = build([path], "again", chunk_documents=40)
    counts = json.loads((again / "report.json").read_text())["counts"]
    assert counts["dropped"]["erased"] == 40


def test_a_later_build_never_brings_erased_posts_back(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "RS.jsonl"
    repost = make_post(3, id="repost", created_utc=1_700_000_000, title="again")
    path.write_bytes(pack_lines([*(make_post(number) for number in range(200)), repost]))
    corpus = build([path])
    assert "t3_repost" not in all_ids(corpus)  # a duplicate of p3
    erase(corpus, tmp_path / "keys", ids=["t3_p3"])
    later = build([path], "later")
    assert not {"t3_p3", "t3_repost"} & all_ids(later)  # its copy does not take its place
    assert len(all_ids(later)) == 199


@pytest.mark.parametrize("where", ["Build._seal_canaries", "Build._report", "write_run_manifest", "publish_run_folder"])
def test_what_is_erased_while_a_build_waits_to_be_continued_stays_out(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "RS.jsonl"
    repost = make_post(3, id="repost", created_utc=1_700_000_000, title="again")
    path.write_bytes(pack_lines([*(make_post(number) for number in range(200)), repost]))
    keys = {name: tmp_path / name for name in ("keys", "keys_of_expected")}
    author = hash_author(load_author_key(keys["keys"]), "writer_5")
    shutil.copytree(keys["keys"], keys["keys_of_expected"])
    Tombstones(keys["keys_of_expected"]).add(["t3_p3", author])
    expected = build([path], "expected", chunk_documents=40, keys_dir=str(keys["keys_of_expected"]))
    with monkeypatch.context() as patch:
        patch.setattr(f"corpus.build_corpus.{where}", stop)
        with pytest.raises(KeyboardInterrupt):
            build([path], chunk_documents=40)
    Tombstones(keys["keys"]).add(["t3_p3", author])
    corpus = build([path], chunk_documents=40)
    assert "t3_p3" not in all_ids(corpus)
    assert author not in {row["author_hash"] for row in all_rows(corpus)}
    assert verify_folder(corpus, stage="corpus") == []
    if where.startswith("Build."):  # later there is nothing to decide anew with: copies by others stay
        assert all_rows(corpus) == all_rows(expected)
        assert read_manifest(corpus).counts["dropped"] == read_manifest(expected).counts["dropped"]


@pytest.mark.parametrize("where", ["corpus.erasure._stage_shard", "corpus.erasure.remove_folder", "publish_run_folder"])
def test_an_erasure_at_the_end_of_a_build_is_never_left_undone(
    build: Build, dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("corpus.build_corpus.write_run_manifest", stop)
        with pytest.raises(KeyboardInterrupt):
            build([dump], chunk_documents=40)
    Tombstones(tmp_path / "keys").add(["t3_p3"])
    with monkeypatch.context() as patch:
        patch.setattr(where if "." in where else f"corpus.build_corpus.{where}", stop)
        with pytest.raises(KeyboardInterrupt):
            build([dump], chunk_documents=40)
    assert not (tmp_path / "corpus").exists()  # a corpus that has its name holds no erased post
    corpus = build([dump], chunk_documents=40)
    assert "t3_p3" not in all_ids(corpus)
    assert_described_as_it_is(corpus)
    assert verify_folder(corpus, stage="corpus") == []
    assert [verify_proof(record) for record in read_manifest(corpus).counts["erasures"]] == [True]
    assert not (corpus / erasure.STAGING_NAME).exists()


def test_a_post_that_one_file_calls_deleted_goes_from_every_file(build: Build, tmp_path: Path) -> None:
    posts = [make_post(number) for number in range(200)]
    marks = [
        {"selftext": "[deleted]"},
        {"selftext": "[removed]", "removed_by_category": "moderator"},
        {"_meta": {"was_deleted_later": True}},
        {"author": "[deleted]"},
        {"selftext": "short"},  # dropped for what it is: its other copy stays
    ]
    repost = make_post(0, id="repost", created_utc=1_700_000_000)
    first, second = tmp_path / "RS_1.jsonl", tmp_path / "RS_2.jsonl"
    first.write_bytes(pack_lines([*posts, repost]))
    second.write_bytes(pack_lines(post | mark for post, mark in zip(posts, marks, strict=False)))
    kept = all_ids(build([first, second], chunk_documents=40))
    assert {post["id"] for post in posts} - {name.removeprefix("t3_") for name in kept} == {"p0", "p1", "p2", "p3"}
    assert "t3_repost" not in kept
    assert "t3_p3" in all_ids(build([first, second], "accounts", deleted_accounts="keep"))


def test_the_proof_is_signed_and_chained(corpus: Path, tmp_path: Path) -> None:
    erase(corpus, tmp_path / "keys", ids=["t3_p45"])
    erase(corpus, tmp_path / "keys", ids=["t3_p99"])
    first, second = read_manifest(corpus).counts["erasures"]
    assert verify_proof(first)
    assert verify_proof(second)
    assert first["public_key"] == second["public_key"]
    assert first["posts"] == 1
    for change in ({"posts": 0}, {"shards": []}, {"erased_at": "1999"}):
        assert not verify_proof(first | change)
    assert "p45" not in json.dumps(read_manifest(corpus).counts)
    assert "p45" not in (tmp_path / "keys" / "tombstones.jsonl").read_text()


@pytest.mark.parametrize("stop_at", [2, 4, 6, 7, 8, 10, 12, 13])
def test_an_erasure_killed_anywhere_is_finished_by_the_next(
    build: Build, dump: Path, tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = build([dump], chunk_documents=40)
    ids, calls, replace = all_ids(corpus), 0, Path.replace

    def die(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        erase(corpus, tmp_path / "keys", ids=["t3_p45"])
    monkeypatch.undo()
    erase(corpus, tmp_path / "keys", ids=["t3_p45"])
    assert_described_as_it_is(corpus)
    assert all_ids(corpus) == ids - {"t3_p45"} == {row["id"] for row in all_rows(corpus)}
    assert verify_folder(corpus, stage="corpus") == []
    assert len(read_manifest(corpus).counts["erasures"]) == 1
    assert not (corpus / erasure.STAGING_NAME).exists()


def stop_erasing_within_the_plan(corpus: Path, keys_dir: Path, ids: list[str]) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corpus.erasure._carry_out", die)
        with pytest.raises(KeyboardInterrupt):
            erase(corpus, keys_dir, ids=ids)


def test_resync_finishes_an_erasure_although_nothing_more_is_gone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_erasing_within_the_plan(corpus, tmp_path / "keys", ["t3_p45"])
    asked = stand_in_for_reddit(monkeypatch, gone=[])
    ids = all_ids(corpus)
    erase_program.resync(["--corpus", str(corpus)], "resync")
    assert all_ids(corpus) == set(asked) == ids - {"t3_p45"}
    assert verify_folder(corpus, stage="corpus") == []


def test_the_proof_of_an_erasure_after_an_interrupted_one_has_the_hashes_that_it_met(
    corpus: Path, tmp_path: Path
) -> None:
    stop_erasing_within_the_plan(corpus, tmp_path / "keys", ["t3_p45"])
    (shard,) = find_shards(corpus, {"t3_p45"}, set())
    others = [row["id"] for row in read_rows(documents_path(corpus, *shard)) if row["id"] != "t3_p45"]
    erase(corpus, tmp_path / "keys", ids=others[:1])
    first, second = read_manifest(corpus).counts["erasures"]
    assert second["before"] == first["after"]


def test_shards_are_found_by_reading_tables_only(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus.erasure.read_shard", None)
    assert len(find_shards(corpus, {"t3_p45"}, set())) == 1
    assert find_shards(corpus, {"t3_nothing"}, set()) == []


def test_the_erase_command(corpus: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("t3_p45\n\n p46 \n")
    erase_program.main(["--corpus", str(corpus), "--ids", str(ids)], "erase")
    assert not {"t3_p45", "t3_p46"} & all_ids(corpus)
    author = all_rows(corpus)[0]["author_hash"]
    erase_program.main(["--corpus", str(corpus), "--author_hash", author], "erase")
    assert author not in {row["author_hash"] for row in all_rows(corpus)}
    assert not corpus.with_name("corpus.lock").exists()


def test_nothing_is_erased_while_another_process_erases(corpus: Path, tmp_path: Path) -> None:
    ids, before = tmp_path / "ids.txt", all_ids(corpus)
    ids.write_text("t3_p45\n")
    with hold(corpus), pytest.raises(UserError, match="is at work here"):
        erase_program.main(["--corpus", str(corpus), "--ids", str(ids)], "erase")
    assert all_ids(corpus) == before


def test_an_author_who_asks_is_erased_by_name_which_is_written_nowhere(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    author = hash_author(load_author_key(tmp_path / "keys"), "writer_7")
    assert author in {row["author_hash"] for row in all_rows(corpus)}
    monkeypatch.setattr("sys.stdin", io.StringIO("u/Writer_7\n"))
    with caplog.at_level("DEBUG"):
        erase_program.main(["--corpus", str(corpus), "--ask_author", "true"], "erase")
    assert author not in {row["author_hash"] for row in all_rows(corpus)}
    written = [path for folder in (corpus, tmp_path / "keys") for path in folder.rglob("*") if path.is_file()]
    assert not any(b"writer_7" in path.read_bytes().lower() for path in written)
    assert "writer_7" not in caplog.text.lower()
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(UserError, match="no name of an author"):
        erase_program.main(["--corpus", str(corpus), "--ask_author", "true"], "erase")
    (tmp_path / "keys" / "author.key").unlink()
    with pytest.raises(UserError, match="no name can be tied to its hashes"):
        erase_program.main(["--corpus", str(corpus), "--ask_author", "true"], "erase")
    assert not (tmp_path / "keys" / "author.key").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either"),
        (["--ask_author", "true", "--author_hash", "0" * 32], "give either"),
        (["--author_hash", "someone"], "32 hex digits"),
        (["--ids", "/nowhere/ids"], "not a readable list"),
    ],
)
def test_bad_requests(corpus: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        erase_program.main(["--corpus", str(corpus), *arguments], "erase")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mistyped", "keys folder of this corpus is not here"),
        ("empty", "holds no keys"),
        ("other", "keys of other corpora"),
    ],
)
@pytest.mark.parametrize("program", [erase_program.main, erase_program.resync])
def test_tombstones_go_where_later_builds_look(
    corpus: Path, tmp_path: Path, name: str, message: str, program: Callable[[list[str], str], None]
) -> None:
    (tmp_path / "empty").mkdir()
    load_author_key(tmp_path / "other")
    what = [] if program is erase_program.resync else ["--author_hash", "0" * 32]
    with pytest.raises(UserError, match=message):
        program(["--corpus", str(corpus), "--keys_dir", str(tmp_path / name), *what], "erase")
    assert not (tmp_path / "mistyped").exists()
    assert list(tmp_path.glob("*/tombstones.jsonl")) == [tmp_path / "keys" / "tombstones.jsonl"]
    assert len(Tombstones(tmp_path / "keys")) == 0


def test_an_author_key_that_was_removed_does_not_end_erasure(corpus: Path, tmp_path: Path) -> None:
    erase(corpus, tmp_path / "keys", ids=["t3_p45"])
    (tmp_path / "keys" / "author.key").unlink()
    erase_program.main(["--corpus", str(corpus), "--author_hash", "0" * 32], "erase")
    assert len(Tombstones(tmp_path / "keys")) == 2


def test_a_project_is_known_by_its_tombstones_when_its_author_key_is_removed(
    build: Build, dump: Path, corpus: Path, tmp_path: Path
) -> None:
    """As docs/corpus.md tells: before any erasure, and although a later build has made another key since."""
    (tmp_path / "keys" / "author.key").unlink()
    erase_program.main(["--corpus", str(corpus), "--author_hash", "0" * 32], "erase")
    later = build([dump], "later")
    assert read_manifest(later).counts["author_key"] != read_manifest(corpus).counts["author_key"]
    for folder in (corpus, later):
        erase_program.main(["--corpus", str(folder), "--author_hash", "1" * 32], "erase")
    assert len(Tombstones(tmp_path / "keys")) == 2
    (tmp_path / "keys" / "tombstones.jsonl").unlink()
    with pytest.raises(UserError, match="keys of other corpora"):
        erase_program.main(["--corpus", str(corpus), "--author_hash", "0" * 32], "erase")


def test_a_corpus_of_an_earlier_version_is_known_by_its_author_key(corpus: Path, tmp_path: Path) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    del manifest["counts"]["project"]
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    load_author_key(tmp_path / "other")
    what = ["--corpus", str(corpus), "--author_hash", "0" * 32]
    erase_program.main(what, "erase")
    with pytest.raises(UserError, match="keys of other corpora"):
        erase_program.main([*what, "--keys_dir", str(tmp_path / "other")], "erase")


def test_a_bad_line_of_ids_is_named(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("t3_a\nhttps://example.org\n")
    with pytest.raises(UserError, match="ids:2: not a post id"):
        erase_program.read_ids(tmp_path / "ids")


def test_erasing_from_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        erase(tmp_path, tmp_path / "keys", ids=["a"])


def test_broken_tombstones_stop_the_build(build: Build, dump: Path, tmp_path: Path) -> None:
    Tombstones(tmp_path / "keys").add(["t3_a"])
    path = tmp_path / "keys" / "tombstones.jsonl"
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(UserError, match=r"tombstones\.jsonl:3: not a tombstone"):
        build([dump])


def test_tombstones_only_grow(tmp_path: Path) -> None:
    assert Tombstones(tmp_path).add(["t3_a", "t3_b"]) == 2
    assert Tombstones(tmp_path).add(["t3_b", "t3_c"]) == 1
    found = Tombstones(tmp_path)
    assert len(found) == 3
    assert [name in found for name in ("t3_a", "t3_c", "t3_d", "")] == [True, True, False, False]


def test_erasures_that_run_at_once_lose_no_tombstone(tmp_path: Path) -> None:
    early = Tombstones(tmp_path)  # has read the list before the others add to it
    Tombstones(tmp_path).add(["t3_a"])
    early.add(["t3_b"])
    with ThreadPoolExecutor(4) as pool:  # each opens the lock for itself, as a process would
        list(pool.map(lambda number: Tombstones(tmp_path).add([f"t3_p{number}"]), range(40)))
    found = Tombstones(tmp_path)
    assert all(name in found for name in ["t3_a", "t3_b", *(f"t3_p{number}" for number in range(40))])


def test_a_signing_key_that_another_program_makes_meanwhile_is_used(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, exists = tmp_path / "keys" / "signing.key", Path.exists

    def missed(self: Path) -> bool:
        if self == path and not exists(self):
            path.write_text("11" * 32 + "\n")
            return False
        return exists(self)

    monkeypatch.setattr(Path, "exists", missed)
    erase(corpus, tmp_path / "keys", ids=["t3_p45"])
    assert path.read_text() == "11" * 32 + "\n"
    assert verify_proof(read_manifest(corpus).counts["erasures"][0])


@pytest.mark.parametrize("program", [erase_program.main, erase_program.resync])
def test_a_corpus_that_is_not_there_is_named(tmp_path: Path, program: Callable[[list[str], str], None]) -> None:
    what = [] if program is erase_program.resync else ["--author_hash", "0" * 32]
    with pytest.raises(UserError, match=r"mistyped: this folder holds no finished run"):
        program(["--corpus", str(tmp_path / "mistyped"), "--keys_dir", str(tmp_path), *what], "erase")


def stand_in_for_reddit(
    monkeypatch: pytest.MonkeyPatch, gone: Collection[str], failing_at: str = "", absent: Sequence[Collection[str]] = ()
) -> list[str]:
    """Answer `find_gone`; returns the list that will hold what was asked."""
    asked: list[str] = []

    gaps = iter(absent)  # one entry an answer

    def find_gone(ids: list[str], *, accounts: bool) -> Gone:
        assert accounts  # as the corpus was built
        asked.extend(ids)
        if failing_at in ids:
            raise UserError("Reddit has not answered for 60 minutes")
        missing = set(ids) & set(next(gaps, ()))
        return Gone({name for name in ids if name in gone} - missing, missing)

    monkeypatch.setattr("corpus.reddit_api.find_gone", find_gone)
    return asked


def test_resync_erases_what_is_gone(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in_for_reddit(monkeypatch, gone=["t3_p45"])
    ids = all_ids(corpus)
    erase_program.resync(["--corpus", str(corpus)], "resync")
    assert set(asked) == ids
    assert all_ids(corpus) == ids - {"t3_p45"}


def test_what_reddit_does_not_show_at_all_is_no_deletion(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed subreddit or an outage: what is shown as deleted goes, what is only missing stays."""
    ids, what = erase_program.list_ids(corpus), ["--corpus", str(corpus)]
    stand_in_for_reddit(monkeypatch, gone=[ids[5]], absent=[ids[20:80], ids[20:80]])
    with pytest.raises(UserError, match=r"does not show 60 of 400 posts at all[\s\S]*--erase_absent true"):
        erase_program.resync(what, "resync")
    assert all_ids(corpus) == set(ids) - {ids[5]}
    stand_in_for_reddit(monkeypatch, gone=[], absent=[ids[20:80], ids[20:80]])
    erase_program.resync([*what, "--erase_absent", "true"], "resync")
    assert all_ids(corpus) == set(ids) - {ids[5], *ids[20:80]}


def test_an_absent_post_is_asked_about_twice(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = erase_program.list_ids(corpus)
    stand_in_for_reddit(monkeypatch, gone=[], absent=[ids, ids[29:31]])
    erase_program.resync(["--corpus", str(corpus)], "resync")
    assert all_ids(corpus) == set(ids) - {ids[29], ids[30]}  # the rest was a gap in one answer


def test_what_resync_found_before_a_failure_is_erased(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = erase_program.list_ids(corpus)
    monkeypatch.setattr(erase_program, "RESYNC_POSTS", 50)
    stand_in_for_reddit(monkeypatch, gone=[ids[10], ids[60], ids[120]], failing_at=ids[110])
    with pytest.raises(UserError, match="has not answered"):
        erase_program.resync(["--corpus", str(corpus)], "resync")
    assert all_ids(corpus) == set(ids) - {ids[10], ids[60]}
    assert verify_folder(corpus, stage="corpus") == []
