"""The exact layer: one row a pattern, for kinds of information that have a shape of their own.

A row says which label it gives, a trigger that must stand in the text for the pattern to be tried at all (most
posts have none, so most rows cost one search), the pattern, and, where the shape alone is no proof, a check (Luhn,
IBAN mod 97, a date that exists). A group called `it` narrows the span to what identifies.

To add a recognizer: add a row here and a row of cases to `tests/corpus/test_deidentify_recognizers.py`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator

from corpus.deidentify import checks
from corpus.deidentify.spans import Span
from corpus.deidentify.typography import plain_spelling

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20)\d\d"
_NUMERIC_DATE = rf"(?:{_YEAR}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:{_YEAR}|\d\d))"
_HYPHENED_DATE = rf"(?:{_DAY}-{_MONTH}-(?:{_YEAR}|\d\d)|{_MONTH}-{_DAY}-{_YEAR}|{_YEAR}-{_MONTH}-{_DAY})"
_DATE = (
    rf"(?:{_NUMERIC_DATE}|{_HYPHENED_DATE}|{_MONTH}\s+{_DAY}(?:,?\s+{_YEAR})?|"
    rf"{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR})?)"
)
_SURE_DOMAIN = r"(?:com|org|net|edu|gov|info|io|carrd\.co|co\.uk|org\.uk|ac\.uk|nhs\.uk|gov\.uk)"
_DOMAIN = (
    rf"(?:{_SURE_DOMAIN}|app|dev|blog|me|tv|ly|gg|be|ca|de|fr|nl|se|au|nz|eu|it|es|ie|in|us|uk|ch|at|ee|co|ai|bio)"
)
_LINK_PART = r"[^\s<>()\[\]\"'`]"
_STREET_KIND = (
    r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|drive|dr|lane|ln|court|ct|place|pl|square|sq|terrace|"
    r"parkway|pkwy|highway|hwy|crescent|close|way|circle|cir|trail|row|alley|plaza)\b\.?"
)
_UNIT = r"(?:[,\s]+(?:apt|apartment|suite|ste|unit|flat|room|rm|floor|\#)\.?\s*\#?\w{1,6})?"
_PLATFORM = (
    r"(?:insta(?:gram)?|ig|snap(?:chat)?|discord|twitter|tik\s?tok|kik|skype|telegram|steam|psn|xbox|gamertag|tumblr|"
    r"twitch|whatsapp|user\s?name|youtube)"
)
_ACCOUNT = r"(?:facebook|fb|venmo|cash\s?app|paypal|linkedin|onlyfans|bluesky)"
_ANY_ACCOUNT = rf"\b(?:{_PLATFORM}|{_ACCOUNT})\b"
_MAIL_HOST = r"(?:g(?:oogle)?mail|hotmail|yahoo|ymail|outlook|proton(?:mail)?|icloud|aol|gmx|msn|live)"
_STATES = (
    r"(?-i:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|"
    r"W[AIVY]|AA|AE|AP)"
)
_EXTENSION = r"(?:\s?(?:x|ext\.?)\s?\d{1,6})?"


@dataclasses.dataclass(frozen=True)
class Recognizer:
    """One row of the table. Rows with the same trigger share the search for it."""

    name: str
    label: str
    trigger: re.Pattern[str]
    """Cheap test on the whole text."""
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None
    """Says whether a match is one, from its text."""
    priority: int
    """Whose label wins where rows overlap."""

    def find(self, text: str) -> Iterator[tuple[Span, int]]:
        """Yield spans with this row's priority; the trigger is the caller's to try."""
        group = "it" if "it" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(text):
            start, end = match.span(group)
            if start < end and (self.check is None or self.check(text[start:end])):
                yield Span(start, end, self.label), self.priority


def _row(
    name: str, label: str, priority: int, trigger: str, pattern: str, check: Callable[[str], bool] | None = None
) -> Recognizer:
    flags = re.IGNORECASE | re.ASCII
    compiled = re.compile(pattern, flags | re.VERBOSE)
    return Recognizer(name, label, re.compile(trigger, flags), compiled, check, priority)


RECOGNIZERS: tuple[Recognizer, ...] = (
    # --- ways to reach a person ---
    _row(  # letters of any script, and their accents written apart
        "e-mail",
        "EMAIL",
        90,
        "@",
        r"(?u:(?<![\w.+-])[\w\u0300-\u036f.+'-]{1,64}@(?:[\w\u0300-\u036f-]{1,63}\.){1,5})[a-z]{2,24}\b",
    ),
    _row(
        "spaced e-mail",
        "EMAIL",
        90,
        r"[ ]@|@[ ]",
        rf"(?<![\w.+-])[\w.+-]{{1,64}}(?:[ ]@[ ]?|@[ ]){_MAIL_HOST}\.(?:co\.uk|com|net|org|me|[a-z]{{2}})\b",
    ),
    _row(
        "spelled e-mail",
        "EMAIL",
        90,
        r"\bat\b.{1,40}(?:dot|\.)",
        r"""(?<![\w.+-])[\w.+-]{1,64}\s?(?:[(\[{]\s?at\s?[)\]}]|\sat\s)\s?(?:g?mail|hotmail|yahoo|outlook|proton(?:mail)?|
        icloud|[a-z0-9-]{2,63}(?=\s?[(\[{]))\s?(?:[(\[{]\s?dot\s?[)\]}]|\sdot\s|\.)\s?(?:com|org|net|edu|me)\b""",
    ),
    _row(
        "link",
        "URL",
        80,
        r"://|www\.",
        rf"(?<![a-z0-9])(?:(?:https?|ftp)://{_LINK_PART}{{3,2000}}|www\.{_LINK_PART}{{3,2000}})(?<![.,;:!?*])",
    ),
    _row(
        "bare domain",
        "URL",
        70,
        r"[a-z0-9]\.[a-z]{2}",
        rf"""(?<![\w@./-])(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,4}}
        (?:{_SURE_DOMAIN}(?:/{_LINK_PART}{{0,2000}})?|{_DOMAIN}/{_LINK_PART}{{1,2000}})(?<![.,;:!?*])(?![\w-])""",
    ),
    _row("Reddit user", "USERNAME", 85, r"u/|/user/|r/u_", r"(?<![\w/])(?:/?u/|/user/|/?r/u_)[\w-]{2,32}"),
    _row(
        "profile link", "USERNAME", 86, r"reddit\.com/u", r"(?:https?://)?(?:\w+\.)?reddit\.com/u(?:ser)?/[\w-]{2,32}/?"
    ),
    _row("@ handle", "USERNAME", 60, "@", r"(?<![\w@.])@[a-z0-9_](?:[\w.]{0,30}\w)?"),
    _row("Discord tag", "USERNAME", 85, r"\w#\d{4}", r"(?<!\S)[\w.]{2,32}\#\d{4}\b"),
    _row(
        "platform handle",
        "USERNAME",
        61,
        _ANY_ACCOUNT,
        rf"""\b{_PLATFORM}(?:\s(?:name|handle|tag|id|account|user|username|called))?\s?(?::|=|\bis\b|-|@)\s?["'@]?
        (?P<it>[a-z0-9_][\w.-]{{1,30}}\w)(?!\w|'|\s(?:of|for|to|and|but|so|because)\b)""",
        checks.is_handle,
    ),
    _row(
        "account",
        "USERNAME",
        61,
        _ANY_ACCOUNT,
        rf"""\b{_ACCOUNT}(?:\s(?:name|handle|tag|id|account|user|username))?\s?[:=@]\s?["'@$]?
        (?P<it>[a-z0-9_][\w.-]{{1,30}}\w)(?!\w|'|/)""",
        checks.is_handle,
    ),
    _row(  # no colon says that a handle follows, so it must look like one by itself
        "bare handle",
        "USERNAME",
        61,
        _ANY_ACCOUNT,
        rf"""\b(?:{_PLATFORM}|{_ACCOUNT})(?:\s(?:me|us|name|handle|tag|id|account|user|username))?
        (?:\s(?:is|at|on|as|under|called)|\s?-)?\s["'@$]?(?P<it>[a-z_][\w.-]{{2,30}}\w)(?!\w|'|@)""",
        checks.is_clear_handle,
    ),
    _row(
        "add me",
        "USERNAME",
        61,
        _ANY_ACCOUNT,
        rf"""\b(?:add|follow|find|dm|message)\s(?:me|us)\s(?:up\s)?(?:on|at)\s{_PLATFORM}\s?[:,-]?\s?(?:@|at\s|as\s|under\s)?
        (?P<it>[a-z0-9_][\w.-]{{1,30}}\w)(?!\w|')""",
        checks.is_handle,
    ),
    _row(
        "phone",
        "PHONE",
        45,
        r"\d{3}",
        rf"""(?<![\w.,$£€/+-])(?:
        \+?1?[\s.-]?\(\d{{3}}\)\s?\d{{3}}[\s.-]\d{{4}}
        |(?:\+?1[ ])?(?:\([2-9]\d{{2}}\)|[2-9]\d{{2}})[ ]?-[ ]?[2-9]\d{{2}}[ ]?-[ ]?\d{{4}}
        |(?:\+\d{{1,3}}[\s.-]?)?(?:\(\d{{1,5}}\)[\s.-]?)?\d{{1,5}}(?:[\s.-]\d{{2,5}}){{1,5}}
        |\+\d{{1,3}}\s?\(\d{{1,4}}\)\s?\d{{2,4}}(?:[\s.-]?\d{{2,4}}){{1,4}}
        |\+\d{{8,15}}|0\d{{2,4}}[-/ ]\d{{5,8}}
        |\(\d{{2,5}}\)\s?\d{{3,4}}[\s.-]?\d{{3,5}}|\d{{10}}){_EXTENSION}(?![\w/%])(?!-\d)""",
        checks.is_phone,
    ),
    _row(
        "named phone",
        "PHONE",
        46,
        r"\d{2}",
        rf"""\b(?:phone|mobile|cell|tel|telephone|fax|desk|office|call(?:\sme|\sus|ing)?|text(?:\sme|\sus)?|number|whatsapp|
        answering|reach(?:\sme|\sus)?|ring(?:\sme)?)(?:\s(?:number|no\.?))?(?:\s(?:is|at|on|me))*\s?[:=]?\s*
        (?P<it>\+?\(?\d(?:[\s().-]{{0,2}}\d){{6,14}}{_EXTENSION})(?![\w%])""",
        checks.is_phone,
    ),
    # --- numbers given to a person or an account ---
    _row("US SSN", "ID_NUMBER", 75, r"\d-\d", r"(?<![\d-])(?!000|666)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
    _row("card", "ID_NUMBER", 77, r"\d{4}", r"(?<![\d.-])(?:\d[ -]?){11,18}\d(?![\d-])", checks.luhn),
    _row("long number", "ID_NUMBER", 40, r"\d{11}", r"(?<![\w.,-])\d{11,24}(?![\w-])"),
    _row(
        "IBAN",
        "ID_NUMBER",
        88,
        r"[a-z]{2}\d\d",
        r"\b[a-z]{2}\d{2}(?:[a-z0-9]{11,30}|(?:[ -][a-z0-9]{4}){2,7}(?:[ -][a-z0-9]{1,3})?)\b",
        checks.iban,
    ),
    _row("IPv4", "ID_NUMBER", 78, r"\d\.\d", r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)", checks.ipv4),
    _row(
        "IPv6",
        "ID_NUMBER",
        78,
        r"[0-9a-f]:[0-9a-f:]",
        r"(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])",
        checks.ipv6,
    ),
    _row(
        "named number",
        "ID_NUMBER",
        76,
        r"passport|licen[cs]e|\bssn\b|social\ssec|account|member|policy|case\sn|student|\bnhs\b|\bmrn\b|patient",
        r"""\b(?:passport|driver'?s?\slicen[cs]e|licen[cs]e|ssn|social\ssecurity|account|member(?:ship)?|policy|case|
        student|nhs|mrn|patient)(?:\s?(?:number|no\b\.?|num|\#|id))*\s?(?:is|was|:|=|\#)?\s?
        (?P<it>(?=[\w-]*\d[\w-]*\d[\w-]*\d[\w-]*\d)[a-z0-9][\w-]{4,20})\b""",
    ),
    # --- where ---
    _row(
        "street",
        "ADDRESS",
        65,
        r"\d\w?\s",
        rf"""(?<![\w$£€.,:-])\d{{1,5}}[a-z]?(?:\s(?:n|s|e|w|north|south|east|west)\.?)?
        (?:\s(?:(?-i:[A-Z])[a-z'.-]{{1,20}}|\d{{1,3}}(?:st|nd|rd|th))){{1,3}}\s{_STREET_KIND}{_UNIT}""",
    ),
    _row(
        "box",
        "ADDRESS",
        66,
        r"\bbox\b",
        r"""\bp\.?\s?o\.?\s?box\s?\#?\d{1,7}|\b(?:psc|unit|cmr)\s\d{1,5},?\sbox\s\d{1,6}(?:\s+[afd]po\s[a-z]{2}(?:\s\d{5})?)?""",
    ),
    _row("military mail", "ADDRESS", 66, r"\b[afd]po\b", r"\b(?-i:APO|FPO|DPO)\s(?-i:A[AEP])\s\d{5}\b"),
    _row("US ZIP", "POSTCODE", 55, r"\d{5}", rf"\b{_STATES}\.?,?\s(?P<it>\d{{5}}(?:-\d{{4}})?)\b"),
    _row(
        "named postcode",
        "POSTCODE",
        55,
        r"\bzip|post\s?code|postal",
        r"""\b(?:zip(?:\s?code)?|post\s?code|postal\scode)(?:\s?(?:is|:|=))?\s*
        (?P<it>(?=\S*\d)[a-z0-9]{2,8}(?:[ -](?:\d[a-z0-9]{1,3}|[A-Z]{2}))?)\b""",
    ),
    _row("UK postcode", "POSTCODE", 55, r"\d[a-z]", r"\b(?-i:[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2})\b"),
    _row("Canadian postcode", "POSTCODE", 55, r"\d[a-z]", r"\b(?-i:[ABCEGHJ-NPR-TVXY]\d[A-Z]\s?\d[A-Z]\d)\b"),
    # --- when: exact days; months and years alone stay ---
    _row(
        "birth date",
        "DATE_OF_BIRTH",
        72,
        r"\bborn\b|\bd\.?o\.?b\b|birth|b-?day",
        rf"""\b(?:born(?:\s(?:on|in))?|d\.?o\.?b\.?|(?:date\sof\s)?birth(?:\s?(?:day|date))?|b-?day)
        (?:\s?(?:is|was|on|it's|[.:=-])){{0,3}}\s*(?:the\s)?(?P<it>{_DATE}|{_MONTH}\s{_YEAR}|{_YEAR})\b""",
    ),
    _row(
        "numeric date",
        "DATE",
        70,
        r"\d[-/.]\d",
        rf"(?<![\w/.-]){_NUMERIC_DATE}(?:[T\s]\d{{1,2}}:\d\d(?::\d\d)?)?(?![\w/-])",
        checks.is_date,
    ),
    _row(
        "written date",
        "DATE",
        70,
        r"\d",
        rf"""\b(?:{_MONTH}\s{_DAY}(?!\d|\s?(?:mg|mcg|ml|min|hour|hr|day|week|month|year|time|people|pill|mile|km|kg|lb|pound|step|%))
        (?:,?\s{_YEAR})?|{_DAY}\s(?:of\s)?{_MONTH}(?!\w)(?:,?\s{_YEAR})?)(?!\w)""",
        checks.is_written_date,
    ),
    _row("hyphened date", "DATE", 70, r"\d-[a-z]|[a-z]-\d", rf"(?<![\w/.-]){_HYPHENED_DATE}(?![\w-])"),
)

_ROWS_BY_TRIGGER = {
    trigger: [row for row in RECOGNIZERS if row.trigger == trigger]
    for trigger in dict.fromkeys(row.trigger for row in RECOGNIZERS)
}


def find_exact(text: str) -> Iterator[tuple[Span, int]]:
    """Yield every row's spans with their priorities; they may overlap."""
    plain, places = plain_spelling(text)
    found = (
        hit
        for trigger, rows in _ROWS_BY_TRIGGER.items()
        if trigger.search(plain)
        for row in rows
        for hit in row.find(plain)
    )
    for span, priority in found:
        if places is not None:
            span = Span(places[span.start], places[span.end - 1] + 1, span.label)
        yield span, priority
