# Everything runs in .venv, which the first command makes and the others share.
PYTHON ?= python3
BIN := .venv/bin
WORKERS := $(shell expr $$(nproc) \* 2)  # of the tests, which wait for processes of their own much of the time
# What the notebooks and the command line use: engines past one machine are for who has them, and for the tests.
EXTRAS := app,compress,data,deploy,explain,nlp,search
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder -rfE

.PHONY: help run lab app test test-slow lint bench bench-compress gpu clean
.DEFAULT_GOAL := help

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Setting up .venv; this happens once and takes a minute or two"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

.venv/tested: .venv/ready
	@echo "Adding what tests and benchmarks need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

run: .venv/ready  ## Train the CNN on the digits over two processes and write a report
	@$(BIN)/lepton-lab demo

lab: .venv/ready  ## Open JupyterLab on its first page
	@$(BIN)/lepton-lab lab notebooks

app: .venv/ready  ## Open the workbench as a page of its own, without code
	@JUPYTER_PATH=widgets $(BIN)/voila --template=lepton notebooks/app.ipynb

lint: .venv/tested  ## Check style and types
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy

test: .venv/tested  ## Run every test but the slow extras
	@$(BIN)/ruff check --quiet
	@$(PYTEST)

test-slow: .venv/tested  ## Run the slow extras, which take an hour
	@$(PYTEST) -m slow

bench: .venv/tested  ## Measure speed and memory side by side with peers
	@$(BIN)/python -m benchmarks

bench-compress: .venv/tested  ## Measure what compression saves and costs, on MNIST over three seeds (half an hour)
	@$(BIN)/python -m benchmarks --only compress

gpu: .venv/tested  ## On a machine with a GPU: its tests, and one table of what it does (8 minutes)
	@$(PYTEST) -m gpu
	@$(BIN)/python -m benchmarks --only gpu

clean:  ## Remove the environment and caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
