# The words of this project. Each makes .venv when there is none; `make` alone prints them.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
EXTRAS := dev,train,data,docs,zh,api,documents,llm,grammar
export OMP_NUM_THREADS ?= 1
export NO_MKDOCS_2_WARNING := 1

# Any Python from 3.11 on that can make a virtual environment; say `make PYTHON=/path/to/python` to choose.
PYTHON ?=

# glibc otherwise returns the large tensors of every step to the system and asks for them again; measured: 3.3 s
# instead of 4.2 s for a training step of eight phantoms on one core.
REUSE_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=500000000 OMP_NUM_THREADS=2

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format docs docs-serve train-demo bench lock clean distclean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## write a report for a synthetic scan and show it (under two minutes on two cores)
	$(BIN)/ctscribe demo

test: $(STAMP) ## run every test
	$(BIN)/python -m pytest -n auto --maxprocesses 8 $(PYTEST_ARGS)

check: $(STAMP) ## formatting, lint, types, import directions, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

test-slow: $(STAMP) ## run the proofs that take minutes (a whole course on two processes)
	CTSCRIBE_SLOW=1 $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

docs-serve: $(STAMP) ## read the documentation at http://127.0.0.1:8000 while editing it
	$(BIN)/mkdocs serve

train-demo: $(STAMP) ## train the bundled checkpoint again, from synthetic scans (hours on two cores)
	$(REUSE_MEMORY) $(BIN)/ctscribe train demo

bench: $(STAMP) ## run every benchmark and print its numbers
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

lock: $(STAMP) ## write the versions installed in .venv into constraints.txt
	$(BIN)/pip --disable-pip-version-check freeze --exclude-editable --exclude torchvision \
	  | sed -e '/^#/d' -e 's/+cpu$$//' | sort -f > constraints.txt.part
	mv constraints.txt.part constraints.txt

clean: ## remove what was built; keep .venv
	rm -rf site build dist out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests recipes benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

# ------------------------------------------------------------------------------------------ installation
define NEEDS_PYTHON
ctscribe needs Python 3.11 or newer that can make a virtual environment (modules venv and ensurepip).
  tried: python3 python3.14 python3.13 python3.12 python3.11 python
  try:   install one (on Debian and Ubuntu: apt-get install python3 python3-venv),
         or name one: make PYTHON=/path/to/python3.11 ...
endef
export NEEDS_PYTHON

$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; exec "$$python" -m venv $(VENV); fi; \
	done; printf '%s\n' "$$NEEDS_PYTHON" >&2; exit 1

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing ctscribe and what it needs into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
