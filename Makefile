# Every target installs what it needs into .venv; only Python >= 3.11 and make are required.
#   make demo     train, evaluate and de-rain on the embedded photographs; writes demo/before-after.png
#   make test     all but the long tests; TORCH=0 leaves out PyTorch where no CPU build of it is available
#   make lint     ruff and pyright
#   make stress   the long tests: kills, damage, several processes
#   make docs     builds the documentation's site in site/
#   make tour     runs docs/tour.ipynb and stores its results in it, which the site shows
#   make dist     builds sdist and wheel in dist/, checks and lists them
#   make bench    compares this project with its PyTorch twin; BENCH='--rows cpu-inference' selects rows
PYTHON ?= python3
TORCH ?= 1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH_VERSION := 2.13.0

.PHONY: demo test lint stress docs tour dist bench clean

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

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d build/doctrees docs site
	@echo open site/index.html

tour: $(VENV)/.test $(VENV)/.docs $(VENV)/.torch
	$(BIN)/python -c 'import nbclient, nbformat; file = "docs/tour.ipynb"; notebook = nbformat.read(file, 4); \
	  nbclient.execute(notebook, cwd="docs", record_timing=False); nbformat.write(notebook, file)'

dist: $(VENV)/.dist
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	tar --list --file dist/*.tar.gz
	$(BIN)/python -m zipfile --list dist/*.whl
	$(BIN)/python -m twine check --strict dist/*

bench: $(VENV)/.test $(VENV)/.torch
	$(BIN)/python -m benchmarks --json benchmarks.json $(BENCH)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo $(VENV)/.test $(VENV)/.docs $(VENV)/.dist: $(VENV)/.%: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[$*]'
	touch $@

$(VENV)/.torch: $(VENV)/.test
	$(PIP) torch==$(TORCH_VERSION)
	touch $@

clean:
	rm -rf $(VENV) demo build dist site jupyter_execute *.egg-info
