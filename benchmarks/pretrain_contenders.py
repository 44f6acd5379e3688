"""The two sides of the pretraining benchmark, each a worker process that trains some steps when told to.

- Hugging Face: `Trainer` with `DataCollatorForLanguageModeling`, as its `run_mlm.py` does, one process, accumulation 1
  (elsewhere its loss and gradients are inflated, transformers#47688), so nothing needs correcting.
- ours: the stage's packer, masker, model, loss and optimizer, as `pretrain.training_loop` puts them together.

Each worker owns its model, so its peak resident memory is its own; only one works at a time.
"""

import dataclasses
import os
import resource
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from configs.processor import keep_freed_memory
from pretrain.config import PretrainRecipe

CONTENT_LENGTH = 510
ROWS = 8


@dataclasses.dataclass(frozen=True)
class Contender:
    """One setting of one side.

    Attributes:
        side: `hf` or `ours`.
        dense: blocks of 512 joined tokens (`group_texts`) instead of one document a row or sequence.
        bf16: bfloat16 autocast, else fp32.
        dropout: None keeps the checkpoint's own.
        rows: rows a step; ours holds that many times 512 tokens, filled.
        seed: of the order of the documents and of their masks; the starting weights are the same for every seed.
    """

    side: str
    dense: bool
    bf16: bool
    dropout: float | None
    rows: int = ROWS
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Round:
    """What a worker did when it was told to train."""

    real_tokens: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    resident_bytes: int


def work(pipe: Connection, contender: Contender, corpus: Path, model: str, learning_rate: float, steps: int) -> None:
    """Serve requests from `pipe`: a number of steps to train, `"evaluate"`, or None to end."""
    import torch

    from configs.console import start_console

    start_console(level=40)
    if contender.side == "ours":
        keep_freed_memory()
    side = _HuggingFace if contender.side == "hf" else _Ours
    trainer = side(contender, corpus, model, learning_rate, steps)
    torch.manual_seed(contender.seed)
    training = trainer.train()
    pipe.send("ready")
    while (request := pipe.recv()) is not None:
        if request == "evaluate":
            pipe.send(trainer.evaluate())
            continue
        started, cpu_started, tokens = time.perf_counter(), time.process_time(), 0
        for _ in range(request):
            tokens += next(training)
        pipe.send(
            Round(
                tokens,
                time.perf_counter() - started,
                time.process_time() - cpu_started,
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                _resident_bytes(),
            )
        )
    os._exit(0)  # the Trainer waits in the middle of its loop


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else 0


def load_model(name: str, tokenizer_dir: Path, attention: str) -> Any:
    """Return a masked LM: `bert-base` is BERT-base with random weights, anything else is loaded."""
    import torch
    from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM
    from transformers.utils import logging

    from configs.base_models import resolve_model

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    if name == "bert-base":
        return BertForMaskedLM._from_config(BertConfig(), attn_implementation=attention)
    source = resolve_model(name)
    return AutoModelForMaskedLM.from_pretrained(
        source.name_or_path, attn_implementation=attention, dtype=torch.float32, **source.load_arguments
    )


def build_recipe(corpus: Path, learning_rate: float, steps: int, rows: int, seed: int = 0) -> PretrainRecipe:
    """Return the settings both sides share: constant learning rate, no warm-up."""
    return PretrainRecipe(
        output_dir=Path("unused"),
        corpus=corpus,
        seed=seed,
        max_steps=steps,
        max_seq_length=CONTENT_LENGTH + 2,
        long_documents="truncate",
        micro_batch_size=rows,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
    )


class _Ours:
    def __init__(self, contender: Contender, corpus: Path, model: str, learning_rate: float, steps: int) -> None:
        import torch

        from corpus.shards import TokenShards
        from pretrain import batches
        from pretrain.attention import PACKED_ATTENTION
        from pretrain.encoder import PackedMaskedLM, load_tokenizer, set_dropout
        from pretrain.optimization import build_optimizer
        from pretrain.packing import StepPlanner

        self.recipe = build_recipe(corpus, learning_rate, steps, contender.rows, contender.seed)
        tokenizer = load_tokenizer(_local(corpus / "tokenizer"))
        masked_lm = load_model(model, corpus / "tokenizer", PACKED_ATTENTION)
        if contender.dropout is not None:
            set_dropout(masked_lm, contender.dropout)
        self.module = PackedMaskedLM(masked_lm, autocast_dtype=torch.bfloat16 if contender.bf16 else None)
        self.optimizer = build_optimizer(self.module, self.recipe)
        shards: Any = _Blocks(corpus) if contender.dense else TokenShards(corpus, "train")
        self.packer = batches.build_packer(shards, tokenizer, self.recipe)
        self.masker = batches.build_masker(tokenizer, contender.seed)
        self.planner = StepPlanner(
            self.packer.sequence_lengths,
            micro_batches=1,
            micro_batch_tokens=self.recipe.micro_batch_tokens,
            seed=contender.seed,
        )
        self.tokenizer, self.corpus = tokenizer, corpus

    def train(self) -> Iterator[int]:
        import torch

        from pretrain.batches import to_device
        from pretrain.objective import summed_loss

        device = torch.device("cpu")
        while True:
            packed = self.packer.pack(self.planner.next_step()[0], self.recipe.micro_batch_tokens)
            batch = to_device(packed, self.masker.mask(packed, 0.15), device)
            self.module.train()
            torch.autograd.backward(summed_loss(self.module, batch) / batch.masked_count)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            yield batch.real_tokens

    def evaluate(self) -> float:
        return held_out_loss(self.module, self.recipe, self.tokenizer, self.corpus)


class _HuggingFace:
    def __init__(self, contender: Contender, corpus: Path, model: str, learning_rate: float, steps: int) -> None:
        from pretrain.encoder import load_tokenizer, set_dropout

        self.contender, self.corpus = contender, corpus
        self.recipe = build_recipe(corpus, learning_rate, steps, contender.rows, contender.seed)
        self.tokenizer = load_tokenizer(_local(corpus / "tokenizer"))
        self.model = load_model(model, corpus / "tokenizer", "sdpa")
        if contender.dropout is not None:
            set_dropout(self.model, contender.dropout)

    def train(self) -> Iterator[int]:
        """Step the Trainer's own loop from outside: it runs in a thread that waits between steps."""
        import queue
        import tempfile
        import threading

        from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

        tokens: queue.Queue[int] = queue.Queue()
        go, done = threading.Semaphore(0), threading.Semaphore(0)
        collate = DataCollatorForLanguageModeling(tokenizer=self.tokenizer, mlm_probability=0.15)

        def counting(rows: list[dict[str, Any]]) -> Any:
            batch = collate(rows)
            tokens.put(int(batch["attention_mask"].sum()))
            return batch

        class Gate(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
            def on_step_end(self, *_: object, **__: object) -> None:
                done.release()
                go.acquire()

        arguments = TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            use_cpu=True,
            bf16=self.contender.bf16,
            per_device_train_batch_size=self.recipe.micro_batch_size,
            max_steps=10**9,
            learning_rate=self.recipe.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=self.recipe.weight_decay,
            adam_beta2=self.recipe.adam_beta2,
            adam_epsilon=self.recipe.adam_epsilon,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=self.recipe.seed,
        )
        trainer = Trainer(
            model=self.model,
            args=arguments,
            data_collator=counting,
            train_dataset=_Rows(self.corpus, self.tokenizer, dense=self.contender.dense),
            callbacks=[Gate()],
        )

        def run() -> None:
            go.acquire()
            trainer.train()

        threading.Thread(target=run, daemon=True).start()
        while True:
            go.release()
            done.acquire()
            yield tokens.get()

    def evaluate(self) -> float:
        import torch
        from transformers import AutoModelForMaskedLM

        from pretrain.attention import PACKED_ATTENTION
        from pretrain.encoder import PackedMaskedLM

        copy = AutoModelForMaskedLM.from_config(self.model.config, attn_implementation=PACKED_ATTENTION)
        copy.load_state_dict(self.model.state_dict())
        module = PackedMaskedLM(copy, autocast_dtype=torch.bfloat16 if self.contender.bf16 else None)
        return held_out_loss(module, self.recipe, self.tokenizer, self.corpus)


def held_out_loss(module: Any, recipe: PretrainRecipe, tokenizer: Any, corpus: Path) -> float:
    """Return the stage's own held-out loss: the same documents and fixed masks for both sides."""
    from accelerate import Accelerator

    from pretrain.evaluation import evaluate
    from pretrain.held_out import HeldOutTexts

    texts = HeldOutTexts(corpus, tokenizer, dataclasses.replace(recipe, eval_max_tokens=60_000))
    return evaluate(module, texts, Accelerator(cpu=True)).overall.loss


def _local(folder: Path) -> Any:
    from configs.base_models import ModelSource

    return ModelSource(str(folder), is_local=True)


class _Rows:
    """The documents as `run_mlm.py` lays them out: `--line_by_line` rows, or `group_texts` blocks."""

    def __init__(self, corpus: Path, tokenizer: Any, *, dense: bool) -> None:
        from corpus.shards import TokenShards

        self._shards: Any = _Blocks(corpus) if dense else TokenShards(corpus, "train")
        self._first, self._last = [tokenizer.cls_token_id], [tokenizer.sep_token_id]

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        token_ids = self._first + self._shards[row][:CONTENT_LENGTH].tolist() + self._last
        return {"input_ids": token_ids, "attention_mask": [1] * len(token_ids)}


class _Blocks:
    """The corpus as one stream, cut into blocks of 510 tokens: what `group_texts` trains on."""

    def __init__(self, corpus: Path) -> None:
        from corpus.shards import TokenShards

        shards = TokenShards(corpus, "train")
        stream = np.concatenate([shards[number] for number in range(len(shards))])
        count = len(stream) // CONTENT_LENGTH
        self._blocks = stream[: count * CONTENT_LENGTH].reshape(count, CONTENT_LENGTH)
        self.lengths = np.full(count, CONTENT_LENGTH, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, row: int) -> Any:
        return self._blocks[row]
