# make help   says what there is to make

SHELL := /bin/bash
# Python of .venv; PYTHON=python3.13 makes it anew, and it stays with that one
PYTHON ?= $(shell command -v .venv/bin/python || command -v python3.11 || command -v python3.12 || \
	command -v python3.13 || command -v python3.14 || command -v python3)
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# The steps' environments and ours: compile when building, or every first import is slow
export UV_COMPILE_BYTECODE = 1
OVERRIDES ?=
# uv shows its progress on a terminal, and elsewhere only errors
SYNC = .venv/bin/uv pip sync $(shell test -t 2 || echo -q) --python .venv/bin/python
PYTEST = .venv/bin/python -m pytest -q --dist loadfile --no-loadscope-reorder
COMPILE = pip compile -q pyproject.toml --universal --python-version 3.11 \
	--no-emit-index-url --no-header --no-annotate

.PHONY: help run test test-stress attack report app serve dashboard docs bench extras lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

run: .venv/complete  ## the pipeline; OVERRIDES="main.experiment_name=prod split.test_size=0.3"
	@.venv/bin/python main.py $(OVERRIDES)

test: .venv/extras  ## lint, types, contracts, docs, then the unit and integration tests
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@.venv/bin/mypy && .venv/bin/lint-imports --no-logo --no-cache
	@$(MAKE) -s docs
	@$(PYTEST) -n 3 tests/unit tests/integration

test-stress: .venv/extras  ## the tests that kill, crowd and wait: interruptions, other machines, failing servers
	@$(PYTEST) -n 2 tests/stress

attack: .venv/extras  ## changes, kills and crowds, from outside; SEED=7 draws the same again
	@.venv/bin/python -m tests.attack $(if $(SEED),--seed $(SEED))

serve: .venv/complete  ## the model in production, over HTTP on loopback, until Ctrl-C
	@.venv/bin/python -m pipeline serve

app: .venv/extras  ## the models in use: promotions, drift, live predictions; until Ctrl-C
	@.venv/bin/python -m pipeline app

dashboard: .venv/complete  ## Trackio's and MLflow's dashboards, until Ctrl-C
	@.venv/bin/python -m pipeline dashboard

report: .venv/complete  ## open the last report
	@.venv/bin/python -m pipeline report

docs: .venv/extras  ## the docs as a site, in site/, with every setting and command
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

bench: .venv/extras  ## measure this pipeline against others; takes an hour or two
	@.venv/bin/python benchmarks/sweep.py --output docs/benchmarks-sweep.json
	@.venv/bin/python benchmarks/serving.py --output docs/benchmarks-serving.json
	@.venv/bin/python benchmarks/run.py

extras: .venv/extras  ## install what only some need: sweeps, Ray, the app, notebooks, DVC, Azure

lock: .venv/complete  ## resolve pyproject.toml into the locks and the pins of conda.yml
	@.venv/bin/uv $(COMPILE) --upgrade -o requirements.lock
	@.venv/bin/uv $(COMPILE) --upgrade --all-extras -c requirements.lock -o requirements-dev.lock
	@$(MAKE) -s extras
	@.venv/bin/python -m tools.pins

clean:  ## remove local state: runs, artifacts, metrics, models
	@if [ -x .venv/bin/python ]; then .venv/bin/python -m pipeline clean; else rm -rf .pipeline; fi

# A file for the version of Python that .venv has
.venv/python-$(VERSION):
	@case "$(VERSION)" in \
		3.11|3.12|3.13|3.14) ;; \
		"") echo "error: $(PYTHON) is no Python: install it, or name another: make run PYTHON=python3.11" >&2; exit 1 ;; \
		*) echo "error: $(PYTHON) is Python $(VERSION), and 3.11 to 3.14 will do: make run PYTHON=python3.11" >&2; exit 1 ;; \
	esac
	@test -x .venv/bin/python$(VERSION) || { rm -rf .venv; "$(PYTHON)" -m venv .venv; }
	@touch $@

# uv makes the environment exactly as locked; one that is up to date is left alone. The command
# `pipeline` begins as a shell script, as a path with a space can't stand after #!
.venv/complete: requirements.lock .venv/python-$(VERSION)
	@echo "setting up .venv: $$(grep -c == requirements.lock) packages, once; again only when requirements.lock changes" >&2
	@.venv/bin/python -m pip install -q --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(SYNC) requirements.lock
	@printf '#!/bin/sh\n\047\047\047exec\047 "%s" "$$0" "$$@"\n\047 \047\047\047\nimport sys\nsys.path.insert(0, "%s")\nfrom pipeline.__main__ import program\nsys.exit(program())\n' \
		"$(CURDIR)/.venv/bin/python" "$(CURDIR)" > .venv/bin/pipeline && chmod +x .venv/bin/pipeline
	@touch .venv/complete

# The same and more: the second lock holds the first; and the checkout itself, for its commands
.venv/extras: requirements-dev.lock .venv/complete
	@echo "adding to .venv what only some need: $$(grep -c == requirements-dev.lock) packages in all, once" >&2
	@$(SYNC) requirements-dev.lock
	@.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
	@touch .venv/extras
