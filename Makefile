# The front door. Every target sets up first what it needs; nothing is done twice.

.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/sh
ARGS ?=
PYTHON ?=
PY := .venv/bin/python
READY := .venv/.ready
export DJANGO_SETTINGS_MODULE := config.settings

.PHONY: help setup demo dev test check bench format

help: ## Show what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment, with exactly what uv.lock names

demo: $(READY) ## Run the main job on a bundled project (ARGS=--exit ends by itself)
	@exec $(PY) manage.py demo $(ARGS)

dev: $(READY) ## Serve everything on this machine until Ctrl-C
	@exec $(PY) manage.py dev $(ARGS)

test: $(READY) ## Run every test, in three processes: some only wait (ARGS= goes to pytest)
	@exec $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## Check format, lint, types, imports, migrations, templates
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) -m tests.check_templates

bench: $(READY) ## Measure, and write docs/benchmarks.json and docs/benchmarks.md
	@exec $(PY) -m tests.benchmarks $(ARGS)

format: $(READY) ## Format the code
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

# A tree that was moved has an environment that points to its old place.
ifneq ($(shell cat .venv/.place 2>/dev/null),$(shell pwd -P))
.PHONY: $(READY)
endif

$(READY): uv.lock pyproject.toml
	@sh .ci/setup "$(PYTHON)"
	@touch $@
