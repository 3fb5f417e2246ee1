# `make demo` and `make test` do all the set-up they need; `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
ENGINE ?= vllm
BIN := .venv/bin

.PHONY: help setup demo test unit check bench bench-effort faults faults-full lock packages clean

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup:  ## Create .venv, the Harmony vocabulary and the tiny checkpoint; instant when done.
	@$(PYTHON) requirements/install.py

demo: setup  ## Run the whole system on this machine (ENGINE=vllm or sim) until Ctrl-C.
	@exec $(BIN)/gpt-oss-cluster demo --engine $(ENGINE)

test: setup packages  ## Run every test: unit, integration, and end to end on real Ray Serve and real vLLM.
	$(BIN)/pytest

unit: setup  ## Run the tests that need no engine.
	$(BIN)/pytest -m "not e2e and not integration"

check: setup  ## Lint, format, types and layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## Measure the gateway beside its peers (20 minutes; OPTIONS="--help" tells more).
	@$(PYTHON) tests/system_packages.py nginx redis-server
	@$(BIN)/python -m loadtest.bench $(OPTIONS)

bench-effort: setup  ## Measure waits by effort on real Ray Serve, beside round-robin (15 minutes; OPTIONS="--help").
	@$(BIN)/python -m loadtest.effort $(OPTIONS)

faults: setup  ## Break the whole stack in every way, three times each (20 minutes; OPTIONS="--help").
	@$(PYTHON) tests/system_packages.py redis-server
	@$(BIN)/python -m tests.faults $(OPTIONS)

faults-full: setup  ## The same 20 and 60 times each: for a night.
	@$(PYTHON) tests/system_packages.py redis-server
	@$(BIN)/python -m tests.faults --full $(OPTIONS)

packages:  ## Install the programs that tests need, where this user may: Redis, helm, kubectl, checkov, promtool.
	@$(PYTHON) tests/system_packages.py
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tests/helm_tools.py
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tests/helm/checkov.py
	@$(PYTHON) tests/promtool.py

# uv resolves, pip installs: uv writes hashes for every platform, pip also takes wheels from a local disk.
LOCK = $(BIN)/uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-header --quiet $(UPGRADE)
CPU = --override requirements/cpu-overrides.txt --no-emit-package torch
lock:  ## Write the lock files anew (UPGRADE=--upgrade for newer versions).
	$(BIN)/pip install --quiet uv==0.13.9
	$(LOCK) --output-file requirements/gateway.lock
	$(LOCK) --extra loadtest --output-file requirements/loadtest.lock
	$(LOCK) $(CPU) --extra cpu --output-file requirements/serving-cpu.lock
	$(LOCK) --extra gpu --output-file requirements/serving-gpu.lock
	$(LOCK) $(CPU) --extra cpu --extra dev --output-file requirements/dev.lock
	for peer in litellm smg vllm-router; do $(subst pyproject.toml,requirements/bench-$$peer.in,$(LOCK)) \
		--output-file requirements/bench-$$peer.lock || exit 1; done

clean:  ## Remove everything that set-up made.
	rm -rf .venv .cache build *.egg-info
