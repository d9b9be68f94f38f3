# Everything a contributor runs. Only Python 3.11 to 3.13 and make are needed beforehand; uv only for `make lock`.
PYTHON ?= python3
UV ?= uv
# Passed through to the command at hand: make test ARGS="-k limiter"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := worker producer sandbox

.DEFAULT_GOAL := help
.PHONY: help demo test chaos mutants check format bench bench-limit pictures lock clean $(VENV)

help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z.-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## the whole chain on this machine: emulated TMDB, embedded Redis and MongoDB, two workers
	$(BIN)/reelhaul demo $(ARGS)

test: $(STAMP) ## every test, on embedded servers
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal $(ARGS)

chaos: $(STAMP) ## every kill test, a table of what each fault cost, 8 mutants; ARGS=--quick: the tests of `make test`
	$(BIN)/python -m tests.chaos $(ARGS)

mutants: $(STAMP) ## break each promise on purpose: does its test notice? ARGS: --quick, --list, -k NAME
	$(BIN)/python -m tests.mutants $(ARGS)

check: $(STAMP) ## format, lint, types, import arrows, dead code; starts no service
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

format: $(STAMP) ## rewrite the sources as `make check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## every benchmark: the limit, status of 200,000 pages, 1.2 million ids; minutes
	$(BIN)/python -m benchmarks $(ARGS)

bench-limit: $(STAMP) ## the shared limit: kept and used up, by the emulator's own log
	$(BIN)/python -m benchmarks limit $(ARGS)

pictures: $(STAMP) ## docs/images anew, from a real demo run in a real browser (needs chromium)
	$(BIN)/python -m tests.support.pictures

lock: ## resolve requirements.lock anew for Python 3.11 to 3.13 (needs uv)
	$(UV) pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--quiet $(ARGS) --output-file requirements.lock pyproject.toml
	$(UV) pip compile --universal --python-version 3.11 --extra build --extra export --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--quiet --constraints requirements.lock --output-file requirements-service.lock pyproject.toml

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV): $(STAMP)

# Installed again whenever the lock or the project's own metadata changes. Nothing is fetched that the lock does not name by hash.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
