"""Reading tasks: every layout, every way to write labels, every trap of real tables."""

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from finetune.config import FinetuneRecipe
from finetune.decisions import Decision, to_probabilities
from finetune.fitting import TASK_KEYS, load_task
from finetune.label_formats import sniff_labels
from finetune.splitting import cut, stratified_folds
from finetune.task_checks import balance_advice, check_labels, clean_task
from finetune.task_files import Columns, read_task
from finetune.tasks import Example, LabelSet, Task, TaskType
from finetune.uncertainty import clusters_of

MakeTask = Callable[..., Path]
MULTI = LabelSet(TaskType.MULTI_LABEL, ("a", "b", "c"))


def read(source: Path, **columns: Any) -> Task:
    return read_task(str(source), Columns(**columns), validation_fraction=0.2, test_fraction=0.2, seed=1)


@pytest.mark.parametrize(
    ("cells", "columns", "expected", "multi_label"),
    [
        ([["sad"], ["glad"]], ["label"], [["sad"], ["glad"]], False),
        ([[1], [0]], ["label"], [["1"], ["0"]], False),
        ([[1.0], [0.0]], ["label"], [["1"], ["0"]], False),
        ([["1.0"], ["0"]], ["label"], [["1"], ["0"]], False),
        ([[["a", "b"]], [[]]], ["labels"], [["a", "b"], []], True),
        ([['["a", "b"]'], ["[]"]], ["labels"], [["a", "b"], []], True),
        ([["['a', 'b']"], ["[]"]], ["labels"], [["a", "b"], []], True),
        ([["['sad' 'angry']"], ["['sad']"]], ["labels"], [["sad", "angry"], ["sad"]], True),
        ([["['a'\n 'b']"], ["""["it's" 'b']"""]], ["labels"], [["a", "b"], ["it's", "b"]], True),
        ([["[u'a', u'b']"], ["[ ]"]], ["labels"], [["a", "b"], []], True),
        ([["[0 3]"], ["[1]"]], ["labels"], [["0", "3"], ["1"]], True),
        ([["[0. 3.]"], ["[12]"]], ["labels"], [["0", "3"], ["12"]], True),
        ([["[anxiety]"], ["[deleted by user]"]], ["label"], [["[anxiety]"], ["[deleted by user]"]], False),
        ([[[0, 2]], [[1]]], ["labels"], [["0", "2"], ["1"]], True),
        ([["a,b"], ["b, c"], ["a"], ["b"]], ["labels"], [["a", "b"], ["b", "c"], ["a"], ["b"]], True),
        ([["a;b"], ["b"], ["a"]], ["labels"], [["a", "b"], ["b"], ["a"]], True),
        ([["Health, Fatigue, or Pain"], ["Work"]], ["label"], [["Health, Fatigue, or Pain"], ["Work"]], False),
        ([[1, 0], [1, 1], [0, 0]], ["a", "b"], [["a"], ["a", "b"], []], True),
        ([[1.0, 0.0], [0.0, 1.0]], ["a", "b"], [["a"], ["b"]], False),
        ([[True, False], [True, True]], ["a", "b"], [["a"], ["a", "b"]], True),
    ],
)
def test_label_formats(
    cells: list[list[Any]], columns: list[str], expected: list[list[str]], multi_label: bool
) -> None:
    reading = sniff_labels(cells, columns, "auto", where="table")
    assert [reading.parse(row) for row in cells] == expected
    assert reading.multi_label == multi_label


@pytest.mark.parametrize(
    ("cells", "columns", "message"),
    [
        ([["x, y"], ["y, z"]], ["label"], "joined names, or one name each"),
        ([[0.3], [0.7]], ["label"], "fractions"),
        ([[0.3, 1], [1, 0]], ["a", "b"], "column 'a' is neither 0 nor 1"),
        ([["yes"], [["no"]]], ["label"], None),
    ],
)
def test_unclear_labels_are_refused(cells: list[list[Any]], columns: list[str], message: str | None) -> None:
    if message is None:
        assert not sniff_labels(cells, columns, "auto", where="table").multi_label
        return
    with pytest.raises(UserError, match=message):
        sniff_labels(cells, columns, "auto", where="table")


def test_confirmed_format_wins() -> None:
    cells = [["x, y"], ["y, z"]]
    joined = sniff_labels(cells, ["label"], "joined", where="table")
    assert [joined.parse(row) for row in cells] == [["x", "y"], ["y", "z"]]
    names = sniff_labels(cells, ["label"], "names", where="table")
    assert [names.parse(row) for row in cells] == [["x, y"], ["y, z"]]


def test_one_table_is_split(tmp_path: Path) -> None:
    """The layout of Kaggle's "Combined Data.csv": an unnamed index column, `statement`, `status`."""
    statuses = ["Anxiety", "Depression", "Suicidal", "Normal", "Stress", "Bipolar", "Personality disorder"]
    rows = [{"statement": f"words number {i}", "status": statuses[i % 7]} for i in range(210)]
    pd.DataFrame(rows).to_csv(tmp_path / "Combined Data.csv")
    task = read(tmp_path / "Combined Data.csv")
    assert task.label_set.type is TaskType.MULTI_CLASS
    assert set(task.label_set.names) == set(statuses)
    assert sum(map(len, task.splits.values())) == 210
    assert [len(task.splits[split]) for split in ("train", "validation", "test")] == pytest.approx([134, 34, 42], abs=7)
    for split in task.splits:
        assert {name for example in task.splits[split] for name in example.labels} == set(statuses)


def test_missing_validation_is_made_from_train_not_test(make_task: MakeTask) -> None:
    folder = make_task(rows=100)
    whole = read(folder)
    (folder / "validation.jsonl").unlink()
    task = read(folder)
    assert [e.id for e in task.splits["test"]] == [e.id for e in whole.splits["test"]]
    train_ids = {e.id for e in whole.splits["train"]}
    assert {e.id for e in task.splits["train"]} | {e.id for e in task.splits["validation"]} == train_ids
    assert task.notes["validation_from_train"] == len(task.splits["validation"])


def test_named_columns(tmp_path: Path) -> None:
    rows = [{"uid": i, "words": f"w {i}", "sad": i % 2, "angry": i % 3 == 0, "person": i // 4} for i in range(60)]
    pd.DataFrame(rows).to_parquet(tmp_path / "posts.parquet")
    task = read(tmp_path / "posts.parquet", text="words", labels=["sad", "angry"], id="uid", group="person")
    assert task.label_set == LabelSet(TaskType.MULTI_LABEL, ("angry", "sad"))
    groups = {split: {e.group for e in examples} for split, examples in task.splits.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    with pytest.raises(UserError, match=r"no column 'word'; did you mean 'words'\?"):
        read(tmp_path / "posts.parquet", text="word", labels=["sad"])


def test_huge_cell(tmp_path: Path) -> None:
    rows = [{"text": "night " * 50_000 if i == 0 else f"text {i}", "label": "ab"[i % 2]} for i in range(30)]
    pd.DataFrame(rows).to_csv(tmp_path / "posts.csv", index=False)
    task = read(tmp_path / "posts.csv")
    assert max(len(text) for split in task.splits for text in task.texts(split)) > 100_000


def example(number: int, text: str, *labels: str, group: str = "") -> Example:
    return Example(str(number), text, labels, group)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sets(st.sampled_from("abc")), st.integers(0, 12)), min_size=8, max_size=60
    ),
    st.integers(0, 3),
)
def test_folds_keep_groups_and_texts_together(rows: list[tuple[int, set[str], int]], seed: int) -> None:
    examples = [example(i, f"text {t}", *sorted(labels), group=f"g{g}") for i, (t, labels, g) in enumerate(rows)]
    folds = stratified_folds(examples, MULTI, shares=[0.5, 0.25, 0.25], seed=seed)
    assert sorted(index for fold in folds for index in fold) == list(range(len(examples)))
    for key in ("text", "group"):
        values = [{getattr(examples[index], key) for index in fold} for fold in folds]
        assert not any(values[i] & values[j] for i in range(3) for j in range(i))


def test_cut_is_stratified() -> None:
    examples = [
        example(i, f"text {i}", *(["a"] if i % 2 else ["b"]), *(["c"] if i % 50 == 0 else [])) for i in range(500)
    ]
    rest, part = cut(examples, MULTI, fraction=0.2, seed=3)
    assert len(part) == pytest.approx(100, abs=3)
    for name in "abc":
        total = sum(name in e.labels for e in examples)
        assert sum(name in e.labels for e in part) == pytest.approx(0.2 * total, abs=2)
    assert len(rest) + len(part) == 500


def task_of(train: list[Example], validation: list[Example], test: list[Example]) -> Task:
    return Task("t", MULTI, {"train": train, "validation": validation, "test": test})


def test_cleaning_counts_and_leaves_test_alone() -> None:
    train = [
        example(1, "one", "a"), example(2, "One!", "b"), example(3, "one", "a"), example(4, "two", "b"),
        example(5, " ... ", "c"), example(6, "held", "a"), example(7, "three", "c"), example(8, "three", "b"),
    ]  # fmt: skip
    task = task_of(
        train, [example(9, "four", "a"), example(10, "Held.", "b")], [example(11, "held", "a"), example(12, "", "b")]
    )
    cleaned = clean_task(task, conflicts="majority", drop_leaked=True)
    assert [e.id for e in cleaned.splits["train"]] == ["1", "3", "4"]  # 7 and 8 are tied: both go
    assert [e.id for e in cleaned.splits["validation"]] == ["9"]
    assert cleaned.splits["test"] == task.splits["test"]
    assert cleaned.notes | {
        "empty_texts_train": 1, "empty_texts_test": 1, "train_texts_also_in_validation_or_test": 1,
        "validation_texts_also_in_test": 1, "conflicting_texts": 2,
    } == cleaned.notes  # fmt: skip
    assert len(clean_task(task, conflicts="keep", drop_leaked=True).splits["train"]) == 6
    assert [e.id for e in clean_task(task, conflicts="drop", drop_leaked=True).splits["train"]] == ["4"]


def test_nothing_to_learn_is_refused() -> None:
    nothing = [example(1, "one"), example(2, "two")]
    with pytest.raises(UserError, match="hold 0 of 3 labels"):
        check_labels(task_of(nothing, [example(3, "three", "a")], [example(4, "four", "a")]))


def test_labels_are_looked_for_in_the_drawn_rows(
    make_task: MakeTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_task("multi_class", rows=400)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rare = [row for row in rows if row["labels"] == ["family"]][:1]
    kept = rare + [row for row in rows if row["labels"] != ["family"]]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    recipe = FinetuneRecipe(task=str(folder), output_dir=tmp_path / "run", train_rows=8)
    with caplog.at_level("WARNING"):
        task = load_task(recipe)
    assert task.targets("train").sum(axis=0)[2] == 0
    assert "train has no positive example of: family" in caplog.text


def test_label_without_positive_example_is_named(caplog: pytest.LogCaptureFixture) -> None:
    task = task_of([example(i, f"x {i}", "a") for i in range(4)], [example(5, "y", "a")], [example(6, "z", "c")])
    with caplog.at_level("WARNING"):
        check_labels(task)
    assert "train has no positive example of: b, c" in caplog.text


def test_balance_advice() -> None:
    uneven = [example(i, f"x {i}", "a", *(["b"] if i == 0 else [])) for i in range(100)]
    advice = " ".join(balance_advice(task_of(uneven, [], [])))
    assert "b (1)" in advice
    assert "class_aware" in advice


def test_folder_without_train(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps({"type": "binary", "labels": ["a", "b"]}))
    with pytest.raises(UserError, match="no train split here"):
        read(tmp_path)


HIERARCHY = {"distress": "feeling", "panic": "distress"}


def test_a_hierarchy_closes_targets_probabilities_and_decisions() -> None:
    values = {"type": "multi_label", "labels": ["panic", "distress", "feeling", "joy"], "parents": HIERARCHY}
    label_set = LabelSet.from_dict(values, where="labels.json")
    assert LabelSet.from_dict(label_set.to_dict(), where="") == label_set
    assert label_set.multi_hot([["panic"], ["distress"], ["joy"]]).tolist() == [
        [1, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 1],
    ]
    logits_NL = np.array([[2.0, -1.0, 0.0, 1.0]])
    probabilities_NL = to_probabilities(logits_NL, label_set)
    assert probabilities_NL[0, :3] == pytest.approx([1 / (1 + np.exp(-2.0))] * 3)
    decided_NL = Decision(label_set, (0.5, 0.95, 0.99, 0.9)).decide(probabilities_NL)
    assert decided_NL.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(
    ("kind", "parents", "message"),
    [
        ("multi_label", {"a": "b", "b": "a"}, "run in a circle"),
        ("multi_label", {"a": "elsewhere"}, "no .* mapping between the labels"),
        ("multi_label", ["a"], "no .* mapping between the labels"),
        ("multi_class", {"a": "b"}, "has no hierarchy"),
    ],
)
def test_broken_hierarchies(kind: str, parents: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LabelSet.from_dict({"type": kind, "labels": ["a", "b", "c"], "parents": parents}, where="labels.json")


def test_every_seed_scores_the_same_capped_rows(make_task: MakeTask, tmp_path: Path) -> None:
    def draw(seed: int) -> dict[str, list[str]]:
        caps: Any = {"train_rows": 40, "validation_rows": 20, "test_rows": 30}
        task = load_task(FinetuneRecipe(task=str(folder), output_dir=tmp_path / "run", seed=seed, **caps))
        return {split: [example.id for example in examples] for split, examples in task.splits.items()}

    folder = make_task("multi_label")
    one, two = draw(1), draw(2)
    assert {split: len(ids) for split, ids in one.items()} == pytest.approx(
        {"train": 40, "validation": 20, "test": 30}, abs=2
    )
    assert (one["validation"], one["test"]) == (two["validation"], two["test"])
    assert one["train"] != two["train"]


def test_every_seed_scores_the_same_cut_rows(make_task: MakeTask, tmp_path: Path) -> None:
    def test_ids(seed: int) -> list[str]:
        task = load_task(FinetuneRecipe(task=str(folder), output_dir=tmp_path / "run", seed=seed))
        return [example.id for example in task.splits["test"]]

    folder = make_task("multi_label")
    (folder / "test.jsonl").unlink()
    assert test_ids(1) == test_ids(2) == test_ids(3)


def test_a_task_is_made_of_its_keys(make_task: MakeTask, tmp_path: Path) -> None:
    recipe = FinetuneRecipe(task=str(make_task()), output_dir=tmp_path / "run")
    named = types.SimpleNamespace(task=recipe.task, **{key: getattr(recipe, key) for key in TASK_KEYS})
    # Reading any other key fails here: what is kept of a task would not be made anew when that key changes.
    assert load_task(named) == load_task(recipe)  # type: ignore[arg-type]


def test_repeated_ids_become_unique_and_groups_stay(tmp_path: Path) -> None:
    rows = [{"post_id": i // 3, "text": f"segment {i}", "label": "ab"[i % 2]} for i in range(60)]
    rows.append({"post_id": "0#2", "text": "an id like a made one", "label": "a"})
    pd.DataFrame(rows).to_csv(tmp_path / "segments.csv", index=False)
    task = read(tmp_path / "segments.csv", group="post_id")
    for split, examples in task.splits.items():
        assert len({e.id for e in examples}) == len(examples)
        groups = {e.group for e in examples}
        assert len(set(clusters_of(examples).tolist())) == len(groups)
        assert not any(groups & {e.group for e in task.splits[other]} for other in task.splits if other != split)
    ids = {e.text: e.id for split in task.splits for e in task.splits[split]}
    assert [ids[f"segment {i}"] for i in range(5)] == ["0", "0#3", "0#4", "1", "1#2"]
    assert ids["an id like a made one"] == "0#2"
    assert read(tmp_path / "segments.csv", group="post_id") == task


@pytest.mark.parametrize("empty", [None, "", " ", float("nan")])
@pytest.mark.parametrize("labels", [["sad", "glad"], [["sad"], ["glad", "sad"]], ["sad;glad", "sad"], [0, 1]])
def test_rows_without_a_label_are_quarantined(labels: list[Any], empty: Any, tmp_path: Path) -> None:
    cells = [*(labels[i % 2] for i in range(40)), empty]
    rows = [{"text": f"text {i}", "label": cell} for i, cell in enumerate(cells)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = read(tmp_path / "posts.jsonl")
    assert [row["line"] for row in task.quarantine] == [41]
    assert sum(map(len, task.splits.values())) == 40


def test_a_table_without_any_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "posts.csv").write_text("text,label\none,\ntwo,\n")
    with pytest.raises(UserError, match="no row has a label"):
        read(tmp_path / "posts.csv")


@pytest.mark.parametrize(
    ("created_utc", "expected"),
    [
        (1_600_000_000, (("year", "2020"),)),
        ("1600000000.0", (("year", "2020"),)),
        (1_600_000_000_000, ()),
        (10**30, ()),
        ("9" * 400, ()),
        ("²", ()),
    ],
)
def test_years_are_read_from_seconds_only(created_utc: Any, expected: Any, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "created_utc": created_utc} for i in range(40)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = read(tmp_path / "posts.jsonl")
    assert {e.slices for examples in task.splits.values() for e in examples} == {expected}


@pytest.mark.parametrize("column", ["id", "text", "label"])
@pytest.mark.parametrize("name", ["posts.jsonl", "posts.json"])
def test_rows_that_have_no_utf8_are_quarantined(column: str, name: str, tmp_path: Path) -> None:
    rows = [{"id": f"é{i}", "text": f"☕ {i}", "label": "ab"[i % 2]} for i in range(40)]
    rows[2][column] = "\ud83d"  # half of a character, written as an escape
    as_lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(as_lines if name.endswith("l") else json.dumps(rows))
    task = read(tmp_path / name)
    assert [(row["line"], row["reason"]) for row in task.quarantine] == [(3, "lone surrogate, which UTF-8 cannot hold")]
    assert sum(map(len, task.splits.values())) == 39


NOTE = "an invented note that nobody wrote; number {} of the table"


@pytest.mark.parametrize(
    ("status", "labels_json", "label_format"),
    [
        ([NOTE.format(i) for i in range(60)], False, "names"),
        ([NOTE.format(i) for i in range(60)], False, "joined"),
        ([f"note {i}" for i in range(60)], True, "auto"),
        (["stable"] * 40 + [f"note {i}" for i in range(35)], False, "auto"),  # most rows have a label
        (["stable", "worse"] * 29 + [NOTE.format(1) * 3, "stable"], False, "names"),
    ],
)
def test_free_text_is_no_label_column_and_is_never_quoted(
    status: list[str], labels_json: bool, label_format: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"text {i}", "status": cell} for i, cell in enumerate(status)]
    pd.DataFrame(rows).to_csv(tmp_path / "posts.csv", index=False)
    if labels_json:
        (tmp_path / "labels.json").write_text(json.dumps({"type": "binary", "labels": ["stable", "worse"]}))
    with caplog.at_level("DEBUG"), pytest.raises(UserError, match="column 'status' holds free text or ids") as error:
        read(tmp_path / "posts.csv", label_format=label_format)
    assert "note" not in str(error.value) + caplog.text


def test_many_labels_are_labels_if_labels_json_says_so(tmp_path: Path) -> None:
    names = [f"label {i}" for i in range(40)]
    rows = [{"text": f"text {i}", "label": names[i if i < 40 else i % 5]} for i in range(200)]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv")
    with pytest.raises(UserError, match="free text or ids"):
        read(tmp_path / "t.csv")
    (tmp_path / "labels.json").write_text(json.dumps({"type": "multi_class", "labels": names}))
    assert read(tmp_path / "t.csv").label_set.names == tuple(names)


def test_a_long_label_is_not_quoted_and_few_are_listed() -> None:
    label_set = LabelSet(TaskType.MULTI_CLASS, tuple(f"label {i}" for i in range(40)))
    with pytest.raises(UserError) as error:
        label_set.check([NOTE], where="test.jsonl:3")
    assert str(error.value).startswith(f"test.jsonl:3: label of {len(NOTE)} characters is not in the label set\n")
    assert str(error.value).endswith("label 29, 10 more.")
    with pytest.raises(UserError, match=r"did you mean 'label 1'"):
        label_set.check(["labl 1"], where="test.jsonl:3")


def test_a_note_in_place_of_a_header_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "posts.csv").write_text(f"{NOTE},1\n" * 30)
    with pytest.raises(UserError, match=r"which column is the text\?\n.*1, 1 more. Has the file no header") as error:
        read(tmp_path / "posts.csv")
    assert "nobody" not in str(error.value)
    pd.DataFrame([{"text": "a", "grade": 1}]).to_csv(tmp_path / "graded.csv")
    with pytest.raises(
        UserError, match=r"which columns are the labels\?\n  Set label_columns. Columns here: text, grade"
    ):
        read(tmp_path / "graded.csv")


def case_control(folder: Path) -> Path:
    rows = [{"patient_id": i // 2, "text": f"text {i}", "label": ("case", "control")[i % 3 == 0]} for i in range(60)]
    pd.DataFrame(rows).to_csv(folder / "notes.csv", index=False)
    return folder / "notes.csv"


def test_the_positive_class_is_named_and_can_be_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = case_control(tmp_path)
    assert read(path).label_set.positive == "control"
    assert "positive class: 'control', as the last by name; positive_label names another" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        assert read(path, positive_label="case").label_set.positive == "case"
    assert "positive class: 'case'" in caplog.text
    with pytest.raises(UserError, match=r"positive_label: label 'cases' is not in the label set; did you mean 'case'"):
        read(path, positive_label="cases")
    with pytest.raises(UserError, match="a multi_label task has no positive class"):
        read(path, positive_label="case", task_type=TaskType.MULTI_LABEL)
    (tmp_path / "labels.json").write_text('{"type": "binary", "labels": ["case", "control"], "positive": "case"}')
    caplog.clear()
    assert read(path).label_set.positive == "case"
    assert "by name" not in caplog.text


def test_a_column_of_people_is_named_until_it_keeps_them_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = case_control(tmp_path)
    read(path)
    assert "set group_column: patient_id" in caplog.text
    caplog.clear()
    read(path, group="patient_id")
    assert "group_column" not in caplog.text
