"""The responder: data layouts, labels on replies only, exact resume, LoRA, evidence, recipes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from configs.manifest import CODE_ROOT, verify_folder
from configs.recipe import load_recipe
from dialogue import run_dialogue, tuning
from dialogue.base_responders import load_responder
from dialogue.config import DialogueRecipe
from dialogue.conversations import Conversation, Utterance, choose, read_conversations, split_conversations
from dialogue.evidence import answer_metrics, perplexity_per_word
from dialogue.examples import IGNORED, Reply, collate, encode_reply, replies
from dialogue.generation import generate_answers
from dialogue.training import Trainer

RECIPES = sorted((CODE_ROOT / "configs" / "dialogue").glob("*.yaml"))


def arguments(model: Path, data: Path, output: Path, *more: str) -> list[str]:
    keys = {
        "model": model, "conversations": json.dumps([f"jsonl:{data}"]), "output_dir": output, "max_seq_length": 320,
        "batch_size": 8, "learning_rate": "5e-3", "max_steps": 12, "evaluation_steps": 4, "checkpoint_steps": 4,
        "validation_replies": 8, "evidence_replies": 4, "max_new_tokens": 8, "validation_fraction": 0.15,
        "test_fraction": 0.15, "patience": 9,
    }  # fmt: skip
    return [word for key, value in keys.items() for word in (f"--{key}", str(value))] + list(more)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_loads_and_names_its_own_command(path: Path) -> None:
    recipe = load_recipe(DialogueRecipe, [str(path)], "run_dialogue.py")
    assert f"configs/dialogue/{path.name}" in path.read_text(encoding="utf-8")
    assert recipe.output_dir.parts[0] == "runs"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["--test_fraction", "0.9"], "test_fraction is 0.9"),
        (["--context_turns", "0"], "context_turns is 0"),
        (["--tuning", "prompt"], "tuning"),
        (["--lora_rnak", "4"], "did you mean 'lora_rank'"),
        (["--conversations", "[]"], "at least one FORMAT:PATH"),
    ],
)
def test_an_impossible_value_is_named(overrides: list[str], named: str) -> None:
    with pytest.raises(UserError, match=named.replace("[", r"\[")):
        load_recipe(DialogueRecipe, [str(RECIPES[0]), *overrides], "run_dialogue.py")


def test_the_csv_of_empathetic_dialogues(tmp_path: Path) -> None:
    head = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
    rows = 'hit:1,2,proud,I won_comma_ at last,0,"well" done_comma_ you,5|5,\n'
    rows += "hit:1,1,proud,I won_comma_ at last,1,I won!,5|5,\n"
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text(head + rows.replace("hit:1", f"hit:{name}"), encoding="utf-8")
    found = read_conversations(f"empathetic_dialogues:{tmp_path}").conversations
    assert [conversation.split for conversation in found] == ["train", "validation", "test"]
    assert found[0].turns == (Utterance("user", "I won!"), Utterance("assistant", '"well" done, you'))
    assert (found[0].emotion, found[0].situation) == ("proud", "I won, at last")


def test_the_json_of_esconv(tmp_path: Path) -> None:
    dialog = [("seeker", "I lost my job"), ("seeker", "yesterday"), ("supporter", "oh no"), ("supporter", "what now?")]
    record = {
        "emotion_type": "sadness", "situation": "laid off",
        "dialog": [{"speaker": speaker, "annotation": {}, "content": text} for speaker, text in dialog],
    }  # fmt: skip
    path = tmp_path / "ESConv.json"
    path.write_text(json.dumps([record, {"dialog": 3}, record]), encoding="utf-8")
    reading = read_conversations(f"esconv:{path}")
    assert reading.conversations[0].turns == (
        Utterance("user", "I lost my job yesterday"),
        Utterance("assistant", "oh no what now?"),
    )
    assert reading.left_out == {"no dialog of speaker and content": 1}


def test_both_layouts_of_counsel_chat_keep_the_answers_to_one_question_together(tmp_path: Path) -> None:
    csv_file, jsonl = tmp_path / "c.csv", tmp_path / "c.jsonl"
    csv_file.write_text(
        "questionID,questionTitle,questionText,answerText,topic,split\n"
        "7,Sad?,I am sad,Rest,x,train\n7,Sad?,I am sad,Talk,x,train\n",
        encoding="utf-8",
    )
    row = {"id": "a", "question_title": "Sad?", "question_text": "I am sad", "answer": "Rest", "split": "val"}
    jsonl.write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": "b"}) + "\n", encoding="utf-8")
    for path in (csv_file, jsonl):
        found = read_conversations(f"counsel_chat:{path}").conversations
        assert len(found) == 2
        assert len({conversation.group for conversation in found}) == 1
        assert found[0].turns[0].text == "Sad? I am sad"


def test_context_and_response_rows_are_read_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": 1, "context": ["hm?", "I fell", "ow"], "response": "poor you"}), encoding="utf-8")
    turns = read_conversations(f"jsonl:{path}").conversations[0].turns
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant"]


def test_of_context_and_response_only_the_response_is_a_reply_to_learn(tmp_path: Path) -> None:
    """The earlier replies stand in rows of their own."""
    path = tmp_path / "rows.jsonl"
    said = ["it rained", "oh no", "all day", "poor you", "yes", "what now?"]
    rows = [{"id": n, "context": said[:n], "response": said[n]} for n in (1, 3, 5)]
    rows += [{"id": 7, "context": ["hm?", "I fell", "ow"], "response": " "}, {"turns": [{"role": "user", "text": "x"}]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    reading = read_conversations(f"jsonl:{path}")
    recipe = DialogueRecipe(output_dir=Path("x"), conversations=[f"jsonl:{path}"])
    assert [reply.text for reply in replies(reading.conversations, recipe)] == said[1::2]
    assert reading.left_out == {"neither turns nor context and response": 1, "no reply to anything": 1}


def test_a_group_that_several_official_splits_claim_goes_to_the_first() -> None:
    turns = (Utterance("user", "a"), Utterance("assistant", "b"))
    claimed = {"one": ("test", "train", ""), "two": ("test", "validation"), "three": ("test",), "four": ("train",)}
    many = [Conversation(id="x", group=group, turns=turns, split=s) for group, names in claimed.items() for s in names]
    splits = split_conversations(many, validation_fraction=0.2, test_fraction=0.2, seed=1)
    found = {split: [conversation.group for conversation in kept] for split, kept in splits.items()}
    assert found == {"train": ["one", "one", "one", "four"], "validation": ["two", "two"], "test": ["three"]}


def test_evidence_asks_as_a_chat_does_and_scores_against_the_data_sets_label(
    conversations_file: Path, tiny_decoder: Path
) -> None:
    recipe = DialogueRecipe(
        output_dir=Path("x"), conversations=[f"jsonl:{conversations_file}"], condition_on_emotion=True
    )
    parts, _ = tuning.load_replies(recipe)
    assert all(reply.emotion for reply in parts["train"])
    for reply in parts["validation"] + parts["test"]:
        assert reply.emotion == ""
        assert reply.labelled_emotion in ("joyful", "afraid", "sad")
    tokenizer = load_responder(str(tiny_decoder)).tokenizer
    told = Reply(id="x", context=parts["test"][0].context, text="oh no", emotion="sad", labelled_emotion="sad")
    prompts: list[str] = []

    class Model(torch.nn.Linear):
        def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
            prompts.extend(tokenizer.batch_decode(input_ids))
            return input_ids

    list(generate_answers(Model(1, 1), tokenizer, [told], batch_size=1, max_new_tokens=1, longest_prompt=500))
    assert "feels" not in prompts[0]
    figures = answer_metrics(["oh"], [told], emotions=lambda texts: ["sad" if "oh" in text else "" for text in texts])
    assert figures["emotion_match"] == 1


@pytest.mark.parametrize(
    ("specification", "named"),
    [
        ("escnov:x.json", "did you mean 'esconv'"),
        ("x.json", "FORMAT:PATH"),
        ("jsonl:absent.jsonl", "no such file"),
        ("jsonl:{folder}", "jsonl is read from a file"),
        ("esconv:{folder}", "esconv is read from a file"),
        ("counsel_chat:{folder}", "counsel_chat is read from a file"),
        ("esconv:{bad}", "cannot be read as esconv"),
        ("jsonl:{bad}", "does not look like jsonl"),
        ("empathetic_dialogues:{bad}", "has no column"),
    ],
)
def test_a_foreign_file_is_refused_without_its_words(tmp_path: Path, specification: str, named: str) -> None:
    bad = tmp_path / "bad"
    bad.write_text("secret words\nmore secret words\n", encoding="utf-8")
    with pytest.raises(UserError, match=named) as error:
        read_conversations(specification.replace("{bad}", str(bad)).replace("{folder}", str(tmp_path)))
    assert "secret" not in str(error.value)


def test_half_a_character_leaves_its_record_out(tmp_path: Path) -> None:
    """JSON can spell a lone surrogate, which no tokenizer takes."""
    half, good = "hm \ud83d", "it rained"
    turns = [[half, "oh no"], [good, half], [good, "oh no"]]
    rows = {
        "jsonl": [
            {"turns": [{"role": "user", "text": told}, {"role": "assistant", "text": reply}]} for told, reply in turns
        ],
        "counsel_chat": [{"questionTitle": told, "answerText": reply} for told, reply in turns],
        "esconv": [
            {"dialog": [{"speaker": "seeker", "content": told}, {"speaker": "supporter", "content": reply}]}
            for told, reply in turns
        ],
    }
    for name, records in rows.items():
        path = tmp_path / name
        records += [records[2], records[2], {**records[2], "emotion": half, "emotion_type": half, "id": half}]
        lines = [json.dumps(records)] if name == "esconv" else map(json.dumps, records)
        path.write_text("\n".join(lines), encoding="utf-8")
        reading = read_conversations(f"{name}:{path}")
        assert len(reading.conversations) == 3
        assert reading.left_out == {"half a character (a lone surrogate)": 3}


def test_no_group_is_torn_between_splits_and_a_choice_keeps_groups_whole() -> None:
    turns = (Utterance("user", "a"), Utterance("assistant", "b"))
    many = [Conversation(id=str(n), group=f"g{n // 3}", turns=turns) for n in range(300)]
    splits = split_conversations(many, validation_fraction=0.2, test_fraction=0.2, seed=1)
    groups = [{conversation.group for conversation in found} for found in splits.values()]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert sum(map(len, splits.values())) == 300
    kept = choose(many, 50, seed=1)
    assert 45 <= len(kept) <= 50
    assert all(sum(c.group == conversation.group for c in kept) == 3 for conversation in kept)


def test_only_the_reply_is_a_label_and_old_turns_give_way(tiny_decoder: Path) -> None:
    tokenizer = load_responder(str(tiny_decoder)).tokenizer
    context = tuple(Utterance("user" if n % 2 == 0 else "assistant", f"turn number {n}") for n in range(5))
    reply = Reply(id="x", context=context, text="I hear you", emotion="sad")
    long, short = encode_reply(tokenizer, reply, 1000), encode_reply(tokenizer, reply, 280)
    batch = collate([long, short], tokenizer.pad_token_id)
    assert tokenizer.decode([t for t in batch["labels"][0].tolist() if t != IGNORED]) == " I hear you<|endoftext|>"
    prompt = tokenizer.decode(long.input_ids[: long.reply_start])
    assert prompt.endswith("Person: turn number 4\nListener:")
    assert "feels sad" in prompt
    assert len(short.input_ids) <= 280
    assert (long.words, short.words) == (3, 3)
    cut = encode_reply(tokenizer, Reply(id="y", context=context, text="one two three " * 40), 280)
    assert cut.words < 45  # only the words that are in the tokens count
    shorter = tokenizer.decode(short.input_ids)
    assert "turn number 0" in prompt
    assert "turn number 0" not in shorter
    assert "feels sad" in shorter
    assert int(batch["attention_mask"][1].sum()) == len(short.input_ids)


def test_every_answer_but_an_opening_is_an_example(conversations_file: Path) -> None:
    recipe = DialogueRecipe(output_dir=Path("x"), conversations=[f"jsonl:{conversations_file}"], context_turns=1)
    found = replies(read_conversations(recipe.conversations[0]).conversations, recipe)
    assert len(found) == 120
    assert all(len(reply.context) == 1 and reply.context[-1].role == "user" for reply in found)
    two = DialogueRecipe(output_dir=Path("x"), conversations=[f"jsonl:{conversations_file}"], context_turns=2)
    assert all(
        reply.context[0].role == "user"
        for reply in replies(read_conversations(two.conversations[0]).conversations, two)
    )


def test_a_run_from_end_to_end_and_the_same_after_a_kill(
    tmp_path: Path, tiny_decoder: Path, conversations_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_dialogue.main(arguments(tiny_decoder, conversations_file, whole), "run")
    advance = Trainer._advance

    def die_at_step_six(trainer: Trainer, *rest: object) -> None:
        if trainer.state.step == 6:
            raise KeyboardInterrupt
        advance(trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_advance", die_at_step_six)
    with pytest.raises(KeyboardInterrupt):
        run_dialogue.main(arguments(tiny_decoder, conversations_file, broken), "run")
    monkeypatch.setattr(Trainer, "_advance", advance)
    run_dialogue.main(arguments(tiny_decoder, conversations_file, broken), "run")
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert verify_folder(whole, stage="dialogue") == []
    evidence = json.loads((whole / "evidence.json").read_text(encoding="utf-8"))
    base, tuned = evidence["systems"]["base"], evidence["systems"]["tuned"]
    assert tuned["perplexity_per_word"] < base["perplexity_per_word"]
    assert evidence["training"][-1]["step"] == 12
    for name in ("evidence.md", "report.html", "metrics.jsonl"):
        text = (whole / name).read_text(encoding="utf-8")
        assert "party" not in text
        assert "garden" not in text
    assert not list(whole.glob("checkpoint*"))


def test_an_interrupted_run_does_not_go_on_with_other_conversations(
    tmp_path: Path, tiny_decoder: Path, conversations_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    data, output = tmp_path / "data.jsonl", tmp_path / "run"
    data.write_bytes(conversations_file.read_bytes())
    command = arguments(tiny_decoder, data, output, "--max_steps", "2")
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "remove_checkpoints", die)
        with pytest.raises(KeyboardInterrupt):
            run_dialogue.main(command, "run")
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[:-5]), encoding="utf-8")
    with pytest.raises(UserError, match="began with another conversations_0"):
        run_dialogue.main(command, "run")
    data.write_text("".join(lines), encoding="utf-8")
    run_dialogue.main(command, "run")
    assert verify_folder(output, stage="dialogue") == []


@pytest.mark.parametrize(
    "last_step",
    [
        "dialogue.tuning.remove_checkpoints",
        "dialogue.tuning.finish_run_folder",
        "configs.run_folder.write_manifest",
        "configs.run_folder.publish_run_folder",
    ],
)
def test_a_run_killed_at_its_very_end_is_only_finished(
    tmp_path: Path, tiny_decoder: Path, conversations_file: Path, monkeypatch: pytest.MonkeyPatch, last_step: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("done twice")

    output = tmp_path / "run"
    command = arguments(tiny_decoder, conversations_file, output, "--max_steps", "2")
    with monkeypatch.context() as patch:
        patch.setattr(last_step, die)
        with pytest.raises(KeyboardInterrupt):
            run_dialogue.main(command, "run")
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "Trainer", refuse)
        patch.setattr(tuning, "_measure", refuse)
        run_dialogue.main(command, "run")
    assert verify_folder(output, stage="dialogue") == []
    assert json.loads((output / "evidence.json").read_text(encoding="utf-8"))["training"][-1]["step"] == 2
    left_over = ("checkpoint*", "best.*", "training.json", "evidence-*.json")
    assert not [path.name for pattern in left_over for path in output.glob(pattern)]


def test_a_low_rank_adapter_is_merged_into_a_plain_folder(
    tmp_path: Path, tiny_decoder: Path, conversations_file: Path
) -> None:
    output = tmp_path / "lora"
    more = ("--tuning", "lora", "--lora_rank", "4", "--max_steps", "4")
    run_dialogue.main(arguments(tiny_decoder, conversations_file, output, *more), "run")
    before, after = load_file(tiny_decoder / "model.safetensors"), load_file(output / "model.safetensors")
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith(".weight") and ("attn" in name or "mlp" in name) for name in changed)
    assert load_responder(str(output)).tokenizer.chat_template


@pytest.mark.slow
def test_a_sigkilled_run_is_finished_by_the_same_command(
    tmp_path: Path, tiny_decoder: Path, conversations_file: Path
) -> None:
    output = tmp_path / "killed"
    program = [sys.executable, str(CODE_ROOT / "dialogue" / "run_dialogue.py")]
    command = [*program, *arguments(tiny_decoder, conversations_file, output, "--max_steps", "400")]
    environment = os.environ | {"PYTHONPATH": str(CODE_ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    checkpoint = tmp_path / "killed.partial" / "checkpoint"
    while not checkpoint.is_dir():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert verify_folder(output, stage="dialogue") == []


def test_figures_of_known_answers() -> None:
    context = (Utterance("user", "it rained"),)
    asked = [Reply(id=str(n), context=context, text="that is sad to hear") for n in range(2)]
    perfect = answer_metrics(["that is sad to hear"] * 2, asked)
    assert perfect["bleu"] == pytest.approx(100)
    assert perfect["rouge_l"] == pytest.approx(100)
    assert perfect["same_as_another"] == 0.5
    assert perfect["distinct_1"] == 0.5
    assert answer_metrics(["go on and go on and go on and", ""], asked)["repeats_itself"] == 0.5
    assert answer_metrics(["go on", ""], asked)["empty"] == 0.5
    same = answer_metrics(["x", "y"], asked, similarity=lambda a, b: [1.0, 0.0], emotions=lambda texts: ["sad"] * 2)
    assert (same["similarity"], same["emotion_match"]) == (0.5, 1.0)
    assert answer_metrics(["you have depression", "ok"], asked)["withheld_by_safety"] == 0.5


def test_perplexity_of_a_uniform_model_is_the_vocabulary_to_the_power_of_tokens_per_word(tiny_decoder: Path) -> None:
    model, tokenizer, _ = load_responder(str(tiny_decoder))
    torch.nn.init.zeros_(model.lm_head.weight)
    reply = Reply(id="x", context=(Utterance("user", "hm"),), text="abc")
    encoded = encode_reply(tokenizer, reply, 300)
    tokens = len(encoded.input_ids) - encoded.reply_start
    found = perplexity_per_word(model, [encoded], batch_size=1, pad_token_id=0)
    assert found == pytest.approx(float(len(tokenizer)) ** tokens, rel=1e-3)
