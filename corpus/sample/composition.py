"""Compose whole synthetic posts and comments from sentence frames, in the styles people type in.

A post draws one or two themes, strings clauses together, may plant identifiers and hard negatives, and is then
restyled: lower case, no punctuation, capitals, emoji and elongation, typos. Restyling works piece by piece, so a
planted identifier keeps its own piece and its place stays known.
"""

import re
from collections.abc import Sequence

from corpus.sample.grammar import LANGUAGE_DIR, Frame, Grammar, Passage, Random, Sections, pick, read_sections, speak
from corpus.sample.identities import identifier_makers

NEGATIVE_SLOTS = frozenset(("drug", "diagnosis", "slang", "elongation", "emoji"))
QUESTIONS = (
    "how ",
    "does ",
    "do ",
    "is ",
    "are ",
    "can ",
    "what ",
    "who ",
    "has ",
    "have you",
    "did ",
    "would ",
    "am I",
)
JOINERS = (" and ", ", so ", ", and ", " but ", ". Then ", "... ", ", and then ", " because ")
ENDINGS = (". ", ". ", ". ", ". ", ". ", "... ", "! ", ".\n")
STYLES = (
    *(["standard"] * 42),
    *(["lower"] * 21),
    *(["bare"] * 13),
    *(["chatty"] * 12),
    *(["typos"] * 9),
    *(["capitals"] * 3),
)
PUNCTUATION = str.maketrans("", "", ".,;!?'’\"")
TYPOS = {
    "because": "becuase",
    "definitely": "definately",
    "really": "realy",
    "their": "thier",
    "don't": "dont",
    "can't": "cant",
    "people": "ppl",
    "about": "abt",
    "tomorrow": "tommorow",
    "until": "untill",
    "every": "evry",
    "friend": "freind",
    "you": "u",
    "going": "goin",
    "something": "smth",
    "anxiety": "anxeity",
    "a lot": "alot",
}
TYPO = re.compile(r"\b(" + "|".join(TYPOS) + r")\b")
ELONGATIONS = {
    "so": "soooo",
    "really": "reallyyy",
    "no": "nooo",
    "why": "whyyy",
    "please": "pleaseee",
    "tired": "tiredddd",
}
ELONGATION = re.compile(r"\b(" + "|".join(ELONGATIONS) + r")\b")
IDENTIFIER_SHARE, NEGATIVE_SHARE = 0.27, 0.22


class Theme:
    """The compiled frames of one theme."""

    def __init__(self, grammar: Grammar, sections: Sections) -> None:
        self.habits = grammar.compile_all(sections["habits"])
        self.moments = grammar.compile_all(sections["moments"])
        self.effects = grammar.compile_all(sections["effects"])
        self.thoughts = grammar.compile_all(sections["thoughts"])
        self.titles = grammar.compile_all(sections["titles"])


class Composer:
    """Writes synthetic posts; what it writes depends only on the random numbers it is given."""

    def __init__(self) -> None:
        self.words = read_sections(LANGUAGE_DIR / "lexicon.txt")
        self.common = read_sections(LANGUAGE_DIR / "common.txt")
        self.identities = read_sections(LANGUAGE_DIR / "identifiers.txt")
        noise = read_sections(LANGUAGE_DIR / "noise.txt")
        self.bot_names = noise.pop("bot_names")
        self.other_languages = list(read_sections(LANGUAGE_DIR / "other_languages.txt").values())
        negatives = read_sections(LANGUAGE_DIR / "hard_negatives.txt")
        replies = read_sections(LANGUAGE_DIR / "replies.txt")
        slots = self.words | {"emoji": self.common["emoji"], "number": [str(n) for n in range(1003, 9999, 9)]}
        slots |= {name: lines for name, lines in negatives.items() if name != "frames"}
        self.grammar = Grammar(slots, identifier_makers(self.identities), NEGATIVE_SLOTS)
        compiled = self.grammar.compile_all
        self.noise = {section: compiled(lines) for section, lines in noise.items()}
        paths = sorted((LANGUAGE_DIR / "themes").glob("*.txt"))
        self.themes = {path.stem: Theme(self.grammar, read_sections(path)) for path in paths}
        self.theme_list = list(self.themes.values())
        self.often, self.when = compiled(["{often}, "]), compiled(["{when} "])
        self.openers = compiled(self.common["openers"])
        self.closers = compiled(self.common["closers"])
        self.details = compiled(self.common["details"])
        self.edits = compiled(self.common["edits"])
        self.titles = compiled(self.common["titles"])
        self.identifier_frames = compiled(self.identities["frames"])
        self.identifier_titles = compiled(self.identities["titles"])
        self.negative_frames = compiled(negatives["frames"])
        self.reply_openers = compiled(replies["openers"])
        self.reply_bodies = compiled(replies["bodies"])
        self.reply_closers = compiled(replies["closers"])

    def post(self, theme_names: Sequence[str], random: Random) -> tuple[Passage, Passage]:
        """Write a submission: its title and body, on the given themes mostly."""
        main_theme = theme_names[int(random() * len(theme_names))]
        themes = [self.themes[main_theme]]
        if random() < 0.75:
            themes.append(self.theme_list[int(random() * len(self.theme_list))])
        style = STYLES[int(random() * len(STYLES))]
        body = Passage()
        sentences = 3 + int(13 * random() ** 2)
        if random() < 0.06:
            sentences = 3 * sentences + 6
        if random() < 0.4:
            self._sentence(self.openers, random, body, ending=pick((", ", " ", "... "), random))
        planted = self._planted(random)
        paragraph = 3 + int(random() * 5) if random() < 0.5 else 1000
        for number in range(sentences):
            self._theme_sentence(themes[int(random() * len(themes))], random, body)
            if planted and random() * (sentences - number) < len(planted):
                self._sentence(planted.pop(), random, body)
            if number % paragraph == paragraph - 1:
                body.pieces.append("\n\n")
        for frames in planted:
            self._sentence(frames, random, body)
        if random() < 0.35:
            self._sentence(self.closers, random, body)
        if random() < 0.05:
            body.pieces.append("\n\n")
            speak(self.edits[int(random() * len(self.edits))], random, body)
        title = self.title(main_theme, random)
        restyle(title, style, random, self.common["emoji"])
        restyle(body, style, random, self.common["emoji"])
        return title, body

    def title(self, theme_name: str, random: Random) -> Passage:
        """Write a title."""
        title, choice = Passage(), random()
        frames = (
            self.themes[theme_name].titles
            if choice < 0.72
            else self.titles
            if choice < 0.96
            else self.identifier_titles
        )
        speak(frames[int(random() * len(frames))], random, title)
        if random() < 0.4:
            _capitalise(title, 0)
        return title

    def comment(self, random: Random) -> Passage:
        """Write a comment."""
        style, body = STYLES[int(random() * len(STYLES))], Passage()
        if random() < 0.6:
            self._sentence(self.reply_openers, random, body, ending=pick((". ", ", ", "! "), random))
        planted = self._planted(random)
        for _ in range(2 + int(4 * random() ** 2)):
            self._sentence(self.reply_bodies, random, body)
        if random() < 0.6:
            theme = self.theme_list[int(random() * len(self.theme_list))]
            for _ in range(1 + int(random() * 3)):
                self._theme_sentence(theme, random, body)
        for frames in planted[:1]:
            self._sentence(frames, random, body)
        if random() < 0.4:
            self._sentence(self.reply_closers, random, body)
        restyle(body, style, random, self.common["emoji"])
        return body

    def foreign(self, random: Random, sentences: int) -> Passage:
        """Write a post in another language than English."""
        passage, lines = Passage(), list(self.other_languages[int(random() * len(self.other_languages))])
        for _ in range(min(sentences, len(lines))):
            passage.pieces.append(lines.pop(int(random() * len(lines))) + ". ")
        return passage

    def noise_line(self, section: str, random: Random) -> Passage:
        """Write one of the texts of `noise.txt`."""
        passage, frames = Passage(), self.noise[section]
        speak(frames[int(random() * len(frames))], random, passage)
        return passage

    def _planted(self, random: Random) -> list[list[Frame]]:
        planted = []
        if random() < IDENTIFIER_SHARE:
            planted += [self.identifier_frames] * (1 + int(3 * random() ** 2))
        if random() < NEGATIVE_SHARE:
            planted += [self.negative_frames] * (1 + int(2 * random()))
        return planted

    def _theme_sentence(self, theme: Theme, random: Random, passage: Passage) -> None:
        """Append a sentence on a theme, in one of eight shapes."""
        shape, first = random(), len(passage.pieces)
        if shape < 0.30:  # habit, three ways
            if shape < 0.14:
                speak(self.often[0], random, passage)
            _speak_one(theme.habits, random, passage)
            if shape > 0.22:
                self._effect(theme, random, passage)
        elif shape < 0.52:  # something that happened
            if shape < 0.42:
                speak(self.when[0], random, passage)
            _speak_one(theme.moments, random, passage)
            if shape > 0.47:
                self._effect(theme, random, passage)
        elif shape < 0.64:
            _speak_one(theme.thoughts, random, passage)
        elif shape < 0.94:
            _speak_one(self.details, random, passage)
        else:
            _speak_one(theme.effects, random, passage)
        _end_sentence(passage, first, ENDINGS[int(random() * len(ENDINGS))])

    def _effect(self, theme: Theme, random: Random, passage: Passage) -> None:
        passage.pieces.append(JOINERS[int(random() * len(JOINERS))])
        _speak_one(theme.effects, random, passage)

    def _sentence(self, frames: list[Frame], random: Random, passage: Passage, ending: str = ". ") -> None:
        first = len(passage.pieces)
        _speak_one(frames, random, passage)
        _end_sentence(passage, first, ending)


def restyle(passage: Passage, style: str, random: Random, emoji: Sequence[str]) -> None:
    """Retype a passage in place in one of the `STYLES`; tracked pieces change their case at most."""
    passage.pieces[-1] = passage.pieces[-1].rstrip()  # the space after the last sentence
    if style == "standard":
        return
    if not passage.marks:
        passage.pieces = [passage.text()]
    marked = {index for index, _ in passage.marks}
    pieces = passage.pieces
    for index, piece in enumerate(pieces):
        if style in ("lower", "bare"):
            piece = piece.lower()
        if index not in marked:
            if style == "bare":
                piece = piece.translate(PUNCTUATION)
            elif style == "capitals":
                piece = piece.upper()
            elif style == "typos":
                piece = TYPO.sub(_misspell, piece)
            elif style == "chatty":
                piece = ELONGATION.sub(_elongate, piece)
        pieces[index] = piece
    if style == "chatty":
        pieces.append(" " + emoji[int(random() * len(emoji))] * (1 + int(random() * 3)))


def edit_lightly(passage: Passage, random: Random, rate: float) -> Passage:
    """Return a near duplicate: about `rate` of the words misspelled, dropped or shouted, at least one."""
    copy = Passage()
    copy.marks = list(passage.marks)
    marked = {index for index, _ in passage.marks}
    edits = 0
    for index, piece in enumerate(passage.pieces):
        if index not in marked:
            words = piece.split(" ")
            for position, word in enumerate(words):
                if len(word) > 3 and random() < rate:
                    edits += 1
                    kind = int(random() * 4)
                    words[position] = (word[:-1], word.upper(), word[0] + word[2] + word[1] + word[3:], "like " + word)[
                        kind
                    ]
            piece = " ".join(words)
        copy.pieces.append(piece)
    if not edits:
        copy.pieces.append(" Edit: spelling")
    return copy


def _speak_one(frames: list[Frame], random: Random, passage: Passage) -> None:
    """Append one of the frames; one that the passage has used already is drawn again, twice at most."""
    used = passage.used
    for _ in range(3):
        frame = frames[int(random() * len(frames))]
        if id(frame) not in used:
            break
    used.add(id(frame))
    options = frame[0]
    if len(frame) == 1 and options.__class__ is tuple:  # rehearsed: the usual case, without the cost of a call
        option = options[int(random() * len(options))]
        if isinstance(option, str):
            passage.pieces.append(option)
            return
        frame = option  # type: ignore[assignment]  # a choice holds strings and frames
    speak(frame, random, passage)


def _misspell(match: re.Match[str]) -> str:
    return TYPOS[match.group()]


def _elongate(match: re.Match[str]) -> str:
    return ELONGATIONS[match.group()]


def _capitalise(passage: Passage, first: int) -> None:
    start = passage.pieces[first]
    passage.pieces[first] = start[:1].upper() + start[1:]


def _end_sentence(passage: Passage, first: int, ending: str) -> None:
    pieces = passage.pieces
    if ending[0] != "," and pieces[first].startswith(QUESTIONS):
        ending = "? "
    start = pieces[first]
    if start[:1].islower() and (first == 0 or pieces[first - 1] not in (", ", " ")):
        pieces[first] = start[0].upper() + start[1:]
    pieces.append(ending)
