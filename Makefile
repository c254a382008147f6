# Everything a developer needs: make run, make test, make check, make bench, make chaos, make fuzz. Each installs what it
# needs first.
# No `uv` or other tool is assumed: Python 3.11 or later with its own venv and pip.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first of these that runs, is new enough and can make virtual environments. PYTHON=... overrides.
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3
SUITABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help install run test check bench bench-core compare chaos fuzz clean

help:
	@echo "make run      start everything with sample data and print the addresses to open"
	@echo "make test     run all tests"
	@echo "make check    lint, formatting, types and the project's own rules"
	@echo "make bench    measure the speed on this machine, with baselines and limits; writes bench-report/index.html"
	@echo "make bench-core  time the core's own steps; make compare puts them beside the parent commit's"
	@echo "make chaos    kill processes 200 times under load and audit every invariant"
	@echo "make fuzz     100,000 requests made from the OpenAPI document, right and wrong, by callers of every kind"
	@echo "make install  only install into $(VENV); make clean removes it"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if ! [ -x $(BIN)/python ]; then \
	  for python in $(PYTHONS); do \
	    if $$python -c "$(SUITABLE)" >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "MasterVIP needs Python 3.11 or later with the venv module (on Debian: apt install python3 python3-venv)." >&2; \
	    echo "None was found among: $(PYTHONS). Name one with: make install PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  $$found -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# `exec`: the program itself gets the signals, and make ends with its status.
run: install
	@exec $(BIN)/mastervip demo

test: install
	@exec $(BIN)/python -m tests

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_tidy.py

bench: install
	@exec $(BIN)/mastervip bench --html bench-report/index.html

bench-core: install
	@exec $(BIN)/python -m pytest tests/benchmarks -o python_files='bench_*.py' --benchmark-columns=min,median,ops,rounds

compare: install
	@exec $(BIN)/python -m tests.benchmarks.compare

chaos: install
	@exec $(BIN)/python -m tests.chaos.run --kills 200

fuzz: install
	@exec $(BIN)/python -m tests.conformance.fuzz --cases 100000

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
