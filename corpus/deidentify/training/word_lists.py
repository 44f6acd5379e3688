"""Make the list of common words: `python -m corpus.deidentify.training.word_lists GOEMOTIONS/train.jsonl`.

`common_words.txt`: what Reddit comments (GoEmotions train, Apache-2.0, its names masked by its makers) write at
least four times in lower case, and at least four times as often as with a capital inside a sentence: names go out.
"""

import collections
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from configs.errors import UserError, run_program
from configs.run_folder import write_atomically
from corpus.deidentify.words import FOLDER

MINIMUM_COUNT = 4
SENTENCE_ENDS = '.!?:"'


def common_words_of(train_file: Path) -> list[str]:
    """Return the common words of a task's texts, sorted."""
    lower: collections.Counter[str] = collections.Counter()
    capital: collections.Counter[str] = collections.Counter()
    with train_file.open("rb") as file:
        for line in file:
            opens = True
            for word in re.findall(r"\w+|[^\w\s]", orjson.loads(line)["text"]):
                if word.isascii() and word.isalpha():
                    if word.islower():
                        lower[word] += 1
                    elif not opens:
                        capital[word.lower()] += 1
                opens = word in SENTENCE_ENDS
    return sorted(word for word, count in lower.items() if count >= MINIMUM_COUNT and count > 4 * capital[word])


def main(arguments: Sequence[str]) -> None:
    """Write the list."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        raise UserError("give the training comments: word_lists GOEMOTIONS/train.jsonl")
    write_atomically(FOLDER / "common_words.txt", "\n".join(common_words_of(Path(arguments[0]))) + "\n")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
