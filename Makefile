# Two commands matter: `make quickstart` (the main job) and `make test`. Each sets itself up from nothing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := packages/a2v-model packages/a2v-data packages/a2v-eval .
STAMP := $(VENV)/.installed
DOCS := .venv-docs
LIGHT := .venv-light

.PHONY: quickstart test test-fast test-rehearsals test-light fuzz lint ui docs
quickstart: $(STAMP)
	$(BIN)/a2v experiment run quickstart.yaml

# Two processes for two cores: tests on Ray mostly wait, so the others run beside them, and what is left comes after.
BESIDE := $(wildcard tests/experiments/test_experiments_[c-eg-o]*.py tests/experiments/test_experiments_p[!r]*.py)
AFTER := $(filter-out $(BESIDE),$(wildcard tests/experiments/test_*.py)) tests/fuzz tests/infra
test: lint
	@nice -n 19 $(BIN)/python -m pytest -m "not ray and not rehearsal" tests/data tests/eval tests/gpu tests/model $(BESIDE) \
	  > $(VENV)/beside.log 2>&1 & beside=$$!; \
	$(BIN)/python -m pytest -m "ray and not rehearsal" tests; ray=$$?; \
	$(BIN)/python -m pytest -m "not ray and not rehearsal" $(AFTER); after=$$?; \
	wait $$beside; beside=$$?; cat $(VENV)/beside.log; [ $$ray = 0 ] && [ $$after = 0 ] && [ $$beside = 0 ]

test-fast: $(STAMP)
	$(BIN)/python -m pytest -m "not ray and not slow"

# Of what only a GPU or many machines can show, or takes minutes.
test-rehearsals: $(STAMP)
	$(BIN)/python -m pytest -m rehearsal tests

# Mutated inputs by the hundred: none may end in a traceback, a hang or a full memory. `make fuzz FUZZ="--seed 7"`
FUZZ ?= --count 300
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/fuzz.py $(FUZZ)

# What a machine that only predicts has: no Ray, no MLflow; the distributions as wheels, not as links.
test-light: $(STAMP) $(LIGHT)/.installed
	rm -rf $(LIGHT)/wheels
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(LIGHT)/wheels $(PACKAGES)
	$(LIGHT)/bin/pip install --quiet --no-deps --force-reinstall $(LIGHT)/wheels/*.whl
	$(LIGHT)/bin/pip check
	A2V_LIGHT_PYTHON=$(abspath $(LIGHT))/bin/python $(BIN)/python -m pytest tests/experiments/test_experiments_light.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

ui: $(STAMP)
	$(BIN)/a2v ui

docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

# The lock pins every dependency with its hash; the four distributions are linked to this checkout. pip compiles
# them on one processor, compileall on all; a few files of theirs are for other Pythons and do not compile.
$(STAMP): requirements.lock pyproject.toml $(wildcard packages/*/pyproject.toml)
	@command -v $(PYTHON) >/dev/null || { echo "a2v needs Python 3.11: '$(PYTHON)' was not found (set PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	$(BIN)/pip install --quiet --no-deps --no-build-isolation $(addprefix --editable ,$(PACKAGES))
	@touch $@

$(LIGHT)/.installed: requirements-light.lock
	$(PYTHON) -m venv --clear $(LIGHT)
	$(LIGHT)/bin/pip install --quiet --require-hashes -r requirements-light.lock
	@touch $@

# The documentation's tools have an environment of their own, so the locked one stays what the lock says.
$(DOCS)/.installed: docs/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet -r docs/requirements.txt
	@touch $@
