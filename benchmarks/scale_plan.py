"""What a pretraining would take on more GPUs: `python -m benchmarks.scale_plan --tokens_per_second RATE [--json]`.

RATE is the one figure to measure, on one GPU of yours and with the recipe that is to be run, as a rate at another
length or batch says little: `python -m benchmarks.scaling --processes 1 --recipe RECIPE.yaml`. Everything printed here
is projected from it, at that recipe's `--global_batch_tokens`. The model is data parallelism with ring all-reduce,
nothing overlapped, so it errs to the slow side:

    step seconds = tokens per step / GPUs / RATE  +  gradients inside a node  +  gradients between nodes
    gradients    = 2 (n - 1) / n x bytes of all gradients / bandwidth      (n = GPUs of a node, then nodes)

Bandwidths are a link's peak times 0.7, which NCCL's own tests reach on large messages.
"""

import argparse
import dataclasses
import json
import sys
from typing import Any

from configs.errors import run_program

LINK_EFFICIENCY = 0.7
GRADIENT_BYTES = 4  # gradients travel in fp32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to project."""

    tokens_per_second: float
    """Measured on one GPU, in real tokens."""
    parameters: float = 110e6
    """Parameters of the model."""
    tokens: float = 20.5e9
    """Tokens of the whole run (MentalBERT: 624k steps of 64 rows of 512)."""
    global_batch_tokens: int = 524_288
    """Tokens per optimizer step."""
    gpus_per_node: int = 8
    """GPUs of a node."""
    node_bandwidth: float = 450e9
    """Peak bytes per second between two GPUs of a node, one way (NVLink 4)."""
    network_bandwidth: float = 50e9
    """Peak bytes per second of one GPU's network card, one way (400 Gbit/s)."""


def project(plan: Plan, nodes: int, gpus: int) -> dict[str, Any]:
    """Return the projected rate, efficiency and hours on `nodes` nodes of `gpus` GPUs each."""
    gradients = plan.parameters * GRADIENT_BYTES
    compute = plan.global_batch_tokens / (nodes * gpus) / plan.tokens_per_second
    inside = 2 * (gpus - 1) / gpus * gradients / (plan.node_bandwidth * LINK_EFFICIENCY)
    # Between nodes every GPU sends its share of the gradients over its own card.
    between = 2 * (nodes - 1) / nodes * gradients / (gpus * plan.network_bandwidth * LINK_EFFICIENCY)
    rate = plan.global_batch_tokens / (compute + inside + between)
    return {
        "nodes": nodes,
        "gpus": nodes * gpus,
        "tokens_per_second": round(rate),
        "efficiency": round(rate / (nodes * gpus * plan.tokens_per_second), 3),
        "hours": round(plan.tokens / rate / 3600, 2),
    }


def main() -> None:
    """Project and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    for field in dataclasses.fields(Plan):
        required = field.default is dataclasses.MISSING
        default = None if required else field.default
        parser.add_argument(f"--{field.name}", type=field.type, required=required, default=default)
    values = vars(parser.parse_args())
    as_json = values.pop("json")
    plan = Plan(**values)
    rows = [project(plan, nodes, gpus) for nodes, gpus in ((1, 1), (1, plan.gpus_per_node), (4, plan.gpus_per_node))]
    if as_json:
        print(json.dumps({"measured": {"tokens_per_second": plan.tokens_per_second}, "projected": rows}, indent=2))
        return
    print(f"measured: {plan.tokens_per_second:,.0f} tokens/s on one GPU. Projected:")
    print("\n".join(json.dumps(row) for row in rows))


if __name__ == "__main__":
    sys.exit(run_program(main))
