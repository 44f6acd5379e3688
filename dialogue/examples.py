"""Turn conversations into training examples: what the model reads, and the one reply it is asked for.

Every turn of the responder but an opening one is an example: the turns before it (at most `context_turns`, the first
of them the person's), under a line that says who speaks and, if asked, the emotion and the situation. Only the reply's
tokens (and its end mark) are labels; everything before is -100, so that the model learns to answer, not to complain.

B = examples in a batch, T = tokens of the longest of them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError

from configs.errors import UserError
from dialogue.config import DialogueRecipe
from dialogue.conversations import Conversation, Utterance, from_the_person

IGNORED = -100
INSTRUCTION = (
    "You are a program that listens with empathy. Answer in one to three short, warm sentences. "
    "You give no diagnosis and no medical advice."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """One reply to learn or to measure, with what came before it.

    Attributes:
        id: the conversation's and the reply's place in it.
        context: the turns before it.
        text: what was really answered.
        emotion: what the prompt says of the emotion.
        situation: what the prompt says of the situation.
        labelled_emotion: the data set's emotion, whether or not the prompt says it.
    """

    id: str
    context: tuple[Utterance, ...]
    text: str
    emotion: str = ""
    situation: str = ""
    labelled_emotion: str = ""


@dataclasses.dataclass(frozen=True)
class EncodedReply:
    """Token ids of prompt and reply, where the reply begins, and how many of its words are in them."""

    input_ids: tuple[int, ...]
    reply_start: int
    words: int


def replies(conversations: Sequence[Conversation], recipe: DialogueRecipe) -> list[Reply]:
    """Return every reply of the responder that answers something."""
    found = []
    for conversation in conversations:
        last = len(conversation.turns) - 1
        for place, turn in enumerate(conversation.turns):
            context = from_the_person(conversation.turns[max(0, place - recipe.context_turns) : place])
            if turn.role == "assistant" and context and (place == last or not conversation.answers_last_only):
                found.append(
                    Reply(
                        id=f"{conversation.id}/{place}",
                        context=context,
                        text=turn.text,
                        emotion=conversation.emotion if recipe.condition_on_emotion else "",
                        situation=conversation.situation if recipe.condition_on_situation else "",
                        labelled_emotion=conversation.emotion,
                    )
                )
    return found


def as_served(reply: Reply) -> Reply:
    """Return a reply asked for as in a chat, where nobody names the emotion or the situation."""
    return dataclasses.replace(reply, emotion="", situation="")


def messages(context: Sequence[Utterance], emotion: str = "", situation: str = "") -> list[dict[str, str]]:
    """Return a conversation in the form chat templates take, the instruction first."""
    lines = [INSTRUCTION]
    if emotion:
        lines.append(f"The person feels {emotion}.")
    if situation:
        lines.append(f"The situation: {situation}")
    system = {"role": "system", "content": " ".join(lines)}
    return [system, *({"role": turn.role, "content": turn.text} for turn in context)]


def prompt_ids(
    tokenizer: Any, context: Sequence[Utterance], longest: int, *, emotion: str = "", situation: str = ""
) -> list[int]:
    """Return the ids of a prompt of at most `longest` tokens; the oldest turns give way first, then their starts.

    Raises:
        UserError: the tokenizer's chat template refuses the conversation.
    """
    kept = from_the_person(context)
    while True:
        text = _written(tokenizer, messages(kept, emotion, situation), asks=True)
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) <= longest:
            return ids
        shorter = from_the_person(kept[1:])
        if not shorter:
            return ids[-longest:]
        kept = shorter


def encode_reply(tokenizer: Any, reply: Reply, max_seq_length: int) -> EncodedReply:
    """Encode prompt and reply into at most `max_seq_length` tokens; a reply cut short gets no end mark."""
    turn = Utterance("assistant", reply.text)
    with_reply = _written(tokenizer, messages([*reply.context, turn]), asks=False)
    prompt = _written(tokenizer, messages(reply.context), asks=True)
    answer = with_reply[len(prompt) :].rstrip("\n")
    all_ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    answer_ids = all_ids[: max_seq_length // 2]
    is_whole = len(answer_ids) == len(all_ids)
    words = len((reply.text if is_whole else tokenizer.decode(answer_ids)).split())
    longest = max_seq_length - len(answer_ids)
    ids = prompt_ids(tokenizer, reply.context, longest, emotion=reply.emotion, situation=reply.situation)
    return EncodedReply((*ids, *answer_ids), len(ids), words)


def collate(encoded: Sequence[EncodedReply], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, each (B, T), padded on the right."""
    longest = max(len(example.input_ids) for example in encoded)
    input_ids_BT = torch.full((len(encoded), longest), pad_token_id)
    labels_BT = torch.full((len(encoded), longest), IGNORED)
    attention_mask_BT = torch.zeros((len(encoded), longest), dtype=torch.long)
    for row, example in enumerate(encoded):
        ids, length = torch.tensor(example.input_ids), len(example.input_ids)
        input_ids_BT[row, :length] = ids
        attention_mask_BT[row, :length] = 1
        labels_BT[row, example.reply_start : length] = ids[example.reply_start :]
    return {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT, "labels": labels_BT}


def _written(tokenizer: Any, conversation: list[dict[str, str]], *, asks: bool) -> str:
    """Return a conversation in the tokenizer's chat format, with the beginning of a reply if one is asked for."""
    try:
        text: str = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=asks)
    except TemplateError as error:  # its message is the template's own
        raise UserError(
            f"the tokenizer's chat template refuses a conversation ({error})",
            fix="Choose a model whose template takes instructions (a system message).",
        ) from error
    return text
