"""Collecting: an invented Reddit behind a requests adapter, faults on the wire, and PRAW's recorded answers."""

import dataclasses
import io
import json
import re
import sys
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import pytest
import requests
import urllib3
import zstandard
from requests.adapters import BaseAdapter

from configs.errors import UserError
from configs.manifest import read_manifest
from configs.recipe import load_recipe
from corpus.authors import hash_author, load_author_key
from corpus.chunks import read_rows
from corpus.collect import CollectRecipe, collect, jobs_of, main
from corpus.collection import Collection
from corpus.document import parse_record
from corpus.dumps import find_inputs, read_lines
from corpus.filters import Bot
from corpus.reddit_api import RedditClient, Unavailable, find_gone, is_gone, open_reddit
from corpus.shards import TokenShards
from tests.corpus.conftest import hold

CASSETTES = Path(__file__).parents[3] / "shared" / "data" / "reddit_api" / "praw_cassettes"
SECRET = "a-client-secret-that-must-not-leak"
needs_recordings = pytest.mark.skipif(not CASSETTES.is_dir(), reason="no recordings of Reddit's API on this machine")


class BrokenBody(io.BytesIO):
    """A body of which the second half never arrives."""

    def stream(self, *_args, **_kwargs):
        yield self.getvalue()[: len(self.getvalue()) // 2]
        raise urllib3.exceptions.ProtocolError("Connection broken: IncompleteRead")


def answer(value, status=200, headers=None, body=None):
    response = requests.Response()
    response.status_code = status
    response.headers.update({"content-type": "application/json", **(headers or {})})
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    response.raw = body(content) if body else io.BytesIO(content)
    return response


class FakeReddit(BaseAdapter):
    """Answers requests by `handle(path, query)`; `faults` come first, one a request."""

    def __init__(self, handle):
        super().__init__()
        self.handle, self.faults, self.asked = handle, [], []

    def send(self, request, **_kwargs):
        url = urlsplit(request.url)
        if url.path == "/api/v1/access_token":
            return answer({"access_token": "token", "token_type": "bearer", "expires_in": 86400, "scope": "*"})
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.asked.append((url.path, query))
        response = self.faults.pop(0) if self.faults else self.handle(unquote(url.path).strip("/"), query)
        if isinstance(response, Exception):
            raise response
        response.url, response.request = request.url, request
        return response

    def close(self):
        pass


def listing(items, after=None):
    children = [{"kind": "t1" if "body" in item else "t3", "data": item} for item in items]
    return answer({"kind": "Listing", "data": {"children": children, "after": after}})


def submission(number, **changes):
    return {
        "id": f"syn{number:04d}",
        "name": f"t3_syn{number:04d}",
        "subreddit": "quietroom",
        "author": f"mossy_lantern_{number % 7}",
        "created_utc": 1_700_000_000 + number,
        "title": f"invented post {number}",
        "selftext": f"I wrote this one for a test, number {number}, write me at mossy{number}@example.com please",
        "link_flair_text": "a rare flair",
        "url": "https://www.example.com/u/mossy",
        "permalink": "/r/quietroom/comments/x/",
        "score": 1,
    } | changes


def comment(number, **changes):
    return {
        "id": f"sync{number:04d}",
        "name": f"t1_sync{number:04d}",
        "subreddit": "quietroom",
        "author": "velvet_otter_1",
        "created_utc": 1_700_000_500 + number,
        "body": f"an invented comment, number {number}",
        "link_id": "t3_syn0001",
        "parent_id": "t3_syn0001",
        "score": 1,
    } | changes


def paged(items, query, size=100):
    start = next((i + 1 for i, item in enumerate(items) if item["name"] == query.get("after")), 0)
    page = items[start : start + size]
    return listing(page, page[-1]["name"] if start + size < len(items) and page else None)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("PRAW_CLIENT_ID", "an-id")
    monkeypatch.setenv("PRAW_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("praw.config.Config.CONFIG", None)  # PRAW reads praw.ini once a process
    monkeypatch.setattr("prawcore.sessions.time.sleep", lambda seconds: None)


def reddit_of(adapter):
    session = requests.Session()
    session.mount("https://", adapter)
    return open_reddit(session)


def client_of(adapter, waits=None, **settings):
    return RedditClient(reddit_of(adapter), sleep=(waits if waits is not None else []).append, **settings)


def recipe_of(tmp_path, **changes):
    values = {"subreddits": ["quietroom"], "listings": ["new"], "deidentifier": "rules", "keys_dir": tmp_path / "keys"}
    return CollectRecipe(output_dir=tmp_path / "out", **(values | changes))


def written(folder):
    rows = []
    for path in find_inputs([str(folder / "posts" / "*.jsonl.zst")]):
        with path.open("rb") as file:
            content = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
        rows += [orjson.loads(line) for line in content.splitlines()]
    return rows


POSTS = [submission(number) for number in range(250)]


def test_a_listing_is_walked_to_its_end_and_scrubbed(tmp_path):
    adapter = FakeReddit(lambda path, query: paged(POSTS, query))
    collect(recipe_of(tmp_path), client_of(adapter))
    rows = written(tmp_path / "out")
    assert [row["id"] for row in rows] == [post["id"] for post in POSTS]
    assert len(adapter.asked) == 3
    key = load_author_key(tmp_path / "keys")
    assert rows[3]["author"] == hash_author(key, "mossy_lantern_3")
    text = json.dumps(rows)
    assert "mossy" not in text
    assert "@example.com" not in text
    assert "flair" not in text
    assert "[email]" in rows[0]["selftext"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["submissions"] == 250
    assert "posts/00000.jsonl.zst" in manifest["outputs"]


def test_the_corpus_builder_reads_what_was_collected(tmp_path):
    collect(recipe_of(tmp_path), client_of(FakeReddit(lambda path, query: paged(POSTS[:120], query))))
    (path,) = find_inputs([str(tmp_path / "out" / "posts" / "*.zst")])
    documents = [parse_record(orjson.loads(line.content)) for line in read_lines(path, 2**20)]
    assert [document.id for document in documents] == [post["name"] for post in POSTS[:120]]
    assert {document.metadata["month"] for document in documents} == {"2023-11"}


def test_title_and_body_share_their_placeholders(tmp_path):
    post = submission(1, title="ask ann@example.com", selftext="or bob@example.org, or again ann@example.com today")
    collect(recipe_of(tmp_path), client_of(FakeReddit(lambda path, query: paged([post], query))))
    (row,) = written(tmp_path / "out")
    assert row["title"] == "ask [email]"
    assert row["selftext"] == "or [email2], or again [email] today"


def test_what_is_gone_broken_or_seen_is_counted_and_not_written(tmp_path):
    items = [
        submission(1),
        submission(1),
        submission(2, selftext="[removed]"),
        submission(3, removed_by_category="moderator"),
        submission(4, title=None),
        submission(5, selftext="a lone surrogate \ud83d here"),
        submission(6, author=None),
        submission(7, author="AutoModerator"),
        submission(8, author="LonelyROBOT"),
        submission(9, author="sad_bot_99"),
        submission(10, selftext=" [ Removed by Moderator ]"),
        comment(1),
    ]
    collect(recipe_of(tmp_path), client_of(FakeReddit(lambda path, query: paged(items, query))))
    rows = {row["id"]: row for row in written(tmp_path / "out")}
    assert set(rows) == {"syn0001", "syn0006", "syn0007", "syn0008", "syn0009", "sync0001"}
    assert rows["syn0006"]["author"] == "[deleted]"
    assert rows["syn0007"]["author"] == "AutoModerator"
    for name in ("syn0008", "syn0009"):  # perhaps people: the builder drops them by this name as it would by theirs
        assert rows[name]["author"] == "some_bot"
        assert not Bot().keep(parse_record(rows[name]))
    assert rows["sync0001"]["link_id"] == "t3_syn0001"
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert (counts["gone"], counts["malformed"], counts["seen_before"]) == (3, 2, 1)
    assert (counts["submissions"], counts["comments"]) == (5, 1)


def test_listings_time_filters_and_queries_get_past_the_cap(tmp_path):
    recipe = recipe_of(
        tmp_path, listings=["new", "top", "search"], time_filters=["all", "week"], queries=["a", "b"], comments="newest"
    )
    jobs = list(jobs_of(recipe))
    assert [(job.path, job.params.get("t"), job.params.get("q")) for job in jobs] == [
        ("r/quietroom/new", None, None),
        ("r/quietroom/top", "all", None),
        ("r/quietroom/top", "week", None),
        ("r/quietroom/search", "all", "a"),
        ("r/quietroom/search", "week", "a"),
        ("r/quietroom/search", "all", "b"),
        ("r/quietroom/search", "week", "b"),
        ("r/quietroom/comments", None, None),
    ]

    def handle(path, query):
        start = {"new": 0, "top": 100, "search": 200, "comments": 0}[path.rpartition("/")[2]]
        return paged(POSTS[start : start + 150], query)

    adapter = FakeReddit(handle)
    collect(recipe, client_of(adapter))
    assert len(written(tmp_path / "out")) == 250
    assert ("/r/quietroom/search", "week") in [(path, query.get("t")) for path, query in adapter.asked]


def test_the_limit_cuts_a_listing(tmp_path):
    adapter = FakeReddit(lambda path, query: paged(POSTS, query))
    collect(recipe_of(tmp_path, limit=130), client_of(adapter))
    assert len(written(tmp_path / "out")) == 130
    assert len(adapter.asked) == 2


class Stop(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("torn", [b"", b"half a frame"])
@pytest.mark.parametrize("fatal_request", [1, 2, 3, 4])
def test_a_stopped_collection_goes_on_without_gap_or_repeat(tmp_path, fatal_request, torn):
    asked = 0

    def handle(path, query):
        nonlocal asked
        asked += 1
        if asked == fatal_request:
            raise Stop
        return paged(POSTS if path.endswith("new") else [*POSTS[150:], comment(1)], query)

    recipe = recipe_of(tmp_path, listings=["new", "hot"], records_per_file=150)
    with pytest.raises(Stop):
        collect(recipe, client_of(FakeReddit(handle)))
    partial = tmp_path / "out.partial" / "posts"
    for path in sorted(partial.glob("*.zst"))[-1:]:
        with path.open("ab") as file:
            file.write(torn)  # what a kill between the frame and the cursor leaves
    if torn:
        (partial / "00009.jsonl.zst").write_bytes(torn)
    collect(recipe, client_of(FakeReddit(handle)))
    ids = [row["id"] for row in written(tmp_path / "out")]
    assert sorted(ids) == sorted([post["id"] for post in POSTS] + ["sync0001"])
    assert len(find_inputs([str(tmp_path / "out" / "posts" / "*.zst")])) == 2
    assert asked <= 3 + 3 + 2  # the pages that were committed were not asked for again


def test_a_damaged_cursor_is_refused(tmp_path):
    (tmp_path / "cursor.json").write_text('{"file": 0')
    with pytest.raises(UserError, match="not a cursor"):
        Collection(tmp_path, 10)


@pytest.mark.parametrize(("status", "reason"), [(403, "private"), (404, "banned"), (403, "quarantined")])
def test_an_unavailable_subreddit_is_noted_and_the_others_collected(tmp_path, status, reason):
    def handle(path, query):
        if "hidden" in path:
            return answer({"reason": reason, "error": status}, status)
        return paged(POSTS[:50], query)

    recipe = recipe_of(tmp_path, subreddits=["hidden", "quietroom"], listings=["new", "top"])
    adapter = FakeReddit(handle)
    collect(recipe, client_of(adapter))
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert counts["unavailable"] == {"hidden": reason}
    assert counts["submissions"] == 50
    assert sum("hidden" in path for path, _ in adapter.asked) == 1


def test_a_subreddit_that_closes_after_its_first_page_keeps_what_it_gave(tmp_path):
    def handle(path, query):
        return answer({"reason": "private"}, 403) if query.get("after") else paged(POSTS, query)

    collect(recipe_of(tmp_path), client_of(FakeReddit(handle)))
    counts = read_manifest(tmp_path / "out").counts
    assert (counts["submissions"], counts["unavailable"]) == (100, {"quietroom": "private"})


def test_two_collections_in_one_folder_are_refused(tmp_path):
    adapter = FakeReddit(lambda path, query: paged(POSTS, query))
    with hold(tmp_path / "out.partial"), pytest.raises(UserError, match="is at work here"):
        collect(recipe_of(tmp_path), client_of(adapter))
    assert not adapter.asked
    collect(recipe_of(tmp_path), client_of(adapter))
    assert not (tmp_path / "out.partial.lock").exists()


@pytest.mark.parametrize(
    ("backend", "message"), [("defualt", "unknown"), ("presidio", "presidio_analyzer is not installed")]
)
def test_a_deidentifier_that_cannot_be_had_leaves_no_folder(tmp_path, monkeypatch, backend, message):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(UserError, match=message):
        collect(recipe_of(tmp_path, deidentifier=backend), client_of(FakeReddit(None)))
    assert not (tmp_path / "out.partial").exists()


def test_no_subreddit_available_is_an_error(tmp_path):
    def redirect(path, query):
        return answer(b"", 302, {"location": "https://www.reddit.com/subreddits/search?q=hidden"})

    with pytest.raises(UserError, match=r"no subreddit is available \(quietroom absent\)"):
        collect(recipe_of(tmp_path), client_of(FakeReddit(redirect)))


FAULTS = {
    "429 with Retry-After": [lambda: answer({}, 429, {"retry-after": "37"})],
    "429 without": [lambda: answer({}, 429)],
    "500 for long": [lambda: answer(b"<html>oops</html>", 500)] * 4,
    "503": [lambda: answer(b"", 503)] * 3,
    "half a body": [lambda: answer(b'{"kind": "Listing", "data": {"chil')],
    "a body that breaks off": [lambda: answer({"kind": "Listing"}, body=BrokenBody)] * 3,
    "a reset connection": [lambda: requests.exceptions.ConnectionError("Connection reset by peer")] * 5,
    "a timeout": [lambda: requests.exceptions.ReadTimeout("timed out")] * 3,
    "another timeout": [lambda: requests.exceptions.ConnectTimeout("timed out")] * 5,
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_passes_is_waited_for(tmp_path, name):
    adapter, waits = FakeReddit(lambda path, query: paged(POSTS, query)), []
    adapter.faults = [make() for make in FAULTS[name]]
    collect(recipe_of(tmp_path), client_of(adapter, waits))
    assert [row["id"] for row in written(tmp_path / "out")] == [post["id"] for post in POSTS]
    assert waits
    assert waits[0] == (37 if "Retry-After" in name else 2)
    assert not adapter.faults


def test_a_long_absence_ends_with_advice_and_the_rerun_goes_on(tmp_path):
    adapter, waits = FakeReddit(lambda path, query: paged(POSTS, query)), []
    broken = FakeReddit(lambda path, query: answer(b"", 503) if query.get("after") else paged(POSTS, query))
    with pytest.raises(UserError, match=r"not answered for \d+ minutes \(status 503\)") as caught:
        collect(recipe_of(tmp_path), client_of(broken, waits, max_wait_minutes=10))
    assert "goes on" in str(caught.value)
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256]
    collect(recipe_of(tmp_path), client_of(adapter))
    assert len(written(tmp_path / "out")) == 250
    assert len(adapter.asked) == 2


def test_refused_credentials_are_a_users_mistake_and_no_secret_is_shown(tmp_path, caplog):
    class Refusing(FakeReddit):
        def send(self, request, **kwargs):
            if request.url.endswith("access_token"):
                return answer({"message": "Unauthorized", "error": 401}, 401)
            return super().send(request, **kwargs)

    with caplog.at_level("DEBUG"), pytest.raises(UserError, match="refuses the") as caught:
        collect(recipe_of(tmp_path), client_of(Refusing(lambda path, query: paged(POSTS, query))))
    assert "PRAW_CLIENT_ID" in str(caught.value)
    assert SECRET not in caplog.text + str(caught.value)


def test_no_secret_reaches_a_log_or_a_file(tmp_path, caplog):
    adapter = FakeReddit(lambda path, query: paged(POSTS, query))
    adapter.faults = [answer(b"", 500) for _ in range(4)]
    with caplog.at_level("DEBUG"):
        collect(recipe_of(tmp_path), client_of(adapter))
    assert "mindshift" not in SECRET
    assert SECRET not in caplog.text
    assert "invented post" not in caplog.text
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes()
            assert b"mossy" not in path.read_bytes()


def test_missing_credentials_and_secrets_in_a_recipe_are_refused(tmp_path, monkeypatch):
    recipe = tmp_path / "collect.yaml"
    recipe.write_text(f"subreddits: [quietroom]\noutput_dir: {tmp_path / 'out'}\nclient_secret: {SECRET}\n")
    with pytest.raises(UserError, match="unknown key 'client_secret'") as caught:
        main([str(recipe)], "mindshift corpus collect")
    assert SECRET not in str(caught.value)
    monkeypatch.delenv("PRAW_CLIENT_ID")
    with pytest.raises(UserError, match="no credentials"):
        main(["--subreddits", "[quietroom]", "--output_dir", str(tmp_path / "out")], "mindshift corpus collect")
    assert not (tmp_path / "out.partial").exists()


def test_credentials_come_from_praw_ini(tmp_path, monkeypatch):
    monkeypatch.delenv("PRAW_CLIENT_ID")
    monkeypatch.delenv("PRAW_CLIENT_SECRET")
    (tmp_path / "praw.ini").write_text("[study]\nclient_id=from-ini\nclient_secret=x\nuser_agent=a descriptive agent\n")
    monkeypatch.setenv("praw_site", "study")
    config = open_reddit().config
    assert (config.client_id, config.user_agent) == ("from-ini", "a descriptive agent")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subreddits": []}, "subreddits is"),
        ({"subreddits": ["r/quietroom"]}, "without r/"),
        ({"limit": 2000}, "limit is 2000"),
        ({"listings": ["search"]}, "queries is"),
        ({"listings": ["top"], "time_filters": []}, "time_filters is"),
        ({"listings": []}, "listings is"),
    ],
)
def test_impossible_values_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        recipe_of(tmp_path, **changes)


def test_the_recipe_of_the_project_loads():
    recipe = load_recipe(CollectRecipe, [str(Path(__file__).parents[2] / "configs/corpus/collect.yaml")], "collect")
    assert len(list(jobs_of(recipe))) == 3 * (2 + 4)


class Clock:
    """A clock that the client's sleep moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def append(self, seconds):
        self.now += seconds


def test_the_stream_takes_what_is_new_once_and_looks_back_as_far_as_needed(tmp_path):
    clock = Clock()

    def handle(path, query):
        count = min(len(POSTS), 10 + int(clock.now / 30) * 120)  # more than a page each round
        newest_first = POSTS[:count][::-1] if path.endswith("new") else [comment(n) for n in range(3)]
        return paged(newest_first, query)

    recipe = recipe_of(tmp_path, listings=[], comments="newest", stream=True, stream_minutes=3, poll_seconds=30)
    collect(recipe, RedditClient(reddit_of(FakeReddit(handle)), sleep=clock.append), clock)
    ids = [row["id"] for row in written(tmp_path / "out")]
    assert sorted(ids) == sorted([post["id"] for post in POSTS] + ["sync0000", "sync0001", "sync0002"])


def test_a_stream_killed_between_two_pages_loses_neither(tmp_path):
    clock, fatal = Clock(), True

    def handle(path, query):
        nonlocal fatal
        if clock.now >= 30 and query.get("after") and fatal:
            fatal = False
            raise Stop
        return paged(POSTS[: 10 if clock.now < 30 else 240][::-1], query)

    recipe = recipe_of(tmp_path, listings=[], stream=True, stream_minutes=2, poll_seconds=30)
    client = RedditClient(reddit_of(FakeReddit(handle)), sleep=clock.append)
    with pytest.raises(Stop):
        collect(recipe, client, clock)
    collect(recipe, client, clock)
    assert sorted(row["id"] for row in written(tmp_path / "out")) == [post["id"] for post in POSTS[:240]]


def test_a_stream_without_an_end_is_finished_by_one_that_has_an_end(tmp_path):
    clock = Clock()

    def handle(path, query):
        if clock.now >= 300:
            raise KeyboardInterrupt
        return paged(POSTS[:20][::-1], query)

    endless = recipe_of(tmp_path, listings=[], stream=True, poll_seconds=30)
    with pytest.raises(KeyboardInterrupt):
        collect(endless, RedditClient(reddit_of(FakeReddit(handle)), sleep=clock.append), clock)
    clock.now = 0
    ended = dataclasses.replace(endless, stream_minutes=1, poll_seconds=20, max_wait_minutes=5)
    collect(ended, RedditClient(reddit_of(FakeReddit(handle)), sleep=clock.append), clock)
    assert len(written(tmp_path / "out")) == 20
    assert clock.now == 60


def test_trees_follow_what_is_folded_up_to_a_number_of_requests(tmp_path):
    replies = listing([comment(3)]).json()
    top = [comment(number) for number in range(3)]
    top[1]["replies"] = replies

    def handle(path, query):
        if path.startswith("comments/"):
            tree = listing(top).json()
            hidden = [f"sync{number:04d}" for number in range(100, 330)]
            tree["data"]["children"].append({"kind": "more", "data": {"children": hidden, "count": 230}})
            tree["data"]["children"].append({"kind": "more", "data": {"children": [], "count": 7}})
            return answer([listing([]).json(), tree])
        if path == "api/morechildren":
            things = [{"kind": "t1", "data": comment(int(name[4:]))} for name in query["children"].split(",")]
            return answer({"json": {"data": {"things": things}}})
        return paged(POSTS[:1], query)

    collect(recipe_of(tmp_path, comments="trees", requests_per_tree=3), client_of(FakeReddit(handle)))
    rows = [row for row in written(tmp_path / "out") if "body" in row]
    assert len(rows) == 4 + 200
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert counts["comments_not_reached"] == 30 + 7


def test_find_gone_asks_a_hundred_at_a_time():
    there = {post["name"]: post for post in POSTS}
    there["t3_syn0007"] = submission(7, selftext="[removed]", removed_by_category="moderator")
    there["t3_syn0008"] = submission(8, author=None, selftext="[deleted]")
    del there["t3_syn0009"]
    adapter = FakeReddit(lambda path, query: listing([there[name] for name in query["id"].split(",") if name in there]))
    gone = find_gone([post["name"] for post in POSTS], reddit_of(adapter))
    assert gone == ({"t3_syn0007", "t3_syn0008"}, {"t3_syn0009"})
    assert [len(query["id"].split(",")) for _, query in adapter.asked] == [100, 100, 50]


@pytest.mark.parametrize(
    ("item", "gone", "gone_with_accounts"),
    [
        ({"author": "someone", "body": "words"}, False, False),
        ({"body": "words"}, False, False),
        ({"author": "[deleted]", "body": "words"}, False, True),
        ({"author": None, "selftext": "words"}, False, True),
        ({"author": None, "selftext": "", "url": "https://example.com"}, False, True),
        ({"author": None, "selftext": ""}, True, True),
        ({"author": "someone", "selftext": "[removed]"}, True, True),
    ],
)
def test_a_deleted_account_is_taken_as_withdrawal_as_a_build_takes_it(item, gone, gone_with_accounts):
    assert is_gone(item, accounts=False) == gone
    assert is_gone(item) == gone_with_accounts


def test_an_application_that_may_not_ask_what_is_gone_is_told():
    adapter = FakeReddit(lambda path, query: answer({"reason": "forbidden"}, 403))
    with pytest.raises(UserError, match=r"api/info: Reddit does not say which posts are gone \(forbidden\)"):
        find_gone(["t3_syn0001"], reddit_of(adapter))


def test_an_answer_that_is_no_listing_is_refused():
    with pytest.raises(UserError, match="no listing"):
        find_gone(["t3_syn0001"], reddit_of(FakeReddit(lambda path, query: answer({"kind": "wiki"}))))


# Recorded answers of the real API


def replay(name):
    """Return an adapter that answers from a recording, matching path and query (but for order)."""
    interactions = json.loads((CASSETTES / f"{name}.json").read_text())["interactions"]

    def handle(path, query):
        ignored = ("raw_json", "limit")
        for interaction in interactions:
            url = urlsplit(interaction["request"]["uri"])
            recorded = {key: values[0] for key, values in parse_qs(url.query).items()}
            same = all(recorded.get(key) == value for key, value in query.items() if key not in ignored)
            if (
                url.path.strip("/").casefold() == path.casefold()
                and same
                and recorded.get("after") == query.get("after")
            ):
                status = interaction["response"]["status"]["code"]
                return answer(interaction["response"]["body"]["string"].encode(), status)
        raise AssertionError(f"not recorded: {path} {sorted(query)}")

    return FakeReddit(handle)


@needs_recordings
@pytest.mark.parametrize("order", ["new", "hot", "top"])
def test_recorded_listings_are_collected(tmp_path, order):
    class FirstPage(RedditClient):
        def page(self, path, after="", **params):
            return super().page(path, after, **params)._replace(after="")

    client = FirstPage(reddit_of(replay(f"TestSubredditListings.test_{order}")))
    recipe = recipe_of(tmp_path, subreddits=["askreddit"], listings=[order], time_filters=["all"])
    for job in jobs_of(recipe):
        job.params.clear()
    collect(recipe, client)
    rows = written(tmp_path / "out")
    assert len(rows) >= 90
    assert all(re.fullmatch(r"[0-9a-f]{32}|\[deleted\]", row["author"]) for row in rows)
    assert all({"id", "title", "selftext", "subreddit", "created_utc"} <= set(row) for row in rows)


@needs_recordings
def test_recorded_pages_are_followed_to_the_end():
    client = client_of(replay("TestListingGenerator.test_exhaust_items"))
    after, names = "", []
    while True:
        page = client.page("user/spez", after, t="all", sort="top")
        names += [item["name"] for item in page.items]
        after = page.after
        if not after:
            break
    assert len(names) > 900
    assert len(set(names)) == len(names)


@needs_recordings
def test_recorded_info_tells_what_is_gone():
    interactions = json.loads((CASSETTES / "TestReddit.test_info.json").read_text())["interactions"][1:]
    asked, answered = [], {}
    for interaction in interactions:
        asked += parse_qs(urlsplit(interaction["request"]["uri"]).query)["id"][0].split(",")
        for child in json.loads(interaction["response"]["body"]["string"])["data"]["children"]:
            answered[child["data"]["name"]] = child["data"]
    posts = {name for name in asked if not name.startswith("t5_")}
    deleted, absent = find_gone(asked, reddit_of(replay("TestReddit.test_info")))
    assert deleted & posts == {name for name in posts if name in answered and is_gone(answered[name])}
    assert absent == set(asked) - set(answered)
    assert 0 < len((deleted | absent) & posts) < len(posts)


@needs_recordings
def test_a_recorded_tree_is_walked():
    client = client_of(replay("TestSubmission.test_comments"))
    uri = json.loads((CASSETTES / "TestSubmission.test_comments.json").read_text())["interactions"][1]["request"]["uri"]
    identifier = urlsplit(uri).path.strip("/").split("/")[-1]
    comments, _ = client.comment_tree(identifier, 1)
    assert comments
    assert all(isinstance(item["body"], str) and "replies" not in item for item in comments)


@needs_recordings
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("TestRedditorListings.test_saved__in_read_only_mode", Unavailable),
        ("TestWikiPage.test_invalid_page", Unavailable),
        ("TestReddit.test_bare_badrequest", UserError),
        ("TestReddit.test_bad_request_without_json_text_html_response", UserError),
    ],
)
def test_recorded_refusals_have_clear_words(name, error):
    adapter = replay(name)
    interactions = json.loads((CASSETTES / f"{name}.json").read_text())["interactions"]
    refused = next(i for i in interactions if i["response"]["status"]["code"] >= 400)
    path = urlsplit(refused["request"]["uri"]).path.strip("/")
    with pytest.raises(error, match=r"^(forbidden|PAGE_NOT_FOUND|.*refuses the request \(status 400\))$"):
        client_of(adapter).get(path)


def test_a_damaged_listing_gives_what_is_whole(tmp_path):
    children = [{"kind": "t3", "data": post} for post in POSTS[:3]] + [
        "text",
        {"kind": "t3"},
        {"kind": "t3", "data": 7},
    ]
    children.append({"kind": "t3", "data": POSTS[3] | {"title": 9}})
    page = {"kind": "Listing", "data": {"children": children, "after": None}}
    collect(recipe_of(tmp_path), client_of(FakeReddit(lambda path, query: answer(page))))
    assert [row["id"] for row in written(tmp_path / "out")] == [post["id"] for post in POSTS[:3]]
    assert read_manifest(tmp_path / "out").counts["malformed"] == 1


def test_a_corpus_is_built_from_a_collection(tmp_path, build):
    collect(recipe_of(tmp_path), client_of(FakeReddit(lambda path, query: paged(POSTS, query))))
    dump = tmp_path / "RS.jsonl"
    dump.write_text(
        json.dumps(submission(900, author=POSTS[0]["author"], selftext="other words on a quiet day")) + "\n"
    )
    inputs = [*find_inputs([str(tmp_path / "out" / "posts" / "*.jsonl.zst")]), dump]
    corpus = build(inputs, near_duplicates=False, held_out_share=0)  # seven authors: chance might hold out none
    assert set(TokenShards(corpus, "train").ids) == {f"t3_{post['id']}" for post in POSTS} | {"t3_syn0900"}
    # Hashed while it was collected or only now, an author is one author.
    key = load_author_key(tmp_path / "keys")
    rows = [row for path in (corpus / "documents").rglob("*.zst") for row in read_rows(path)]
    assert {row["author_hash"] for row in rows} == {hash_author(key, post["author"]) for post in POSTS}


def test_a_defect_is_not_taken_for_a_bad_connection():
    def handle(path, query):
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        client_of(FakeReddit(handle)).get("r/quietroom/new")
