"""The exact layer: one row a pattern, for kinds of information that have a shape of their own.

A row says which label it gives, a trigger that must stand in the text for the pattern to be tried at all (most
posts have none, so most rows cost one substring search), the pattern, and, where the shape alone is not proof, a
check (Luhn, IBAN mod 97, a date that exists). A group called `it` narrows the span to what identifies.
"""

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterator

from corpus.deidentify.spans import Span

Check = Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Recognizer:
    """One row of the table."""

    name: str
    label: str
    trigger: re.Pattern[str]
    """Cheap test on the whole text."""
    pattern: re.Pattern[str]
    check: Check | None = None
    """Says whether a match is one, from its text."""
    priority: int = 50
    """Whose label wins where rows overlap."""

    def find(self, text: str) -> Iterator[tuple[Span, int]]:
        """Yield spans with this row's priority."""
        group = "it" if "it" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(text):
            start, end = match.span(group)
            if start < end and (self.check is None or self.check(text[start:end])):
                yield Span(start, end, self.label), self.priority


def luhn(number: str) -> bool:
    """Say whether the digits of a card number check (ISO/IEC 7812-1 annex B)."""
    digits = [int(character) for character in number if character.isdecimal()]
    if not 12 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(code: str) -> bool:
    """Say whether an IBAN's check digits are right (ISO 13616, mod 97)."""
    code = re.sub(r"[^0-9A-Za-z]", "", code).upper()
    return 15 <= len(code) <= 34 and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def _octets(address: str) -> bool:
    return all(int(part) <= 255 for part in address.split("."))


def _phone(number: str) -> bool:
    digits = sum(character.isdecimal() for character in number)
    return 7 <= digits <= 15


def _exists(date: str) -> bool:
    numbers = [int(number) for number in re.findall(r"\d+", date)[:3]]
    if numbers[0] > 31:
        year, month, day = numbers
    else:
        day, month, year = numbers
    year += 0 if year > 99 else 2000
    for a, b in ((month, day), (day, month)):
        try:
            datetime.date(year, a, b)
        except ValueError:
            continue
        return 1900 <= year <= 2100
    return False


def _row(
    name: str, label: str, trigger: str, pattern: str, check: Check | None = None, priority: int = 50, flags: int = re.I
) -> Recognizer:
    return Recognizer(
        name,
        label,
        re.compile(trigger, flags | re.ASCII),
        re.compile(pattern, flags | re.ASCII | re.X),
        check,
        priority,
    )


_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_DATE = (
    rf"(?:\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:\d{{4}}|\d{{2}})"
    rf"|{_MONTH}\s+{_DAY}(?:,?\s+\d{{4}})?|{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+\d{{4}})?)"
)
_TOP = r"(?:com|org|net|edu|gov|io|info|blog|app|dev|me|tv|ly|gg|be|co\.uk|org\.uk|ac\.uk|ca|de|fr|nl|se|au|nz|eu)"
_STREET = (
    r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|drive|dr|lane|ln|court|ct|place|pl|square|sq|terrace|ter|"
    r"parkway|pkwy|highway|hwy|crescent|cres|close|way|circle|cir|trail|row|alley|route|plaza)\b\.?"
)
_UNIT = r"(?:[,\s]+(?:apt|apartment|suite|ste|unit|flat|room|rm|floor|fl|\#)\.?\s*\#?\w{1,6})?"

RECOGNIZERS: tuple[Recognizer, ...] = (
    _row("e-mail", "EMAIL", "@", r"(?<![\w.+-])[\w.+'-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,5}[a-z]{2,24}\b", priority=90),
    _row(
        "spelled e-mail",
        "EMAIL",
        r"\bat\b|\(at\)|\[at\]",
        r"(?<![\w.+-])[\w.+-]{1,64}\s?(?:[(\[]\s?at\s?[)\]]|\sat\s)\s?[a-z0-9-]{2,63}\s?(?:[(\[]\s?dot\s?[)\]]|\sdot\s|\.)\s?(?:com|org|net|edu)\b",
        priority=90,
    ),
    _row(
        "link",
        "URL",
        r"://|www\.",
        r"\b(?:https?|ftp)://[^\s<>()\[\]\"'`]{3,2000}|\bwww\.[^\s<>()\[\]\"'`]{3,2000}",
        priority=80,
    ),
    _row(
        "bare domain",
        "URL",
        r"\w\.[a-z]{2}",
        rf"(?<![\w@./-])(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,4}}{_TOP}(?![\w-])(?:/[^\s<>()\[\]\"'`]{{0,2000}})?(?<!\.)",
        check=lambda domain: (
            "/" in domain or domain.rsplit(".", 1)[1].lower() in {"com", "org", "net", "edu", "gov", "io", "uk"}
        ),
        priority=70,
    ),
    _row("reddit user", "USERNAME", "u/", r"(?<![\w/])/?u/(?:[\w-]{2,32})", priority=85),
    _row("profile link", "USERNAME", r"user/", r"reddit\.com/u(?:ser)?/[\w-]{2,32}/?", priority=86),
    _row("@ handle", "USERNAME", "@", r"(?<![\w@.])@[a-z0-9_](?:[\w.]{0,30}\w)?", priority=60),
    _row("discord tag", "USERNAME", r"#\d{4}", r"(?<!\S)[\w.]{2,32}\#\d{4}\b", priority=85),
    _row(
        "named handle",
        "USERNAME",
        r"\b(?:insta|ig|snap|discord|twitter|tiktok|kik|skype|telegram|steam|psn|gamertag|tumblr|username|user\sname|twitch)",
        r"""\b(?:insta(?:gram)?|ig|snap(?:chat)?|discord|twitter|tiktok|kik|skype|telegram|steam|psn|gamertag|tumblr|
        twitch|user\s?name)(?:\s(?:name|handle|tag|id|account|user|username|is))*\s?(?::|=|\bis\b|-)\s*["']?
        (?P<it>(?=[\w.-]*[a-z])(?=[\w.-]*[\d_.-]\w|[\w.-]{9,})[\w.-]{2,31}\w)""",
        priority=60,
    ),
    _row("ssn", "ID_NUMBER", r"\d-\d", r"(?<![\d-])(?!000|666)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])", priority=75),
    _row("card", "ID_NUMBER", r"\d{4}", r"(?<![\d.-])(?:\d[ -]?){11,18}\d(?![\d-])", check=luhn, priority=75),
    _row("long number", "ID_NUMBER", r"\d{11}", r"(?<![\w.,-])\d{11,24}(?![\w-])", priority=40),
    _row(
        "iban", "ID_NUMBER", r"[a-z]{2}\d\d", r"\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{2,4}){3,8}\b", check=iban, priority=88
    ),
    _row("ipv4", "ID_NUMBER", r"\d\.\d", r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)", check=_octets, priority=78),
    _row(
        "ipv6",
        "ID_NUMBER",
        r"[0-9a-f]:[0-9a-f:]",
        r"(?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])|(?<![\w:])(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}(?![\w:])",
        priority=78,
    ),
    _row(
        "named number",
        "ID_NUMBER",
        r"passport|licen[cs]e|\bssn\b|social\ssecurity|account\sn|member\s?id|policy\sn|case\sn|student\sid|\bnhs\b|\bmrn\b",
        r"""\b(?:passport|driver'?s?\slicen[cs]e|licen[cs]e|ssn|social\ssecurity|account|member\s?id|policy|case|
        student\sid|nhs|mrn)(?:\s(?:number|no\.?|num|\#|id))*\s?(?:is|:|=|\#)?\s?
        (?P<it>(?=[\w-]*\d[\w-]*\d[\w-]*\d)[a-z0-9][\w-]{4,20})\b""",
        priority=76,
    ),
    _row(
        "phone",
        "PHONE",
        r"\d{3}",
        r"""(?<![\w.,$£€/+-])(?:\+\d{1,3}[\s.-]?)?(?:\(\d{1,5}\)[\s.-]?)?\d{2,5}(?:[\s.-]\d{2,5}){1,4}
        (?:\s?(?:x|ext\.?)\s?\d{1,5})?(?![\w/%-])|(?<![\w.,-])\+\d{8,15}(?!\w)|(?<![\w.,$£€-])\d{10}(?!\w)
        |(?<![\w.,-])(?:\+?1[\s.-]?)?\(\d{3}\)[\s.-]?\d{3}[\s.-]?\d{4}(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?!\w)""",
        check=_phone,
        priority=45,
    ),
    _row(
        "street",
        "ADDRESS",
        r"\d\S*\s",
        rf"(?<![\w$£€.])\d{{1,5}}[a-z]?(?:\s(?:n|s|e|w|north|south|east|west)\.?)?(?:\s(?-i:[A-Z0-9])[\w'.-]{{1,20}}){{1,4}}\s{_STREET}{_UNIT}",
        priority=65,
    ),
    _row(
        "box",
        "ADDRESS",
        r"\bbox\b",
        r"\bp\.?\s?o\.?\s?box\s?\#?\d{1,7}|\bpsc\s\d{1,5},?\sbox\s\d{1,6}(?:\s+[af]po\s[a-z]{2}(?:\s\d{5})?)?",
        priority=66,
    ),
    _row(
        "us zip",
        "POSTCODE",
        r"\d{5}",
        r"\b(?-i:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])\.?,?\s(?P<it>\d{5}(?:-\d{4})?)\b",
        priority=55,
    ),
    _row(
        "named zip",
        "POSTCODE",
        r"\bzip|post\s?code|postal",
        r"""\b(?:zip(?:\s?code)?|post\s?code|postal\scode)(?:\s?(?:is|:|=))?\s*
        (?P<it>(?=\S*\d)[a-z0-9]{2,8}(?:[ -][0-9][a-z0-9]{1,3})?)\b""",
        priority=55,
    ),
    _row("uk postcode", "POSTCODE", r"\d[a-z]", r"\b(?-i:[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2})\b", priority=55),
    _row("canadian postcode", "POSTCODE", r"\d[a-z]", r"\b(?-i:[ABCEGHJ-NPR-TVXY]\d[A-Z]\s?\d[A-Z]\d)\b", priority=55),
    _row(
        "birth date",
        "DATE_OF_BIRTH",
        r"\bborn\b|\bdob\b|birth|b-?day",
        rf"\b(?:born(?:\s(?:on|in))?|d\.?o\.?b\.?|(?:date\sof\s)?birth(?:\s?(?:day|date))?|b-?day)(?:\s?(?:is|was|:|=|on|-)){{0,3}}\s*(?:the\s)?(?P<it>{_DATE}|{_MONTH}\s\d{{4}}|(?:19|20)\d\d)\b",
        priority=72,
    ),
    _row(
        "numeric date",
        "DATE",
        r"\d[-/.]\d",
        r"(?<![\w/.-])(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))(?:[T\s]\d{1,2}:\d\d(?::\d\d)?)?(?![\w/-])",
        check=_exists,
        priority=70,
    ),
    _row(
        "written date",
        "DATE",
        r"\d",
        rf"\b(?:{_MONTH}\s{_DAY}(?!\d|\s?(?:mg|mins?|hours?|days?|weeks?|months?|years?|%))(?:,?\s(?:19|20)\d\d)?|{_DAY}\s(?:of\s)?{_MONTH}(?!\w)(?:,?\s(?:19|20)\d\d)?)\b",
        priority=70,
    ),
)


def find_exact(text: str) -> Iterator[tuple[Span, int]]:
    """Yield every row's spans with their priorities; they may overlap."""
    for recognizer in RECOGNIZERS:
        if recognizer.trigger.search(text):
            yield from recognizer.find(text)
