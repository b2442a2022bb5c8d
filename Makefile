# Everything here sets itself up: a fresh machine needs python3 (>= 3.11) with venv, make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SITE ?= sites/testbed_sim.toml
ARGS ?=

.PHONY: demo test lint unit bench wheel clean

$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "bess-gateway needs Python 3.11 or newer")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing bess-gateway into $(VENV)" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e . >&2
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "installing the development tools into $(VENV)" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]' >&2
	@touch $@

demo: $(VENV)/.runtime
	@$(BIN)/bess-gateway demo $(ARGS)

test: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

# What needs the machine to itself (real processes, real time) runs alone and without the tracer, and gets a second
# chance: on a shared machine a neighbour can take the processor for seconds.
unit: $(VENV)/.dev
	$(BIN)/pytest -m "not system" -n 2 --cov --cov-report=
	$(BIN)/pytest -m system --reruns 2
	$(BIN)/coverage report

bench: $(VENV)/.dev
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist var .coverage* gateway.egg-info bess_gateway.egg-info
