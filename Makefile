# Every target installs what it needs into .venv; only Python >= 3.11 and make are required.
#   make demo     train, evaluate and de-rain on the embedded photographs; writes demo/before-after.png
#   make test     all but the long tests; TORCH=0 leaves out PyTorch where no CPU build of it is available
#   make lint     ruff and pyright
#   make stress   the long tests: kills, damage, several processes
#   make bench    compares this project with its PyTorch twin; BENCH='--rows cpu-inference' selects rows
PYTHON ?= python3
TORCH ?= 1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH_VERSION := 2.13.0

.PHONY: demo test lint stress bench clean

demo: $(VENV)/.demo
	$(BIN)/python train.py --config configs/demo.py --workdir demo/run
	$(BIN)/python evaluate.py --config configs/demo.py --workdir demo/run
	$(BIN)/python -m multifocal_jax.cli.demo demo/run demo/before-after.png

test: $(VENV)/.test $(if $(filter 0,$(TORCH)),,$(VENV)/.torch)
	$(if $(filter 0,$(TORCH)),MULTIFOCAL_NO_TORCH=1 ,)$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/.test $(VENV)/.torch
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

stress: $(VENV)/.test $(VENV)/.torch
	$(BIN)/python -m pytest -q -m slow

bench: $(VENV)/.test $(VENV)/.torch
	$(BIN)/python -m benchmarks --json benchmarks.json $(BENCH)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.torch: $(VENV)/.test
	$(PIP) torch==$(TORCH_VERSION)
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info
