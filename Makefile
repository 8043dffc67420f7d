# Each target first sets up .venv if it is missing or older than pyproject.toml.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test test-all soak meddle lint format clean

# pip compiles on one core, and modules that nothing imports too. Some packages contain templates that are not Python.
$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --no-compile -c constraints.txt -e '.[test,lint]'
	$(VENV)/bin/python -m compileall -qq -j 0 -x '/(tests?|rllib|models)/' $(VENV)/lib || true
	touch $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/perceiver demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal

# Also the tests marked slow: hours, and several gigabytes of memory.
test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal -m ""

MINUTES ?= 30
SEED ?= 0
soak: $(STAMP)
	$(VENV)/bin/python -m tests.faults.soak --minutes $(MINUTES) --seed $(SEED)

ROUNDS ?= 200
meddle: $(STAMP)
	$(VENV)/bin/python -m tests.faults.meddling --rounds $(ROUNDS) --seed $(SEED)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
