# Needs Python 3.11 or newer, a C compiler and git; everything else goes into .venv. `make` lists the targets.
# Another interpreter: make install PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
# Quiet twice over: errors only.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMP := .venv/.installed
# What benchmarks compare with stands apart: its versions are not ours, and nobody else needs it.
PEERS := .venv/peers/.installed

# What was published within so many days is not chosen: most releases that were taken over are found out sooner. For one
# that mends a known hole: make lock COOLDOWN=0.
COOLDOWN ?= 14
BEFORE := from datetime import UTC, datetime, timedelta as t; print((datetime.now(UTC) - t($(COOLDOWN))).isoformat())
OLDER = $(if $(filter-out 0,$(COOLDOWN)),--exclude-newer $(shell $(PYTHON) -c '$(BEFORE)'))

# What a .venv was made with; another answer, or none, and it is made again.
WHO := import sys; print(sys.implementation.cache_tag, sys.base_prefix)

.PHONY: help install run test canaries soak bench lint format wheel bundle lock lock-bench fuzz audit clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(STAMP)  ## put the locked dependencies and this checkout into .venv

run: $(STAMP)  ## start the orchestrator with its reference agents
	$(BIN)/orchestrator demo

# More workers than most machines have cores: much of the suite waits for servers and processes.
test: $(STAMP)  ## run the tests; ARGS="-k name" to choose some, WORKERS=0 for all in one process
	$(BIN)/pytest --numprocesses $(or $(WORKERS),3) --dist worksteal $(ARGS)

canaries: $(STAMP)  ## 100,000 requests with a canary in every field, or CANARIES=as many as you say
	CANARIES=$(or $(CANARIES),100000) $(BIN)/pytest -q tests/test_canaries.py

soak: $(STAMP)  ## three replicas under load and faults, for SECONDS=600 or as many as you say
	SOAK_SECONDS=$(or $(SECONDS),600) $(BIN)/pytest -s tests/faults/test_three_replicas.py $(ARGS)

bench: $(STAMP) $(PEERS)  ## measure, beside what it is compared with; ARGS="--list", ARGS="http --rounds 3"
	$(BIN)/python -m bench $(ARGS)

lint: $(STAMP)  ## check style, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright -p .pkg
	$(BIN)/lint-imports --config pyproject.toml --no-logo

format: $(STAMP)  ## lay out the code, and repair what can be repaired safely
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP)  ## build the wheel and check it in an environment of its own
	$(BIN)/python scripts/check_wheel.py

bundle: $(STAMP)  ## make dist/bundle, which installs without a network, and its bill of materials
	$(BIN)/python scripts/make_bundle.py $(ARGS)

# From which file, with which options, to which lock.
define choose
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && \
	"$$scratch/bin/python" -m pip --disable-pip-version-check -qq install --progress-bar off uv && \
	"$$scratch/bin/uv" pip compile $(1) --quiet $(2) --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate $(OLDER) $(ARGS) --output-file $(3)
	@! grep -nE '://|^-' $(3) || { echo '$(3) names an address' >&2; exit 1; }
endef

lock: .venv/.python  ## choose versions anew for requirements.lock; ARGS=--upgrade for the newest that are 14 days old
	$(call choose,pyproject.toml,--all-extras,requirements.lock)

lock-bench: .venv/.python  ## the same for bench/requirements.lock, of what is compared with
	$(call choose,bench/requirements.in,,bench/requirements.lock)

fuzz: $(STAMP)  ## thousands of requests, of values to decode, and of trails to verify; ARGS="FUZZ_EXAMPLES=20000" for more
	env FUZZ_EXAMPLES=5000 $(ARGS) $(BIN)/pytest -q --timeout 3600 --hypothesis-profile fuzz \
		tests/web/test_openapi_fuzz.py tests/domain/test_strict_json.py tests/domain/test_endpoint.py \
		tests/domain/test_reach.py tests/domain/test_rate.py tests/outbound/test_agents.py \
		tests/audit/test_verifier_fuzz.py

audit: .venv/.python  ## look the locked dependencies up among known vulnerabilities; needs the network
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && \
	"$$scratch/bin/python" -m pip --disable-pip-version-check -qq install --progress-bar off pip-audit && \
	"$$scratch/bin/pip-audit" --strict --require-hashes --disable-pip --progress-spinner off --requirement requirements.lock

clean:  ## remove what was built and cached, but not .venv
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The editable install takes nothing from outside: its build tool, too, is in the lock.
$(STAMP): .venv/.python requirements.lock pyproject.toml
	$(PIP) install --progress-bar off --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(PEERS): .venv/.python bench/requirements.lock
	$(PYTHON) -m venv .venv/peers
	.venv/peers/bin/python -m pip --disable-pip-version-check -qq install --progress-bar off --require-hashes \
		--requirement bench/requirements.lock
	@touch $@

# Checked each time, written only when the interpreter is another one.
.venv/.python: FORCE
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@wanted=$$($(PYTHON) -c '$(WHO)') && found=$$($(BIN)/python -c '$(WHO)' 2>/dev/null || true) && \
	if [ "$$wanted" != "$$found" ]; then rm -rf .venv && $(PYTHON) -m venv .venv; fi && \
	{ [ -f $@ ] || touch $@; }

.PHONY: FORCE
FORCE:
