# Every target does its own set-up. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PIP_FLAGS := --quiet --disable-pip-version-check
export PYTHONPATH := lambda_src
# Node 20 still does; jsii says at length that it is past its end of life.
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20

.PHONY: help demo test bench lint type synth clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

demo: .venv/ready .venv-ministack/ready node_modules/ready  ## deploy the stack to an AWS on this machine and watch entries arrive (KEEP=1 leaves it running)
	@$(BIN)/python -m sandbox.demo $(if $(KEEP),--keep)

test: lint type .venv/ready .venv-ministack/ready node_modules/ready  ## every check and every test
	@$(BIN)/python -m pytest -q

bench: .venv/ready  ## speed and memory, beside the proof of concept's algorithm and the floor (several minutes)
	@PYTHONPATH=lambda_src:. $(BIN)/python -m benchmarks

.PHONY: torture
torture: ROUNDS ?= 200
torture: SEED ?= 1
torture: .venv/ready  ## kill the collector, break all around it, and look for what is lost or comes twice (ROUNDS=200 SEED=1)
	@$(BIN)/python -m sandbox.torture --rounds $(ROUNDS) --seed $(SEED)

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
	@$(BIN)/pip wheel $(PIP_FLAGS) --no-deps --wheel-dir dist .
	@rm -rf build *.egg-info

clean:  ## remove everything that the targets made
	rm -rf .venv .venv-ministack node_modules cdk.out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/ready: requirements.txt requirements-dev.txt lambda_src/requirements.txt
	@echo "Setting up Python packages (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install $(PIP_FLAGS) --require-hashes -r lambda_src/requirements.txt
	@$(BIN)/pip install $(PIP_FLAGS) -r requirements-dev.txt
	@touch $@

.venv-ministack/ready: sandbox/requirements.txt
	@echo "Setting up the local AWS (once) ..."
	@$(PYTHON) -m venv .venv-ministack
	@.venv-ministack/bin/pip install $(PIP_FLAGS) -r sandbox/requirements.txt
	@touch $@

node_modules/ready: package.json package-lock.json
	@echo "Setting up the CDK CLI (once) ..."
	@npm ci --silent --no-audit --no-fund
	@touch $@
