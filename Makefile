# Every target does its own set-up. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Python compiles what is imported; all of it, ahead of time, would take a minute and 250 MB more.
PIP_FLAGS := --disable-pip-version-check --no-compile
# Of pip's output: what is fetched, and how large it is.
PIP_PROGRESS := awk '/^ *(Downloading|Using cached) / { sub(/^ */, "  "); print; fflush() } /^Installing/ { print "  Installing ..."; fflush() }'
# Processes that tests run in, of up to 1 GB each. Some tests wait, so there is one more than two cores.
WORKERS ?= 3
export PYTHONPATH := lambda_src
# Node 20 still does; jsii says at length that it is past its end of life.
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20

.PHONY: help demo test check bench lint type synth clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

demo: .venv/ready .venv-ministack/ready node_modules/ready  ## deploy the stack to an AWS on this machine and watch entries arrive (KEEP=1, DESTINATION=archive, STREAMS=requests,objects, BACKFILL=1)
	@$(BIN)/python -m sandbox.demo $(if $(KEEP),--keep) $(if $(DESTINATION),--destination $(DESTINATION)) $(if $(STREAMS),--streams $(STREAMS)) $(if $(BACKFILL),--backfill)

test: lint type .venv/ready .venv-ministack/ready node_modules/ready  ## every check and every test (WORKERS=3), about eight minutes
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

check: lint type  ## lint, types, unit tests, architecture: less than a minute
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests/unit tests/contract/test_architecture.py

.PHONY: demo-test
demo-test: .venv/browser-ready .venv-ministack/ready node_modules/ready  ## the kept demo as a visitor: its page in a Chromium, its commands in a shell; and the auditor's report in a Chromium
	@$(BIN)/python -m pytest -q tests/demo/page_in_chromium.py tests/demo/evidence_in_chromium.py tests/demo/kept_demo.py

.PHONY: checkov
checkov: .venv-checkov/ready .venv/ready  ## what checkov says of the templates (cfn-lint and cdk-nag are part of make test)
	@$(BIN)/python -m pytest -q tests/checkov/findings.py

.PHONY: compat
compat: .venv/ready node_modules/ready  ## the oldest CDK and cdk-nag that are supported (fetches both, two minutes)
	@$(BIN)/python -m pytest -q tests/compat/oldest_cdk.py tests/compat/older_cdk_nag.py

bench: .venv/ready  ## speed and memory, beside the proof of concept's algorithm and the floor (several minutes)
	@PYTHONPATH=lambda_src:. $(BIN)/python -m benchmarks
	@PYTHONPATH=lambda_src:. $(BIN)/python -m benchmarks.marks

.PHONY: torture
torture: ROUNDS ?= 200
torture: SEED ?= 1
torture: DESTINATION ?= all
torture: STREAM ?= all
torture: .venv/ready  ## kill the collector, break all around it, and look for what is lost or comes twice (ROUNDS=200 SEED=1 DESTINATION=all STREAM=all)
	@EXAMPLES=10 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests/unit/test_nothing_is_lost.py tests/contract/test_variables.py
	@$(BIN)/python -m torture --rounds $(ROUNDS) --seed $(SEED) --destination $(DESTINATION) --stream $(STREAM)

lint: .venv/ready  ## ruff: style, imports, docstrings, common mistakes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: .venv/ready  ## mypy, strict
	@$(BIN)/mypy

synth: .venv/ready node_modules/ready  ## the CloudFormation template of an example deployment, into cdk.out
	@PATH="$(CURDIR)/$(BIN):$$PATH" node_modules/.bin/cdk synth --quiet \
	  -c existing_vpc=vpc-0123456789abcdef0 -c existing_subnet_ids=subnet-0123456789abcdef0,subnet-0123456789abcdef1 \
	  -c kong_admin_api=https://kong-admin.example.internal:8444 -c aws_region=us-east-1 \
	  -c channel_arn=arn:aws:cloudtrail:us-east-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef

.PHONY: wheel
wheel: .venv/ready  ## the construct as a wheel for other CDK apps, into dist
	@rm -rf build
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build *.egg-info

clean:  ## remove everything that the targets made
	rm -rf .venv .venv-ministack .venv-checkov node_modules cdk.out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/ready: requirements.txt requirements-dev.txt cli/requirements.txt lambda_src/requirements.txt
	@echo "Set-up, once: a Python environment in .venv. 180 MB to fetch, 540 MB on disk, about a minute."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install $(PIP_FLAGS) --require-hashes -r lambda_src/requirements.txt | $(PIP_PROGRESS)
	@$(BIN)/pip install $(PIP_FLAGS) -r requirements-dev.txt | $(PIP_PROGRESS)
	@touch $@

.venv/browser-ready: .venv/ready tests/demo/requirements.txt
	@echo "Setting up what drives the browser (once) ..."
	@$(BIN)/pip install $(PIP_FLAGS) -r tests/demo/requirements.txt
	@touch $@

.venv-ministack/ready: sandbox/requirements.txt
	@echo "Set-up, once: the AWS on this machine, in .venv-ministack. 60 MB to fetch, 155 MB on disk, 20 seconds."
	@$(PYTHON) -m venv .venv-ministack
	@.venv-ministack/bin/pip install $(PIP_FLAGS) -r sandbox/requirements.txt | $(PIP_PROGRESS)
	@touch $@

.venv-checkov/ready: tests/checkov/requirements.txt
	@echo "Set-up, once: checkov, in .venv-checkov. 290 MB on disk, about a minute."
	@$(PYTHON) -m venv .venv-checkov
	@.venv-checkov/bin/pip install $(PIP_FLAGS) -r tests/checkov/requirements.txt | $(PIP_PROGRESS)
	@touch $@

node_modules/ready: package.json package-lock.json
	@echo "Set-up, once: the CDK's command line, in node_modules. 8 MB to fetch, 30 MB on disk, 5 seconds."
	@npm ci --silent --no-audit --no-fund
	@touch $@
