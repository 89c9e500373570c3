# `make quickstart` and `make test` set up all they need in .venv; the machine only has to have Python >= 3.11.
# Another Python, or other versions of what the package stands on, get an environment of their own:
#   make VENV=.venv-3.13 PYTHON=python3.13 test-theory
PYTHON ?= python3
OLDEST ?= python3.11
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
# Two workers, whole modules at a time, so that a module's fixtures are made once. A BLAS that starts threads of its
# own in each worker only gets in the way.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(PY) -m pytest -n 2 --dist loadscope -q

.PHONY: help quickstart test test-theory test-oldest test-slow test-slow-theory test-slow-networks lint wheel bench \
  docs links figure clean python
.DEFAULT_GOAL := help

help:
	@echo "make quickstart  the main job on handwritten digits: table, figure and data in quickstart-results/"
	@echo "make test        style, types, import contracts, tests (the wheel's too) and the documentation's examples"
	@echo "make test-theory the tests of the theory alone, without torch: for other Pythons and versions"
	@echo "make test-oldest the same with the oldest Python and packages promised"
	@echo "make test-slow   the tests that take long: test-slow-theory, then test-slow-networks"
	@echo "make wheel       build the wheel into dist/ and use it away from the checkout"
	@echo "make bench       speed and error, measured side by side"
	@echo "make docs        run the documentation's examples and build the site into build/site/, warnings as errors"
	@echo "make links       ask every site that the pages link to whether it still answers (needs a network: not part of test)"
	@echo "make figure      redraw the figure of the README"
	@echo "make clean       remove caches and results; environments stay (remove .venv* by hand)"

# The quickstart needs no torch: it makes do with the small installation unless the whole one is there already.
quickstart: $(if $(wildcard $(VENV)/.installed),$(VENV)/.installed,$(VENV)/.examples)
	$(PY) -m graphon_theory quickstart --out quickstart-results

test: lint
	$(PYTEST) -m "not slow"

test-theory: python $(VENV)/.tests
	$(PYTEST) -m "not slow" --ignore tests/validation

test-oldest:
	@$(OLDEST) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "The oldest Python promised is 3.11, and '$(OLDEST)' is none: install it, or name one:"; \
	  echo "  make OLDEST=/path/to/python3.11 test-oldest"; exit 1; }
	@$(MAKE) --no-print-directory VENV=.venv-oldest PYTHON=$(OLDEST) CONSTRAINTS=constraints-oldest.txt test-theory

test-slow:
	@$(MAKE) --no-print-directory --keep-going test-slow-theory test-slow-networks

# Each within an hour on two cores.
test-slow-theory: python $(VENV)/.installed
	$(PYTEST) -m slow --durations=10 --ignore tests/validation

test-slow-networks: python $(VENV)/.installed
	$(PYTEST) -m slow --durations=10 tests/validation

lint: python $(VENV)/.installed
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(VENV)/bin/lint-imports
	$(PY) -m mypy

wheel: python $(VENV)/.installed
	$(PY) -m hatchling build --target wheel --directory dist
	$(ONE_THREAD) $(PY) -m pytest -q tests/test_wheels.py

bench: $(VENV)/.installed
	@set -e; for script in validation/benchmarks/bench_*.py; do echo "== $$script"; $(PY) "$$script"; done

docs: $(VENV)/.installed
	$(ONE_THREAD) $(PY) -m pytest -q tests/test_docs.py
	$(ONE_THREAD) $(PY) -m sphinx -b html -W --keep-going -q docs build/site
	@echo "the site: build/site/index.html"

# The theory's tests hold that links are well formed; whether they are answered is for a machine with a network.
links: $(VENV)/.installed
	$(ONE_THREAD) $(PY) -m sphinx -b linkcheck -D nb_execution_mode=off -D plot_gallery=0 -q docs build/links

figure: $(VENV)/.installed
	$(PY) -m graphon_theory quickstart --out build/quickstart
	cp build/quickstart/quickstart.png docs/images/quickstart.png

clean:
	rm -rf build dist quickstart-results docs/generated docs/gallery docs/sg_execution_times.rst .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find graphon_theory validation tests -name __pycache__ -type d -exec rm -rf {} +

# Says which Python runs, and that it is the one asked for: an environment keeps the one that made it.
python: | $(PY)
	@echo "$(VENV): $$($(PY) -V)"
ifneq ($(origin PYTHON),file)
	@test "$$($(PYTHON) -V)" = "$$($(PY) -V)" || { \
	  echo "'$(PYTHON)' is $$($(PYTHON) -V): remove $(VENV), or give this Python an environment of its own:"; \
	  echo "  make VENV=.venv-other PYTHON=$(PYTHON) $(MAKECMDGOALS)"; exit 1; }
endif

$(PY):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "graphon-theory needs Python 3.11 or newer, and there is no '$(PYTHON)' here: install it, or name one:"; \
	  echo "  make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "graphon-theory needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name a newer one:"; \
	  echo "  make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not make the environment $(VENV) (on Debian and Ubuntu: apt install python3-venv)."; exit 1; }

$(VENV)/.examples: pyproject.toml $(CONSTRAINTS) | $(PY)
	@echo "Installing graphon-theory and what the quickstart needs into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[examples]'
	@touch $@

$(VENV)/.tests: pyproject.toml $(CONSTRAINTS) | $(PY)
	@echo "Installing graphon-theory with its tests, without torch, into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[examples,estimation,scale,tests]'
	@touch $@

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(PY)
	@echo "Installing graphon-theory with its tests and its finite networks (torch) into $(VENV) ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.examples $(VENV)/.tests $@
