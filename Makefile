# mindshift: `make demo` runs the whole chain on synthetic posts, `make test` the tests; both install what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DIR ?= runs/demo
PYTEST_OPTIONS := -n 2 --dist loadgroup
TEST_EXTRAS := demo,deepspeed,dev,release,vault,track,qlora,onnx,serve,explain,search,responder,studio

.PHONY: help demo test test-slow check format lint types install lock clean

help:
	@echo "make demo       install, then run corpus -> pretrain -> finetune on the embedded synthetic sample"
	@echo "make test       install, then run the tests (minutes; no network after the install)"
	@echo "make test-slow  the long tests as well: chaos, scale, equality at two processes"
	@echo "make check      format, lint, strict types, tests: what CI runs"
	@echo "make format     rewrite the sources in the house's format"
	@echo "make lock       write launch/container/requirements.lock anew, from what is installed"
	@echo "make clean      remove the demo's run folder and caches; the environment stays"

demo:
	@$(PYTHON) launch/setup_environment.py --venv $(VENV) --extras demo
	@$(BIN)/mindshift demo --output_dir $(DEMO_DIR)

install:
	@$(PYTHON) launch/setup_environment.py --venv $(VENV) --extras $(TEST_EXTRAS)

test: install
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

test-slow: install
	$(BIN)/python -m pytest $(PYTEST_OPTIONS) -m "slow or not slow"

check: install lint types
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

format: install
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

# The exact versions that the tests ran with, for launch/container; CUDA builds instead of the CPU ones.
lock: install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m pip freeze --exclude-editable | sed '/ @ /d; s/+cpu$$//' > .constraints.txt
	$(BIN)/uv pip compile setup.py --extra all --constraint .constraints.txt --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --quiet --output-file launch/container/requirements.lock
	rm .constraints.txt

clean:
	rm -rf $(DEMO_DIR) $(DEMO_DIR).partial .pytest_cache .mypy_cache .ruff_cache
