"""What is kept and what is dropped: one small datatrove filter per rule, each counted under its own reason.

Web-text filters are wrong here (Gopher rejects every 40-word post): emoji, elongation, casing and profanity carry
the emotion, so no rule looks at them, and no rule changes a text. The first rule that a post breaks names it.
"""

import re
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter

from corpus.config import CorpusRecipe
from corpus.deduplicate import hash_string
from corpus.document import DELETED_ACCOUNTS, DELETED_TEXTS, REMOVED_TEXTS, full_text
from corpus.ingest import write_withdrawn
from corpus.language import is_foreign

WORD = re.compile(r"\w+(?:['’]\w+)*")
LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)


def without_links(text: str) -> tuple[str, int]:
    """Return a text without its links, and how many there were."""
    return LINK.subn(" ", text) if "://" in text or "www." in text.lower() else (text, 0)


class Rule(BaseFilter):
    """One reason to drop a post."""

    name = "rule"
    reason: ClassVar[str]
    withdraws: ClassVar[bool] = False
    """Whether the post was taken back, so that every other copy of it must go too."""

    @abstractmethod
    def keep(self, document: Document) -> bool:
        """Whether the post passes."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """What datatrove asks of a filter."""
        return True if self.keep(doc) else (False, self.reason)


class RuleChain(PipelineStep):
    """Apply rules in order; the same as one datatrove filter after another, without their cost per post.

    Args:
        rules: the rules.
        folder: where a task notes which posts are withdrawn, since another file may hold them as they were before.
            None: nowhere.
    """

    type = "🔻 - FILTER"
    name = "rules"

    def __init__(self, rules: Iterable[Rule], folder: Path | None = None) -> None:
        super().__init__()
        self.rules, self.folder = list(rules), folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Yield the posts that break no rule."""
        dropped: Counter[str] = Counter()
        withdrawn = array("Q")  # 8 bytes a post: a year of dumps has tens of millions of deleted ones
        for document in data or ():
            for rule in self.rules:
                if not rule.keep(document):
                    dropped[rule.reason] += 1
                    if rule.withdraws:
                        withdrawn.append(hash_string(document.id))
                    break
            else:
                yield document
        if self.folder is not None:
            write_withdrawn(self.folder, rank, withdrawn)
        for reason, count in sorted(dropped.items()):
            self.stat_update(f"dropped_{reason}", value=count)


class OutsideSubreddits(Rule):
    """Posts of subreddits that were not asked for."""

    reason = "other_subreddit"

    def __init__(self, subreddits: list[str]) -> None:
        super().__init__()
        self.subreddits = frozenset(name.casefold().removeprefix("r/") for name in subreddits)

    def keep(self, document: Document) -> bool:
        """Keep all if none was named."""
        return not self.subreddits or document.metadata["subreddit"].casefold() in self.subreddits


class OutsideMonths(Rule):
    """Posts from before or after the months asked for; undated posts stay."""

    reason = "outside_months"

    def __init__(self, since: str, until: str) -> None:
        super().__init__()
        self.since, self.until = since, until or "9999-12"

    def keep(self, document: Document) -> bool:
        """Months compare as strings."""
        month = document.metadata["month"]
        return not month or self.since <= month <= self.until


class UserProfile(Rule):
    """Posts to a user's own profile page (`u_NAME`): no profiles are collected (MentalBERT's practice)."""

    reason = "user_profile"

    def keep(self, document: Document) -> bool:
        """A profile is a subreddit whose name starts with `u_`."""
        return not document.metadata["subreddit"].casefold().startswith("u_")


class Deleted(Rule):
    """Posts that their author deleted."""

    reason = "deleted"
    withdraws = True

    def keep(self, document: Document) -> bool:
        """Either the text says so or Reddit's category does."""
        texts = {document.text.strip().casefold(), document.metadata["title"].strip().casefold()}
        category = document.metadata["record"].get("removed_by_category")
        return not (texts & DELETED_TEXTS) and category not in ("deleted", "author")


class Removed(Rule):
    """Posts that moderators or Reddit removed."""

    reason = "removed"
    withdraws = True
    fields = ("removed_by_category", "removed_by", "removal_reason", "banned_by")

    def keep(self, document: Document) -> bool:
        """Either the text says so or one of Reddit's fields does."""
        record = document.metadata["record"]
        texts = {document.text.strip().casefold(), document.metadata["title"].strip().casefold()}
        return not (texts & REMOVED_TEXTS) and not any(record.get(field) for field in self.fields)


class Restored(Rule):
    """Posts whose deleted text the archive put back (Arctic Shift's `_meta`): their authors wanted them gone."""

    reason = "restored"
    withdraws = True
    fields = ("was_deleted_later", "was_initially_deleted", "removal_type")

    def keep(self, document: Document) -> bool:
        """Arctic Shift marks them since 2023-11."""
        meta = document.metadata["record"].get("_meta")
        return not isinstance(meta, dict) or not any(meta.get(field) for field in self.fields)


class DeletedAccount(Rule):
    """Posts left behind by an account that is gone."""

    reason = "deleted_account"
    withdraws = True

    def keep(self, document: Document) -> bool:
        """An absent author field says nothing; `[deleted]` does."""
        return document.metadata["record"].get("author") not in DELETED_ACCOUNTS


class Crosspost(Rule):
    """Posts that only point to another post."""

    reason = "crosspost"

    def keep(self, document: Document) -> bool:
        """Reddit names the parent."""
        record = document.metadata["record"]
        return not record.get("crosspost_parent") and not record.get("crosspost_parent_list")


class Distinguished(Rule):
    """Posts by moderators and admins in their office."""

    reason = "distinguished"

    def keep(self, document: Document) -> bool:
        """`distinguished` is null for people."""
        return not document.metadata["record"].get("distinguished")


class Stickied(Rule):
    """Announcements pinned to the top."""

    reason = "stickied"

    def keep(self, document: Document) -> bool:
        """Reddit's own mark."""
        return not document.metadata["record"].get("stickied")


class Over18(Rule):
    """Posts marked as for adults, where the recipe says to drop them."""

    reason = "over_18"

    def keep(self, document: Document) -> bool:
        """An absent mark is no mark."""
        return not document.metadata["record"].get("over_18")


class Bot(Rule):
    """Posts by programs: known or telling account names, and the sentences bots sign with."""

    reason = "bot"
    known = re.compile(
        r"automoderator|remindmebot|sneakpeekbot|gifv-bot|imguralbumbot|tweetposter|autotldr|userleansbot|wikitextbot"
        r"|wikisummarizerbot|totesmessenger|haikusbot|sub_doesnt_exist_bot|anti-gore-bot|profanitycounter|vettedbot"
        r"|stabbot|savevideo|vredditdownloader",
        re.IGNORECASE,
    )
    # A capital B after a small letter, or a separator: `HaikuBot`, `grammar_bot`; not `talbot`.
    name_pattern = re.compile(r"(?:[a-z0-9]Bot|[_-][Bb][Oo][Tt]|BOT)[_-]?\d*$")
    sentence = re.compile(
        r"\b(?:i(?: am|'m|’m) a bot\b[\s\S]{0,40}(?:action|beep|bleep|contact|message|automatic|performed|source|info)"
        r"|this (?:action|comment|post) was (?:performed |made |posted )?automatically|^beep boop\b|\bbleep bloop\b)",
        re.IGNORECASE | re.MULTILINE,
    )

    def keep(self, document: Document) -> bool:
        """By name first, then by signature."""
        author = document.metadata["author"]
        if author and (self.known.fullmatch(author) or self.name_pattern.search(author)):
            return False
        text = document.text.lower()  # three substrings cost a tenth of the pattern
        suspicious = "bot" in text or "automatically" in text or "beep" in text or "bleep" in text
        return not suspicious or not self.sentence.search(text)


class Promotion(Rule):
    """Advertisements: Reddit's own mark, or several phrases of selling in one post."""

    reason = "promotion"
    phrases = (
        *("use my code", "promo code", "discount code", "coupon code", "affiliate link"),
        *("referral link", "referral code", "% off", "limited time offer", "limited-time offer", "free shipping"),
        *("buy now", "order now", "shop now", "sign up now", "sign up today", "sign up here", "click here"),
        *("click the link", "link in bio", "link in my bio", "check out my channel", "check out my store"),
        *("check out my shop", "check out my website", "check out my blog", "check out my podcast"),
        *("check out my book", "check out my app", "check out my page", "check out my onlyfans", "subscribe to my"),
        *("dm for price", "dm me for price", "dm to order", "dm me to order", "whatsapp me", "whatsapp us"),
        *("whatsapp:", "whatsapp +", "telegram:", "telegram @", "earn money", "earn $", "100% guarantee"),
    )
    limit = 2

    def keep(self, document: Document) -> bool:
        """One phrase happens in an honest post; two different ones do not."""
        record = document.metadata["record"]
        if record.get("promoted") or record.get("is_created_from_ads_ui"):
            return False
        text = full_text(document).lower()
        return sum(phrase in text for phrase in self.phrases) < self.limit


class LinkShare(Rule):
    """Posts that are mostly links."""

    reason = "links"

    def __init__(self, max_share: float) -> None:
        super().__init__()
        self.max_share = max_share

    def keep(self, document: Document) -> bool:
        """A link counts as one word."""
        rest, links = without_links(full_text(document))
        return not links or links <= self.max_share * (links + len(WORD.findall(rest)))


class CharacterRun(Rule):
    """Spam of one repeated character. `nooooo` stays: only runs of 20 and more count, and only if they dominate."""

    reason = "character_run"
    run_pattern = re.compile(r"(\S)\1{19,}")
    trace = re.compile(r"(\S)\1\1")
    max_share = 0.3

    def keep(self, document: Document) -> bool:
        """Compare the runs with the whole."""
        text = full_text(document)
        # Every fifth character of a run of 20 is the same three times in a row: a look at a fifth of the text.
        if not self.trace.search(text[::5]):
            return True
        in_runs = sum(len(match.group()) for match in self.run_pattern.finditer(text))
        return in_runs <= self.max_share * len(text)


class TooShort(Rule):
    """Posts with too few words to say anything."""

    reason = "too_short"

    def __init__(self, min_words: int) -> None:
        super().__init__()
        self.min_words = min_words

    def keep(self, document: Document) -> bool:
        """Title and body together; a link is no word."""
        words = WORD.finditer(without_links(full_text(document))[0])
        return sum(1 for _, _ in zip(words, range(self.min_words), strict=False)) == self.min_words


class TooLong(Rule):
    """Posts longer than Reddit allows: pasted logs, broken records."""

    reason = "too_long"

    def __init__(self, max_characters: int) -> None:
        super().__init__()
        self.max_characters = max_characters

    def keep(self, document: Document) -> bool:
        """Title and body together."""
        return len(document.text) + len(document.metadata["title"]) <= self.max_characters


class OtherLanguage(Rule):
    """Posts reliably in a language that was not asked for."""

    reason = "language"

    def __init__(self, languages: list[str]) -> None:
        super().__init__()
        self.languages = tuple(languages)

    def keep(self, document: Document) -> bool:
        """Keep all if none was named."""
        return not self.languages or not is_foreign(full_text(document), self.languages)


def rules_of(recipe: CorpusRecipe) -> list[Rule]:
    """Return the rules of a recipe, the cheap ones first."""
    rules: list[Rule] = [
        OutsideSubreddits(recipe.subreddits),
        OutsideMonths(recipe.since, recipe.until),
        UserProfile(),
        Deleted(),
        Removed(),
        Restored(),
        Crosspost(),
        Distinguished(),
        Stickied(),
        TooLong(recipe.max_characters),
        Bot(),
        TooShort(recipe.min_words),
        CharacterRun(),
        LinkShare(recipe.max_link_share),
        Promotion(),
        OtherLanguage(recipe.languages),
    ]
    if recipe.deleted_accounts == "drop":
        rules.insert(6, DeletedAccount())
    if recipe.over_18 == "drop":
        rules.insert(6, Over18())
    return rules
