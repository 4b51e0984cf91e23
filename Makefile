# make demo             set up .venv and run the main job: world, questions, SFT, cold start, GRPO, evaluation, table
# make test             set up .venv, lint, type-check and run all tests (unit first, then the real trainer)
# make test-gpu-pins    set up .venv-gpu-pins, with the versions of the GPU lane on a CPU, and run the tests marked `pins`
# make test-gpu-install resolve the gpu extra from wheels alone, for Python 3.11 and 3.12 (minutes, asks the package index)
#
# They set up their environment by themselves and skip that when nothing changed. PYTHON=... chooses the interpreter (3.10
# to 3.12). docs/install.md says what each environment has.

PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
  $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.cpu-lane
TORCH := torch==2.13.0+cpu
TORCHVISION := torchvision==0.28.0+cpu
PYTORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
# The first import writes byte code into .venv, which is set up without. Where that is forbidden, every process of the tests
# and of the demo would compile torch, verl and vLLM again.
unexport PYTHONDONTWRITEBYTECODE
DEMO_OUT ?= demo_out
SEED ?= 0

# The environment with the GPU lane's versions; packaging/gpu_pins.py says how it is made.
PINS := .venv-gpu-pins
PINS_STAMP := $(PINS)/.gpu-pins
PINS_TEST := OMP_NUM_THREADS=2 $(PINS)/bin/python -m pytest -q --durations=10 $$(grep -rl "pytest.mark.pins" tests)

.PHONY: demo test test-unit test-e2e lint setup gpu-pins test-gpu-pins test-gpu-pins-parity test-gpu-install clean

demo: $(STAMP)
	$(BIN)/mllm4d demo --out $(DEMO_OUT) --seed $(SEED)

test: lint test-unit test-e2e

test-unit: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not e2e and not index"

test-e2e: $(STAMP)
	$(BIN)/python -m pytest -q -m e2e --durations=0 --durations-min=1

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(STAMP)

# Token ids, frame intervals, positions and pixel values, without a trainer.
test-gpu-pins-parity: $(PINS_STAMP)
	$(PINS_TEST) -m "pins and not e2e"

# That, and the real trainers: GRPO, SFT and evaluation of both model families.
test-gpu-pins: test-gpu-pins-parity
	$(PINS_TEST) -m "pins and e2e"

test-gpu-install: $(STAMP)
	$(BIN)/python -m pytest -q -m index

gpu-pins: $(PINS_STAMP)

$(PINS_STAMP): pyproject.toml packaging/gpu_pins.py $(wildcard packaging/torchvision_cpu_guard/*)
	@test -n "$(PYTHON)" || { echo "mllm4d-verl needs Python 3.10, 3.11 or 3.12; none was found. Set PYTHON=/path/to/python."; exit 1; }
	@echo "Setting up $(PINS) with $(PYTHON): about 10 minutes and 7 GB the first time."
	@test -x $(PINS)/bin/python || $(PYTHON) -m venv $(PINS)
	@$(PINS)/bin/python packaging/gpu_pins.py
	@touch $@

# CPU torch first: with it installed, nothing pulls the CUDA build in. The configured index is asked before PyTorch's own.
$(STAMP): pyproject.toml $(wildcard packaging/torchvision_cpu_guard/*)
	@test -n "$(PYTHON)" || { echo "mllm4d-verl needs Python 3.10, 3.11 or 3.12; none was found. Set PYTHON=/path/to/python."; exit 1; }
	@echo "Setting up .venv with $(PYTHON): about 3 minutes and 4 GB the first time."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile "$(TORCH)" 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --index-url $(PYTORCH_CPU_INDEX) "$(TORCH)" "$(TORCHVISION)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e ".[cpu,dev]" ./packaging/torchvision_cpu_guard
	@touch $@

clean:
	rm -rf .venv $(PINS) build *.egg-info
