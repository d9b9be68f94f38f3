# Everything a contributor runs. Needs Python 3.11 to 3.13 (the embedded MongoDB) and make; `make lock` needs uv too.
PYTHON ?= python3
UV ?= uv
# Passed on to the command: make test ARGS="-k limiter"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What `make bench` compares with, in an environment of its own.
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
PACKAGES := worker producer reelhaul sandbox

.DEFAULT_GOAL := help
.PHONY: help demo test chaos mutants check format bench bench-readme bench-own bench-limit image-check docs pictures lock \
	clean $(VENV) $(PEERS)

help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z.-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## a backfill on this machine: emulated TMDB, embedded Redis and MongoDB, two workers
	$(BIN)/reelhaul demo $(ARGS)

# Three at a time on two cores: the tests wait for most of their time.
test: $(STAMP) ## every test, on embedded servers
	$(BIN)/python -m pytest --numprocesses=3 --dist=worksteal $(ARGS)

chaos: $(STAMP) ## every kill test, a table of what each fault cost, 8 mutants; ARGS=--quick: those of `make test`
	$(BIN)/python -m tests.chaos $(ARGS)

mutants: $(STAMP) ## break each promise on purpose and see its test fail; ARGS: --quick, --list, -k NAME
	$(BIN)/python -m tests.mutants $(ARGS)

check: $(STAMP) ## format, lint, types, import layers, dead code; starts no server
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

format: $(STAMP) ## format the sources and fix what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) $(PEERS_STAMP) ## Reelhaul beside its peers: speed, limit, kills; ARGS: --quick (5 minutes), --json
	$(BIN)/python -m benchmarks compare $(ARGS)

# Only the results go to standard output, the first time too.
ifeq ($(MAKECMDGOALS),bench)
.SILENT:
endif

bench-readme: $(STAMP) ## write the README's table from docs/benchmarks/peers.json
	$(BIN)/python -m benchmarks compare --readme

bench-own: $(STAMP) ## Reelhaul alone: the limit, status, ids, export of a million movies, an index, growth; 45 minutes
	$(BIN)/python -m benchmarks $(ARGS)

bench-limit: $(STAMP) ## how well the shared limit is kept and used, by the emulator's log
	$(BIN)/python -m benchmarks limit $(ARGS)

image-check: $(STAMP) ## build the Dockerfile, run each command of docker-compose.yml in it (root, buildah, debootstrap)
	$(BIN)/python -m tests.image_check

docs: $(STAMP) ## draw docs/drawings.toml as docs/images/*.svg, write the table of docs/settings.md
	$(BIN)/python -m tests.support.drawings
	$(BIN)/python -m tests.support.settings_table

pictures: $(STAMP) ## draw docs/images from a demo run in a browser (needs chromium)
	$(BIN)/python -m tests.support.pictures

lock: ## resolve all locks for Python 3.11 to 3.14 (needs uv)
	$(UV) pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--quiet $(ARGS) --output-file requirements.lock pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --extra build --extra fleet --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--quiet --constraints requirements.lock --output-file requirements-service.lock pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--quiet $(ARGS) --output-file benchmarks/requirements-peers.lock benchmarks/requirements-peers.in

clean: ## remove the environment and all caches
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV): $(STAMP)

# Installed again when the lock or the project's metadata changes; fetches only what the lock names by hash.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(PEERS): $(PEERS_STAMP)

$(PEERS_STAMP): benchmarks/requirements-peers.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@
