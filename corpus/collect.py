"""`mindshift corpus collect`: posts and comments from Reddit's Data API, scrubbed before they touch the disk.

A listing shows 1,000 items at most, so several listings, time filters and searches are walked one after another;
what was seen before is not written again. Author names become keyed HMACs, identifiers in texts placeholders, and
only the fields that a corpus needs are kept: links, flairs and crossposted copies never are.
"""

import dataclasses
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import orjson

from configs.console import Progress
from configs.errors import UserError
from configs.recipe import StageRecipe, load_recipe, require
from configs.run_folder import finish_run_folder, open_run_folder
from corpus.authors import load_author_key
from corpus.collection import Collection, fullname_of
from corpus.deidentify import Deidentifier, check_backend
from corpus.reddit_api import RedditClient, Unavailable, is_gone, iterate_pages, open_reddit
from corpus.scrub import Scrubber

SUBREDDIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{1,20}")
TIMED_LISTINGS = ("top", "controversial", "search")
LISTING_CAP = 1_000
logger = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class CollectRecipe(StageRecipe):
    """Collect posts and comments through Reddit's Data API, scrubbed, in the form of a dump.

    Credentials come from praw.ini or the environment (docs/collect.md), never from a recipe. Reddit's terms apply:
    what is deleted there must be deleted here, see `mindshift corpus resync`.
    """

    # A stream has no end of its own: whoever stops one may say then that it is over.
    HOW: ClassVar[frozenset[str]] = StageRecipe.HOW | {"stream", "stream_minutes", "poll_seconds", "max_wait_minutes"}

    subreddits: list[str]
    """Names without r/."""
    listings: list[Literal["new", "hot", "rising", "top", "controversial", "search"]] = dataclasses.field(
        default_factory=lambda: ["new", "top"]
    )
    """Which listings to walk; each shows 1,000 items at most."""
    time_filters: list[Literal["all", "year", "month", "week", "day", "hour"]] = dataclasses.field(
        default_factory=lambda: ["all", "year", "month", "week"]
    )
    """Walk top, controversial and search once for each of these spans: together they get past the 1,000."""
    queries: list[str] = dataclasses.field(default_factory=list)
    """What to search for, if `search` is among the listings."""
    limit: int = LISTING_CAP
    """Items to take from each listing, up to Reddit's cap of 1,000."""
    comments: Literal["none", "newest", "trees"] = "none"
    """Comments as well: the newest of each subreddit, or those under every post that was collected."""
    requests_per_tree: int = 5
    """With trees: requests to spend on one post; more comments lie behind them, 100 a request."""
    stream: bool = False
    """Afterwards keep asking for new posts (and comments, unless `none`) until stopped or `stream_minutes` are over."""
    stream_minutes: float = 0.0
    """End the stream after so many minutes. 0: stop it with Ctrl-C; the same command goes on, and one that names an end
    finishes it."""
    poll_seconds: float = 30.0
    """Pause between two rounds of the stream, in seconds."""
    keys_dir: Path = Path("keys")
    """Folder of the author key, kept apart from what is collected; made if absent. Share it with `corpus build`."""
    deidentifier: str = "default"
    """Backend that finds personal information; see `mindshift corpus deidentify --help`."""
    max_wait_minutes: float = 60.0
    """Give up when Reddit does not answer one request for so long, in minutes; the same command goes on later."""
    records_per_file: int = 20_000
    """Posts and comments per output file, about."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(bool(self.subreddits), "subreddits", self.subreddits, "at least one name")
        for name in self.subreddits:
            require(bool(SUBREDDIT.fullmatch(name)), "subreddits", name, "names of letters, digits and _, without r/")
        require(bool(self.listings) or self.stream, "listings", self.listings, "at least one, or stream: true")
        require(1 <= self.limit <= LISTING_CAP, "limit", self.limit, f"1 to {LISTING_CAP:,}")
        timed = set(self.listings) & set(TIMED_LISTINGS)
        require(not timed or bool(self.time_filters), "time_filters", self.time_filters, "at least one span")
        wanted = "search" in self.listings
        require(wanted == bool(self.queries), "queries", self.queries, "at least one with search, else none")
        for key in ("requests_per_tree", "records_per_file"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        for key in ("poll_seconds", "stream_minutes", "max_wait_minutes"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")


class Job(NamedTuple):
    """One listing to walk."""

    subreddit: str
    path: str
    params: dict[str, str | int]


def main(arguments: Sequence[str], program: str) -> None:
    """Collect what the recipe names; a stopped collection goes on where it stopped."""
    recipe = load_recipe(CollectRecipe, arguments, program)
    client = RedditClient(open_reddit(), max_wait_minutes=recipe.max_wait_minutes)
    collect(recipe, client)


def collect(recipe: CollectRecipe, client: RedditClient, clock: Callable[[], float] = time.monotonic) -> None:
    """Collect into the run folder of the recipe.

    Raises:
        UserError: none of the subreddits is available, or Reddit is away for too long.
    """
    check_backend(recipe.deidentifier)
    folder = open_run_folder(recipe)
    collection = Collection(folder, recipe.records_per_file)
    scrubber = Scrubber(load_author_key(recipe.keys_dir), Deidentifier(recipe.deidentifier))
    with Progress(description="collect", unit="records", initial=len(collection.seen)) as bar:
        collector = Collector(recipe, client, collection, scrubber, bar)
        collector.walk_listings()
        if recipe.comments == "trees":
            collector.walk_trees()
        if recipe.stream:
            collector.follow(clock)
    if not collection.seen and len(collection.notes) == len({name.casefold() for name in recipe.subreddits}):
        reasons = ", ".join(f"{name} {reason}" for name, reason in collection.notes.items())
        raise UserError(f"no subreddit is available ({reasons})", where="subreddits", fix="Check the names.")
    counts = {**collection.counts, "unavailable": collection.notes, "author_key": scrubber.fingerprint}
    finish_run_folder(recipe, stage="collect", inputs={}, counts=counts)
    logger.info("%s records are in %s", f"{len(collection.seen):,}", recipe.output_dir)


class Collector:
    """Walks listings, trees and streams, and commits what they show.

    The place of a collection is `{"job", "after", "taken"}` while listings are walked, then `{"tree"}`.
    """

    def __init__(
        self, recipe: CollectRecipe, client: RedditClient, collection: Collection, scrubber: Scrubber, bar: Progress
    ) -> None:
        self._recipe, self._client, self._collection = recipe, client, collection
        self._scrubber, self._bar = scrubber, bar
        self._jobs = list(jobs_of(recipe))

    def walk_listings(self) -> None:
        """Walk the listings that are not done."""
        place = self._collection.place
        first = place.get("job", 0) if "tree" not in place else len(self._jobs)
        for number in range(first, len(self._jobs)):
            job = self._jobs[number]
            resumed = number == place.get("job") and place.get("after")
            after, taken = (place["after"], place["taken"]) if resumed else ("", 0)
            done = {"job": number + 1, "after": "", "taken": 0}
            if job.subreddit.casefold() in self._collection.notes:
                continue
            try:
                for page in iterate_pages(self._client, job.path, after, **job.params):
                    items = page.items[: self._recipe.limit - taken]
                    taken += len(items)
                    ended = not page.after or not items or taken >= self._recipe.limit
                    self._commit(items, done if ended else {"job": number, "after": page.after, "taken": taken})
                    if ended:
                        break
            except Unavailable as error:
                logger.info("r/%s is not available: %s", job.subreddit, error.reason)
                self._collection.notes[job.subreddit.casefold()] = error.reason
                self._commit([], done)

    def walk_trees(self) -> None:
        """Collect the comments under every post that was collected."""
        posts = sorted(name for name in self._collection.seen if name.startswith("t3_"))
        last = self._collection.place.get("tree", "")
        for name in posts:
            if name <= last:
                continue
            try:
                comments, unreached = self._client.comment_tree(
                    name.removeprefix("t3_"), self._recipe.requests_per_tree
                )
            except Unavailable:
                comments, unreached = [], 0
            self._commit(comments, {"tree": name}, Counter(comments_not_reached=unreached))

    def follow(self, clock: Callable[[], float]) -> None:
        """Ask for what is new, round after round."""
        names = [name for name in self._recipe.subreddits if name.casefold() not in self._collection.notes]
        kinds = ("new",) if self._recipe.comments == "none" else ("new", "comments")
        end = clock() + self._recipe.stream_minutes * 60 if self._recipe.stream_minutes else float("inf")
        while names and clock() < end:
            for path in [f"r/{name}/{kind}" for name in names for kind in kinds]:
                try:
                    self._commit(self._new_items(path), self._collection.place)
                except Unavailable as error:
                    logger.info("%s is not available: %s", path, error.reason)
            self._client.pause(self._recipe.poll_seconds)

    def _new_items(self, path: str) -> list[dict[str, Any]]:
        """Return what came since the last round, back to the first page that holds something known.

        All pages are committed at once: were the first committed alone and the rest lost, the next round would find
        known items on the first page and never look further.
        """
        items: list[dict[str, Any]] = []
        for page in iterate_pages(self._client, path, ""):
            items += page.items
            known = any(_fullname(item) in self._collection.seen for item in page.items)
            if known or not self._collection.seen:
                break
        else:
            self._collection.counts["possible_gaps"] += 1  # Reddit shows no further back
        return items

    def _commit(
        self, items: Iterable[dict[str, Any]], place: dict[str, Any], counts: Counter[str] | None = None
    ) -> None:
        counts = Counter(counts or {})
        fresh: dict[str, dict[str, Any]] = {}
        for item in items:
            if not _is_record(item):
                counts["malformed"] += 1
            elif is_gone(item, accounts=False):  # posts of deleted accounts are for the build's recipe to judge
                counts["gone"] += 1
            elif _fullname(item) in self._collection.seen or _fullname(item) in fresh:
                counts["seen_before"] += 1
            else:
                fresh[_fullname(item)] = item
        rows, names = [], []
        for record in self._scrubber.scrub(list(fresh.values())):
            try:
                rows.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            except TypeError:  # a lone surrogate: no text has one
                counts["malformed"] += 1
                continue
            names.append(fullname_of(record))
            counts["comments" if "body" in record else "submissions"] += 1
        self._collection.commit(rows, names, place, counts)
        self._bar.advance(len(rows))


def jobs_of(recipe: CollectRecipe) -> Iterator[Job]:
    """Yield the listings of a recipe, in the order they are walked."""
    for name in recipe.subreddits:
        for listing in recipe.listings:
            spans = recipe.time_filters if listing in TIMED_LISTINGS else [""]
            queries = recipe.queries if listing == "search" else [""]
            for query in queries:
                for span in spans:
                    params: dict[str, str | int] = {"t": span} if span else {}
                    if query:
                        params |= {"q": query, "restrict_sr": 1, "sort": "new"}
                    yield Job(name, f"r/{name}/{listing}", params)
        if recipe.comments == "newest":
            yield Job(name, f"r/{name}/comments", {})


def _fullname(item: dict[str, Any]) -> str:
    return f"{'t1' if 'body' in item else 't3'}_{item.get('id')}"


def _is_record(item: dict[str, Any]) -> bool:
    texts = [item["body"]] if "body" in item else [item.get("title"), item.get("selftext", "")]
    return isinstance(item.get("id"), str) and item["id"].isalnum() and all(isinstance(text, str) for text in texts)
