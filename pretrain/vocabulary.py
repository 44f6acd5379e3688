"""Give an encoder whole tokens for the domain's words (Sachidananda et al., arXiv:2109.07460).

Words that the tokenizer cuts into pieces and that save most tokens become tokens of their own. Their embedding rows
start as the mean of their pieces' rows, so that the model begins where it was; the corpus is then cut anew by the new
tokenizer and adaptation goes on from there.

A vocabulary is published with the model. So many people must have written a word, and only letters count as a word: no
words of few people, no numbers, no handles. A name that many people mention is kept from it by nothing but the corpus's
own de-identification.
"""

import dataclasses
import functools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.manifest import now, verify_folder, verify_inputs
from configs.recipe import StageRecipe, load_recipe, require
from configs.run_folder import finish_run_folder, open_run_folder
from corpus.chunks import read_rows
from corpus.shards import documents_path
from pretrain.encoder import load_masked_lm, load_tokenizer
from pretrain.words import marks_spaces

WORD = re.compile(r"[^\W\d_]{4,30}")
log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class VocabularyRecipe(StageRecipe):
    """Add a corpus's frequent words to an encoder's vocabulary."""

    corpus: Path
    """Corpus folder whose words are counted. It must be built anew with the tokenizer that this writes."""
    model: str
    """Encoder to extend: a Hub id, a folder, or `package:minilm`."""
    new_tokens: int = 2_000
    """Most words to add; the paper added 10,000 on corpora of billions of words."""
    min_documents: int = 50
    """Documents a word must stand in, by as many authors; a document whose author is not known counts as one. What few
    people write must not show in a published vocabulary; without known authors one person's many posts can."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require(self.new_tokens >= 1, "new_tokens", self.new_tokens, "1 or more")
        require(self.min_documents >= 2, "min_documents", self.min_documents, "2 or more")


def main(arguments: Sequence[str], program: str) -> None:
    """Write the extended encoder of the recipe named on the command line."""
    recipe = load_recipe(VocabularyRecipe, arguments, program)
    started_at = now()
    accepted = verify_folder(recipe.corpus, stage="corpus", accept_changes=recipe.accept_changed_inputs)
    source = resolve_model(recipe.model)
    model_inputs = {"model": Path(source.name_or_path)} if source.is_local else {}
    accepted += verify_inputs(model_inputs.values(), accept_changes=recipe.accept_changed_inputs)
    inputs = {"corpus": recipe.corpus} | model_inputs
    working_dir = open_run_folder(recipe, accepted=accepted, started_at=started_at)
    tokenizer = load_tokenizer(source)
    read = functools.partial(read_texts, recipe.corpus)
    words = choose_words(read, tokenizer, recipe.new_tokens, recipe.min_documents)
    if not words:
        raise UserError(
            f"no word of {recipe.min_documents} authors' documents is cut into pieces",
            where=recipe.corpus,
            fix="Lower min_documents, or leave the vocabulary as it is.",
        )
    torch.manual_seed(recipe.seed)  # a head that is missing from the checkpoint
    model = extend(load_masked_lm(source), tokenizer, words)
    model.save_pretrained(working_dir)
    tokenizer.save_pretrained(working_dir)
    counts = {"new_tokens": len(words), "vocabulary": len(tokenizer)}
    finish_run_folder(recipe, stage="vocabulary", inputs=inputs, counts=counts)
    log.info("%d words added: %d tokens now", len(words), len(tokenizer))


def read_texts(corpus: Path) -> Iterable[tuple[str, str]]:
    """Yield the author of each training document, or its own id if that is not known, and its title and body."""
    for path in sorted(documents_path(corpus, "train", 0).parent.glob("*.jsonl.zst")):
        for row in read_rows(path):
            yield row.get("author_hash") or f"document {row['id']}", f"{row['title']}\n{row['text']}"


def choose_words(
    read: Callable[[], Iterable[tuple[str, str]]], tokenizer: PreTrainedTokenizerBase, most: int, min_documents: int
) -> list[str]:
    """Return the words that save most tokens: documents they stand in × (pieces − 1), the largest first.

    Args:
        read: gives author and text of each document; it is called twice.
        tokenizer: whose pieces are counted.
        most: words at most.
        min_documents: documents, and authors, that a word must have at least.
    """
    is_cased = tokenizer.tokenize("Aa") != tokenizer.tokenize("aa")
    counts = Counter(word for _, text in read() for word in _words_of(text, is_cased=is_cased))
    # Authors in a pass of their own: sets of them for every rare word would fill the memory.
    authors: dict[str, set[str]] = {word: set() for word, count in counts.items() if count >= min_documents}
    for author, text in read():
        for word in _words_of(text, is_cased=is_cased) & authors.keys():
            if len(authors[word]) < min_documents:
                authors[word].add(author)
    frequent = [word for word, found in authors.items() if len(found) >= min_documents]
    # Behind a space: byte-level BPE has other tokens for a word inside a sentence.
    pieces = tokenizer([" " + word for word in frequent], add_special_tokens=False)["input_ids"] if frequent else []
    saved = {word: counts[word] * (len(ids) - 1) for word, ids in zip(frequent, pieces, strict=True) if len(ids) > 1}
    return sorted(saved, key=lambda word: (-saved[word], word))[:most]


def _words_of(text: str, *, is_cased: bool) -> set[str]:
    return set(WORD.findall(text if is_cased else text.lower()))


def extend(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: list[str]) -> PreTrainedModel:
    """Add words as tokens; input and output rows and biases of a word are the mean of its pieces'. Changes both."""
    from tokenizers import AddedToken

    pieces = tokenizer([" " + word for word in words], add_special_tokens=False)["input_ids"]
    first = len(tokenizer)
    # The space before a word is a part of it where the vocabulary marks spaces; else a bare space would stay before
    # it. A line break goes with it, as before RoBERTa's own mask token.
    takes_space = marks_spaces(tokenizer)
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True, lstrip=takes_space) for word in words])
    if model.config.vocab_size < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for rows in _vocabulary_tensors(model):
            for offset, ids in enumerate(pieces):
                rows[first + offset] = rows[ids].mean(dim=0)
    return model


def _vocabulary_tensors(model: PreTrainedModel) -> list[Tensor]:
    """Return every tensor with one row a token, tied ones once: embeddings, the output layer and its bias."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    tensors = [inputs.weight]
    if isinstance(outputs, nn.Linear):
        tensors += [outputs.weight] if outputs.weight is not inputs.weight else []
        tensors += [outputs.bias] if outputs.bias is not None else []
    return tensors
