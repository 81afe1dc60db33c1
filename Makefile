# Two commands to begin with: `make search` and `make test`. Each sets up .venv first, once.

PYTHON ?= python3
NAME ?= search-$(shell date +%Y%m%d-%H%M%S)
RUN ?= $(shell ls -dt runs/*/best 2>/dev/null | head -n 1 | xargs -r dirname)
DATA ?= mnist
FROM ?=
FAST ?=
ONLY ?=
IMAGE ?= digit.png
PORT ?= 8000

A_RUN = '$(or $(RUN),$(error no search has ended here yet: make search, or name a run with RUN=))'
PACKAGES = --requirement requirements.txt --editable .
PIP = .venv/bin/python -m pip --quiet --disable-pip-version-check
# Sets up in a third of pip's time. Certificates are the system's, as pip's are; the home folder, which may have a quota,
# gets no second copy of it all.
UV = .venv/bin/uv --quiet --system-certs --cache-dir .venv/cache

.DEFAULT_GOAL := help
.PHONY: help search test chaos bench data train predict report serve lint lock reference docs clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python must be 3.11 or newer, got " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	@echo "setting up .venv once: 4 GB to fetch, a minute or more"
	$(PYTHON) -m venv .venv
	$(PIP) install --constraint requirements.txt uv
	@index=$${PIP_INDEX_URL:-$$(.venv/bin/python -m pip config get global.index-url 2>/dev/null)}; \
	$(UV) pip install --python .venv --compile-bytecode $(PACKAGES) $${index:+--default-index "$$index"} \
		|| { echo "pip tries, too: it is slower, and knows all that it was set up with"; $(PIP) install $(PACKAGES); }
	@rm -rf .venv/cache
	touch .venv/ready

search: .venv/ready ## Find a digit classifier on the bundled data, in about a minute
	.venv/bin/digitsearch run quickstart --set name=$(NAME)

test: .venv/ready ## Run the tests
	.venv/bin/python -m pytest -n 2 --dist loadfile

chaos: .venv/ready ## Run the long proofs: searches killed at random moments, CHAOS_KILLS=20 times, and more
	CHAOS_KILLS=$(or $(CHAOS_KILLS),20) .venv/bin/python -m pytest -m chaos

bench: .venv/ready ## Measure speed side by side with the stock libraries: FAST=1 for two minutes, ONLY=trials
	.venv/bin/python -m benchmarks $(if $(FAST),--size fast) $(addprefix --only=,$(ONLY))

data: .venv/ready ## Get a data set ready: DATA=mnist, FROM=a folder to use no network
	.venv/bin/digitsearch data $(DATA) $(if $(FROM),--from $(FROM))

train: .venv/ready ## Train one model without a search
	.venv/bin/digitsearch train

predict: .venv/ready ## Read a picture with the latest winner: IMAGE=digit.png
	.venv/bin/digitsearch predict $(A_RUN) $(IMAGE)

report: .venv/ready ## Write report.html and figures of the latest run: RUN=runs/NAME
	.venv/bin/digitsearch report $(A_RUN)

serve: .venv/ready ## A page to draw digits on, read by the latest winner: PORT=8000
	.venv/bin/digitsearch serve $(A_RUN) --port $(PORT)

lint: .venv/ready ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

reference: .venv/ready ## Write docs/reference and docs/study.schema.json anew from the code
	.venv/bin/python docs/write_reference.py

docs: .venv/ready ## Build the documentation's site in site/, strictly
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

lock: .venv/ready ## Resolve the dependencies anew and pin them in requirements.txt, for every system
	$(UV) pip compile --universal --python-version 3.11 --upgrade --extra dev --no-header --no-annotate \
		pyproject.toml --output-file requirements.txt

clean: ## Remove the environment and caches; runs, models and data stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
