# Every command of the project. CI and the pre-commit hooks call these same targets.

# The first Python that will do; `make PYTHON=/path/to/python3 test` takes another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
# Where the CPU build of torch is looked for when pip's own configuration knows none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
# Clients that fight over versions have an environment each.
CLIENTS := $(patsubst tests/clients/%.txt,$(VENV)/clients/%/.ready,$(wildcard tests/clients/*.txt))
TESTS := $(BIN)/python -m pytest -n 2 --dist loadfile
PATHS := src tests bench examples

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check fmt lint docs bench proto clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready-for-tests $(CLIENTS) ## Create .venv with all that tests need; instant once done.

demo: $(VENV)/.ready-for-demo ## Train small models, serve them, ask them, stop: the main job.
	@$(BIN)/python examples/digits/demo.py

test: check ## Check everything, then run all tests but the slow ones.
	$(TESTS) -m "not slow"

test-all: check ## As `test`, with the slow proofs: minutes of chaos and of a thousand models.
	$(TESTS)

check: setup ## Format, lint, types, imports between rooms, house rules.
	$(BIN)/ruff format --check --quiet $(PATHS)
	$(BIN)/ruff check --quiet $(PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit/test_tidy.py tests/unit/test_documents.py

fmt: setup ## Format the code and apply the linter's safe fixes.
	$(BIN)/ruff format $(PATHS)
	$(BIN)/ruff check --fix $(PATHS)

lint: setup ## What the pre-commit hook runs: format and lint, under five seconds.
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)

docs: setup ## Write docs/settings.md anew from the code.
	$(BIN)/hostler config --markdown > $(VENV)/settings.md
	mv $(VENV)/settings.md docs/settings.md

bench: setup ## Measure hostler against bare references; one JSON line a question.
	$(BIN)/python -m bench

proto: ## Generate the protobuf modules anew (they are committed).
	PYTHON=$(PYTHON) sh proto/generate.sh

clean: ## Remove what the other targets made, .venv included.
	rm -rf $(VENV) demo-models .hostler .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache build dist
	find $(PATHS) -name __pycache__ -prune -exec rm -rf {} +

# Not commands: the environment. Stamps let a second run start at once.

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "hostler needs Python 3.11, 3.12 or 3.13; none is on PATH"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "creating a virtual environment failed; on Debian: sudo apt-get install python3-venv"; exit 1; }

# The demo needs no torch: its environment is ready in well under two minutes.
$(VENV)/.ready-for-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing hostler[demo] into $(VENV) ..."
	@$(PIP) install --quiet -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/clients/%/.ready: tests/clients/%.txt | $(BIN)/python
	@echo "installing the client $* for its tests ..."
	@rm -rf $(@D)
	@$(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

# torch: the CPU build from wherever pip is told to look, else from PyTorch's own index, else
# (macOS, where the plain build is the CPU build) the plain one.
$(VENV)/.ready-for-tests: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing hostler with everything that its tests use into $(VENV) ..."
	@$(BIN)/python -c 'from importlib.metadata import version as v; v("torch").startswith("$(TORCH)") or exit(1)' 2>/dev/null \
		|| $(PIP) install --quiet -c constraints.txt 'torch==$(TORCH)+cpu' 2>/dev/null \
		|| $(PIP) install --quiet -c constraints.txt --extra-index-url $(TORCH_INDEX) 'torch==$(TORCH)+cpu' 2>/dev/null \
		|| $(PIP) install --quiet -c constraints.txt 'torch==$(TORCH)'
	@$(PIP) install --quiet -c constraints.txt -e '.[torch,images,parquet,ray,tracing,demo,postgresql,dev]'
	@touch $@ $(VENV)/.ready-for-demo
