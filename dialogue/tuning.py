"""The dialogue stage from end to end: recipe → a tuned responder, and its evidence beside the zero-shot base.

Validation decides when to stop; test is answered once by the base and once by the saved folder, as it will be used.
Only figures are written: no conversation and no generated answer stays in the folder.
"""

import json
import logging
import random
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from configs.base_models import PACKAGE_PREFIX
from configs.checkpoints import load_best, remove_checkpoints
from configs.console import Progress
from configs.errors import UserError
from configs.manifest import MANIFEST_NAME, now, verify_folder
from configs.processor import use_own_cores
from configs.run_folder import finish_run_folder, open_run_folder, working_folder, write_atomically
from dialogue.base_responders import load_responder, processor_has_bf16
from dialogue.config import DialogueRecipe
from dialogue.conversations import Conversation, choose, read_conversations, split_conversations
from dialogue.evidence import answer_metrics, load_emotions, load_similarity, perplexity_per_word
from dialogue.examples import EncodedReply, Reply, as_served, encode_reply, replies
from dialogue.generation import generate_answers
from dialogue.report import render_html, render_markdown
from dialogue.training import Trainer

log = logging.getLogger("dialogue")
EVIDENCE_NAME, REPORT_NAME, TABLE_NAME, SAVED_NAME = "evidence.json", "report.html", "evidence.md", "training.json"
PERPLEXITY_REPLIES = 5
"""Replies the perplexity is measured on, for each one that is answered: it costs far less."""


def tune_responder(recipe: DialogueRecipe) -> str | None:
    """Run the stage.

    Returns:
        the evidence table, on the main process.

    Raises:
        UserError: whatever the user can mend; see docs/dialogue.md.
    """
    started_at = now()
    accepted = _verify_inputs(recipe)
    parts, counts = load_replies(recipe)
    use_own_cores()
    # Apple's GPU has no float64, which losses are summed in.
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=_number_format())
    if accelerator.is_main_process:
        open_run_folder(recipe, _input_folders(recipe), accepted=accepted, started_at=started_at)
    accelerator.wait_for_everyone()
    working = working_folder(recipe.output_dir)
    # The evidence is written last and holds the history of training: a run that has it is only to be finished.
    is_measured = (working / EVIDENCE_NAME).is_file()
    if not is_measured and not (working / SAVED_NAME).is_file():
        _train(recipe, parts, accelerator, working)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return None
    if not is_measured:
        _write_evidence(collect_evidence(recipe, parts, working), working)
    evidence = json.loads((working / EVIDENCE_NAME).read_text(encoding="utf-8"))
    _finish(recipe, working, counts | {"replies": evidence["replies"]})
    return render_markdown(evidence)


def load_replies(recipe: DialogueRecipe) -> tuple[dict[str, list[Reply]], dict[str, Any]]:
    """Read and split the conversations; returns the replies of each split, and what was counted."""
    conversations: list[Conversation] = []
    counts: dict[str, Any] = {}
    for specification in recipe.conversations:
        reading = read_conversations(specification)
        kept = choose(reading.conversations, recipe.max_conversations, recipe.seed)
        conversations += kept
        counts[specification] = {"conversations": len(kept), "left_out": dict(reading.left_out)}
        for reason, number in reading.left_out.items():
            log.warning("%s: %d records left out (%s)", specification, number, reason)
    splits = split_conversations(
        conversations,
        validation_fraction=recipe.validation_fraction,
        test_fraction=recipe.test_fraction,
        seed=recipe.seed,
    )
    parts = {split: replies(found, recipe) for split, found in splits.items()}
    # Which replies a smaller evaluation takes must not depend on the order of the files.
    for split in ("validation", "test"):
        parts[split] = [as_served(reply) for reply in parts[split]]
        random.Random(f"{recipe.seed} {split}").shuffle(parts[split])
    parts["validation"] = parts["validation"][: recipe.validation_replies]
    parts["test"] = parts["test"][: PERPLEXITY_REPLIES * recipe.evidence_replies]
    log.info("replies: %s", ", ".join(f"{len(found):,} {split}" for split, found in parts.items()))
    return parts, counts


def _train(recipe: DialogueRecipe, parts: dict[str, list[Reply]], accelerator: Accelerator, working: Path) -> None:
    """Train from the base, or on from the last checkpoint, and save the best weights as a plain folder."""
    set_seed(recipe.seed)
    base = load_responder(recipe.model)
    model = base.model
    if recipe.tuning == "lora":
        model = _add_lora(recipe, model)
    encoded = {
        split: [encode_reply(base.tokenizer, reply, recipe.max_seq_length) for reply in parts[split]]
        for split in ("train", "validation")
    }
    trainer = Trainer(
        recipe, model, encoded["train"], encoded["validation"], base.tokenizer.pad_token_id, accelerator, working
    )
    history = trainer.train()
    if not accelerator.is_main_process:
        return
    model = accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    load_best(model, trainer.working)
    if recipe.tuning == "lora":
        model = model.merge_and_unload()
    model.generation_config.update(pad_token_id=base.tokenizer.pad_token_id, eos_token_id=base.tokenizer.eos_token_id)
    model.save_pretrained(working)
    base.tokenizer.save_pretrained(working)
    write_atomically(working / SAVED_NAME, json.dumps(history, indent=2) + "\n")


def collect_evidence(recipe: DialogueRecipe, parts: dict[str, list[Reply]], working: Path) -> dict[str, Any]:
    """Measure base and tuned folder on test; a system measured before a kill is not measured again."""
    answered = parts["test"][: recipe.evidence_replies]
    systems: dict[str, Any] = {}
    for system, name in (("base", recipe.model), ("tuned", str(working))):
        path = working / f"evidence-{system}.json"
        if not path.is_file():
            write_atomically(path, json.dumps(_measure(recipe, name, parts["test"], answered), indent=2) + "\n")
        systems[system] = json.loads(path.read_text(encoding="utf-8"))
    return {
        "model": recipe.model,
        "tuning": recipe.tuning,
        "replies": {
            "train": len(parts["train"]),
            "validation": len(parts["validation"]),
            "perplexity": len(parts["test"]),
            "answers": len(answered),
        },
        "systems": systems,
        "training": json.loads((working / SAVED_NAME).read_text(encoding="utf-8")),
    }


def _write_evidence(evidence: dict[str, Any], working: Path) -> None:
    write_atomically(working / TABLE_NAME, render_markdown(evidence))
    write_atomically(working / REPORT_NAME, render_html(evidence))
    write_atomically(working / EVIDENCE_NAME, json.dumps(evidence, indent=2) + "\n")


def _measure(recipe: DialogueRecipe, name: str, test: list[Reply], answered: list[Reply]) -> dict[str, float]:
    model, tokenizer, _ = load_responder(name)
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    encoded: list[EncodedReply] = [encode_reply(tokenizer, reply, recipe.max_seq_length) for reply in test]
    perplexity = perplexity_per_word(
        model, encoded, batch_size=recipe.micro_batch_size, pad_token_id=tokenizer.pad_token_id
    )
    answers: list[str] = []
    with Progress(description=f"answer ({Path(name).name})", unit="replies", total=len(answered)) as bar:
        for batch in generate_answers(
            model,
            tokenizer,
            answered,
            batch_size=recipe.micro_batch_size,
            max_new_tokens=recipe.max_new_tokens,
            longest_prompt=recipe.max_seq_length,
        ):
            answers += batch
            bar.advance(len(batch))
    metrics = answer_metrics(answers, answered, load_similarity(recipe), load_emotions(recipe))
    return {"perplexity_per_word": perplexity, **metrics}


def _add_lora(recipe: DialogueRecipe, model: Any) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("package 'peft' is not installed", fix="Install it: pip install -e '.[responder]'") from None
    is_gpt2 = model.config.model_type == "gpt2"
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear",
        fan_in_fan_out=is_gpt2,  # GPT-2 keeps its matrices transposed
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _number_format() -> str:
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if processor_has_bf16() else "no"


def _input_folders(recipe: DialogueRecipe) -> dict[str, Path]:
    named = {"model": recipe.model, "emotion_classifier": recipe.emotion_classifier}
    named["similarity_encoder"] = recipe.similarity_encoder
    folders = {key: Path(str(value)).expanduser() for key, value in named.items() if value is not None}
    folders = {key: path for key, path in folders.items() if path.is_dir() and PACKAGE_PREFIX not in str(path)}
    for number, specification in enumerate(recipe.conversations):
        folders[f"conversations_{number}"] = Path(specification.partition(":")[2]).expanduser()
    return folders


def _verify_inputs(recipe: DialogueRecipe) -> list[str]:
    accepted = []
    for folder in _input_folders(recipe).values():
        if (folder / MANIFEST_NAME).is_file():
            accepted += verify_folder(folder, accept_changes=recipe.accept_changed_inputs)
    return accepted


def _finish(recipe: DialogueRecipe, working: Path, counts: dict[str, Any]) -> None:
    for system in ("base", "tuned"):
        (working / f"evidence-{system}.json").unlink(missing_ok=True)
    (working / SAVED_NAME).unlink(missing_ok=True)
    remove_checkpoints(working)
    finish_run_folder(recipe, stage="dialogue", inputs=_input_folders(recipe), counts=counts)
