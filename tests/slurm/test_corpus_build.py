"""A corpus build whose tasks are SLURM jobs gives the bytes of a local build."""

import hashlib
import json
import random
import sys

import pytest

WORDS = "rain tea walk sleep calm worry friend night work song garden letter quiet early kind slow hope".split()  # noqa: SIM905


@pytest.mark.slow
def test_a_corpus_built_on_slurm_is_byte_identical(slurm, tmp_path):
    draw = random.Random(5)
    for part in range(3):
        posts = (
            {"id": f"s{part}x{n}", "author": f"w{n % 30}", "subreddit": "a", "created_utc": 1_600_000_000 + n * 86_400}
            | {"title": f"day {n}", "selftext": " ".join(draw.choices(WORDS, k=30))}
            for n in range(120)
        )
        (tmp_path / f"RS_{part}.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    shared = [sys.executable, "-m", "corpus.build_corpus", "--inputs", json.dumps([str(tmp_path / "RS_*.jsonl")])]
    shared += ["--tokenizer", "package:minilm", "--keys_dir", tmp_path / "keys", "--held_out_share", "0.2"]
    shared += ["--chunk_documents", "50"]
    slurm.run(*shared, "--output_dir", tmp_path / "local", "--workers", "1", timeout=300)
    cluster = ["--executor", "slurm", "--task_memory_gb", "0", "--workers", "4", "--slurm_time", "00:20:00"]
    setup = f"export PATH={sys.executable.rpartition('/')[0]}:$PATH"
    slurm.run(*shared, "--output_dir", tmp_path / "slurm", *cluster, "--slurm_setup", setup, timeout=550)
    assert _hashes(tmp_path / "slurm") == _hashes(tmp_path / "local") != {}


def _hashes(folder):
    files = [path for name in ("tokens", "documents") for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
