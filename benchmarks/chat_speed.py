"""How long a person waits for the responder's first words: `python -m benchmarks.chat_speed [--model FOLDER] [--json]`.

Made-up conversations of three sizes go through the responder as `mindshift chat` and the studio use it, safety layer
included. Each is answered several times; figures are medians. Loading happens once, before the first message.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence

from configs.errors import run_program
from dialogue.responder import Responder
from dialogue.safety import Turn

SENTENCE = "today was long and i kept thinking about the exam and about what my sister said to me . "
CONVERSATIONS = {
    "one short message": [Turn("user", SENTENCE)],
    "one long message": [Turn("user", SENTENCE * 20)],
    "eight turns": [Turn("user" if number % 2 == 0 else "assistant", SENTENCE * 3) for number in range(7)],
}


def measure(model: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return seconds to load, and for each conversation seconds to the first sentence and words a second."""
    started = time.perf_counter()
    responder = Responder.load(model)
    result: dict[str, dict[str, float]] = {"loading": {"seconds": time.perf_counter() - started}}
    for name, turns in CONVERSATIONS.items():
        waits, cpu, rates = [], [], []
        for _ in range(rounds + 1):
            started, cpu_started = time.perf_counter(), time.process_time()
            words, first, first_cpu = 0, 0.0, 0.0
            for piece in responder.answer(turns):
                if words == 0:
                    first, first_cpu = time.perf_counter() - started, time.process_time() - cpu_started
                words += len(piece.text.split())
            waits.append(first)
            cpu.append(first_cpu)
            rates.append(words / (time.perf_counter() - started))
        result[name] = {  # the first round builds kernels
            "first_word_seconds": statistics.median(waits[1:]),
            "first_word_cpu_seconds": statistics.median(cpu[1:]),
            "words_per_second": statistics.median(rates[1:]),
        }
    return result


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chat_speed")
    parser.add_argument("--model", default="package:smollm2", help="folder, Hub id or package:smollm2")
    parser.add_argument("--rounds", type=int, default=5, help="answers to each conversation")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options = parser.parse_args(arguments)
    result = measure(options.model, options.rounds)
    lines = [
        f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in row.items()) for name, row in result.items()
    ]
    print(json.dumps(result, indent=2) if options.json else "\n".join(lines))


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
