"""A small linear classifier over one message: what kind of message is this?

Multinomial logistic regression on hashed features, trained from synthetic cases (`python -m
dialogue.safety.train`), read from one `.npz` file, run with numpy alone in well under a millisecond. Besides word and
character n-grams it sees *classes* of words (DEATH, SELF, OTHER, NOT, WANT …): "my cousin hopes to be gone" and "my
flatmate wishes he were dead" share features although they share hardly a word, which is what lets a linear model
read sentences that no table holds.

C = labels, F = hashed features.
"""

import dataclasses
import functools
import itertools
import re
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from configs.errors import UserError

WEIGHTS_FILE = Path(__file__).parent / "weights.npz"
FEATURE_BITS = 18
NUMBER_OF_FEATURES = 2**FEATURE_BITS
LABELS = ("ok", "hint", "crisis", "third_person", "harm_others", "abuse", "medical_advice", "about_program")

# Classes of words after `spelling.plain_words`. Each line is one class; a word may stand in one only.
WORD_CLASSES = {
    "DEATH": "die died dies dying dead death suicide suicidal suicides overdose overdosed coffin grave funeral lethal "
    "fatal deadly buried corpse",
    "KILL": "kill killed killing kills murder murdered hang hanging hanged drown shoot shot stab jump jumping jumped "
    "slit poison strangle",
    "HARM": "harm harming harmed hurt hurting hurts cut cutting cuts bleed bleeding burn burning burned wounds scars",
    "EXIST": "live living lives alive exist existing existence breathe breathing born wake waking survive survived",
    "GONE": "gone disappear disappeared vanish vanished leave leaving left away goodbye farewell bye forever",
    "SELF": "i me my mine myself",
    "OTHER": "he she they him her them himself herself themselves themself his hers their theirs",
    "YOU": "you your yours yourself",
    "PERSON": "friend friends sister brother mother father son daughter roommate flatmate girlfriend boyfriend husband "
    "wife partner cousin coworker colleague classmate student neighbour neighbor uncle aunt niece nephew grandad "
    "grandmother grandma grandpa someone somebody mate buddy kid kids child children parents family ex teen teenager",
    "EVERYONE": "everyone everybody people world nobody anyone anybody noone",
    "NOT": "not never no none nothing without neither nor",
    "WANT": "want wants wanted wish wishes wished hope hopes hoping need needs desire plan planning plans going ready "
    "decided intend wanting prefer rather",
    "THINK": "think thinking thought thoughts feel feeling feels imagine imagining consider considering fantasize",
    "MEANS": "pills tablets rope noose gun blade razor bridge ledge roof train tracks platform balcony cliff bottle "
    "bleach knife painkillers paracetamol tylenol",
    "DRUG": "sertraline zoloft prozac fluoxetine lexapro escitalopram xanax lithium seroquel quetiapine wellbutrin "
    "bupropion adderall citalopram mirtazapine effexor venlafaxine lamictal lamotrigine abilify valium propranolol "
    "cymbalta trazodone ritalin antidepressant antidepressants medication medications medicine melatonin ssri ssris "
    "klonopin drug drugs prescription dose dosage mg dosages benzo benzos paxil celexa ativan vyvanse concerta",
    "ILLNESS": "bipolar adhd bpd borderline ocd ptsd autism autistic schizophrenia schizophrenic psychosis psychotic "
    "disorder gad dysthymia diagnosis diagnose diagnosed symptoms anxiety depression manic mania narcissist",
    "TIME": "tonight tomorrow soon today now yesterday morning weekend week month year",
    "PAST": "ago was were had used back former once years",
    "TIRED": "tired exhausted done sick fed worn drained finished",
    "BURDEN": "burden weight waste worthless useless problem trouble failure",
    "BETTER": "better easier happier fine okay relieved peace peaceful calm free",
    "STORY": "movie film book song lyrics lyric show episode character game novel scene story play series anime album "
    "news article documentary podcast essay thesis lecture minecraft boss level respawn",
    "DAILY": "exam exams homework essay meeting meetings traffic heat diet workout deadline bug assignment lecture "
    "commute job work school class boss laughter boredom embarrassment wifi printer laptop phone car battery",
    "LAUGH": "laughing_out_loud joking joke kidding funny hilarious",
    "HELP": "help therapy therapist counsellor counselor recovered recovery support",
    "STRIKE": "hit hits hitting beat beats punch punched punches slap slapped slaps choke choked chokes kicked rape "
    "raped abuse abused abusive abuser molested assaulted touched touches violent",
    "ACT": "told says said saying threatens threatened threatening texted posted wrote talking talks",
}
CLASS_OF = {word: name for name, words in WORD_CLASSES.items() for word in words.split()}
_WORD = re.compile(r"[a-z0-9_']+|\.")


@dataclasses.dataclass(frozen=True)
class Weights:
    """The trained classifier."""

    coefficients: npt.NDArray[np.float32]
    """(F, C)"""
    intercepts: npt.NDArray[np.float32]
    """(C,)"""


def hashed_features(plain: str) -> npt.NDArray[np.int64]:
    """Return the distinct feature numbers of a message that `plain_words` has normalised."""
    words = [word for word in _WORD.findall(plain) if word != "."]
    names = {f"w {word}" for word in words}
    names |= {f"w {a} {b}" for a, b in itertools.pairwise(words)}
    names |= {f"w {a} {b} {c}" for a, b, c in zip(words, words[1:], words[2:], strict=False)}
    # Ordered pairs up to five words apart: "want … die" whatever stands between.
    names |= {f"s {a} {b}" for i, a in enumerate(words) for b in words[i + 2 : i + 6]}
    classes = [CLASS_OF.get(word, word) for word in words]
    for size in (2, 3, 4):
        names |= {"c " + " ".join(classes[i : i + size]) for i in range(len(classes) - size + 1)}
    kinds = [CLASS_OF[word] for word in words if word in CLASS_OF]
    names |= {f"k {kind}" for kind in kinds} | {f"p {a} {b}" for i, a in enumerate(kinds) for b in kinds[i + 1 : i + 5]}
    names |= {f"q {a} {b} {c}" for a, b, c in zip(kinds, kinds[1:], kinds[2:], strict=False)}
    for word in words:
        padded = f"<{word}>"
        names |= {"g " + padded[i : i + size] for size in (3, 4) for i in range(len(padded) - size + 1)}
    names |= {"^ " + " ".join(words[:2]), f"n {min(len(words) // 3, 8)}"}
    return np.fromiter(sorted({zlib.crc32(n.encode()) % NUMBER_OF_FEATURES for n in names}), dtype=np.int64)


def feature_scale(count: int) -> float:
    """Return what each of a message's `count` features weighs: unit length, as for tf-idf rows."""
    return float(count) ** -0.5 if count else 0.0


@functools.cache
def load_weights(path: Path = WEIGHTS_FILE) -> Weights:
    """Read the classifier's weights.

    Raises:
        UserError: no such file, or other labels than this code's.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if tuple(file["labels"].tolist()) != LABELS:
                raise UserError("was trained for other labels", where=path, fix="Run python -m dialogue.safety.train.")
            coefficients = np.zeros((NUMBER_OF_FEATURES, len(LABELS)), dtype=np.float32)
            coefficients[file["features"]] = file["coefficients"].astype(np.float32)
            return Weights(coefficients, file["intercepts"].astype(np.float32))
    except FileNotFoundError:
        raise UserError(
            "the safety classifier is missing", where=path, fix="Run python -m dialogue.safety.train."
        ) from None


def probabilities(plain: str, weights: Weights | None = None) -> dict[str, float]:
    """Return the probability of every label for one normalised message."""
    weights = weights or load_weights()
    features = hashed_features(plain)
    logits = weights.intercepts + weights.coefficients[features].sum(axis=0) * feature_scale(len(features))  # (C,)
    exponents = np.exp(logits - logits.max())
    return dict(zip(LABELS, (exponents / exponents.sum()).tolist(), strict=True))
