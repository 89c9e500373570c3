# `make quickstart` and `make test` set up all they need in .venv; the machine only has to have Python >= 3.11.
PYTHON ?= python3
PY := .venv/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Two workers, whole modules at a time, so that a module's fixtures are made once. A BLAS that starts threads of its
# own in each worker only gets in the way.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(PY) -m pytest -n 2 --dist loadscope -q

.PHONY: help quickstart test test-slow lint bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart  the main job on handwritten digits: table, figure and data in quickstart-results/"
	@echo "make test        style, types, import contracts, tests and the documentation's examples"
	@echo "make test-slow   the tests that take long (wide networks)"
	@echo "make bench       speed and error, measured side by side"
	@echo "make docs        run the documentation's examples and redraw its figure"
	@echo "make clean       remove caches and results; .venv stays (remove it by hand)"

# The quickstart needs no torch: it makes do with the small installation unless the whole one is there already.
quickstart: $(if $(wildcard .venv/.installed),.venv/.installed,.venv/.examples)
	$(PY) -m graphon_theory quickstart --out quickstart-results

test: lint
	$(PYTEST) -m "not slow"

test-slow: .venv/.installed
	$(PYTEST) -m slow

lint: .venv/.installed
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	.venv/bin/lint-imports
	$(PY) -m mypy

bench: .venv/.installed
	@set -e; for script in validation/benchmarks/bench_*.py; do echo "== $$script"; $(PY) "$$script"; done

docs: .venv/.installed
	$(ONE_THREAD) $(PY) -m pytest -q tests/test_docs.py
	$(PY) -m graphon_theory quickstart --out build/quickstart
	cp build/quickstart/quickstart.png docs/images/quickstart.png

clean:
	rm -rf build dist quickstart-results .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find graphon_theory validation tests -name __pycache__ -type d -exec rm -rf {} +

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "graphon-theory needs Python 3.11 or newer, and there is no '$(PYTHON)' here: install it, or name one:"; \
	  echo "  make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "graphon-theory needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name a newer one:"; \
	  echo "  make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "Could not make the environment .venv (on Debian and Ubuntu: apt install python3-venv)."; exit 1; }

.venv/.examples: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing graphon-theory and what the quickstart needs into .venv ..."
	@$(PIP_INSTALL) -e '.[examples]'
	@touch $@

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing graphon-theory with its tests and its finite networks (torch) into .venv ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch .venv/.examples $@
