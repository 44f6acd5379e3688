"""A push with the unmodified client against the stand-in hub, over LFS and Xet, watched from outside."""

import itertools
import json
import random
import threading
import time
import types
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import hub_standin
import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from tiny_release import mindshift

from configs.errors import UserError
from release.hub import Publication, connect
from release.journal import read_journal

# The client uploads large files to httpx2 in a way that httpx2 calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
USERS = {
    "tok-owner": {"name": "owner"},
    "tok-read": {"name": "owner", "role": "read"},
    "tok-stranger": {"name": "stranger"},
}
REPO = "owner/tiny-mind"
FAULTS = ("cut before", "cut after", "error 500", "dead line", "expired")
LARGE = "model.safetensors"


@pytest.fixture(params=["lfs", "xet"])
def transport(request, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", request.param == "lfs")
    monkeypatch.setattr(huggingface_hub.constants, "HF_XET_CACHE", str(tmp_path / "xet"), raising=False)
    return request.param


@pytest.fixture
def quick(monkeypatch):
    """Let nobody wait between attempts."""
    clock = types.SimpleNamespace(**{name: getattr(time, name) for name in ("time", "monotonic", "perf_counter")})
    clock.sleep = lambda seconds: None
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("release.hub.WAIT_SECONDS", 0)
    huggingface_hub.utils.disable_progress_bars()


@pytest.fixture
def hub(tmp_path, quick):
    return hub_standin.serve(tmp_path / "hub", USERS)


@pytest.fixture
def folder(tmp_path):
    """A small repository folder: one large file, one small one, the card."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: other\n---\n# Card\n")
    (folder / "config.json").write_text("{}")
    (folder / "release.json").write_text('{"name": "tiny-mind"}')
    (folder / LARGE).write_bytes(random.Random(0).randbytes(50_000))
    return folder


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect to the contents counts as an open door, whether or not the contents come."""

    def redirect_request(self, *arguments, **options):
        return None


class Watcher:
    """A stranger who tries every door: after each request of the push, and all the time beside it."""

    def __init__(self, hub, repo=REPO, names=(LARGE, "config.json")):
        self.hub, self.seen, self.looks = hub, [], 0
        self.opener = urllib.request.build_opener(NoRedirects)
        self.doors = [
            *(f"/{repo}/{kind}/main/{name}" for kind in ("resolve", "raw") for name in names),
            *(f"/api/resolve-cache/models/{repo}/main/{name}" for name in names),
            f"/api/models/{repo}/xet-read-token/main",
            f"/api/models/{repo}/auth-check",
        ]

    def __call__(self):
        for door in self.doors:
            self.looks += 1
            request = urllib.request.Request(self.hub.url + quote(door), headers={"X-Watcher": "1"})
            try:
                with self.opener.open(request, timeout=10) as answer:
                    self.seen.append((door, answer.status))
            except urllib.error.HTTPError as error:
                if error.code not in (401, 403, 404):
                    self.seen.append((door, error.code))

    def run_beside(self, action):
        stop = threading.Event()

        def look():
            while not stop.wait(0.001):
                self()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            return action()
        finally:
            stop.set()
            thread.join()


class Fault:
    """Something goes wrong with the `at`-th request (counted from 0); `dead line` and `expired` last from there on."""

    def __init__(self, kind="", at=-1):
        self.kind, self.at, self.requests = kind, at, []

    def __call__(self, method, path):
        number = len(self.requests)
        self.requests.append(f"{method} {path}")
        if self.kind == "dead line":
            return "cut before" if number >= self.at >= 0 else ""
        if self.kind == "expired":
            return "expired" if number >= self.at >= 0 else ""
        return self.kind if number == self.at else ""


def publish(hub, folder, token="tok-owner", **options):
    return Publication(connect(hub.url, token), REPO, folder, tag="v1.0.0", **options).run()


def state(hub):
    """Private, gate and tag of the repository; None if there is none."""
    repo = hub.repos.get(REPO)
    return repo and (repo.private, repo.gated, "v1.0.0" in repo.refs)


OPEN = (False, "manual", True)


def test_a_push_ends_public_gated_and_tagged_and_was_never_open(hub, folder, transport):
    hub.watcher = watcher = Watcher(hub)
    commit = watcher.run_beside(lambda: publish(hub, folder))
    assert state(hub) == OPEN
    assert watcher.seen == []
    assert watcher.looks > 50
    repo = hub.repos[REPO]
    assert repo.refs["v1.0.0"][-1].id == commit
    assert len(repo.refs["main"]) == 2  # the first one is the hub's own
    assert set(repo.refs["main"][-1].files) - {".gitattributes"} == {path.name for path in folder.iterdir()}


def test_what_comes_down_is_what_went_up(hub, folder, transport, tmp_path):
    publish(hub, folder)
    downloaded = HfApi(endpoint=hub.url, token="tok-owner").snapshot_download(REPO, cache_dir=tmp_path / "cache")
    for path in folder.iterdir():
        assert path.read_bytes() == (Path(downloaded) / path.name).read_bytes()


def test_the_watcher_sees_an_open_repository(hub, folder):
    """Without this, the other tests could pass with a blind watcher."""
    watcher = Watcher(hub)
    api = HfApi(endpoint=hub.url, token="tok-owner")
    api.create_repo(REPO)
    api.create_commit(REPO, [CommitOperationAdd(LARGE, str(folder / LARGE))], commit_message="open")
    watcher()
    assert {door for door, _ in watcher.seen} >= {f"/{REPO}/resolve/main/{LARGE}", f"/{REPO}/raw/main/{LARGE}"}


def count_requests(hub, folder):
    hub.fault = Fault()
    publish(hub, folder)
    number = len(hub.fault.requests)
    hub.fault = None
    hub.repos.clear()
    return number


def message_of(action):
    """Return what a user is told when `action` fails, or None."""
    try:
        action()
    except UserError as error:
        return str(error)
    return None


def fault_cases():
    """Every fault over every transport; those that show nothing new are for the slow run."""
    quick = {("lfs", "cut after"), ("lfs", "dead line"), ("xet", "cut before"), ("xet", "expired")}
    for case in itertools.product(("lfs", "xet"), FAULTS):
        yield pytest.param(*case, marks=[] if case in quick else [pytest.mark.slow])


@pytest.mark.parametrize(("transport", "kind"), list(fault_cases()), indirect=["transport"])
def test_a_fault_at_every_request_never_opens_a_door(hub, folder, transport, kind):
    number = count_requests(hub, folder)
    assert number > 20
    outcomes = []
    for at in range(number):
        hub.repos.clear()
        hub.watcher = watcher = Watcher(hub)
        hub.fault = fault = Fault(kind, at)
        message = message_of(lambda: publish(hub, folder))
        outcomes.append(message is None)
        if message is None:
            assert state(hub) == OPEN
        else:
            assert "tok-owner" not in message
            readable = state(hub) is not None and not state(hub)[0]
            if readable:  # the line was dead: nobody could make it private any more, and that was said
                assert kind in ("dead line", "expired")
                assert "could not be confirmed private" in message
                assert state(hub)[1] == "manual"
        assert watcher.seen == [], (kind, at, fault.requests[at])
        hub.fault = None
        watcher()
        assert watcher.seen == []
        publish(hub, folder)  # the same command finishes what was begun
        assert state(hub) == OPEN
        assert len(hub.repos[REPO].refs["main"]) == 2
    assert False in outcomes


@pytest.mark.slow  # minutes: one killed process a request
def test_a_kill_at_every_request_never_opens_a_door(hub, folder):
    """SIGKILL cannot be caught: whatever was done so far must already be safe."""
    number = count_requests(hub, folder)

    class Killed(BaseException):
        pass

    for at in range(number):
        hub.repos.clear()
        hub.watcher = watcher = Watcher(hub)
        hub.fault = Fault("dead line", at)
        publication = Publication(connect(hub.url, "tok-owner"), REPO, folder, tag="v1.0.0")
        publication._withdraw = lambda cause: None  # a killed process does not clean up
        with pytest.raises(UserError):
            publication.run()
        hub.fault = None
        watcher()
        assert watcher.seen == []
        publish(hub, folder)
        assert state(hub) == OPEN


@pytest.mark.parametrize(
    ("token", "message"),
    [("tok-unknown", "wrong or expired"), ("tok-read", "may only read")],
)
def test_a_bad_token_is_refused_before_anything_is_sent(hub, folder, token, message):
    with pytest.raises(UserError, match=message):
        publish(hub, folder, token=token)
    assert hub.repos == {}


def test_no_right_to_write_to_an_existing_repository(hub, folder):
    publish(hub, folder)
    with pytest.raises(UserError, match="no right to write"):
        publish(hub, folder, token="tok-stranger")
    assert state(hub) == OPEN


def test_pushing_twice_changes_nothing(hub, folder):
    assert publish(hub, folder) == publish(hub, folder)
    assert len(hub.repos[REPO].refs["main"]) == 2


@pytest.mark.parametrize("gate", [False, "auto"])
def test_a_name_that_is_public_without_a_manual_gate_is_refused(hub, folder, gate):
    api = HfApi(endpoint=hub.url, token="tok-owner")
    api.create_repo(REPO)
    api.update_repo_settings(REPO, gated=gate)
    with pytest.raises(UserError, match="already public"):
        publish(hub, folder)
    assert len(hub.repos[REPO].refs["main"]) == 1


def test_other_content_is_refused_and_left_alone(hub, folder):
    api = HfApi(endpoint=hub.url, token="tok-owner")
    api.create_repo(REPO, private=True)
    api.create_commit(REPO, [CommitOperationAdd("thesis.txt", b"mine")], commit_message="Mine")
    with pytest.raises(UserError, match="exists with other content"):
        publish(hub, folder)
    with pytest.raises(UserError, match="exists with other content"):
        publish(hub, folder, update_existing=True)  # it is no release of ours
    assert "thesis.txt" in hub.repos[REPO].refs["main"][-1].files
    assert hub.repos[REPO].private


def test_an_earlier_release_is_replaced_by_one_commit_when_asked(hub, folder):
    (folder / "old.json").write_text("{}")
    publish(hub, folder)
    (folder / "old.json").unlink()
    (folder / LARGE).write_bytes(b"other weights" * 1000)
    with pytest.raises(UserError, match="--update_existing true"):
        publish(hub, folder)
    hub.watcher = watcher = Watcher(hub)
    second = Publication(connect(hub.url, "tok-owner"), REPO, folder, tag="v1.1.0", update_existing=True)
    second.run()
    assert watcher.seen == []
    assert len(hub.repos[REPO].refs["main"]) == 3
    assert "old.json" not in hub.repos[REPO].refs["main"][-1].files
    assert state(hub) == OPEN


def test_a_stale_parent_is_refused(hub, folder, monkeypatch):
    api = HfApi(endpoint=hub.url, token="tok-owner")
    commits = itertools.count()

    def interfere(method, path):
        if path.endswith("/preupload/main") and next(commits) == 0:
            hub.repos[REPO].add_commit("main", "meanwhile", dict(hub.repos[REPO].refs["main"][-1].files))
        return ""

    hub.fault = interfere
    with pytest.raises(UserError, match="changed the repository meanwhile"):
        publish(hub, folder)
    assert state(hub)[0]
    assert LARGE not in hub.repos[REPO].refs["main"][-1].files
    assert api.model_info(REPO).private


def test_a_gate_that_the_hub_does_not_keep_is_noticed(hub, folder, monkeypatch):
    """The hub answers 200 to the settings but does not set the gate."""
    monkeypatch.setattr(
        "hub_gate.Repo.configure",
        lambda self, wish: (setattr(self, "private", wish.get("visibility", "private") == "private"), wish)[1],
    )
    with pytest.raises(UserError, match="does not confirm the manual gate"):
        publish(hub, folder)
    assert state(hub)[0]


def test_a_gate_that_lets_strangers_in_is_noticed_by_the_probe(hub, folder, monkeypatch):
    monkeypatch.setattr("hub_gate.Repo.open_to", lambda self, user: True)
    with pytest.raises(UserError, match="a stranger"):
        publish(hub, folder)
    assert state(hub) == (True, "manual", False)


def test_a_version_that_is_released_is_not_replaced_and_stays_open(hub, folder):
    publish(hub, folder)
    commits = [commit.id for commit in hub.repos[REPO].refs["main"]]
    (folder / "config.json").write_text('{"more": 1}')
    with pytest.raises(UserError, match=r"v1\.0\.0 is released already") as error:
        publish(hub, folder, update_existing=True)
    assert "Raise `version`" in str(error.value)
    assert state(hub) == OPEN
    assert [commit.id for commit in hub.repos[REPO].refs["main"]] == commits


def test_a_version_that_is_released_is_not_brought_back_over_a_later_one(hub, folder):
    publish(hub, folder)
    first = (folder / "config.json").read_text()
    (folder / "config.json").write_text('{"more": 1}')
    Publication(connect(hub.url, "tok-owner"), REPO, folder, tag="v1.1.0", update_existing=True).run()
    (folder / "config.json").write_text(first)
    with pytest.raises(UserError, match=r"v1\.0\.0 is released already, and main holds other files"):
        publish(hub, folder, update_existing=True)
    assert state(hub) == OPEN
    assert len(hub.repos[REPO].refs["main"]) == 3


# ---- the command -----------------------------------------------------------------------------------------------------


def push(signed, hub, *more):
    words = ("--release_dir", signed / "built", "--public_key", signed / "keys" / "key.pem.pub", "--repo_id", REPO)
    journal = ("--journal", signed / "journal.jsonl", "--endpoint", hub.url)
    return mindshift("release", "push", *words, *journal, *more)


def test_the_command_publishes_a_signed_release(signed, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "tok-owner")
    hub.watcher = watcher = Watcher(hub)
    assert push(signed, hub) == 0
    assert state(hub) == OPEN
    assert watcher.seen == []
    entries = read_journal(signed / "journal.jsonl")
    assert [entry["state"] for entry in entries] == ["asked", "done"]
    assert "tok-owner" not in (signed / "journal.jsonl").read_text()
    downloaded = HfApi(endpoint=hub.url, token="tok-owner").snapshot_download(REPO, local_dir=signed / "download")
    assert mindshift("release", "verify", "--folder", downloaded, "--public_key", signed / "keys" / "key.pem.pub") == 0


def test_the_command_needs_a_token(signed, hub, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert push(signed, hub) == 2
    assert "no access token in the environment variable HF_TOKEN" in capsys.readouterr().err


def test_an_unsigned_release_is_not_pushed(signed, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "tok-owner")
    (signed / "built" / "repository" / "model.sig").unlink()
    assert push(signed, hub) == 2
    assert "not signed" in capsys.readouterr().err
    assert hub.repos == {}


def test_a_byte_flipped_after_signing_is_not_pushed(signed, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "tok-owner")
    path = signed / "built" / "repository" / LARGE
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert push(signed, hub) == 2
    assert "changed" in capsys.readouterr().err
    assert hub.repos == {}


def test_audits_that_went_stale_after_the_build_are_not_pushed(signed, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "tok-owner")
    monkeypatch.setattr("release.evidence.audit_code_sha256", lambda: "other code")
    assert push(signed, hub) == 2
    assert "stale" in capsys.readouterr().err
    assert hub.repos == {}


def test_a_failed_push_is_in_the_journal(signed, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "tok-read")
    assert push(signed, hub) == 2
    entries = read_journal(signed / "journal.jsonl")
    assert [entry["state"] for entry in entries] == ["asked", "failed"]
    assert json.dumps(entries).count("may only read") == 1
