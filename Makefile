# `make run` and `make test` need Python 3.11 to 3.13, make and a package index; they bring the rest.

VENV := .venv
BIN := $(VENV)/bin
EFFORT := 0.1

# The machine's threads are better spent on several processes than inside small matrix products.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.PHONY: run test lint bench evidence notebooks constraints

run: $(VENV)/installed
	$(BIN)/macrodyn run meta-specialization

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist worksteal -m "not alone" --benchmark-skip --effort $(EFFORT)
	$(BIN)/python -m pytest -q -m alone --effort $(EFFORT)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# All the slow evidence at full length.
evidence: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q --benchmark-skip -m slow --effort 1

bench: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only
	$(BIN)/python tests/benchmarks/table.py

# Runs every notebook from the top and keeps what it shows; draws the README's picture again.
notebooks: $(VENV)/installed-dev
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb
	$(BIN)/macrodyn run meta-specialization
	cp results/meta-specialization/trajectory.png notebooks/pictures/meta-specialization.png

# The exact versions of what is installed now, for everybody.
constraints: $(VENV)/installed-dev
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@ $(VENV)/installed

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	    "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	        && exec "$$python" -m venv $(VENV); \
	done; \
	echo 'macrodyn needs Python 3.11 to 3.13 with venv; name one with: make PYTHON=/path/to/python' >&2; exit 1
