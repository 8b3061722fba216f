# Two commands do everything on a fresh machine with Python 3.11+, make and the package registry:
#   make demo    the main job on an embedded model
#   make test    the checks and the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint figures study bench clean

demo: $(VENV)/installed
	@$(BIN)/neurolens demo -o neurolens-demo

test: $(VENV)/installed-dev lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/pyright

figures: $(VENV)/installed
	@$(BIN)/python figures/make.py neurolens-demo

study: $(VENV)/installed
	@$(BIN)/neurolens study studies/demo-checkpoints.toml -o neurolens-study

bench: $(VENV)/installed-bench
	@for benchmark in benchmarks/[a-z]*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark || exit 1; done

$(VENV)/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing neurolens into $(VENV) (torch is large: a minute or more)"
	@$(PIP) install -qq --upgrade -c constraints.txt pip
	@$(PIP) install -qq --no-compile -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(PIP) install -qq -c constraints.txt --group dev
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	@$(PIP) install -qq -c constraints.txt --group bench
	@touch $@

clean:
	rm -rf $(VENV) neurolens-demo neurolens-study notebooks/neurolens-* build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
