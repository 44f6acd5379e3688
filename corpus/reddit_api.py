"""Ask Reddit's Data API through PRAW 8, patiently: raw answers, waits for what passes, clear words for what does not.

PRAW signs in and keeps to the rate limit that Reddit announces (100 requests a minute for an OAuth client); prawcore
retries twice within seconds. What lasts longer (429, 5xx, timeouts, half an answer) is waited for here. Credentials
come from praw.ini or the environment only, and no message holds them.
"""

import configparser
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import praw
import requests
from praw.exceptions import MissingRequiredAttributeException, RedditAPIException
from prawcore import exceptions as errors

from configs.errors import UserError
from corpus.document import DELETED_ACCOUNTS, DELETED_TEXTS, REMOVED_TEXTS

CREDENTIALS = ("client_id", "client_secret", "username", "password", "refresh_token", "user_agent")
DEFAULT_USER_AGENT = "python:mindshift:v0.1 (research corpus)"
CREDENTIALS_FIX = "Set PRAW_CLIENT_ID and PRAW_CLIENT_SECRET, or write them into praw.ini (see docs/collect.md)."
ITEMS_PER_REQUEST = 100
LONGEST_WAIT_SECONDS = 300.0
PASSING = (errors.ServerError, errors.TooManyRequests, errors.RequestException, errors.BadJSON)
LASTING = (errors.Forbidden, errors.NotFound, errors.Redirect, errors.UnavailableForLegalReasons)
logger = logging.getLogger(__name__)


class Unavailable(Exception):
    """Reddit does not show this: `reason` is its word (`private`, `banned`, `quarantined`) or `absent`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Page(NamedTuple):
    """One page of a listing: the data of its posts or comments, and where the next one starts (empty: nowhere)."""

    items: list[dict[str, Any]]
    after: str


class Gone(NamedTuple):
    """What Reddit answers about posts and comments that it does not show as they were: full names."""

    deleted: set[str]
    """Shown as deleted or removed."""
    absent: set[str]
    """Not shown at all. What an author deletes is still shown, as deleted: these are posts of private or banned
    subreddits, or that Reddit has purged, or its answer has a gap."""


class RedditClient:
    """Raw answers of the API, with patience.

    Args:
        reddit: signed in by PRAW.
        max_wait_minutes: give up when a request has been waited for this long.
        sleep: waits so many seconds.
    """

    def __init__(
        self, reddit: praw.Reddit, *, max_wait_minutes: float = 60.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._reddit, self._max_wait_seconds, self._sleep = reddit, max_wait_minutes * 60, sleep

    def get(self, path: str, **params: str | int) -> Any:
        """Return the decoded answer.

        Raises:
            Unavailable: private, banned, quarantined or absent.
            UserError: Reddit refuses the credentials or the request, or is away for longer than allowed.
        """
        waited, backoff = 0.0, 2.0
        while True:
            try:
                return self._reddit.request(method="GET", path=path, params=dict(params))
            except LASTING as error:
                raise Unavailable(_reason(error)) from None
            except PASSING as error:
                if isinstance(error, errors.RequestException) and not isinstance(error.original_exception, OSError):
                    # prawcore wraps defects of ours too; the errors of requests are OSErrors.
                    raise error.original_exception from None
                seconds = max(backoff, _retry_after(error))
                what = _describe(error)
            except (errors.OAuthException, errors.InvalidToken, errors.InsufficientScope) as error:
                raise UserError(
                    f"Reddit refuses the credentials ({type(error).__name__})", where=path, fix=CREDENTIALS_FIX
                ) from None
            except RedditAPIException:  # a 400 with an explanation, which may hold anything
                raise UserError("Reddit refuses the request (status 400)", where=path) from None
            except errors.ResponseException as error:
                status = error.response.status_code
                fix = CREDENTIALS_FIX if status == requests.codes["unauthorized"] else None
                raise UserError(f"Reddit refuses the request (status {status})", where=path, fix=fix) from None
            if waited + seconds > self._max_wait_seconds:
                raise UserError(
                    f"Reddit has not answered for {waited / 60:.0f} minutes ({what})",
                    where=path,
                    fix="Run the same command again later: it goes on where it stopped.",
                )
            logger.info("%s: %s; next try in %.0f s", path, what, seconds)
            self._sleep(seconds)
            waited, backoff = waited + seconds, min(2 * backoff, LONGEST_WAIT_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait, as the client waits."""
        self._sleep(seconds)

    def page(self, path: str, after: str = "", **params: str | int) -> Page:
        """Return one page of a listing, the one that starts behind `after`."""
        answer = self.get(path, limit=ITEMS_PER_REQUEST, **params, **({"after": after} if after else {}))
        return _page(answer, path)

    def comment_tree(self, submission_id: str, max_requests: int) -> tuple[list[dict[str, Any]], int]:
        """Return the comments under a submission, and how many it has beyond those that `max_requests` reached."""
        answer = self.get(f"comments/{submission_id}", limit=500)
        if not isinstance(answer, list) or len(answer) != 2:
            raise UserError("Reddit's answer is no comment tree", where=f"comments/{submission_id}")
        comments: list[dict[str, Any]] = []
        folded = _walk(answer[1], comments)
        requests_left, unreached = max_requests - 1, 0
        while folded:
            children, count = folded.pop()
            if requests_left <= 0 or not children:
                unreached += count
                continue
            batch, rest = children[:ITEMS_PER_REQUEST], children[ITEMS_PER_REQUEST:]
            if rest:
                folded.append((rest, max(count - len(batch), len(rest))))
            more = self.get(
                "api/morechildren", api_type="json", link_id=f"t3_{submission_id}", children=",".join(batch)
            )
            requests_left -= 1
            folded += _walk(more.get("json", {}).get("data", {}).get("things", []), comments)
        return comments, unreached


def open_reddit(session: requests.Session | None = None) -> praw.Reddit:
    """Sign in with the credentials of praw.ini (site `praw_site`) or of PRAW_CLIENT_ID and its kin.

    Raises:
        UserError: there are none.
    """
    given = {key: os.environ[f"PRAW_{key.upper()}"] for key in CREDENTIALS if os.environ.get(f"PRAW_{key.upper()}")}
    try:
        try:
            return _sign_in(session, given)
        except MissingRequiredAttributeException as error:
            if "user_agent" not in str(error):
                raise
            return _sign_in(session, given | {"user_agent": DEFAULT_USER_AGENT})
    except MissingRequiredAttributeException as error:
        raise UserError("no credentials for Reddit's API", where="praw.ini", fix=CREDENTIALS_FIX) from error
    except configparser.Error as error:
        raise UserError(f"not readable ({type(error).__name__})", where="praw.ini") from None


def find_gone(fullnames: Sequence[str], reddit: praw.Reddit | None = None, *, accounts: bool = True) -> Gone:
    """Ask `/api/info` which posts and comments (`t3_…`, `t1_…`) are deleted, removed or absent by now.

    Args:
        fullnames: whom to ask about.
        reddit: signed in; None signs in.
        accounts: a post whose author's account is deleted counts as deleted.

    Raises:
        UserError: no credentials, no permission, or no answer.
    """
    client = RedditClient(reddit if reddit is not None else open_reddit())
    gone = Gone(set(), set())
    for start in range(0, len(fullnames), ITEMS_PER_REQUEST):
        batch = fullnames[start : start + ITEMS_PER_REQUEST]
        try:
            answer = client.get("api/info", id=",".join(batch))
        except Unavailable as error:
            # The question itself is refused: a post that is absent is only missing from the answer.
            raise UserError(
                f"Reddit does not say which posts are gone ({error.reason})",
                where="api/info",
                fix="Check that your application may read posts (see docs/collect.md).",
            ) from None
        shown = {item.get("name"): item for item in _page(answer, "api/info").items}
        gone.absent.update(set(batch) - shown.keys())
        gone.deleted.update(name for name in batch if name in shown and is_gone(shown[name], accounts=accounts))
    return gone


def is_gone(item: dict[str, Any], *, accounts: bool = True) -> bool:
    """Whether a post or comment has been deleted or removed or, with `accounts`, its author's account deleted.

    The same as a build drops, with and without `deleted_accounts: drop`.
    """
    if item.get("removed_by_category") or item.get("removal_reason") or item.get("banned_by"):
        return True
    text = item.get("body", item.get("selftext"))
    if isinstance(text, str) and text.strip().casefold() in DELETED_TEXTS | REMOVED_TEXTS:
        return True
    no_author = item.get("author") in (None, *DELETED_ACCOUNTS)
    # Some answers give a deleted account as null; a field that is absent says nothing.
    return no_author and ((accounts and "author" in item) or (not text and not item.get("url")))


def _sign_in(session: requests.Session | None, given: dict[str, str]) -> praw.Reddit:
    settings = {"requestor_kwargs": {"session": session} if session is not None else None}
    return praw.Reddit(check_for_updates=False, check_for_async=False, **settings, **given)


def _page(answer: Any, path: str) -> Page:
    data = answer.get("data") if isinstance(answer, dict) and answer.get("kind") == "Listing" else None
    if not isinstance(data, dict) or not isinstance(data.get("children"), list):
        raise UserError("Reddit's answer is no listing", where=path, fix="Run the same command again later.")
    items = [
        child["data"] for child in data["children"] if isinstance(child, dict) and isinstance(child.get("data"), dict)
    ]
    return Page(items, data.get("after") or "")


def _walk(things: Any, comments: list[dict[str, Any]]) -> list[tuple[list[str], int]]:
    """Append the comments of a tree, and return what is folded away: (ids, how many comments stand behind them)."""
    folded: list[tuple[list[str], int]] = []
    pending: list[Any] = [things]
    while pending:
        node = pending.pop()
        if isinstance(node, dict) and node.get("kind") == "Listing":
            node = node["data"]["children"]
        for thing in node if isinstance(node, list) else ():
            data = thing.get("data") if isinstance(thing, dict) else None
            if not isinstance(data, dict):
                continue
            if thing.get("kind") == "more":
                folded.append((list(data.get("children", [])), int(data.get("count", 0))))
            elif thing.get("kind") == "t1":
                comments.append({key: value for key, value in data.items() if key != "replies"})
                pending.append(data.get("replies"))
    return folded


def _reason(error: errors.ResponseException) -> str:
    if isinstance(error, errors.Redirect):
        return "absent"  # Reddit sends an unknown subreddit's visitors to its search
    try:
        reason = error.response.json().get("reason")
    except (ValueError, AttributeError):
        reason = None
    return str(reason) if reason else ("absent" if isinstance(error, errors.NotFound) else "forbidden")


def _retry_after(error: Exception) -> float:
    value = error.retry_after if isinstance(error, errors.TooManyRequests) else None
    return float(value) if value else 0.0


def _describe(error: Exception) -> str:
    if isinstance(error, errors.RequestException):
        return type(error.original_exception).__name__
    if isinstance(error, errors.BadJSON):
        return "half an answer"
    return f"status {error.response.status_code}" if isinstance(error, errors.ResponseException) else "no answer"


def iterate_pages(client: RedditClient, path: str, after: str, **params: str | int) -> Iterator[Page]:
    """Yield the pages of a listing until Reddit has no more (1,000 items is its cap)."""
    while True:
        page = client.page(path, after, **params)
        yield page
        if not page.items or not page.after or page.after == after:
            return
        after = page.after
