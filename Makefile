# Everything from a fresh clone: `make demo` shows Homeward, `make test` tests it. Needs Python 3.11 or newer, nothing else.
# Another interpreter: make PYTHON=python3.12 demo. Works with GNU make 3.81 (macOS) and newer.

# The first interpreter that is new enough; python3 itself when none is, so that the complaint names it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; done; echo python3)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints-cpu.txt -c requirements.lock
PINS := pyproject.toml constraints-cpu.txt requirements.lock
CODE := $(wildcard proto/homeward/*.py) cli localfleet router simulator workers

.PHONY: help demo test lint proto check-proto lock clean

help:
	@echo 'make demo    build the environment, start a local fleet, animate the photos in examples/ into out/, explain, stop'
	@echo 'make test    build the environment, then ruff, mypy and the whole test suite'
	@echo 'make lint    ruff and mypy alone'
	@echo 'make proto   regenerate the stubs after editing a .proto file'
	@echo 'make check-proto   are the committed stubs up to date?'
	@echo 'make lock    resolve requirements.lock anew'
	@echo 'make clean   remove what the targets above made, except $(VENV)'

demo: $(VENV)/.has-fleet
	@$(BIN)/homeward demo --out out

test: $(VENV)/.has-dev lint
	@$(BIN)/python -m pytest

lint: $(VENV)/.has-dev
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(CODE)

proto:
	@proto/generate.sh

# Is the contract lint-free (where buf is installed), and are the committed stubs those of the .proto files? The generator lives in an environment of its own, see proto/generate.sh.
check-proto:
	@if command -v buf >/dev/null; then buf lint; fi
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && proto/generate.sh "$$fresh" && \
		for stub in $$(cd "$$fresh" && find . -type f); do \
			cmp -s "$$fresh/$$stub" "proto/$$stub" || { echo "proto/$$stub is not what its .proto says: run make proto" >&2; exit 1; }; \
		done && echo 'the committed stubs are those of the .proto files'

lock: $(VENV)/.has-python
	@$(BIN)/python scripts/lock.py

clean:
	rm -rf out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Stamps: each is newer than what it was built from, or is built again.
$(VENV)/.has-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'Homeward needs Python 3.11 or newer as python3; name another one with: make PYTHON=/path/to/python demo' >&2; exit 1; }
	@echo 'making the environment in $(VENV) ...'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.has-fleet: $(VENV)/.has-python $(PINS)
	@echo 'installing router, worker and command line (a few hundred MB, torch is most of it) ...'
	@$(PIP) -e '.[fleet]'
	@touch $@

$(VENV)/.has-dev: $(VENV)/.has-python $(PINS)
	@echo 'installing everything that the tests need ...'
	@$(PIP) -e '.[dev]'
	@touch $@
