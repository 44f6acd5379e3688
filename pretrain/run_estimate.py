"""`mindshift pretrain estimate RECIPE`: tokens, hours, memory and cost of a run, before anyone starts it.

Speed on this machine is measured: a model of the recipe's shape with random weights trains a few steps here. Speed on
a named GPU is projected from its peak and the share of it that Ettin's encoders reached on H100 in training (25 % at
150M parameters, 34 % at 400M, 39 % at 1B; JHU-CLSP/ettin-encoder-vs-decoder): a guess until it was measured there,
and printed as one; smaller encoders reach less. GPUs without bf16 are left out: recipes run slowly on them.
Memory is projected from the parameters and the activations of the micro-batch.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.base_models import resolve_model
from configs.errors import UserError
from configs.recipe import load_recipe, require
from pretrain.config import PretrainRecipe, many_passes

if TYPE_CHECKING:
    from pretrain.private_units import PrivateUnits

REACHED_SHARES = ((0, 0.25), (400e6, 0.34), (1e9, 0.39))
"""Parameters from which a share of the peak is assumed."""
WEIGHT_BYTES = 4
"""A parameter in fp32."""
TRAINING_BYTES = 12
"""The gradient and the two moments of a parameter that is trained, all fp32."""
ACTIVATION_BYTES = 34
"""Per token, layer and unit of width, in bf16, the attention matrix not kept (Korthikanti et al., arXiv:2205.05198)."""
LOGIT_BYTES = 10
"""A logit in bf16, its fp32 copy and its gradient."""
MEASURED_STEPS = 2


@dataclasses.dataclass(kw_only=True)
class EstimateRecipe(PretrainRecipe):
    """Estimate tokens, hours, memory and cost of a pretraining recipe."""

    output_dir: Path = Path("runs/estimate")
    """Not used: nothing is written."""
    gpu_count: int = 1
    """GPUs of each kind that share the work, with no loss assumed."""
    price_per_hour: float | None = None
    """Price of one GPU hour in dollars, for all kinds; unset takes rough on-demand prices."""
    measure: bool = True
    """Train a few steps here to measure this machine's speed; with a large encoder on a CPU that takes a minute."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        require(self.gpu_count >= 1, "gpu_count", self.gpu_count, "1 or more")


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a run will do.

    Attributes:
        tokens: real tokens over the whole run.
        steps: optimizer steps.
        batch_tokens: tokens of a step.
        mean_keys: keys a token attends to in the mean.
        source: where the lengths come from.
        passes: over the corpus; 0 where it is not there, or units are drawn.
    """

    tokens: float
    steps: int
    batch_tokens: int
    mean_keys: float
    source: str
    passes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Line:
    """One row of the answer; `basis` says whether it was measured."""

    device: str
    tokens_per_second: float
    hours: float
    memory_gb: float
    dollars: float | None
    basis: str


def main(arguments: Sequence[str], program: str) -> None:
    """Print the estimate of the recipe named on the command line."""
    recipe = load_recipe(EstimateRecipe, arguments, program)
    config = load_config(recipe.model)
    workload = plan(recipe)
    for line in describe(recipe, config, workload, estimate(recipe, config, workload)):
        print(line)


def load_config(name: str) -> Any:
    """Return a model's config, from its folder, the Hub's cache, the Hub, or as it is known for common encoders.

    Raises:
        UserError: it cannot be found.
    """
    from transformers import AutoConfig, BertConfig, ModernBertConfig, RobertaConfig

    common = {
        "google-bert/bert-base-uncased": BertConfig(),
        "FacebookAI/roberta-base": RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
        "answerdotai/ModernBERT-base": ModernBertConfig(),
    }
    if name in common:
        return common[name]
    folder = Path(name).with_name(Path(name).name + ".partial") if not Path(name).is_dir() else Path(name)
    if name.startswith("runs/") and not folder.is_dir():
        raise UserError("this model is the output of a recipe that has not run yet", where=name, fix="Run it first.")
    source = resolve_model(name, needs_tokenizer=False)
    try:
        return AutoConfig.from_pretrained(source.name_or_path, **source.load_arguments)
    except (OSError, ValueError) as error:
        raise UserError("cannot load this model's config", where=name, fix="Name a folder that holds it.") from error


def plan(recipe: EstimateRecipe) -> Workload:
    """Count what the run will read; without the corpus rows are taken to be full.

    Raises:
        UserError: the recipe counts epochs, or authors, and its corpus is not there.
    """
    from corpus.shards import TokenShards
    from pretrain.packing import StepPlanner, cut_sequences
    from pretrain.private_units import PrivateUnits

    batch_tokens = recipe.global_batch_tokens or (
        recipe.micro_batch_tokens * recipe.gradient_accumulation_steps * recipe.gpu_count
    )
    if not (recipe.corpus / "tokens" / "train").is_dir():
        if recipe.max_steps is None or recipe.is_private:
            raise UserError("no corpus to count tokens in", where=recipe.corpus, fix="Build it, or set --max_steps.")
        tokens = float(recipe.max_steps * batch_tokens)
        return Workload(tokens, recipe.max_steps, batch_tokens, recipe.max_seq_length / 2, "rows taken to be full")
    shards = TokenShards(recipe.corpus, "train")
    table = cut_sequences(shards.lengths, recipe.max_seq_length - 2, recipe.long_documents)
    lengths = table.lengths + 2.0
    mean_keys = float((lengths**2).sum() / lengths.sum())
    if recipe.is_private:
        units = PrivateUnits(shards, table.documents.astype("int64"), lengths.astype("int64"), recipe)
        return plan_private(recipe, units, mean_keys)
    per_epoch = float(lengths.sum()) / (1 - recipe.replay_share)
    source = f"{len(shards):,} documents, {per_epoch / 1e6:,.1f}M tokens a pass"
    if recipe.max_steps is not None:
        tokens = float(recipe.max_steps * batch_tokens)
        return Workload(tokens, recipe.max_steps, batch_tokens, mean_keys, source, passes=tokens / per_epoch)
    passes = (recipe.num_train_epochs or 0.0) / (1 - recipe.replay_share)  # replayed text is taken to be as long
    planner = StepPlanner(
        lengths.astype("int64"),
        micro_batches=max(1, batch_tokens // recipe.micro_batch_tokens),
        micro_batch_tokens=recipe.micro_batch_tokens,
        seed=recipe.seed,
    )
    steps = planner.count_steps(passes)
    tokens = min(passes * float(lengths.sum()), float(steps * batch_tokens))
    return Workload(tokens, steps, batch_tokens, mean_keys, source, passes=tokens / per_epoch)


def plan_private(recipe: EstimateRecipe, units: "PrivateUnits", mean_keys: float) -> Workload:
    """Count what a differentially private run will read in the mean, and say what it promises."""
    from pretrain.privacy_accounting import epsilon_of, renyi_divergence
    from pretrain.private_gradient import promise

    steps = recipe.max_steps or max(1, round((recipe.num_train_epochs or 0.0) / units.sample_rate))
    promised = promise(recipe, units, steps)
    divergence = renyi_divergence(promised.noise_multiplier, promised.sample_rate)
    source = (
        f"{units.count:,} {recipe.dp_unit}s, of whom a step draws {recipe.dp_units_per_step:,}; ε = "
        f"{epsilon_of(divergence, steps, promised.delta):.2f} at δ = {promised.delta:.1e}, noise multiplier "
        f"{promised.noise_multiplier:g}"
    )
    return Workload(steps * units.expected_tokens, steps, round(units.expected_tokens), mean_keys, source)


def estimate(recipe: EstimateRecipe, config: Any, workload: Workload) -> list[Line]:
    """Return a row for this machine, if it is to be measured, and one for each GPU of the table."""
    from pretrain.flops import GPUS, flops_per_token, model_size

    size = model_size(config)
    probability = recipe.mlm_probability
    frozen = recipe.trainable == "head"
    flops = flops_per_token(size, mean_keys=workload.mean_keys, mlm_probability=probability, encoder_is_frozen=frozen)
    layers = 1 if frozen else size.layers  # without a backward a layer's activations go when the next has read them
    activations = recipe.micro_batch_tokens * (
        ACTIVATION_BYTES * layers * size.width + LOGIT_BYTES * probability * size.vocabulary
    )
    trained = size.head_parameters if frozen else size.parameters
    memory_gb = (WEIGHT_BYTES * size.parameters + TRAINING_BYTES * trained + activations) / 1e9
    lines = []
    if recipe.measure:
        rate, device = measure(recipe, config, workload)
        lines.append(Line(device, rate, workload.tokens / rate / 3600, memory_gb, None, "measured here"))
    reached = max(share for parameters, share in REACHED_SHARES if size.parameters >= parameters)
    for gpu in GPUS:
        rate = reached * gpu.tflops * 1e12 / flops * recipe.gpu_count
        hours = workload.tokens / rate / 3600
        price = gpu.dollars_per_hour if recipe.price_per_hour is None else recipe.price_per_hour
        fits = "" if memory_gb < gpu.memory_gb else ", does not fit: lower micro_batch_size"
        basis = f"projected: {reached:.0%} of {gpu.tflops:.0f} TFLOP/s{fits}"
        lines.append(
            Line(f"{recipe.gpu_count} x {gpu.name}", rate, hours, memory_gb, hours * price * recipe.gpu_count, basis)
        )
    return lines


def measure(recipe: PretrainRecipe, config: Any, workload: Workload) -> tuple[float, str]:
    """Train random weights of this shape on random tokens; return tokens per second and the device's name."""
    import numpy as np
    import torch
    from transformers import AutoModelForMaskedLM

    from pretrain.attention import PACKED_ATTENTION
    from pretrain.encoder import PackedMaskedLM, freeze_encoder, set_dropout
    from pretrain.last_layer import Asked
    from pretrain.losses import summed_cross_entropy
    from pretrain.optimization import build_optimizer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModelForMaskedLM.from_config(config, attn_implementation=PACKED_ATTENTION).to(device)
    if recipe.dropout is not None:
        set_dropout(model, recipe.dropout)
    if recipe.trainable == "head":
        freeze_encoder(model)
    module = PackedMaskedLM(model, autocast_dtype=torch.bfloat16 if recipe.mixed_precision == "bf16" else None)
    optimizer = build_optimizer(module, recipe)
    tokens = recipe.micro_batch_tokens
    count = max(1, round(tokens / min(workload.mean_keys, recipe.max_seq_length)))
    lengths = [len(part) for part in np.array_split(np.arange(tokens), count)]
    input_ids = torch.randint(5, config.vocab_size, (tokens,), device=device)
    position_ids = torch.cat([torch.arange(length) for length in lengths]).to(device)
    asked = torch.arange(0, tokens, max(1, round(1 / recipe.mlm_probability)), device=device)
    owners = np.searchsorted(np.cumsum(lengths), asked.cpu().numpy(), side="right")
    places = Asked(asked, np.bincount(owners, minlength=len(lengths)).tolist())
    started = 0.0
    for step in range(MEASURED_STEPS + 1):
        if step == 1:  # the first one allocates and chooses kernels
            started = time.perf_counter()
        logits = module(input_ids, position_ids, lengths, places)
        torch.autograd.backward(summed_cross_entropy(logits, input_ids[asked]) / len(asked))
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
    rate = MEASURED_STEPS * tokens / (time.perf_counter() - started)
    if device.type == "cuda":
        return rate, torch.cuda.get_device_name()
    return rate, f"this CPU ({torch.get_num_threads()} threads)"


def _attention_dropout(recipe: PretrainRecipe, config: Any) -> float:
    """Return the dropout of attention weights in training: the recipe's, or the checkpoint's own."""
    names = ("attention_probs_dropout_prob", "attention_dropout")
    own = next((getattr(config, name) for name in names if hasattr(config, name)), 0.0)
    return float(own if recipe.dropout is None else recipe.dropout)


def describe(recipe: EstimateRecipe, config: Any, workload: Workload, lines: list[Line]) -> list[str]:
    """Return the answer as lines of text."""
    told = [
        f"{recipe.model} on {recipe.corpus}: {workload.source}",
        f"{workload.steps:,} steps of {workload.batch_tokens:,} tokens: {workload.tokens / 1e6:,.1f}M tokens"
        + (f", {workload.passes:,.1f} passes" if workload.passes else ""),
        *([many_passes(workload.passes)] if many_passes(workload.passes) else []),
        "",
        f"{'device':<28}{'tokens/s':>12}{'hours':>12}{'memory GB':>11}{'cost $':>12}  basis",
    ]
    for line in lines:
        cost = "-" if line.dollars is None else f"{line.dollars:,.2f}"
        told.append(
            f"{line.device:<28}{line.tokens_per_second:>12,.0f}{line.hours:>12,.2f}{line.memory_gb:>11.1f}{cost:>12}"
            f"  {line.basis}"
        )
    if recipe.contrastive_weight > 0 or recipe.anchor_weight > 0:
        told += ["", "Not counted: the passes over whole texts that contrastive_weight and anchor_weight add."]
    if _attention_dropout(recipe, config) > 0:
        told += [
            "",
            "Attention has dropout here, which keeps GPUs off FlashAttention: they are slower than this guess. "
            "--dropout 0 lets them use it, and is another recipe.",
        ]
    if recipe.is_private:
        told += [
            "",
            "Not counted: a private run has a backward of its own for each unit, which is several times slower.",
        ]
    return [*told, "", "Prices are rough on-demand prices; give yours with --price_per_hour."]
