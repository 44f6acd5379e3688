"""Back-off masking: copies for rare labels only, that still show them, the same for the same seed."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.base_models import resolve_model
from configs.errors import UserError
from finetune.augmentation import MASKED_SHARES, MOST_COPIES, back_off_masking
from finetune.tasks import Example, LabelSet, TaskType
from launch.cli import main as mindshift

MakeTask = Callable[..., Path]
LABELS = LabelSet(TaskType.MULTI_CLASS, ("sleep", "work"))


def examples() -> list[Example]:
    frequent = [
        Example(f"w{n}", f"i feel like my boss is how things go {'and ' * (n % 5)}", ("work",)) for n in range(40)
    ]
    rare = [Example(f"s{n}", f"{'lately ' * (n % 3)} i have been awake this night", ("sleep",)) for n in range(6)]
    return frequent + rare


def test_rare_labels_get_copies_that_still_show_them(tiny_encoder: Path) -> None:
    source = resolve_model(str(tiny_encoder))
    found = back_off_masking(examples(), LABELS, source, target=0.4, seed=1, max_length=48)
    assert found.examples[:46] == examples()
    copies = found.examples[46:]
    assert {example.labels for example in copies} == {("sleep",)}
    assert found.counts["asked"] == 10  # 40 % of 40 are 16, and 6 are there
    assert found.counts["copies"] == len(copies) > 0
    assert found.counts["copies"] + found.counts["given_up"] == 10
    assert max(Counter(example.id.partition("+")[0] for example in copies).values()) <= MOST_COPIES
    originals = {example.id: example.text.split() for example in examples()}
    for copy in copies:
        words = originals[copy.id.partition("+")[0]]
        assert len(copy.text.split()) == len(words)
        changed = sum(a != b for a, b in zip(copy.text.split(), words, strict=True))
        assert 1 <= changed <= max(1, round(MASKED_SHARES[0] * len(words)))
    assert back_off_masking(examples(), LABELS, source, target=0.4, seed=1, max_length=48) == found
    assert back_off_masking(examples(), LABELS, source, target=0.4, seed=2, max_length=48) != found


def test_balanced_labels_get_none(tiny_encoder: Path) -> None:
    even = examples()[34:]
    found = back_off_masking(even, LABELS, resolve_model(str(tiny_encoder)), target=1.0, seed=1, max_length=48)
    assert found.examples == even


def test_it_backs_off(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that accepts nothing is asked once a share, and then nothing is copied."""
    asked = []
    monkeypatch.setattr(
        "finetune.augmentation._Guard.still_sees",
        lambda _, sources, copies: asked.append(len(copies)) or [False] * len(sources),
    )
    source = resolve_model(str(tiny_encoder))
    found = back_off_masking(examples(), LABELS, source, target=0.4, seed=1, max_length=48)
    assert asked == [10] * len(MASKED_SHARES)
    assert found.counts["given_up"] == 10
    assert found.examples == examples()


def test_a_model_without_masked_lm_head_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(tiny_encoder).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no masked-LM head"):
        back_off_masking(examples(), LABELS, resolve_model(str(tmp_path)), target=0.4, seed=1, max_length=48)


def test_a_discriminator_cannot_fill_in_words(tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, ElectraConfig, ElectraForPreTraining

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "embedding_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ElectraConfig(vocab_size=len(tokenizer), intermediate_size=16, max_position_embeddings=64, **sizes)
    ElectraForPreTraining(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no masked-LM head"):
        back_off_masking(examples(), LABELS, resolve_model(str(tmp_path)), target=0.4, seed=1, max_length=48)


def test_in_a_run(make_task: MakeTask, small_run: list[str], tmp_path: Path) -> None:
    task, output = make_task("binary", rows=64), tmp_path / "run"
    rows = [json.loads(line) for line in (task / "train.jsonl").read_text().splitlines()]
    rare = [row for row in rows if row["labels"] == ["work"]][:5]
    kept = [row for row in rows if row["labels"] == ["sleep"]] + rare
    (task / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    options = ["--augmentation", "back_off_masking", "--epochs", "1", "--baselines", "false"]
    assert mindshift(["finetune", "--task", str(task), "--output_dir", str(output), *small_run, *options]) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["augmentation"]["asked"] > 0
    assert metrics["task"]["rows"]["train"] == len(kept)  # what was annotated; copies are counted apart
