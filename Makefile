PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test check fuzz pins format bench-transport bench-protocol bench-asgi clean bench-reports bench-billing
help:           ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

# One stamp per set of pins: the second run finds it and starts at once.
$(VENV)/.demo: requirements/demo.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/demo.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

demo: $(VENV)/.demo   ## the portal, three instances and the Stripe simulator on this machine; ARGS=--once walks it without a person
	@$(BIN)/provider-federation demo $(ARGS)

test: $(VENV)/.dev    ## every test
	@$(BIN)/python tools/browser.py
	@$(BIN)/python tools/run_tests.py $(ARGS)

check: $(VENV)/.dev   ## lint, types, import contracts, migrations, deploy check
	@$(BIN)/python tools/run_checks.py

fuzz: $(VENV)/.dev     ## a minute of coverage-guided fuzzing of verify; FUZZ_SECONDS=600 for longer
	@$(BIN)/python -m tools.fuzz_verify --seconds $(or $(FUZZ_SECONDS),60)

format: $(VENV)/.dev  ## let ruff write the layout
	$(BIN)/ruff format src tests tools bench
	$(BIN)/ruff check --fix-only --quiet src tests tools bench

pins: $(VENV)/.dev    ## write requirements/*.txt again from pyproject.toml
	PATH="$(abspath $(BIN)):$$PATH" tools/pins.sh --upgrade

bench-transport: $(VENV)/.dev   ## the measurement behind the choice of the portal's HTTP client
	$(BIN)/python bench/transport.py

bench-protocol: $(VENV)/.bench  ## signing and verifying beside bare cryptography, other libraries, and none; writes docs/performance.md
	$(BIN)/python bench/protocol.py

bench-asgi: $(VENV)/.bench      ## requests a second under uvicorn with verification and without, on three stacks; writes docs/performance.md
	$(BIN)/python bench/asgi.py

bench-reports: $(VENV)/.dev   ## each report's time over 10,000 to 100,000 invoices; writes its section of docs/performance.md
	$(BIN)/python bench/reports.py

bench-billing: $(VENV)/.dev     ## a billing run over 1,000 clients: planning, and executing against a bare loop of the same calls
	$(BIN)/python -m bench.billing $(ARGS)

clean:          ## remove the environment and the demo's data
	rm -rf $(VENV) .demo .data
