"""A runs folder with tiny random models and made-up figures, and a studio that serves it; no person's words."""

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.manifest import now, write_manifest
from configs.recipe import StageRecipe, dump_recipe
from release.evidence import FORMAT, AuditResult, Evidence, Measure, evidence_text
from studio.config import StudioOptions

WORDS = [
    *["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "i", "feel", "tired", "calm", "work", "night", "my", "is"],
    *["boss", "garden", "the", "in", "about", "have", "been", "lately", "feeling", "and", "loud"],
]
LABELS = ["sleep", "work", "hopeful"]


@dataclasses.dataclass(kw_only=True)
class MadeUpRecipe(StageRecipe):
    """A recipe that names a base."""

    model: str = ""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def finish(folder: Path, stage: str, model: str = "") -> None:
    recipe = MadeUpRecipe(output_dir=folder, model=model)
    write_manifest(folder, stage=stage, recipe=recipe, inputs={}, counts={}, started_at=now())


def write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def make_encoder(folder: Path, seed: int) -> None:
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    BertForMaskedLM(bert_config(BertConfig)).save_pretrained(folder)


def bert_config(config_class: Any, **more: Any) -> Any:
    return config_class(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, **more,
    )  # fmt: skip


def make_classifier(folder: Path, encoder: Path) -> None:
    import shutil

    from transformers import BertConfig, BertForSequenceClassification

    shutil.copytree(encoder, folder, ignore=shutil.ignore_patterns("manifest.json", "model.safetensors", "*.jsonl"))
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: number for number, name in enumerate(LABELS)}}
    more = names | {"problem_type": "multi_label_classification"}
    torch.manual_seed(3)
    BertForSequenceClassification(bert_config(BertConfig, **more)).save_pretrained(folder)
    decision = {
        "type": "multi_label", "labels": LABELS, "thresholds": dict.fromkeys(LABELS, 0.5), "temperature": 1.0,
        "long_texts": {"max_seq_length": 64, "policy": "head_tail", "max_windows": 4}, "least_confidence": None,
    }  # fmt: skip
    write(folder / "decision.json", decision)
    row = {"precision": 0.6, "recall": 0.5, "f1": 0.55, "roc_auc": 0.8, "average_precision": 0.5, "support": 20}
    system = {"per_label": dict.fromkeys(LABELS, row), "macro": row, "micro": row, "accuracy": 0.4, "rows": 60}
    write(folder / "metrics.json", {"test": {"classifier": system, "majority": system}, "validation": {}})
    bins = [{"count": 10, "predicted": x / 10, "observed": x / 11} for x in range(1, 10)]
    counts = {"true_positive": 8, "false_positive": 5, "false_negative": 7, "true_negative": 40}
    calibration = {"expected_calibration_error": 0.06, "bins": bins}
    write(
        folder / "evidence.json",
        {"calibration": calibration, "confusion": {"per_label": dict.fromkeys(LABELS, counts)}},
    )
    finish(folder, "finetune")


def make_responder(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": 0} | {letter: number for number, letter in enumerate(letters, start=1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(vocabulary), n_positions=1024, n_embd=16, n_layer=1, n_head=2, eos_token_id=0)
    ).save_pretrained(folder)
    system = {"perplexity_per_word": 90.0, "distinct_1": 0.1, "distinct_2": 0.3, "bleu": 1.0, "rouge_l": 9.0}
    write(folder / "evidence.json", {"systems": {"base": system, "tuned": system}, "training": []})
    finish(folder, "dialogue")


def make_audits(folder: Path) -> None:
    folder.mkdir(parents=True)
    measures = [Measure(f"exposure_{band}x", 1.4, 1.2, 1.6, 0.95, 64) for band in (1, 4)]
    measures += [Measure(f"exposure_{band}x_excess", 0, -1, 1, 0.95, 64) for band in (1, 4)]
    counts = {"canaries_0x": 64, "canaries_1x": 64, "canaries_4x": 64}
    evidence = Evidence(
        format=FORMAT, kind="encoder", fingerprint="0", weights={}, model_manifest_sha256="0", base_model="base",
        base_fingerprint="0", data_sha256=["0"], code_revision="0", audit_code_sha256="0", measured_at=now(),
        audits=[AuditResult("canary_exposure", "measured", measures=measures, counts=counts)],
        strength={}, stigma_sha256={},
    )  # fmt: skip
    (folder / "evidence.json").write_text(evidence_text(evidence), encoding="utf-8")
    finish(folder, "audit")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run of every stage, and a pretraining run that is still going."""
    root = tmp_path_factory.mktemp("studio") / "runs"
    counts = {
        "read": 100, "dropped": {"bot": 5, "too_short": 9}, "quarantined": {}, "kept": 86, "months": {"2024-01": 86},
        "documents": {"train": 80, "held_out": 6}, "tokens": {"train": 9000, "held_out": 700},
        "identifiers": {"EMAIL": 3}, "subreddits": {"made_up": 86},
    }  # fmt: skip
    write(root / "corpus" / "report.json", {"counts": counts})
    finish(root / "corpus", "corpus")
    base = root.parent / "base"
    make_encoder(base, seed=1)
    encoder = root / "encoder"
    make_encoder(encoder, seed=2)
    curve = [{"step": step, "loss": 9 - step / 10, "learning_rate": 1e-4, "tokens": step} for step in range(1, 41)]
    lines = "".join(json.dumps(row) + "\n" for row in curve)
    (encoder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    score = {"overall": {"loss": 5.0, "perplexity": 148.0, "accuracy": 0.2}}
    write(encoder / "evaluation.json", {"before": score, "after": score})
    finish(encoder, "pretrain", str(base))
    make_classifier(root / "classifier", encoder)
    make_responder(root / "responder")
    make_audits(root / "audits")
    scores = {"made_up_task": {"adapted": {"mean": 0.61, "sd": 0.01}, "base": {"mean": 0.6, "sd": 0.02}}}
    baselines = {"made_up_task": {"majority": 0.2, "tfidf_logistic_regression": 0.5}}
    ranks = {"adapted": 1.0, "base": 2.0}
    write(
        root / "bench" / "benchmark.json",
        {"metric": "test macro-F1", "scores": scores, "baselines": baselines, "ranks": ranks},
    )
    finish(root / "bench", "benchmark")
    running = root / "second.partial"
    running.mkdir()
    text = dump_recipe(MadeUpRecipe(output_dir=root / "second")) + "mlm_probability: 0.15\n"
    (running / "recipe.yaml").write_text(text, encoding="utf-8")
    (running / "metrics.jsonl").write_text(lines[:400], encoding="utf-8")
    return root


@dataclasses.dataclass
class Served:
    """A studio that answers at `url`."""

    url: str
    password: str | None


def serve(options: StudioOptions, password: str | None) -> Iterator[Served]:
    import uvicorn

    from studio.app import build_app

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(build_app(options, password), log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", password)
    server.should_exit = True
    thread.join(timeout=20)
    listener.close()


@pytest.fixture(scope="session")
def studio(runs: Path) -> Iterator[Served]:
    yield from serve(StudioOptions(runs=runs, locale="en_GB"), None)


@pytest.fixture(scope="session")
def locked_studio(runs: Path) -> Iterator[Served]:
    yield from serve(StudioOptions(runs=runs, locale="en_GB"), "a long enough password")
