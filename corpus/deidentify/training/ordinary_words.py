"""List the words that are no names in lower case: `python -m corpus.deidentify.training.ordinary_words`.

Every whole word of the tokenizer's vocabulary is put where names stand ("i told X about it", "i live in X"); one that
the tagger doubts even there gives no reason to read a sentence. Written to `ordinary_words.txt` (the vocabulary is
Rampart's, CC-BY 4.0). Run it after training.
"""

import sys

from configs.errors import run_program
from configs.run_folder import write_atomically
from corpus.deidentify.tagging import NameTagger
from corpus.deidentify.windows import read_windows
from corpus.deidentify.words import FOLDER, is_common

CARRIERS = ("i told {} about it", "and {} said no to me", "i live in {} now", "thanks {}!", "we met at {} last year")
UNLIKELY = 0.7
WORDS_AT_ONCE = 2_000


def ordinary_words(tagger: NameTagger) -> list[str]:
    """Return the vocabulary's words that are unlikely to be names in every carrier, sorted."""
    vocabulary = tagger.tokenizer.get_vocab()
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2)
    words = [word for word in words if not is_common(word)]
    highest = dict.fromkeys(words, 0.0)
    for carrier in CARRIERS:
        place = carrier.split("{}")[0].count(" ")
        for first in range(0, len(words), WORDS_AT_ONCE):
            chunk = words[first : first + WORDS_AT_ONCE]
            windows = read_windows([carrier.format(word) for word in chunk], tagger.tokenizer)
            for word, scores in zip(chunk, tagger.score_windows(windows), strict=True):
                highest[word] = max(highest[word], sum(scores[place]))
    return [word for word in words if highest[word] < UNLIKELY]


def main() -> None:
    """Write the list."""
    write_atomically(FOLDER / "ordinary_words.txt", "\n".join(ordinary_words(NameTagger())) + "\n")


if __name__ == "__main__":
    sys.exit(run_program(main))
