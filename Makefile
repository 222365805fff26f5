# One command a job; each sets up what it needs in .venv, once.
# Every version is pinned in constraints.txt; to renew it, install every extra without it in a
# fresh environment and keep what `pip freeze` says.
# `make PYTHON=python3.12 test` takes another Python.

# The first of these that runs and is new enough.
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# The newest release that runs, on the path or of pyenv.
NEWEST ?= $(shell for minor in 14 13 12 11; do \
	for python in python3.$$minor $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.$$minor.*/bin/python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info[3] != "final")' 2>/dev/null \
	&& echo $$python && exit; done; done)

VENV := .venv
PY := $(VENV)/bin/python
# Without compiling: Python compiles what is imported, when it is, which is a fraction. It has to
# keep it: where it must not, every process of the tests would compile JAX again, for seconds.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(PY) -m pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready

# `make test SLOW=1` runs the slow tests too.
SLOW ?=

NEWEST_TESTS := tests/step tests/choose tests/train tests/check tests/golden tests/test_fit.py tests/test_resume.py

# Versions are pinned: pyright need not ask for a newer one, nor the theme announce its successor.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-all format lint types docs check bench bench-auto bench-recipes bench-tables bench-critical bench-science bench-selftuning bench-selftuning-targets mutate newest clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-26s %s\n", $$1, $$2 }' Makefile

demo: $(READY)-examples ## Train a real model on real data and say what to do next
	$(PY) examples/demo.py

test: $(READY)-$(if $(SLOW),slow-test,test) ## Run the tests that are fast, docstring examples included
	$(PY) -m pytest -n 2 --durations=10 --durations-min=2 $(if $(SLOW),,-m "not slow")

test-all: ## Run every test, the slow ones too
	$(MAKE) test SLOW=1

format: $(READY)-dev ## Mend format and what ruff can mend by itself
	$(PY) -m ruff check --fix --quiet || true
	$(PY) -m ruff format

lint: $(READY)-dev ## Check format and style
	$(PY) -m ruff format --check
	$(PY) -m ruff check

types: $(READY)-dev ## Check types
	$(PY) -m pyright --pythonpath $(PY)

docs: $(READY)-dev ## Build the documentation into site/; any warning fails
	$(PY) -m mkdocs build --strict

check: lint types docs ## All that CI checks: format, lint, types, docs, every test
	$(MAKE) test SLOW=1

bench: $(READY)-bench ## Measure speed and memory beside other packages
	$(PY) -m benchmarks

bench-auto: $(READY)-bench ## Measure automatic training beside a grid search and usual defaults
	$(PY) -m benchmarks.auto --json bench-data/auto.json

bench-recipes: $(READY)-bench ## Measure the recipes beside the packages that people would use instead
	for name in svm embedding anomaly batch_effect fusion batch_norm; do \
		$(PY) -m benchmarks.$$name || exit; \
	done

bench-tables: $(READY)-bench-tables ## Measure the quality on tables beside other packages, an hour
	$(PY) -m benchmarks.tables

bench-selftuning: $(READY)-bench ## Measure training that tunes itself beside its rivals, hours that resume
	$(PY) -m benchmarks.selftuning --screen

bench-selftuning-targets: $(READY)-bench ## Search by hand for the targets of bench-selftuning, once a machine
	$(PY) -m benchmarks.selftuning.targets

bench-critical: $(READY)-bench ## Compare noise scales with critical batch sizes by branches, half an hour that resumes
	$(PY) -m benchmarks.selftuning.critical

bench-science: $(READY)-bench ## Measure posteriors beside exact ones and NUTS
	$(PY) -m benchmarks.posterior

newest: ## Run the demo and the core's fast tests on the newest Python, with packages unpinned
	@test -n "$(NEWEST)" || { echo "Python 3.11 or newer is needed: make NEWEST=/path/to/python" >&2; exit 1; }
	@test "$$($(VENV)-newest/bin/python -VV 2>&1)" = "$$($(NEWEST) -VV)" || $(NEWEST) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip --disable-pip-version-check --quiet install --upgrade \
		--upgrade-strategy eager -e '.[examples]' hypothesis pytest pytest-xdist
	$(VENV)-newest/bin/python -VV && $(VENV)-newest/bin/python -m pip list | grep -E '^(jax|numpy|optax|pyarrow) '
	$(VENV)-newest/bin/python examples/demo.py
	XLA_FLAGS= $(VENV)-newest/bin/python -m pytest -n 2 -m "not slow" $(NEWEST_TESTS)

mutate: $(READY)-mutate ## Put small faults into the core and say which of them the tests miss
	$(PY) -m benchmarks.mutate

clean: ## Remove what these commands made, .venv too
	rm -rf $(VENV) $(VENV)-newest build dist site .pytest_cache .ruff_cache .hypothesis .mutate
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp an extra, so that the demo need not wait for the tools that only developers use.
# Without build isolation the build back end is pinned like the rest.
$(READY)-%: pyproject.toml constraints.txt | $(PY)
	$(PIP) install --no-compile -c constraints.txt hatchling setuptools
	$(PIP) install --no-compile -c constraints.txt --no-build-isolation -e '.[$*]'
	@touch $@

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
