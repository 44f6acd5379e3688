"""Ask a masked language model: how likely are these tokens, and what would it fill in.

Pseudo-log-likelihood follows Salazar et al. 2020 (arXiv:1910.14659), with several tokens hidden at once: a text's
positions are divided at random into seven disjoint masks (about 15 % each, as in training), so seven passes score
every token once instead of one pass per token. Two models with one tokenizer are scored under the same masks.

R = masked rows in a batch, T = tokens per row, M = hidden positions, P = prompts, W = words, V = vocabulary.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from configs.base_models import resolve_model
from configs.errors import UserError

Floats = npt.NDArray[np.float64]
MASKS = 7
MASK = "[MASK]"
"""How prompts write the hidden word, whatever the model's own mask token is."""


@dataclasses.dataclass(frozen=True)
class MaskedRow:
    """A tokenized text and the positions to hide."""

    ids: list[int]
    hidden: list[int]


@dataclasses.dataclass(frozen=True)
class TextScores:
    """Per text: mean log-probability of its scored tokens, and the share of them that were guessed first."""

    log_likelihood: Floats
    recovered: Floats


class MaskedScorer:
    """A masked language model with its tokenizer, for scoring only.

    Attributes:
        has_head: False if the folder holds an encoder without a masked-LM head; its answers are then random.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_tokens: int = 4096, has_head: bool = True) -> None:
        self.model, self.tokenizer, self.batch_tokens, self.has_head = model.eval(), tokenizer, batch_tokens, has_head
        self.device = next(model.parameters()).device

    @classmethod
    def load(cls, name: str, *, batch_tokens: int = 4096, seed: int = 0) -> "MaskedScorer":
        """Load a model by folder, Hub id or package:NAME."""
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        source = resolve_model(name)
        torch.manual_seed(seed)  # a missing head starts at random; then at least always at the same
        try:
            model, loading = AutoModelForMaskedLM.from_pretrained(
                source.name_or_path, output_loading_info=True, **source.load_arguments
            )
            tokenizer = AutoTokenizer.from_pretrained(source.name_or_path, **source.load_arguments)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot be loaded as a masked language model ({type(error).__name__})", where=name
            ) from error
        if tokenizer.mask_token_id is None:
            raise UserError("its tokenizer has no mask token", where=name)
        missing = [key for key in loading["missing_keys"] if "position_ids" not in key]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), tokenizer, batch_tokens=batch_tokens, has_head=not missing)

    def text_log_likelihoods(
        self, texts: Sequence[str], *, masks: int = MASKS, max_tokens: int = 128, seed: int = 0
    ) -> TextScores:
        """Score texts under `masks` of their seven masks.

        Args:
            texts: N texts; cut to `max_tokens`.
            masks: how many of the seven masks to use; all of them score every token once.
            max_tokens: tokens per text, special ones included.
            seed: of the division into masks, together with the text itself.
        """
        rows, owners = [], []
        special = set(self.tokenizer.all_special_ids)  # a tokenizer looks this up anew each time
        for number, (text, ids) in enumerate(zip(texts, self._encode(texts, max_tokens), strict=True)):
            body = [position for position, token in enumerate(ids) if token not in special]
            order = np.random.default_rng([seed, zlib.crc32(text.encode())]).permutation(len(body))
            for mask in range(masks):
                hidden = [body[position] for position in order[mask::MASKS]]
                if hidden:
                    rows.append(MaskedRow(ids, hidden))
                    owners.append(number)
        likelihood, recovered, count = np.zeros(len(texts)), np.zeros(len(texts)), np.zeros(len(texts))
        for owner, (log_probs, hits) in zip(owners, self.score_rows(rows), strict=True):
            likelihood[owner] += log_probs.sum()
            recovered[owner] += hits.sum()
            count[owner] += len(log_probs)
        count = np.maximum(count, 1)
        return TextScores(likelihood / count, recovered / count)

    @torch.inference_mode()
    def score_rows(self, rows: Sequence[MaskedRow]) -> list[tuple[Floats, npt.NDArray[np.bool_]]]:
        """Return each row's log-probabilities of its hidden tokens, and whether each was the model's first guess."""
        results: list[tuple[Floats, npt.NDArray[np.bool_]]] = [(np.empty(0), np.empty(0, dtype=np.bool_))] * len(rows)
        for chosen in self._batches([row.ids for row in rows]):
            log_probs_MV, where = self._hidden_log_probs([rows[i] for i in chosen])
            targets = [rows[i].ids[p] for i in chosen for p in rows[i].hidden]
            targets_M = torch.tensor(targets, device=self.device)
            picked = log_probs_MV.gather(1, targets_M[:, None])[:, 0].double().cpu().numpy()
            first = (log_probs_MV.argmax(1) == targets_M).cpu().numpy()
            for i, (start, stop) in zip(chosen, where, strict=True):
                results[i] = picked[start:stop], first[start:stop]
        return results

    @torch.inference_mode()
    def word_log_probs(self, prompts: Sequence[str], words: Sequence[str]) -> Floats:
        """Return (P, W) log-probabilities of words in the (one) gap of each prompt.

        Upper-case first letters count too, and, where the gap opens the text, the spelling without a space before it:
        byte-level vocabularies have two tokens for a word. One that is no single token gets minus infinity everywhere.
        """
        result = np.full((len(prompts), len(words)), -np.inf)
        rows = [self._prompt_row(prompt) for prompt in prompts]
        for opens_text in (False, True):
            spellings = [self.single_tokens(word, opens_text=opens_text) for word in words]
            numbers = [i for i, prompt in enumerate(prompts) if prompt.startswith(MASK) == opens_text]
            for batch in self._batches([rows[i].ids for i in numbers]):
                chosen = [numbers[i] for i in batch]
                log_probs_MV, _ = self._hidden_log_probs([rows[i] for i in chosen])
                for column, ids in enumerate(spellings):
                    if ids:
                        result[chosen, column] = log_probs_MV[:, ids].logsumexp(1).double().cpu().numpy()
        return result

    @torch.inference_mode()
    def top_fills(self, prompts: Sequence[str], count: int) -> list[list[str]]:
        """Return the `count` most likely words for the (one) gap of each prompt, lower-cased."""
        fills: list[list[str]] = [[] for _ in prompts]
        rows = [self._prompt_row(prompt) for prompt in prompts]
        for chosen in self._batches([row.ids for row in rows]):
            log_probs_MV, _ = self._hidden_log_probs([rows[i] for i in chosen])
            for i, ids in zip(chosen, log_probs_MV.topk(min(count, log_probs_MV.shape[1]), 1).indices, strict=True):
                fills[i] = [self.tokenizer.decode([token]).strip().lower() for token in ids.tolist()]
        return fills

    @torch.inference_mode()
    def fill_gaps(self, rows: Sequence[MaskedRow]) -> list[list[int]]:
        """Fill all hidden positions of each row greedily, the surest first; returns the token ids put there."""
        states = [(list(row.ids), list(row.hidden)) for row in rows]
        for ids, hidden in states:
            for position in hidden:
                ids[position] = self.tokenizer.mask_token_id
        while any(hidden for _, hidden in states):
            open_rows = [state for state in states if state[1]]
            for chosen in self._batches([ids for ids, _ in open_rows]):
                batch = [MaskedRow(*open_rows[i]) for i in chosen]
                log_probs_MV, where = self._hidden_log_probs(batch)
                values, tokens = (column.tolist() for column in log_probs_MV.max(1))
                for i, (start, stop) in zip(chosen, where, strict=True):
                    ids, hidden = open_rows[i]
                    best = max(range(start, stop), key=lambda place: values[place])
                    ids[hidden.pop(best - start)] = tokens[best]
        return [[ids[position] for position in row.hidden] for (ids, _), row in zip(states, rows, strict=True)]

    def single_tokens(self, word: str, *, opens_text: bool = False) -> list[int]:
        """Return the token ids that spell a word alone, with a small and a capital first letter.

        Args:
            word: the word.
            opens_text: at the beginning of a text, where no space stands before it.
        """
        found = set()
        for start, spelling in itertools.product(("", " ") if opens_text else (" ",), (word, word.capitalize())):
            ids = self.tokenizer(start + spelling, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
                found.add(ids[0])
        return sorted(found)

    def _hidden_log_probs(self, rows: Sequence[MaskedRow]) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Return (M, V) log-probabilities at all hidden positions, and each row's slice of them."""
        length = max(len(row.ids) for row in rows)
        ids_RT = torch.full((len(rows), length), self.tokenizer.pad_token_id or 0)
        attention_RT = torch.zeros((len(rows), length), dtype=torch.long)
        where: list[tuple[int, int]] = []
        row_M: list[int] = []
        position_M: list[int] = []
        for number, row in enumerate(rows):
            ids_RT[number, : len(row.ids)] = torch.tensor(row.ids)
            attention_RT[number, : len(row.ids)] = 1
            ids_RT[number, row.hidden] = self.tokenizer.mask_token_id
            where.append((len(row_M), len(row_M) + len(row.hidden)))
            row_M += [number] * len(row.hidden)
            position_M += row.hidden
        logits_MV = self._logits(ids_RT.to(self.device), attention_RT.to(self.device), row_M, position_M)
        return logits_MV.float().log_softmax(-1), where

    def _logits(self, ids_RT: torch.Tensor, attention_RT: torch.Tensor, row_M: list[int], position_M: list[int]) -> Any:
        """Run the model; the vocabulary's logits are made for hidden positions only where the head can be called."""
        head = getattr(self.model, "cls", None) or getattr(self.model, "lm_head", None)
        if head is None:
            return self.model(input_ids=ids_RT, attention_mask=attention_RT).logits[row_M, position_M]
        states = self.model.base_model(input_ids=ids_RT, attention_mask=attention_RT)[0]
        return head(states[row_M, position_M])

    def _batches(self, all_ids: Sequence[list[int]]) -> Iterator[list[int]]:
        """Yield row numbers, rows of like length together, at most `batch_tokens` tokens with padding."""
        order = sorted(range(len(all_ids)), key=lambda i: len(all_ids[i]))
        batch: list[int] = []
        for i in order:
            if batch and (len(batch) + 1) * len(all_ids[i]) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _prompt_row(self, prompt: str) -> MaskedRow:
        [ids] = self._encode([prompt.replace(MASK, self.tokenizer.mask_token)], 128)
        return MaskedRow(ids, [ids.index(self.tokenizer.mask_token_id)])

    def _encode(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        limit = min(max_tokens, getattr(self.model.config, "max_position_embeddings", max_tokens))
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return ids


def short_name(name: str) -> str:
    """Return how a model is called in a report: a folder by its last two parts, never by its whole path."""
    return "/".join(Path(name).parts[-2:])
