# `make run` prunes scikit-learn's digits from end to end; `make test` runs the fast tests, `make test-slow` the others;
# `make docs` builds the documentation.
# Each installs what it needs into .venv the first time, and nothing the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup run test test-slow lint format lock schema docs clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, found %d.%d; set PYTHON=python3.12, for example" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

run: setup
	oba run

# Two workers, since each test is one process with one thread.
test: setup
	pytest -n 2 -m "not slow"

# A machine can have one SLURM at a time, which uses both cores.
test-slow: setup
	pytest -n 2 --dist worksteal -m "slow and not cluster"
	pytest -m cluster

lint: setup
	ruff check .
	ruff format --check .
	pyright
	snakefmt --check --diff Snakefile workflow
	snakemake --lint

format: setup
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# The pinned set for pip, for all supported Pythons, and the documented schema of study files.
lock: setup
	uv pip compile --quiet --universal --no-header --no-annotate --python-version 3.11 --extra dev pyproject.toml -o requirements.lock

schema: setup
	oba schema workflow/schemas/study.schema.json

# Warnings are errors: a link to nothing, a page in no table of contents. Nothing is fetched.
docs: setup
	sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo "open docs/_build/index.html"

clean:
	rm -rf $(VENV) docs/_build results/*/ results/mlflow.db results/mlartifacts .snakemake
