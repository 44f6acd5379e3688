"""Whether what has the right shape is the thing: check digits, dates that exist, handles that are no plain word."""

import datetime
import ipaddress
import re

from corpus.deidentify.words import is_common, keep_words

SHORTEST_CLEAR_HANDLE = 5
_NOT_PHONES = re.compile(
    # years and ranges of them, 24/7-like counts, decimals, thousands, scores, amounts written with points
    r"(?:19|20)\d\d[\s.-](?:19|20)\d\d|\d{1,3}(?:\.\d{3})+|\d+\.\d+|\d{1,2}-\d{1,2}(?:-\d{1,2})?"
)


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


def ipv4(address: str) -> bool:
    """Say whether every part is at most 255."""
    return all(int(part) <= 255 for part in address.split("."))


def ipv6(address: str) -> bool:
    """Say whether it is an address and not a time or a smiley."""
    if address.count(":") < 3 or not any(character.isdecimal() for character in address):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def is_phone(number: str) -> bool:
    """Say whether a grouped number has a telephone number's count of digits and is no range or amount."""
    main = re.split(r"x|ext", number, flags=re.IGNORECASE)[0].strip()
    digits = sum(character.isdecimal() for character in main)
    return 7 <= digits <= 15 and not _NOT_PHONES.fullmatch(main)


def is_date(date: str) -> bool:
    """Say whether a numeric date exists, as day/month, month/day or year-month-day."""
    first, second, third = (int(number) for number in re.findall(r"\d+", date)[:3])
    if first > 31:
        return _exists(first, second, third)
    year = third if third > 99 else 2000 + third
    return _exists(year, first, second) or _exists(year, second, first)


def is_written_date(date: str) -> bool:
    """Refuse what only looks like one: "may 2" in lower case is mostly "it may 2 ...", "mar 1" and "dec 3" are rare."""
    return re.match(r"(?:may|mar)\s\d{1,2}$", date) is None


def is_handle(word: str) -> bool:
    """Say whether a word that stands where a handle may stand is one: "my insta is private" names no account."""
    if any(character.isdecimal() or character in "_." for character in word.strip(".")):
        return not word.replace(".", "").replace("-", "").isdecimal()
    return len(word) >= 4 and not is_common(word)


def is_clear_handle(word: str) -> bool:
    """Say whether a word is a handle although nothing announces one: "discord moonchild99", not "discord lost.i am"."""
    word = word.strip("._-")  # underscores around a word are Markdown
    letters = re.sub(r"[^A-Za-z]", "", word)
    if len(word) < SHORTEST_CLEAR_HANDLE or len(letters) < 3 or letters.lower() in keep_words():
        return False
    if "_" in word:
        return True
    if numbered := re.fullmatch(r"([A-Za-z]+)(\d+)", word):
        base, digits = numbered.groups()
        counts = len(digits) <= 2 or re.fullmatch(r"(?:19|20)\d\d", digits) is not None
        return not (counts and is_common(base))  # "week12", "march2020"
    if re.search(r"[A-Za-z]\d|\d[A-Za-z]", word):
        return True
    parts = word.split(".")  # a full stop without a space behind it is no dot of a handle
    return len(parts) > 1 and not any(is_common(part) for part in parts if not part.isdecimal())


def _exists(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return 1900 <= year <= 2100
