# Commands run from this folder. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

K8S ?= 1.36.3
WORKERS ?= 2
MACHINES ?= 0
SHAPE ?=
NAME ?= kubepin
VERSIONS ?= 1.20.15,1.21.14,1.22.17,1.36.3,1.37.2
comma := ,

export KUBEPIN_SANDBOX := $(NAME)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
# Some environments forbid Python to keep what it has compiled: each of the checks' many starts of Ansible then takes twice as long.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo check test test-all lint sanity unit molecule campaign conformance sandbox-up sandbox-down
.PHONY: sandbox-status sandbox-collect collection docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make the virtual environment; what the sandbox needs besides, its targets install
	@tools/setup venv

demo: ## Bring the sandbox up, tune its workers, measure one before and after, print the verdict (VERBOSE=1: all tasks)
	@tools/demo "$(NAME)" "$(K8S)" "$(WORKERS)"

check: ## Lint, types and unit tests: what to run before a commit
	@tools/setup venv
	@python -m tools.run_tests check

test: ## What guards main: check, component tests, Molecule on two clusters and a virtual machine, faults, conformance
	@tools/setup venv
	@tools/setup torch
	@tools/setup monitoring
	@python -m tools.run_tests test

test-all: ## Everything that proves a promise, on all versions: some hours
	@tools/setup venv
	@tools/setup torch
	@tools/setup monitoring
	@python -m tools.run_tests all

lint: ## ansible-lint (production), yamllint, ruff, mypy, shellcheck, changelog fragments, Python 3.8 on managed nodes
	@tools/setup venv
	@tools/lint

sanity: ## ansible-test sanity for the collection
	@tools/setup venv
	@python -m tools.sanity

unit: ## Unit and component tests: make unit ARGS=--thorough for all that make test-all runs of them
	@tools/setup venv
	@python -m pytest --numprocesses=2 --dist=worksteal $(ARGS)

molecule: ## Molecule scenarios on a separate sandbox: make molecule K8S=1.36.3 SCENARIOS="audit"; MACHINES=1: on a virtual machine
	@tools/setup venv
	@tools/setup $(if $(filter 0,$(MACHINES)),sandbox,machines)
	@SHAPE="$(SHAPE)" tools/molecule "$(K8S)" "$(MACHINES)" $(SCENARIOS)

campaign: ## A long run against real clusters: make campaign WHAT=faults ARGS="--k8s 1.36.3"; without WHAT, the list
	@tools/setup venv
	@tools/setup sandbox
	@python -m tests.campaigns $(or $(WHAT),--help) $(ARGS)

conformance: ## kubepin's decisions against real kubelets: make conformance WHAT=config VERSIONS=1.22.17 ARGS="--cases 500"
	@tools/setup venv
	@tools/setup sandbox
	@for version in $(subst $(comma), ,$(VERSIONS)); do python3 -m sandbox build --k8s "$$version"; done
	@for what in $(or $(WHAT),config allocation emit); do python -m tests.conformance "$$what" --k8s "$(VERSIONS)" $(ARGS); done

sandbox-up: ## A real cluster in containers: make sandbox-up K8S=1.36.3 WORKERS=2 NAME=kubepin; MACHINES=1: a virtual machine too
	@tools/setup venv
	@tools/setup $(if $(filter 0,$(MACHINES)),sandbox,machines)
	@python3 -m sandbox up --name "$(NAME)" --k8s "$(K8S)" --workers "$(WORKERS)" --machines "$(MACHINES)" --machine-shape "$(SHAPE)"

sandbox-down: ## Remove the sandbox NAME; only the cache stays
	@python3 -m sandbox down --name "$(NAME)"

sandbox-status: ## What is there, and how to reach it
	@python3 -m sandbox status --name "$(NAME)"

sandbox-collect: ## Journals, logs, events and state files of all nodes into one folder
	@python3 -m sandbox collect --name "$(NAME)"

collection: ## Build the collection kubepin.tuning, with roles and playbooks, in dist/
	@tools/setup venv
	@python -m tools.collection

docs: ## Write docs/reference and docs/rbac.yaml anew from the code
	@tools/setup venv
	@python -m tools.docs

clean: ## Remove the virtual environment, the built collection and the checkers' caches of this checkout
	@rm -rf dist .venv .mypy_cache .ruff_cache .pytest_cache .ansible
