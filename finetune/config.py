"""The recipe of a fine-tuning run."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from configs.recipe import StageRecipe, require
from finetune.adapters import Adapter, AdapterSettings
from finetune.augmentation import Augmentation
from finetune.heads import Head
from finetune.label_formats import LabelFormat
from finetune.long_texts import LongTextPolicy
from finetune.losses import LossName
from finetune.task_checks import ConflictPolicy


@dataclasses.dataclass(kw_only=True)
class FinetuneRecipe(StageRecipe):
    """Put a classification head on an encoder, train it on a labelled task, tune its decisions, and evaluate it."""

    HOW: ClassVar[frozenset[str]] = StageRecipe.HOW | {"checkpoint_steps"}
    LATER: ClassVar[frozenset[str]] = frozenset({"positive_label"})

    task: str
    """Labelled task: a folder with train/validation/test tables and labels.json, one table (CSV, TSV, JSONL, Parquet),
    or a Hub dataset."""
    model: str = "package:minilm"
    """Encoder: a model folder, a Hub id such as google-bert/bert-base-uncased, or package:minilm."""
    head: Head = "mean"
    """What the classifier reads: the first token (cls), the mean of all tokens, or one attention a label."""
    loss: LossName = "auto"
    """auto is bce or cross_entropy. Multi-label: bce, pos_weight, focal, asymmetric, distribution_balanced, zlpr.
    Classes: cross_entropy, weighted_cross_entropy, focal, ordinal (grades only)."""
    sampling: Literal["uniform", "class_aware"] = "uniform"
    """class_aware shows texts with rare labels more often (repeat-factor sampling)."""

    augmentation: Augmentation = "none"
    """back_off_masking: copies of training texts with rare labels, some of their words filled in by a masked LM."""
    augmentation_model: str | None = None
    """The masked LM that fills in. If not set, `model` itself, which must have a masked-LM head."""
    augmentation_target: float = 0.5
    """How many examples a rare label should have then, as a share of the most frequent one's."""

    auxiliary_tasks: list[str] = dataclasses.field(default_factory=list)
    """Task folders that train the same encoder beside `task`, with labels of their own that are not kept. Texts that
    stand in validation or test of `task` are left out."""

    adapter: Adapter = "none"
    """Train all weights, or low-rank matrices beside frozen ones: lora, or qlora over a 4-bit base."""
    lora_rank: int = 16
    """Rank of the matrices."""
    lora_alpha: int = 32
    """Their scale, times the rank."""
    lora_dropout: float = 0.05
    """Dropout before them."""
    lora_target_modules: str = "all-linear"
    """Linear layers that get them: all-linear, or names joined by commas such as query,value."""

    text_column: str | None = None
    """Column that holds the text. Found by its name if not set."""
    label_columns: list[str] | None = None
    """Column of the labels, or several one-hot columns. Found by its name if not set."""
    id_column: str | None = None
    """Column of the example's id. Found by its name, or numbered, if not set."""
    group_column: str | None = None
    """Column of what must stay on one side of a split, such as the author or the post of a segment."""
    slice_columns: list[str] | None = None
    """Columns by whose values the evidence is split, such as subreddit. Found by name if not set."""
    label_format: LabelFormat = "auto"
    """How labels are written: names, lists, joined (names joined by ; | or ,), one_hot, or auto."""
    task_type: Literal["multi_label", "multi_class", "binary"] | None = None
    """multi_label, multi_class or binary. Taken from labels.json, or from the training labels, if not set."""
    positive_label: str | None = None
    """The class that a binary task is about: its F1 heads the table. Taken from labels.json, or the last by name, if
    not set."""
    validation_fraction: float = 0.1
    """Share of train that becomes validation where there is none."""
    test_fraction: float = 0.2
    """Share of train that becomes test where there is none."""

    conflicting_duplicates: ConflictPolicy = "majority"
    """Training texts that stand there with different labels: keep all, drop all, or keep the majority's rows."""
    drop_leaked: bool = True
    """Take texts out of train that also stand in validation or test, and out of validation those in test."""

    train_rows: int | None = None
    """Few-label mode: train on this many rows only, drawn stratified. Learning curves are made of such runs."""

    validation_rows: int | None = None
    """Stop and tune on this many validation rows only, drawn stratified, the same ones for every seed."""
    test_rows: int | None = None
    """Score this many test rows only, drawn stratified, the same ones for every seed. Say so beside the score."""

    max_seq_length: int = 256
    """Tokens of a text the encoder reads, special tokens included."""
    long_texts: LongTextPolicy = "head_tail"
    """What to do with longer texts: keep the head, the head and tail, or windows whose logits are averaged."""
    max_windows: int = 4
    """Windows of one text at most, if long_texts is windows."""

    epochs: float | None = None
    """Passes over train at most. If not set, by its rows and labels: few rows and many labels get more."""
    batch_size: int = 16
    """Texts per optimizer step, over all processes."""
    learning_rate: float | None = None
    """Peak learning rate of the encoder (AdamW with bias correction, arXiv:2006.05987). If not set, by its width:
    1e-4 up to 512, 3e-5 up to 768, else 1e-5; five times that for the matrices of an adapter."""
    head_learning_rate_factor: float = 5.0
    """The head's learning rate, as a multiple of the encoder's: the head starts at random."""
    layer_learning_rate_decay: float = 1.0
    """Factor on the learning rate per layer downwards: discriminative learning rates. 1: all layers alike."""
    reinitialize_layers: int = 0
    """Top encoder layers that start anew."""
    warmup_ratio: float = 0.1
    """Share of the steps over which the learning rate rises; then it falls linearly to 0."""
    weight_decay: float = 0.01
    """AdamW weight decay of matrices."""
    max_gradient_norm: float = 1.0
    """Gradients are clipped to this norm."""
    hidden_dropout: float = 0.1
    """Dropout inside the encoder and before the head."""
    patience: int = 3
    """Evaluations (one an epoch) without a better validation average precision before training stops."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Number format of the matrix products. auto: bf16 where the processor has it. Weights stay float32."""
    checkpoint_steps: int = 100
    """Optimizer steps between checkpoints that an interrupted run resumes from."""

    folds: int = 0
    """k-fold: train k more models and tune the thresholds on their out-of-fold predictions of train and validation
    (k times the hours). 0: tune them on validation."""
    tune_thresholds: bool = True
    """Tune the decision thresholds. false: .5, or the most probable class."""
    abstention_precision: float | None = None
    """Send texts to a human (`send_to_human` in predictions) so that the labels of the others reach this precision."""

    baselines: bool = True
    """Score the majority and a tuned TF-IDF + logistic regression beside the classifier."""

    @property
    def adapter_settings(self) -> AdapterSettings:
        """The keys that concern adapters."""
        return AdapterSettings(
            kind=self.adapter,
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            target_modules=self.lora_target_modules,
        )

    def __post_init__(self) -> None:
        for key in ("validation_fraction", "test_fraction"):
            require(0 < getattr(self, key) < 1, key, getattr(self, key), "a fraction between 0 and 1")
        require(self.folds == 0 or self.folds >= 2, "folds", self.folds, "0, or 2 and more")
        precision = self.abstention_precision
        require(precision is None or 0 < precision < 1, "abstention_precision", precision, "a fraction between 0 and 1")
        for key in ("lora_rank", "lora_alpha", "batch_size", "max_windows", "patience", "checkpoint_steps"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "1 or more")
        for key in ("train_rows", "validation_rows", "test_rows"):
            require((getattr(self, key) or 4) >= 4, key, getattr(self, key), "4 or more")
        require(0 < self.augmentation_target <= 1, "augmentation_target", self.augmentation_target, "over 0, up to 1")
        allowed = "none, or lora, together with auxiliary_tasks"
        require(not self.auxiliary_tasks or self.adapter != "qlora", "adapter", self.adapter, allowed)
        require(self.max_seq_length >= 8, "max_seq_length", self.max_seq_length, "8 tokens or more")
        require(self.epochs is None or self.epochs > 0, "epochs", self.epochs, "more than 0")
        require(
            0 < self.layer_learning_rate_decay <= 1,
            "layer_learning_rate_decay",
            self.layer_learning_rate_decay,
            "0 to 1",
        )
        require(self.reinitialize_layers >= 0, "reinitialize_layers", self.reinitialize_layers, "0 or more")
        # A 4-bit adapter is put over its base as it was, where the new layers would be the old ones again.
        allowed = "0 with adapter: qlora"
        require(
            self.adapter != "qlora" or not self.reinitialize_layers,
            "reinitialize_layers",
            self.reinitialize_layers,
            allowed,
        )
        rate = self.learning_rate
        require(rate is None or rate > 0, "learning_rate", rate, "more than 0")
        require(0 <= self.hidden_dropout < 1, "hidden_dropout", self.hidden_dropout, "0 up to (not including) 1")
        require(0 <= self.warmup_ratio <= 1, "warmup_ratio", self.warmup_ratio, "0 to 1")


@dataclasses.dataclass(kw_only=True)
class PredictRecipe:
    """Classify texts with a folder that `mindshift finetune` wrote. A label is a model's opinion, never a diagnosis."""

    model: Path
    """Classifier folder."""
    input: Path | None = None
    """File of texts: JSONL, CSV, TSV, JSON, Parquet or plain lines (.gz is fine). `-`, or nothing: standard input."""
    output: Path | None = None
    """File to write: .jsonl or .csv. `-`, or nothing: JSON lines on standard output."""
    text: list[str] = dataclasses.field(default_factory=list)
    """A text to classify, instead of a file; may be given several times."""
    text_column: str | None = None
    """Column of the text. Found by its name if not set."""
    id_column: str | None = None
    """Column of the id. `id` if not set; rows are numbered if there is none."""
    input_format: Literal["jsonl", "csv", "tsv", "json", "txt"] = "jsonl"
    """What standard input holds: JSON lines, a table, or plain lines."""
    batch_tokens: int = 8192
    """Padded tokens computed together."""

    def __post_init__(self) -> None:
        require(self.batch_tokens >= 1, "batch_tokens", self.batch_tokens, "1 or more")
