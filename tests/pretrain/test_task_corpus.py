"""TAPT: a task's training texts, and only those, become a corpus that the stage trains on."""

import json

import pytest

from configs.errors import UserError
from configs.manifest import read_manifest, verify_folder
from corpus.shards import TokenShards
from pretrain.run_mlm import main as pretrain
from pretrain.task_corpus import main

from .conftest import WORDS, build_tokenizer


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    for split, count in (("train", 60), ("validation", 5), ("test", 5)):
        rows = [
            {"id": f"{split}-{number}", "text": " ".join(WORDS[number % 50 : number % 50 + 20]), "labels": []}
            for number in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments(task, workspace, **more):
    values = {"task": task, "model": workspace.model, "output_dir": workspace.folder / "task_corpus"} | more
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def test_the_training_texts_alone_become_a_corpus_to_train_on(task, workspace):
    main(arguments(task, workspace, held_out_share=0.1), "mindshift pretrain task-corpus")
    corpus = workspace.folder / "task_corpus"
    verify_folder(corpus, stage="corpus")
    train, held_out = TokenShards(corpus, "train"), TokenShards(corpus, "held_out")
    assert (len(train), len(held_out)) == (54, 6)
    assert set(train.ids) | set(held_out.ids) == {f"train-{number}" for number in range(60)}
    place = train.ids.index("train-3") if "train-3" in train.ids else held_out.ids.index("train-3")
    tokens = (train if "train-3" in train.ids else held_out)[place]
    assert build_tokenizer().decode(tokens).split() == WORDS[3:23]
    assert read_manifest(corpus).counts["train_documents"] == 54

    pretrain(workspace.arguments(corpus=corpus, max_steps=2), "mindshift pretrain")
    verify_folder(workspace.folder / "run", stage="pretrain")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "text": "word1"}\n{"id": "b"}\n', "train.jsonl:2: not a row of a task"),
        ('{"id": "a", "text": "word1"}\n', "two texts at least"),
    ],
)
def test_a_broken_task_is_refused(task, workspace, content, message):
    (task / "train.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        main(arguments(task, workspace), "mindshift pretrain task-corpus")


def test_a_missing_task_is_refused(workspace):
    with pytest.raises(UserError, match="cannot read the task's texts"):
        main(arguments(workspace.folder / "none", workspace), "mindshift pretrain task-corpus")
