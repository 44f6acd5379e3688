"""Undo disguises and misspellings, so that rules and classifier read plain words.

People write around filters (`su1cide`, `k*ll`, `s u i c i d e`, `unalive`, `sewer slide`) and misspell under
stress (`wnat to dei`). This module maps a message to plain lower-case words: Unicode look-alikes, spaced and
starred letters, digits for letters, letter floods, contractions and known slang. It repairs only towards a short
list of words that matter, so an ordinary message stays what it was.
"""

import functools
import re
import unicodedata
from pathlib import Path

SLANG_FILE = Path(__file__).parent / "slang.tsv"
WORDS_FILE = Path(__file__).parent / "words.tsv"
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ud800-\udfff\ufe00-\ufe0f\ufeff]")
LOOK_ALIKES = str.maketrans("’‘ʼ´`“”„–—…ıаеорсухіѕԁ", "'''''\"\"\"--.iaeopcyxisd")
LEET = str.maketrans("013457@$!+|", "oieastasitl")
LAUGHTER = re.compile(r"[😂🤣😹😆😅💀☠]+|\b(?:lo+l+z*|lmf?ao+|lmaoo+|rofl|(?:ha){2,}h?|(?:he){2,}|xd+)\b")
LAUGH = " laughing_out_loud "

# Words worth repairing towards, and real words one or two letters from one; short ones are repaired by MISSPELLED.
_WORDS = dict(
    line.split("\t") for line in WORDS_FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
)
REPAIRED = tuple(_WORDS["repaired"].split())
REAL_WORDS = frozenset(_WORDS["real"].split())
MISSPELLED = {
    "kil": "kill", "kll": "kill", "klil": "kill", "kiil": "kill", "killl": "kill", "kyll": "kill", "klll": "kill",
    "kiling": "killing", "kllng": "killing", "killin": "killing", "dei": "die", "dieing": "dying", "dyin": "dying",
    "wnat": "want", "watn": "want", "wannt": "want", "wantt": "want", "wnt": "want", "wana": "want to",
    "wnna": "want to", "wanan": "want to", "lfie": "life", "lief": "life", "lfe": "life", "lif": "life",
    "liv": "live", "livin": "living", "aliv": "alive", "laive": "alive", "alvie": "alive", "deth": "death",
    "ded": "dead", "daed": "dead", "myslef": "myself", "mysef": "myself", "meself": "myself", "myslf": "myself",
    "mself": "myself", "mysel": "myself", "sucide": "suicide", "suiside": "suicide", "suicde": "suicide",
    "suacide": "suicide", "suecide": "suicide", "sueside": "suicide", "sooicide": "suicide", "sueyside": "suicide",
    "suislide": "suicide", "siucide": "suicide", "suicied": "suicide", "sucidal": "suicidal", "suisidal": "suicidal",
    "sooicidal": "suicidal", "suwicidal": "suicidal", "comit": "commit", "comitt": "commit", "commiting": "committing",
    "comiting": "committing", "anymre": "anymore", "anymor": "anymore", "nomore": "no more", "tonite": "tonight",
    "tonght": "tonight", "2nite": "tonight", "tmrw": "tomorrow", "tmr": "tomorrow", "tomorow": "tomorrow",
    "jst": "just", "juts": "just", "exsist": "exist", "exsit": "exist", "disapear": "disappear",
    "dissapear": "disappear", "hopless": "hopeless", "wrist": "wrist", "wirst": "wrist", "peopel": "people",
    "every1": "everyone", "evry1": "everyone", "evryone": "everyone", "no1": "no one", "b4": "before", "gr8": "great",
    "bttr": "better", "beter": "better", "w/o": "without", "withuot": "without", "witout": "without",
    "tierd": "tired", "slep": "sleep", "evr": "ever", "frend": "friend", "freind": "friend", "endd": "end",
    "livng": "living", "lving": "living", "liveing": "living", "alife": "alive", "jmup": "jump",
    "jmp": "jump", "meny": "many", "rist": "wrist", "rists": "wrists", "writs": "wrists", "cutt": "cut",
    "poin": "point", "badley": "badly", "wsh": "wish", "wihs": "wish", "pil": "pill", "pils": "pills", "pilz": "pills",
    "agen": "again", "agin": "again", "agian": "again", "nevr": "never", "forevr": "forever", "reson": "reason",
    "wud": "would", "wuld": "would", "shud": "should", "cud": "could", "coud": "could", "slef": "self", "hert": "hurt",
    "bridg": "bridge", "brige": "bridge", "sed": "said", "sumone": "someone", "sum1": "someone", "lik": "like",
    "dis": "this", "dat": "that", "thots": "thoughts", "thougts": "thoughts", "hangin": "hanging", "hangng": "hanging",
    "dyeing": "dying", "wen": "when", "bcoz": "because", "becuz": "because", "alredy": "already", "alot": "a lot",
    "tok": "took", "tryed": "tried", "wasnt": "was not", "tn": "tonight", "hav": "have", "goin": "going",
    "breath": "breath", "sry": "sorry", "sory": "sorry", "goodby": "goodbye", "gudbye": "goodbye", "byee": "bye",
}  # fmt: skip
SHORT_FORMS = {
    "im": "i am", "ive": "i have", "id": "i would", "ill": "i will", "u": "you", "ur": "your", "r": "are", "y": "why",
    "dont": "do not", "dnt": "do not", "doesnt": "does not", "didnt": "did not", "cant": "can not", "cnt": "can not",
    "cannot": "can not", "wont": "will not", "wouldnt": "would not", "couldnt": "could not", "shouldnt": "should not",
    "isnt": "is not", "arent": "are not", "wasnt": "was not", "werent": "were not", "aint": "is not",
    "havent": "have not", "hasnt": "has not", "hadnt": "had not", "thats": "that is", "whats": "what is",
    "theres": "there is", "hes": "he is", "shes": "she is", "theyre": "they are", "youre": "you are", "its": "it is",
    "lets": "let us", "gonna": "going to", "gona": "going to", "gunna": "going to", "goin": "going", "gon": "going to",
    "finna": "going to", "imma": "i am going to", "ima": "i am going to", "bouta": "about to", "boutta": "about to",
    "wanna": "want to", "wna": "want to", "gotta": "have to", "tryna": "trying to", "hafta": "have to",
    "idk": "i do not know", "idc": "i do not care", "idw": "i do not want", "idwtl": "i do not want to live",
    "iwtd": "i want to die", "ngl": "honestly", "tbh": "honestly", "rn": "right now", "af": "very", "smth": "something",
    "sth": "something", "sm": "so much", "bc": "because", "cuz": "because", "cause": "because", "coz": "because",
    "pls": "please", "plz": "please", "ppl": "people", "abt": "about", "w": "with", "fr": "for real", "ig": "i guess",
    "lowkey": "kind of", "highkey": "really", "gf": "girlfriend", "bf": "boyfriend", "bff": "best friend",
    "mum": "mother", "mom": "mother", "dad": "father", "iwannadie": "i want to die", "thru": "through",
    "2": "to", "4ever": "forever", "od": "overdose", "oded": "overdosed", "od'd": "overdosed", "ods": "overdoses",
    "meds": "medication", "sh": "self harm", "si": "suicidal thoughts", "yo": "year", "irl": "in real life",
}  # fmt: skip
CONTRACTIONS = (
    (r"\b(?:can't|cannot)\b", "can not"), (r"\bwon't\b", "will not"), (r"\bshan't\b", "shall not"),
    (r"\bain't\b", "is not"), (r"n't\b", " not"), (r"\bi'm\b", "i am"), (r"\blet's\b", "let us"),
    (r"\b(he|she|it|that|there|what|who|how|where|here)'s\b", r"\1 is"),
    (r"'re\b", " are"), (r"'ve\b", " have"), (r"'ll\b", " will"), (r"'d\b", " would"),
)  # fmt: skip
_CONTRACTIONS = [(re.compile(pattern), replacement) for pattern, replacement in CONTRACTIONS]
_SPACED = re.compile(r"(?<![a-z0-9'])[a-z0-9@$!*](?:([ .\-_*])(?:\1?)[a-z0-9@$!*]){2,}(?![a-z0-9'])")
_TOKEN = re.compile(r"[^\s,;:\"()\[\]{}<>?/\\~^=#&]+")
# "2" is "to" in "want 2 die", a number in "take 2 tablets".
_COUNTED = re.compile(r"\b2(?= (?:\w+ )?(?:pill|tablet|tab|capsule|dose|drop|puff)s?\b)")
_SPACED_WORDS = frozenset(REPAIRED) | frozenset(
    ["kill", "die", "dead", "death", "kms", "ctb", "unalive", "dying", "pills", "want", "wanna", "life"]
)


def plain_words(text: str) -> str:
    """Return the message in plain lower-case words; sentence ends stay as ` . ` and laughter as a token."""
    text = unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).lower().translate(LOOK_ALIKES)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = _SPACED.sub(_join_spaced, text)
    text = LAUGHTER.sub(LAUGH, text)
    words = " ".join(_repair_token(match.group()) for match in _TOKEN.finditer(_mark_sentences(text)))
    for pattern, replacement in _CONTRACTIONS:
        words = pattern.sub(replacement, words)
    words = _COUNTED.sub("two", words)
    words = " ".join(SHORT_FORMS.get(word, word) for word in words.replace("'s ", " 's ").split())
    for pattern, replacement in _slang():
        words = pattern.sub(replacement, words)
    return " ".join(words.replace("my self", "myself").split())


@functools.cache
def _slang() -> tuple[tuple[re.Pattern[str], str], ...]:
    lines = SLANG_FILE.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rows)


def _mark_sentences(text: str) -> str:
    text = re.sub(r"(?<=[\w'\"*)])[.!?]+(?=\s|$|\"|')|[\n\r]+|(?<=\s)[.?!-]+(?=\s|$)", " . ", text)
    return re.sub(r"(?<=[a-z]{2})[.](?=[a-z]{2})", " . ", text)


def _join_spaced(match: re.Match[str]) -> str:
    """`s.u.i.c.i.d.e` becomes one word only if that word matters; `a b c` and initials stay."""
    joined = re.sub(r"[ .\-_*]", "", match.group()).translate(LEET)
    if joined in _SPACED_WORDS:
        return joined
    # "i w a n t t o d i e": every word boundary is lost, so put back the ones that matter.
    found = re.search(r"(wanttodie|wannadie|killmyself|endmylife|wanttokillmyself|endit)", joined)
    spaced = {
        "wanttodie": "i want to die", "wannadie": "i want to die", "killmyself": "kill myself",
        "endmylife": "end my life", "wanttokillmyself": "i want to kill myself", "endit": "end it",
    }  # fmt: skip
    return spaced[found.group()] if found else match.group()


@functools.lru_cache(maxsize=20_000)
def _repair_token(token: str) -> str:
    if token in (".", LAUGH.strip()):
        return token
    if token in MISSPELLED:
        return MISSPELLED[token]
    bare = token.strip(".!'-*_")
    if "*" in bare or "#" in bare:
        starred = _fill_stars(bare)
        if starred:
            return starred
    if re.search(r"[a-z]", token) and re.search(r"[013457@$!|]", token):
        letters = token.translate(LEET)
        candidates = (letters, letters.rstrip("i"), token.rstrip("!").translate(LEET), letters.replace("l", "i"))
        for candidate in (*candidates, re.sub(r"1", "l", token).translate(LEET)):
            if candidate in _SPACED_WORDS or candidate in MISSPELLED:
                return MISSPELLED.get(candidate, candidate)
    bare = token.strip("!-*_")
    flooded = re.sub(r"([a-z])\1{2,}", r"\1", bare)
    if flooded != bare:
        bare = MISSPELLED.get(flooded, flooded)
        doubled = re.sub(r"([a-z])\1{2,}", r"\1\1", token.strip("!-*_"))
        if doubled in ("kill", "all", "feel", "will", "need", "sleep", "still", "tell", "see", "soon", "too", "good"):
            bare = doubled
    return _repair_long(bare)


def _fill_stars(token: str) -> str:
    """`k*ll`, `su*c*de`, `s*icide`: the word that matters and fits the gaps, if there is exactly one."""
    pattern = re.compile(re.sub(r"[*#_]+", "[a-z]{1,3}", re.sub(r"[^a-z*#_]", "", token)))
    fitting = [word for word in ("kill", "die", "dead", "death", *REPAIRED) if pattern.fullmatch(word)]
    return fitting[0] if fitting else ""


def _repair_long(word: str) -> str:
    """Repair a word of six letters or more that is one edit (two for eight) from a word that matters."""
    if len(word) < 6 or word in _SPACED_WORDS or word in REAL_WORDS or not word.isalpha():
        return word
    for target in REPAIRED:
        allowed = 2 if len(target) >= 7 and target.startswith("suicid") else 1
        if abs(len(word) - len(target)) <= allowed and word[0] == target[0] and _edits(word, target) <= allowed:
            return target
    return word


def _edits(a: str, b: str) -> int:
    """Damerau-Levenshtein distance (optimal string alignment)."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
