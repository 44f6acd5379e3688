"""The exact layer as a table: a text, and the stretches of it that must be found. All cases are made up."""

import pytest

from corpus.deidentify import Deidentifier
from corpus.deidentify.checks import iban, luhn

FOUND = [
    # label, text, what is found
    ("EMAIL", "write to jo.doe+x@mail.example.org please", ["jo.doe+x@mail.example.org"]),
    ("EMAIL", "mine is jodoe (at) gmail (dot) com ok", ["jodoe (at) gmail (dot) com"]),
    ("EMAIL", "jodoe at gmail dot com", ["jodoe at gmail dot com"]),
    ("URL", "see https://example.org/a?b=c#d. bye", ["https://example.org/a?b=c#d"]),
    ("URL", "[here](http://www.example.dk/)", ["http://www.example.dk/"]),
    ("URL", "my blog janedoe.com and foo.me/jane", ["janedoe.com", "foo.me/jane"]),
    ("USERNAME", "thanks u/some_body-1 and /u/Other2!", ["u/some_body-1", "/u/Other2"]),
    ("USERNAME", "https://www.reddit.com/user/some_body said", ["https://www.reddit.com/user/some_body"]),
    ("USERNAME", "hi @jane.doe_ and @Bob99, you?", ["@jane.doe_", "@Bob99"]),
    ("USERNAME", "discord: moonchild#4821", ["moonchild#4821"]),
    ("USERNAME", "my insta is moon.child_99 btw", ["moon.child_99"]),
    ("USERNAME", "snapchat: moonchildxx", ["moonchildxx"]),
    ("USERNAME", "add me on snap moonchildxx", ["moonchildxx"]),
    ("PHONE", "call 555-867-5309 now", ["555-867-5309"]),
    ("PHONE", "(555) 867-5309 or +1 555 867 5309", ["(555) 867-5309", "+1 555 867 5309"]),
    ("PHONE", "mobile 020 7946 0958", ["020 7946 0958"]),
    ("PHONE", "my number is 0791 1234567", ["0791 1234567"]),
    ("PHONE", "fax +44 (0)20 7946 0958", ["+44 (0)20 7946 0958"]),
    ("PHONE", "desk 001-555-867-5309x123", ["001-555-867-5309x123"]),
    ("ID_NUMBER", "ssn 123-45-6789.", ["123-45-6789"]),
    ("ID_NUMBER", "card 4111 1111 1111 1111 expired", ["4111 1111 1111 1111"]),
    ("ID_NUMBER", "IBAN GB82 WEST 1234 5698 7654 32 is mine", ["GB82 WEST 1234 5698 7654 32"]),
    ("ID_NUMBER", "from GB82WEST12345698765432 to other", ["GB82WEST12345698765432"]),
    ("ID_NUMBER", "from 192.168.10.254 and 2001:db8:0:0:0:0:0:1", ["192.168.10.254", "2001:db8:0:0:0:0:0:1"]),
    ("ID_NUMBER", "passport number is X1234567", ["X1234567"]),
    ("ID_NUMBER", "my driver's license is D123-4567", ["D123-4567"]),
    ("ADDRESS", "at 12 Main Street, Apt 4b today", ["12 Main Street, Apt 4b"]),
    ("ADDRESS", "1600 N. Old Mill Rd. is it", ["1600 N. Old Mill Rd."]),
    ("ADDRESS", "P.O. Box 1234", ["P.O. Box 1234"]),
    ("POSTCODE", "Springfield, IL 62704", ["62704"]),
    ("POSTCODE", "zip code: 62704-1234", ["62704-1234"]),
    ("POSTCODE", "near SW1A 2AA or K1A 0B1", ["SW1A 2AA", "K1A 0B1"]),
    ("DATE_OF_BIRTH", "i was born on May 3rd, 1990 in", ["May 3rd, 1990"]),
    ("DATE_OF_BIRTH", "DOB: 03/05/1990", ["03/05/1990"]),
    ("DATE_OF_BIRTH", "born in 1987", ["1987"]),
    ("DATE", "on 2020-01-31 and 31.1.2020", ["2020-01-31", "31.1.2020"]),
    ("DATE", "since January 31st, 2020 or 4 July", ["January 31st, 2020", "4 July"]),
    # as Reddit's editor, phones and other scripts write them
    ("USERNAME", r"thanks u/some\_body and @jane\_doe\_!", [r"u/some\_body", r"@jane\_doe\_"]),
    ("USERNAME", r"my insta is moon\_child\_99", [r"moon\_child\_99"]),
    ("USERNAME", r"discord: moon\_child\_99", [r"moon\_child\_99"]),
    ("EMAIL", r"jo\_doe@example.com", [r"jo\_doe@example.com"]),
    ("EMAIL", "josé@example.com or jose\u0301@example.com", ["josé@example.com", "jose\u0301@example.com"]),
    ("EMAIL", "jo.doe @ gmail.com please", ["jo.doe @ gmail.com"]),
    ("PHONE", "555\u2011867\u20135309", ["555\u2011867\u20135309"]),
    ("PHONE", "call 555\u00a0867\u00a05309 now", ["555\u00a0867\u00a05309"]),
    ("PHONE", "555 - 867 - 5309 or (555) \u2013 867 \u2013 5309", ["555 - 867 - 5309", "(555) \u2013 867 \u2013 5309"]),
    ("PHONE", r"555\-867\-5309", [r"555\-867\-5309"]),
    # handles that no colon announces
    ("USERNAME", "discord moonchild99 or snap moonchild99", ["moonchild99", "moonchild99"]),
    ("USERNAME", "kik me at moonchild99", ["moonchild99"]),
    ("USERNAME", "my facebook is jane.doe.52", ["jane.doe.52"]),
    ("USERNAME", "fb: janedoe99, venmo: janedoe99", ["janedoe99", "janedoe99"]),
    ("USERNAME", "cashapp $janedoe99, paypal: janedoe", ["janedoe99", "janedoe"]),
    ("USERNAME", "see /user/some_body in r/u_some_body", ["/user/some_body", "r/u_some_body"]),
    ("URL", "linktr.ee/janedoe and jane-doe.carrd.co", ["linktr.ee/janedoe", "jane-doe.carrd.co"]),
    ("DATE", "on 3-Mar-1990 or Mar-3-1990", ["3-Mar-1990", "Mar-3-1990"]),
    ("DATE_OF_BIRTH", "born 3-Mar-1990", ["3-Mar-1990"]),
]
LEFT = [
    "100-150 mg, then 50/75/100 mg over 3-4 weeks",
    "rated 10/10, 24/7, 50/50, 9-5, 1.5.2 and 3:30",
    "it may 2 weeks later march 10 miles",
    "since 2015-2019, in the 1990s, in May 2019",
    "$1,234,567.89 and 1.000.000 people and 3.14159",
    "r/depression and r/SuicideWatch, w/ or w/o u",
    "u/[user] wrote to [email], [phone], [name2] and [deleted]",
    "email me @ work, see you @ 5",
    "my insta is private and my snapchat is full of them",
    "add me on discord please, follow me on twitter because",
    "i feel lost.i am done.so tired",
    "99999 thoughts, 5150 hold, 988 hotline, 911 now",
    "case number 5 and step 12",
    "PHQ-9 was 21, GAD-7 was 18, BMI 17.5",
    "I'm 23F and 5'4, 110 lbs",
    "::: oh no ::: 12:30:45",
    "my snap judgement, discord in my family 2020, kik, venmo me, venmo me 20 bucks or $2000",
    "facebook is toxic, my facebook is gone.so i left, insta yesterday.now i feel",
    "deleted discord last week.2 hours later, on discord _really_ hurt, on discord lost.i am",
    "twitter covid19 panic and facebook covid-19 posts, youtube week12, facebook march2020",
    "facebook: a hell, paypal: yes, facebook - 20 minutes, xbox 360 and psn ps5, twitter 2.0",
    "user/password, a list of users, r/usernames",
    "2015\u20132019, 100\u2013150 mg, 50 \u2013 100 people, sad \u2013 then 3\u20134 weeks",
    "100 - 150 - 2000 calories, c:\\_x, see you @ work.so what",
    "in 3-mar, a 10-dec, wait.co and either.ai",
    "😭😭😭 <3 :'( ¯\\_(ツ)_/¯",
]


@pytest.fixture(scope="module")
def rules():
    return Deidentifier("rules")


@pytest.mark.parametrize(("label", "text", "expected"), FOUND, ids=[text for _, text, _ in FOUND])
def test_found(rules, label, text, expected):
    spans = rules.find([text])[0]
    assert [text[span.start : span.end] for span in spans] == expected
    assert {span.label for span in spans} == {label}


@pytest.mark.parametrize("text", LEFT)
def test_left_alone(rules, text):
    assert [text[span.start : span.end] for span in rules.find([text])[0]] == []


def test_check_digits():
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")
    assert not luhn("0000000000000000")
    assert iban("GB82WEST12345698765432")
    assert not iban("GB82WEST12345698765431")


def test_a_long_hostile_text_takes_linear_time(rules):
    import time

    hostile = [
        "a." * 20_000,
        "1-" * 20_000,
        "(" * 40_000,
        "a@" * 20_000,
        "1 2 " * 10_000,
        "http://" * 5_000,
        "A " * 20_000,
        "é" * 40_000,
        r"a\_" * 20_000,
        "discord a" * 5_000,
        "1-jan-" * 5_000,
    ]
    start = time.process_time()
    rules.find(hostile)
    assert time.process_time() - start < 10
