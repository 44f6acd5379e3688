"""Generate answers: one at a time with its tokens as they come, or many at once for the evidence."""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from configs.errors import UserError
from dialogue.conversations import Utterance
from dialogue.examples import Reply, prompt_ids

# Nucleus sampling (arXiv:1904.09751) for people; greedy for the evidence, so that anybody can repeat it.
SAMPLING = {"do_sample": True, "top_p": 0.9, "temperature": 0.7, "repetition_penalty": 1.1}
SECONDS_WITHOUT_TOKEN = 120.0


def stream_answer(
    model: Any, tokenizer: Any, context: Sequence[Utterance], *, max_new_tokens: int, longest_prompt: int
) -> Iterator[str]:
    """Yield pieces of an answer as they are generated.

    Args:
        model: a causal LM in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        context: the conversation so far, the person's turn last.
        max_new_tokens: longest answer.
        longest_prompt: longest prompt in tokens; the oldest turns give way first.

    Raises:
        UserError: the model failed or gave no word for two minutes, or its chat template refuses the conversation.
    """
    from transformers import TextIteratorStreamer

    input_ids = torch.tensor([prompt_ids(tokenizer, context, longest_prompt)])
    streamer = TextIteratorStreamer(
        tokenizer, skip_prompt=True, timeout=SECONDS_WITHOUT_TOKEN, skip_special_tokens=True
    )
    arguments = {
        "input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "max_new_tokens": max_new_tokens,
        "pad_token_id": tokenizer.pad_token_id, "streamer": streamer, **SAMPLING,
    }  # fmt: skip

    failures: list[Exception] = []

    def work() -> None:
        try:
            with torch.inference_mode():
                model.generate(**arguments)
        except Exception as error:  # noqa: BLE001  # nobody hears of an exception in a thread
            failures.append(error)
        finally:
            streamer.end()  # a failure must not leave the reader waiting

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield from streamer
    except queue.Empty as error:
        failures.append(error)
    else:
        thread.join()
    if failures:
        raise UserError(
            f"the model gave no answer ({type(failures[0]).__name__})", fix="Try again, or begin a new conversation."
        ) from failures[0]


def generate_answers(
    model: Any, tokenizer: Any, replies: Sequence[Reply], *, batch_size: int, max_new_tokens: int, longest_prompt: int
) -> Iterator[list[str]]:
    """Yield greedy answers to the contexts of `replies` as a chat would ask, one batch after the other."""
    device = next(model.parameters()).device
    for start in range(0, len(replies), batch_size):
        prompts = [
            prompt_ids(tokenizer, reply.context, longest_prompt) for reply in replies[start : start + batch_size]
        ]
        longest = max(map(len, prompts))
        # Padded on the left: generation goes on at the right end.
        input_ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(ids)) + ids for ids in prompts])
        attention_mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
        with torch.inference_mode():
            output = model.generate(
                input_ids=input_ids.to(device),
                attention_mask=attention_mask.to(device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        yield [text.strip() for text in tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)]
