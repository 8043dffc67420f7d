# Each target first sets up .venv if it is missing or older than pyproject.toml.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test test-all test-ray soak meddle lint format clean

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

# Runs, kills and resumes with another release of Ray: `make test-ray RAY=2.58`. Its environment takes all other packages
# from .venv.
RAY ?= 2.58
RAY_VENV := .venv-ray-$(RAY)
RAY_TESTS := tests/faults/test_kills.py tests/faults/test_stopped_runs.py \
	$(addprefix tests/runtime/ray_backend/,test_connect.py test_dataset.py test_drain.py test_failures.py)

test-ray: $(RAY_VENV)/.installed
	OMP_NUM_THREADS=1 $(RAY_VENV)/bin/python -m pytest -p no:cacheprovider -m "" $(RAY_TESTS)

$(RAY_VENV)/.installed: $(STAMP)
	$(VENV)/bin/python -m venv --without-pip --clear $(RAY_VENV)
	$(VENV)/bin/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
		> "$$($(RAY_VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')/packages.pth"
	grep -v '^ray==' constraints.txt > $(RAY_VENV)/constraints.txt
	$(VENV)/bin/python -m pip --python $(RAY_VENV)/bin/python install -q -c $(RAY_VENV)/constraints.txt \
		'ray[data,default]==$(RAY).*'
	touch $@

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
	rm -rf $(VENV) .venv-ray-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
