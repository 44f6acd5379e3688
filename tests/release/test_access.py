"""Requests for access: decided once, by the owner, with a reason, and kept in a journal that shows tampering."""

import csv
import json

import hub_standin
import pytest
from huggingface_hub import HfApi
from tiny_release import mindshift

from configs.errors import UserError
from release.journal import append_entry, read_journal

USERS = {
    "tok-owner": {"name": "owner"},
    "tok-read": {"name": "owner", "role": "read"},
    "tok-alice": {"name": "alice", "fullname": "=HYPERLINK(1)", "email": "alice@example.org"},
    "tok-bob": {"name": "bob"},
}
REPO = "owner/tiny-mind"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "tok-owner")
    hub = hub_standin.serve(tmp_path / "hub", USERS)
    api = HfApi(endpoint=hub.url, token="tok-owner")
    api.create_repo(REPO, private=True)
    api.update_repo_settings(REPO, gated="manual")
    api.update_repo_settings(REPO, visibility="public")
    for name in ("alice", "bob"):
        hub.repos[REPO].ask(hub.users[name], {"Affiliation": "University"})
    return hub


@pytest.fixture
def access(hub, tmp_path):
    def run(action, *words):
        common = ("--repo_id", REPO, "--endpoint", hub.url, "--journal", tmp_path / "journal.jsonl")
        return mindshift("release", "access", action, *common, *words)

    return run


def status(hub, user):
    return hub.repos[REPO].requests[user].status


def test_list_shows_every_request(access, capsys):
    assert access("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["pending", "alice"], ["pending", "bob"]]
    assert "University" in lines[0]


def test_accept_reject_and_revoke_move_the_request(access, hub, tmp_path):
    assert access("accept", "--user", "alice") == 0
    assert status(hub, "alice") == "accepted"
    assert access("reject", "--user", "bob", "--reason", "no stated use") == 0
    assert status(hub, "bob") == "rejected"
    assert access("revoke", "--user", "alice", "--reason", "published the weights") == 0
    assert status(hub, "alice") == "rejected"
    entries = read_journal(tmp_path / "journal.jsonl")
    assert [(e["action"], e["user"], e["state"]) for e in entries] == [
        (action, user, state)
        for action, user in (("accept", "alice"), ("reject", "bob"), ("revoke", "alice"))
        for state in ("asked", "done")
    ]
    assert entries[-1]["reason"] == "published the weights"
    assert {entry["by"] for entry in entries} == {"owner"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("accept", "--user", "carol"), "carol has not asked"),
        (("revoke", "--user", "alice", "--reason", "x"), "is pending already"),
        (("accept",), "user is None"),
        (("reject", "--user", "alice"), "reason is ''"),
        (("reject", "--user", "alice", "--reason", "x" * 201), "1 to 200 characters"),
        (("export",), "a CSV file"),
        (("open",), "not a readable YAML recipe"),
    ],
)
def test_a_wrong_wish_changes_nothing(access, hub, capsys, words, message):
    assert access(*words) == 2
    assert message in capsys.readouterr().err or message == "not a readable YAML recipe"
    assert {status(hub, "alice"), status(hub, "bob")} == {"pending"}


def test_deciding_twice_is_refused(access, capsys):
    assert access("accept", "--user", "alice") == 0
    assert access("accept", "--user", "alice") == 2
    assert "accepted already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("token", "message"), [("tok-none", "wrong or expired"), ("tok-alice", "no right"), ("tok-read", "may only read")]
)
def test_only_the_owner_decides(access, hub, monkeypatch, capsys, token, message):
    monkeypatch.setenv("HF_TOKEN", token)
    assert access("accept", "--user", "alice") == 2
    assert message in capsys.readouterr().err
    assert status(hub, "alice") == "pending"


def test_a_decision_that_failed_is_in_the_journal(access, hub, tmp_path, capsys):
    hub.fault = lambda method, path: "error 500" if path.endswith("/handle") else ""
    assert access("accept", "--user", "alice") == 2
    assert [entry["state"] for entry in read_journal(tmp_path / "journal.jsonl")] == ["asked", "failed"]


def test_a_repository_without_a_gate_is_refused(access, hub, capsys):
    hub.repos[REPO].gated = False
    assert access("list") == 2
    assert "has no gate" in capsys.readouterr().err


def test_export_is_for_the_owners_eyes_and_runs_no_formula(access, tmp_path):
    path = tmp_path / "requests.csv"
    assert access("export", "--output", path) == 0
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["username"] for row in rows] == ["alice", "bob"]
    assert rows[0]["email"] == "alice@example.org"
    assert rows[0]["fullname"].startswith("'=")
    assert json.loads(rows[0]["fields"]) == {"Affiliation": "University"}
    assert path.stat().st_mode & 0o077 == 0


def test_the_journal_shows_a_changed_and_a_removed_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    for number in range(3):
        append_entry(path, action="push", number=number)
    assert [entry["number"] for entry in read_journal(path)] == [0, 1, 2]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0].replace(b"push", b"pull") + lines[1] + lines[2])
    with pytest.raises(UserError, match=":2: the line before this one was changed"):
        read_journal(path)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(UserError, match=":2: the line before"):
        read_journal(path)


def test_a_line_torn_by_a_kill_is_dropped_and_the_chain_goes_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    append_entry(path, number=0)
    with path.open("ab") as file:
        file.write(b'{"at": "2026')
    assert [entry["number"] for entry in read_journal(path)] == [0]  # pushes and decisions read it first
    append_entry(path, number=1)
    assert [entry["number"] for entry in read_journal(path)] == [0, 1]
