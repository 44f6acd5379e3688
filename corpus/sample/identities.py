"""Invented people: the identifiers that are planted into posts, in the odd spellings of social text.

Nobody is meant: names and handles are drawn from lists made for this project; phone numbers come from ranges kept
free for fiction (555-01xx, Ofcom's 07700 900xxx, ACMA's 0491 570 xxx), domains are reserved (RFC 2606), and
ID numbers have impossible prefixes.
"""

from collections.abc import Callable

from corpus.sample.grammar import Random, Sections, pick

Maker = Callable[[Random], str]
MONTHS = ("january", "february", "march", "april", "june", "july", "august", "september", "october", "november")
URL_PATHS = ("u/", "blog/", "read?id=", "p/", "groups/", "2024/05/")


def identifier_makers(lists: Sections) -> dict[str, Maker]:
    """Return `KIND.form` → maker, for the slots of `identifiers.txt`, whose word lists these are."""
    first, last = lists["first_names"], lists["last_names"]

    def listed(name: str) -> Maker:
        options = lists[name]
        return lambda random: pick(options, random)

    makers: dict[str, Maker] = {
        "NAME.first": lambda random: pick(first, random),
        "NAME.last": lambda random: pick(last, random),
        "NAME.full": lambda random: f"{pick(first, random)} {pick(last, random)}",
        "PHONE": _phone,
        "PHONE.odd": _odd_phone,
        "DATE_OF_BIRTH": lambda random: _date(random, 1952 + int(random() * 55)),
        "DATE": lambda random: _date(random, 2019 + int(random() * 6)),
        "POSTCODE.us": lambda random: f"{1001 + int(random() * 98_000):05d}",
        "POSTCODE.uk": _uk_postcode,
        "POSTCODE.au": lambda random: f"{2000 + int(random() * 5_000)}",
        "ID_NUMBER.us": lambda random: f"9{_digits(random, 2)}-{_digits(random, 2)}-{_digits(random, 4)}",
        "ID_NUMBER.uk": lambda random: f"999 {_digits(random, 3)} {_digits(random, 4)}",
        "ID_NUMBER.record": _record_number,
        "ORGANISATION.school": listed("schools"),
        "ORGANISATION.health": listed("health_organisations"),
        "ORGANISATION.company": listed("companies"),
        "URL": lambda random: _url(lists, random),
    }
    for country in ("us", "uk", "au"):
        makers[f"PLACE.{country}"] = listed(f"places_{country}")
        makers[f"ADDRESS.{country}"] = _address_maker(lists, country)
    for form in ("reddit", "handle", "discord"):
        makers[f"USERNAME.{form}"] = _handle_maker(lists, form)
    makers["EMAIL"] = lambda random: f"{_mailbox(lists, random)}@{pick(lists['domains'], random)}"
    makers["EMAIL.spelled"] = lambda random: (
        f"{_mailbox(lists, random)} at {pick(('example dot com', 'example (dot) org'), random)}"
    )
    return makers


def handle(lists: Sections, number: int) -> str:
    """Return the handle of author `number`; different numbers have different handles."""
    adjectives, nouns = lists["handle_adjectives"], lists["handle_nouns"]
    rest, adjective = divmod(number, len(adjectives))
    rest, noun = divmod(rest, len(nouns))
    word = nouns[noun]
    form = (number * 7) % 3
    if form == 0:
        return f"{adjectives[adjective]}_{word}_{rest + 10}"
    if form == 1:
        return f"{adjectives[adjective].capitalize()}{word.capitalize()}{rest + 10}"
    return f"{adjectives[adjective]}-{word}-{rest + 10}"


def _digits(random: Random, count: int) -> str:
    return f"{int(random() * 10**count):0{count}d}"


def _handle_maker(lists: Sections, form: str) -> Maker:
    adjectives, nouns = lists["handle_adjectives"], lists["handle_nouns"]

    def make(random: Random) -> str:
        adjective, noun, number = pick(adjectives, random), pick(nouns, random), _digits(random, 3)
        if form == "reddit":
            return (
                f"{adjective.capitalize()}_{noun.capitalize()}{number}"
                if random() < 0.4
                else f"{adjective}{noun}{number}"
            )
        if form == "discord":
            return f"{adjective}{noun}#{_digits(random, 4)}"
        separator = pick((".", "_", "", "__"), random)
        return f"{adjective}{separator}{noun}{number if random() < 0.7 else ''}"

    return make


def _mailbox(lists: Sections, random: Random) -> str:
    if random() < 0.5:
        return f"{pick(lists['first_names'], random).lower()}.{pick(lists['last_names'], random).lower()}".replace(
            "'", ""
        )
    return f"{pick(lists['handle_adjectives'], random)}{pick(lists['handle_nouns'], random)}{_digits(random, 2)}"


def _phone(random: Random) -> str:
    form = int(random() * 6)
    last = f"01{_digits(random, 2)}"
    area = 201 + int(random() * 780)
    if form == 0:
        return f"({area}) 555-{last}"
    if form == 1:
        return f"{area}-555-{last}"
    if form == 2:
        return f"+1 {area} 555 {last}"
    if form == 3:
        return f"07700 900{_digits(random, 3)}"
    if form == 4:
        return f"+44 7700 900 {_digits(random, 3)}"
    return f"0491 570 {_digits(random, 3)}"


def _odd_phone(random: Random) -> str:
    form = int(random() * 3)
    area, last = 201 + int(random() * 780), f"01{_digits(random, 2)}"
    if form == 0:
        return f"{area}.555.{last}"
    if form == 1:
        return f"{area}555{last}"
    return f"0 7 7 0 0 9 0 0 {' '.join(_digits(random, 3))}"


def _date(random: Random, year: int) -> str:
    day, month = 1 + int(random() * 28), int(random() * 10)
    name, form = MONTHS[month], int(random() * 6)
    number = MONTHS.index(name) + (1 if month < 4 else 2)  # there is no may: it is a hard negative
    if form == 0:
        return f"{number}/{day}/{year}"
    if form == 1:
        return f"{day:02d}.{number:02d}.{year}"
    if form == 2:
        return f"{name.capitalize()} {day}, {year}"
    if form == 3:
        return f"{day}{_ordinal(day)} {name} {year}"
    if form == 4:
        return f"{year}-{number:02d}-{day:02d}"
    return f"{name[:3]} {day} {year}"


def _ordinal(day: int) -> str:
    return "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _uk_postcode(random: Random) -> str:
    area = pick(("LS", "AB", "PL", "NR", "DD", "HU", "CA", "DE", "IP", "SR"), random)
    return f"{area}{1 + int(random() * 20)} {int(random() * 10)}{pick(('QX', 'ZB', 'XJ', 'TR', 'WD', 'AH'), random)}"


def _record_number(random: Random) -> str:
    form = int(random() * 3)
    if form == 0:
        return _digits(random, 8)
    if form == 1:
        return f"{pick(('MH', 'CX', 'PT', 'AZ'), random)}-{_digits(random, 6)}"
    return f"{_digits(random, 5)}/{_digits(random, 2)}-{pick(('B', 'K', 'R'), random)}"


def _address_maker(lists: Sections, country: str) -> Maker:
    names, kinds = lists["street_names"], lists[f"street_kinds_{country}"]

    def make(random: Random) -> str:
        number, street = (
            1 + int(random() * (2400 if country == "us" else 190)),
            f"{pick(names, random)} {pick(kinds, random)}",
        )
        form = random()
        if form < 0.2:
            unit = {
                "us": f"{number} {street} apt {1 + int(random() * 40)}",
                "uk": f"flat {1 + int(random() * 9)}, {number} {street}",
            }
            return unit.get(country, f"unit {1 + int(random() * 9)}/{number} {street}")
        if form < 0.3 and country == "us":
            return f"{number} {pick(('N', 'S', 'E', 'W'), random)} {street}"
        return f"{number} {street}"

    return make


def _url(lists: Sections, random: Random) -> str:
    scheme = pick(("https://", "http://", "www.", "https://www."), random)
    slug = f"{pick(lists['handle_adjectives'], random)}-{pick(lists['handle_nouns'], random)}"
    return f"{scheme}{pick(lists['domains'][:3], random)}/{pick(URL_PATHS, random)}{slug}{_digits(random, 2)}"
