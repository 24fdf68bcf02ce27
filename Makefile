# make help   lists the targets

SHELL := /bin/bash
# The Python of .venv; PYTHON=python3.13 recreates .venv with that version, which it then keeps
PYTHON ?= $(shell command -v .venv/bin/python || command -v python3.11 || command -v python3.12 || \
	command -v python3.13 || command -v python3.14 || command -v python3)
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# Compile packages on installation, or the first import of each is slow
export UV_COMPILE_BYTECODE = 1
OVERRIDES ?=
# uv shows its progress on a terminal; elsewhere only errors
SYNC = .venv/bin/uv pip sync $(shell test -t 2 || echo -q) --python .venv/bin/python
PYTEST = .venv/bin/python -m pytest -q --dist loadfile --no-loadscope-reorder
COMPILE = pip compile -q pyproject.toml --universal --python-version 3.11 \
	--no-emit-index-url --no-header --no-annotate

.PHONY: .mypy .pyright .contracts help run test test-stress attack report app serve dashboard docs bench extras lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

run: .venv/complete  ## run the pipeline; OVERRIDES="main.experiment_name=prod split.test_size=0.3"
	@.venv/bin/python main.py $(OVERRIDES)

test: .venv/extras  ## check lint, types, import contracts and docs, then run unit and integration tests
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@$(MAKE) -s -j 2 .mypy .pyright .contracts docs
	@$(PYTEST) -n 3 tests/unit tests/integration

.mypy:
	@.venv/bin/mypy
.pyright:
	@.venv/bin/basedpyright
.contracts:
	@.venv/bin/lint-imports --no-logo --no-cache

test-stress: .venv/extras  ## run the slow tests: interruptions, concurrency, other machines, failing servers
	@$(PYTEST) -n 3 tests/stress

attack: .venv/extras  ## attack from outside: changed files, killed processes, many runs at once; SEED=7 repeats a draw
	@.venv/bin/python -m tests.attack $(if $(SEED),--seed $(SEED))

serve: .venv/complete  ## serve the model in production over HTTP on loopback until Ctrl-C
	@.venv/bin/python -m pipeline serve

app: .venv/extras  ## serve the app of models in use (promotions, drift, predictions) until Ctrl-C
	@.venv/bin/python -m pipeline app

dashboard: .venv/complete  ## serve Trackio's and MLflow's dashboards until Ctrl-C
	@.venv/bin/python -m pipeline dashboard

report: .venv/complete  ## open the last report
	@.venv/bin/python -m pipeline report

docs: .venv/extras  ## build the docs as a site in site/, with all settings and commands
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

bench: .venv/extras  ## measure this pipeline against others; takes an hour or two
	@.venv/bin/python benchmarks/sweep.py --output docs/benchmarks-sweep.json
	@.venv/bin/python benchmarks/serving.py --output docs/benchmarks-serving.json
	@.venv/bin/python benchmarks/run.py

extras: .venv/extras  ## install the optional packages: sweeps, Ray, the app, notebooks, DVC, Azure

lock: .venv/complete  ## resolve pyproject.toml into the locks and the pins of the conda.yml files
	@.venv/bin/uv $(COMPILE) --upgrade -o requirements.lock
	@.venv/bin/uv $(COMPILE) --upgrade --all-extras -c requirements.lock -o requirements-dev.lock
	@$(MAKE) -s extras
	@.venv/bin/python -m tools.pins

clean:  ## remove local state: runs, artifacts, metrics, models
	@if [ -x .venv/bin/python ]; then .venv/bin/python -m pipeline clean; else rm -rf .pipeline; fi

# A file that records the Python version of .venv
.venv/python-$(VERSION):
	@case "$(VERSION)" in \
		3.11|3.12|3.13|3.14) ;; \
		"") echo "error: $(PYTHON) is not a Python: install it, or name another: make run PYTHON=python3.11" >&2; exit 1 ;; \
		*) echo "error: $(PYTHON) is Python $(VERSION), and the pipeline needs 3.11 to 3.14: make run PYTHON=python3.11" >&2; exit 1 ;; \
	esac
	@test -x .venv/bin/python$(VERSION) || { rm -rf .venv; "$(PYTHON)" -m venv .venv; }
	@touch $@

# uv makes the environment exactly as locked. The command `pipeline` starts as a shell script,
# because the path after #! can't have a space.
.venv/complete: requirements.lock .venv/python-$(VERSION)
	@echo "setting up .venv: $$(grep -c == requirements.lock) packages, once; again only when requirements.lock changes" >&2
	@.venv/bin/python -m pip install -q --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(SYNC) requirements.lock
	@printf '#!/bin/sh\n\047\047\047exec\047 "%s" "$$0" "$$@"\n\047 \047\047\047\nimport sys\nsys.path.insert(0, "%s")\nfrom pipeline.__main__ import program\nsys.exit(program())\n' \
		"$(CURDIR)/.venv/bin/python" "$(CURDIR)" > .venv/bin/pipeline && chmod +x .venv/bin/pipeline
	@touch .venv/complete

# The second lock contains the first. The checkout itself is installed for its commands.
.venv/extras: requirements-dev.lock .venv/complete
	@echo "adding the optional packages to .venv: $$(grep -c == requirements-dev.lock) packages in all, once" >&2
	@$(SYNC) requirements-dev.lock
	@.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
	@touch .venv/extras
