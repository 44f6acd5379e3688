"""Synthetic records with the fields of Reddit's dumps, of every kind that a corpus builder has to tell apart.

One part is a stream of records that depends on the seed and the part's number only, so the first N are the same
however many are asked for. Beside each record goes what a builder should find in it: identifiers, hard negatives,
why to drop it, and which others it duplicates. Ids start with `syn` and every record says `synthetic: true`.
"""

import dataclasses
import random as random_module
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import orjson

from corpus.sample.composition import Composer, edit_lightly
from corpus.sample.grammar import NEGATIVE_PREFIX, Passage, Random
from corpus.sample.identities import handle

RECORDS_PER_PART = 50_000
FIRST_SECOND, LAST_SECOND = 1_672_531_200, 1_735_689_600  # 2023-01-01 to 2025-01-01, UTC
SUBREDDITS = {
    "depression": ("low", "sleep", "therapy"),
    "Anxiety": ("panic", "sleep", "medication"),
    "mentalhealth": ("therapy", "low", "family", "work"),
    "bipolar": ("medication", "sleep", "money"),
    "socialanxiety": ("panic", "lonely", "study"),
    "insomnia": ("sleep", "medication"),
    "lonely": ("lonely", "low"),
    "GriefSupport": ("grief", "family"),
    "EDAnonymous": ("body", "therapy"),
    "Anger": ("anger", "family"),
    "college": ("study", "money", "lonely"),
    "jobs": ("work", "money"),
    "CasualConversation": ("good", "lonely", "work"),
    "offmychest": ("anger", "family", "grief", "good"),
}
SUBREDDIT_NAMES = tuple(SUBREDDITS)
FLAIRS = (None, None, None, "Vent", "Advice Needed", "Good News", "Question", "Trigger Warning", "Medication")
REMOVAL_CATEGORIES = ("moderator", "reddit", "automod_filtered", "anti_evil_ops")
# Shares of all records; the rest are ordinary posts. Order matters: it is part of what the seed fixes.
KIND_SHARES = {
    "exact": 0.030,
    "near": 0.035,
    "language": 0.030,
    "bot": 0.022,
    "deleted": 0.022,
    "removed": 0.025,
    "restored": 0.018,
    "deleted_account": 0.015,
    "crosspost": 0.020,
    "stickied": 0.007,
    "distinguished": 0.008,
    "promotion": 0.015,
    "links": 0.010,
    "character_run": 0.010,
    "too_short": 0.030,
}
NOT_ORDINARY = sum(KIND_SHARES.values())
SUBMISSION_ONLY = ("crosspost", "stickied")
# kind → sections of noise.txt for the body and the title ("": a title like any other).
NOISE_SECTIONS = {
    "bot": ("bots", ""),
    "promotion": ("promotions", ""),
    "links": ("link_dumps", "link_titles"),
    "character_run": ("character_runs", "link_titles"),
    "stickied": ("announcements", ""),
    "distinguished": ("announcements", ""),
    "too_short": ("stubs", "stub_titles"),
}
DUPLICATE_KINDS = ("exact", "near")
SPACES_TO_COPY = 45  # a copy of a shorter text would be nothing that a near-duplicate search must find


@dataclasses.dataclass(slots=True)
class Draft:
    """What a record says, before it gets its place and date. `title` is None in a comment."""

    fullname: str
    subreddit: str
    title: Passage | None
    body: Passage


@dataclasses.dataclass
class Gold:
    """What a perfect corpus builder would know about the records of one part."""

    identifiers: list[bytes] = dataclasses.field(default_factory=list)
    hard_negatives: list[bytes] = dataclasses.field(default_factory=list)
    drops: list[bytes] = dataclasses.field(default_factory=list)
    """These three are JSON lines: a million small objects would keep the garbage collector busy."""
    duplicates: dict[str, dict[str, list[str]]] = dataclasses.field(default_factory=dict)
    """Original → its exact and its near copies."""
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    def annotate(self, fullname: str, field: str, passage: Passage) -> None:
        """Note what is planted in one field of a record."""
        if not passage.marks:
            return
        planted, negatives = [], []
        for start, end, label in passage.spans():
            if label.startswith(NEGATIVE_PREFIX):
                negatives.append({"start": start, "end": end, "kind": label.removeprefix(NEGATIVE_PREFIX)})
            else:
                planted.append({"start": start, "end": end, "label": label})
                self.counts[f"planted_{label}"] += 1
        if planted:
            self.identifiers.append(orjson.dumps({"id": fullname, "field": field, "spans": planted}))
        if negatives:
            self.hard_negatives.append(orjson.dumps({"id": fullname, "field": field, "spans": negatives}))


class Part:
    """The records of one part, in the order they are drawn.

    Args:
        composer: the writer of texts.
        seed: of the whole sample.
        number: of the part; parts of different numbers share no id and no author.
    """

    def __init__(self, composer: Composer, seed: int, number: int) -> None:
        self.composer, self.number = composer, number
        self.random: Random = random_module.Random(f"{seed}/{number}").random
        self.gold = Gold()
        self._posts: deque[tuple[str, str, int]] = deque(maxlen=200)
        self._originals: dict[bool, deque[Draft]] = {True: deque(maxlen=40), False: deque(maxlen=40)}
        self._bots = composer.bot_names

    def records(self, count: int) -> Iterator[tuple[bool, int, dict[str, Any]]]:
        """Yield (is submission, second of creation, record) `count` times."""
        for index in range(count):
            yield self._record(index)

    def _record(self, index: int) -> tuple[bool, int, dict[str, Any]]:
        random, gold = self.random, self.gold
        kind = self._draw_kind()
        is_submission = random() < 0.62 or kind in SUBMISSION_ONLY or not self._posts
        prefix = "t3_" if is_submission else "t1_"
        name = f"syn{self.number * RECORDS_PER_PART + index:07d}"
        subreddit, post, created = self._place(is_submission)
        draft = self._draft(kind, is_submission, prefix + name, subreddit)
        if kind in DUPLICATE_KINDS and draft is None:
            kind = ""
            draft = self._draft(kind, is_submission, prefix + name, subreddit)
        assert draft is not None
        author = handle(self.composer.identities, self._draw_author(index))
        if is_submission:
            record = self._submission(name, author, created, draft, kind)
            self._posts.append((name, subreddit, created))
        else:
            record = self._comment(name, author, created, draft, post)
        self._mark(record, kind)
        if kind and kind not in DUPLICATE_KINDS:
            gold.drops.append(orjson.dumps({"id": prefix + name, "reason": kind}))
        gold.counts[kind or "ordinary"] += 1
        if kind not in ("deleted", "removed"):
            if draft.title is not None:
                gold.annotate(prefix + name, "title", draft.title)
            gold.annotate(prefix + name, "selftext" if is_submission else "body", draft.body)
        if not kind and draft.body.text().count(" ") >= SPACES_TO_COPY:
            self._originals[is_submission].append(draft)
        return is_submission, created, record

    def _draw_kind(self) -> str:
        point = self.random()
        if point >= NOT_ORDINARY:
            return ""
        for kind, share in KIND_SHARES.items():
            point -= share
            if point < 0:
                return kind
        return ""

    def _draw_author(self, index: int) -> int:
        base = self.number * RECORDS_PER_PART
        if self.random() < 0.06:
            return base + int(self.random() * 12)
        return base + int(self.random() * (60 + index * 0.6))

    def _place(self, is_submission: bool) -> tuple[str, str, int]:
        """Draw (subreddit, post that a comment answers, second of creation)."""
        random = self.random
        if is_submission:
            subreddit = SUBREDDIT_NAMES[int(random() ** 1.4 * len(SUBREDDIT_NAMES))]
            return subreddit, "", FIRST_SECOND + int(random() * (LAST_SECOND - FIRST_SECOND))
        post, subreddit, asked = self._posts[int(random() * len(self._posts))]
        return subreddit, post, min(asked + 60 + int(random() ** 3 * 400_000), LAST_SECOND - 1)

    def _draft(self, kind: str, is_submission: bool, fullname: str, subreddit: str) -> Draft | None:
        random, composer = self.random, self.composer
        if kind in DUPLICATE_KINDS:
            return self._copy(kind, is_submission, fullname, subreddit)
        themes = SUBREDDITS[subreddit]
        if kind in NOISE_SECTIONS:
            section, title_section = NOISE_SECTIONS[kind]
            body = composer.noise_line(section, random)
            title = composer.noise_line(title_section, random) if title_section else composer.title(themes[0], random)
        elif kind == "language":
            body, title = composer.foreign(random, 4 + int(random() * 4)), composer.foreign(random, 1)
        elif is_submission:
            title, body = composer.post(themes, random)
        else:
            title, body = Passage(), composer.comment(random)
        return Draft(fullname, subreddit, title if is_submission else None, body)

    def _copy(self, kind: str, is_submission: bool, fullname: str, subreddit: str) -> Draft | None:
        """Copy an earlier record, exactly or lightly edited or with another title; None if there is none to copy."""
        random, originals = self.random, self._originals[is_submission]
        if not originals:
            return None
        original = originals[int(random() * len(originals))]
        title, body = original.title, original.body
        if kind == "near":
            if title is not None and random() < 0.3:
                title = self.composer.title(SUBREDDITS[subreddit][0], random)
            body = edit_lightly(body, random, rate=0.03)
        self.gold.duplicates.setdefault(original.fullname, {"exact": [], "near": []})[kind].append(fullname)
        return Draft(fullname, subreddit, title, body)

    def _submission(self, name: str, author: str, created: int, draft: Draft, kind: str) -> dict[str, Any]:
        random, subreddit = self.random, draft.subreddit
        title = draft.title.text() if draft.title is not None else ""
        score = int(1 / (random() + 0.002))
        slug = f"/r/{subreddit}/comments/{name}/"
        return {
            "synthetic": True,
            "id": name,
            "name": f"t3_{name}",
            "author": author,
            "author_fullname": f"t2_syn{len(author)}",
            "subreddit": subreddit,
            "subreddit_id": "t5_syn",
            "subreddit_type": "public",
            "created_utc": created,
            "retrieved_on": created + 129_600,
            "title": title,
            "selftext": draft.body.text(),
            "score": score,
            "upvote_ratio": round(0.5 + random() / 2, 2),
            "num_comments": score // 3,
            "num_crossposts": 0,
            "link_flair_text": FLAIRS[int(random() * len(FLAIRS))],
            "over_18": random() < 0.05,
            "spoiler": False,
            "locked": False,
            "stickied": False,
            "distinguished": None,
            "edited": created + 3600 if random() < 0.04 else False,
            "is_self": True,
            "domain": f"self.{subreddit}",
            "permalink": slug,
            "url": f"https://www.reddit.com{slug}",
            "removed_by_category": None,
        }

    def _comment(self, name: str, author: str, created: int, draft: Draft, post: str) -> dict[str, Any]:
        random = self.random
        return {
            "synthetic": True,
            "id": name,
            "name": f"t1_{name}",
            "link_id": f"t3_{post}",
            "parent_id": f"t3_{post}",
            "author": author,
            "author_fullname": f"t2_syn{len(author)}",
            "subreddit": draft.subreddit,
            "subreddit_id": "t5_syn",
            "created_utc": created,
            "retrieved_on": created + 129_600,
            "body": draft.body.text(),
            "score": int(1 / (random() + 0.01)),
            "controversiality": 0,
            "is_submitter": random() < 0.1,
            "stickied": False,
            "distinguished": None,
            "edited": False,
            "permalink": f"/r/{draft.subreddit}/comments/{post}/_/{name}/",
        }

    def _mark(self, record: dict[str, Any], kind: str) -> None:
        """Set the fields that tell what kind a record is, and now and then an odd clock."""
        random = self.random
        field = "body" if "body" in record else "selftext"
        if kind == "deleted":
            record |= {"author": "[deleted]", field: "[deleted]"}
            if field == "selftext":
                record["removed_by_category"] = "deleted"
                if random() < 0.3:
                    record["title"] = "[deleted by user]"
        elif kind == "removed":
            record[field] = "[removed]"
            if field == "selftext":
                record["removed_by_category"] = REMOVAL_CATEGORIES[int(random() * len(REMOVAL_CATEGORIES))]
        elif kind == "restored":
            later = random() < 0.5
            record["_meta"] = {
                "was_deleted_later" if later else "was_initially_deleted": True,
                "removal_type": "deleted" if later else "removed",
                "retrieved_2nd_on": record["retrieved_on"] + 129_600,
            }
        elif kind == "deleted_account":
            record["author"] = "[deleted]"
        elif kind == "crosspost":
            parent = f"t3_{self._posts[int(random() * len(self._posts))][0]}" if self._posts else "t3_syn9999999"
            record |= {"crosspost_parent": parent, "crosspost_parent_list": [{"name": parent}], "is_self": False}
        elif kind == "stickied":
            record |= {"stickied": True, "author": "syn_moderator"}
        elif kind == "distinguished":
            record |= {"distinguished": "moderator", "author": "syn_moderator"}
        elif kind == "bot":
            record["author"] = self._bots[int(random() * len(self._bots))]
        odd = random()
        if odd < 0.008:
            record["created_utc"] *= 1000  # some old dumps have milliseconds
        elif odd < 0.014:
            record["created_utc"] = str(record["created_utc"])
