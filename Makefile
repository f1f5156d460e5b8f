# Two commands do everything on a fresh machine with Python 3.11 or newer: make demo, make test.
PYTHON ?= python3
TRAIN_PYTHON ?= python3
# Many tests wait for a process or a clock, so one more than there are cores keeps those busy.
TEST_PROCESSES ?= $(shell echo $$(($$(nproc) + 1)))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test test-train setup models bench properties fuzz torture lock clean

demo: models
	$(BIN)/dayfold demo

test: models
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# Tests of training and of Chronos checkpoints: in a Python that has the extra `train` and pytest.
# Their libraries warn about themselves, hence the switch.
test-train:
	$(TRAIN_PYTHON) -m pytest -W default tests/training

setup: $(STAMP)

# The lock names every package with its hash; the project itself is installed without resolving.
$(STAMP): pyproject.toml requirements.lock consumer/columns/columns.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'dayfold needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)'; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo 'the venv module is missing: on Debian, apt-get install python3-venv'; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@ls consumer/columns/_compiled*.so > /dev/null 2>&1 || \
	  echo 'no C compiler or no Python.h here: all works, reception takes twice the time'
	@# pip compiles what it installs; of ours, every process of a service would do it again.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -q consumer embed index models proto tests
	@touch $@

models: setup
	$(BIN)/dayfold models build

bench: models
	$(BIN)/python -m benchmarks

# Look for examples against the properties that no build has tried yet, PROPERTY_RUNS times.
PROPERTY_RUNS ?= 1
properties: models
	for run in $$(seq $(PROPERTY_RUNS)); do \
	  $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile --hypothesis-profile search \
	    tests/properties || exit 1; \
	done

# Coverage-guided fuzzing of every reader of bytes from outside: FUZZ_SECONDS for each of them.
FUZZ_SECONDS ?= 60
fuzz: setup
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

# Kill the service at random until it has been started anew TORTURE_RESTARTS times, then look for every
# event and every chunk; and damage every file of a data folder at many places. Each says its seed.
TORTURE_RESTARTS ?= 200
TORTURE_SEED ?= $(shell date +%s)
torture: setup
	$(BIN)/python -m tests.faults.torture --restarts $(TORTURE_RESTARTS) --seed $(TORTURE_SEED)
	$(BIN)/python -m tests.faults.rotten_folder --bits 50 --cuts 50 --seed $(TORTURE_SEED)

# Resolve again; commit the result. Only for who changes dependencies.
lock: setup
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	  --extra demo --extra dev --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --no-header --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info
