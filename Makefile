# Commands run from this folder. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

K8S ?= 1.36.3
WORKERS ?= 2
NAME ?= kubepin
VERSIONS ?= 1.20.15,1.21.14,1.22.17,1.36.3

export KUBEPIN_SANDBOX := $(NAME)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
# Some environments forbid Python to keep what it has compiled: each of the checks' many starts of Ansible then takes twice as long.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-all check lint sanity unit molecule upgrade-two-hops upgrade-interrupted upgrade-packages upgrade-packages-dnf reproduce-gpu-loss keep-gpus judge-allocation judge-config fault-campaign bench-switch bench-scale sandbox-up sandbox-down sandbox-status sandbox-collect clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make the virtual environment; what the sandbox needs besides, its targets install
	@tools/setup venv

demo: ## Bring the sandbox up, tune its workers, measure one before and after, print the verdict (VERBOSE=1: all tasks)
	@tools/demo "$(NAME)" "$(K8S)" "$(WORKERS)"

check: ## Lint, types and unit tests: what to run before a commit
	@tools/setup venv
	@python -m tools.run_tests check

test: ## What guards main: check, component tests, Molecule and faults on two real clusters, conformance
	@tools/setup venv
	@tools/setup torch
	@python -m tools.run_tests test

test-all: ## Everything that proves a promise, on all versions: some hours
	@tools/setup venv
	@tools/setup torch
	@python -m tools.run_tests all

lint: ## ansible-lint (production), yamllint, ruff, mypy, Python 3.8 on managed nodes
	@tools/setup venv
	@tools/lint

sanity: ## ansible-test sanity for the collection
	@tools/setup venv
	@python -m tools.sanity

unit: ## Unit and component tests
	@tools/setup venv
	@python -m pytest --numprocesses=2 --dist=worksteal

molecule: ## Molecule scenarios on a sandbox of their own: make molecule K8S=1.36.3 SCENARIOS="tune_gpu_nodes audit"
	@tools/setup venv
	@tools/setup sandbox
	@tools/molecule "$(K8S)" $(SCENARIOS)

upgrade-two-hops: ## A tuned cluster from 1.20.15 to 1.22.17 on a sandbox of its own
	@tools/setup venv
	@tools/setup sandbox
	@tools/upgrade-two-hops

upgrade-interrupted: ## A tuned cluster from 1.21.14 to 1.22.17, the run killed at every change and run again
	@tools/setup venv
	@tools/setup sandbox
	@tools/upgrade-interrupted

upgrade-packages: ## 1.21.14 to 1.22.17 with packages on a sandbox of its own: one missing, one broken and undone
	@tools/setup venv
	@tools/setup sandbox
	@tools/upgrade-packages apt

upgrade-packages-dnf: ## The same with dnf and rpm, on Debian nodes that have them
	@tools/setup venv
	@tools/setup sandbox
	@tools/upgrade-packages dnf

reproduce-gpu-loss: ## Take a GPU stand-in from running pods: kubelets 1.21 and 1.22, both policies, an old and a new runc
	@tools/setup venv
	@tools/setup sandbox
	@tools/reproduce-gpu-loss docs/evidence/gpu-loss 1.21.14 1.22.17

keep-gpus: ## Show that tuning, rollback and upgrade take no GPU stand-in from pods that run through them
	@tools/setup venv
	@tools/setup sandbox
	@tools/keep-gpus docs/evidence/gpu-loss

judge-allocation: ## The preview of allocations against what real kubelets give out: make judge-allocation N=110 VERSIONS=1.22.17
	@tools/setup venv
	@tools/setup sandbox
	@tools/judge allocation "$(VERSIONS)" --sequences "$(or $(N),110)"

judge-config: ## The verdict on random configurations against real kubelets: make judge-config N=500 VERSIONS=1.22.17
	@tools/setup venv
	@tools/setup sandbox
	@tools/judge config "$(VERSIONS)" --cases "$(or $(N),500)"

fault-campaign: ## Break runs at every step on real workers and look at what is left; fails if a row does
	@tools/setup venv
	@tools/setup sandbox
	@K8S=$(K8S) WORKERS=$(WORKERS) tools/fault-campaign docs/evidence/faults

bench-switch: ## What a switch costs: downtime against a bare restart, a whole run, runs with nothing to do
	@tools/setup venv
	@tools/setup sandbox
	@K8S=$(K8S) WORKERS=$(WORKERS) tools/bench-switch docs/evidence/bench-switch

bench-scale: ## What a run over 10, 100 and 500 simulated hosts costs, beside a bare ping of them; a dead and a slow host
	@tools/setup venv
	@tools/setup sandbox
	@K8S=$(K8S) WORKERS=$(WORKERS) tools/bench-scale docs/evidence/scale

sandbox-up: ## A real cluster in containers: make sandbox-up K8S=1.36.3 WORKERS=2 NAME=kubepin
	@tools/setup venv
	@tools/setup sandbox
	@python3 -m sandbox up --name "$(NAME)" --k8s "$(K8S)" --workers "$(WORKERS)"

sandbox-down: ## Remove the sandbox NAME; only the cache stays
	@python3 -m sandbox down --name "$(NAME)"

sandbox-status: ## What is there, and how to reach it
	@python3 -m sandbox status --name "$(NAME)"

sandbox-collect: ## Journals, logs, events and state files of all nodes into one folder
	@python3 -m sandbox collect --name "$(NAME)"

.PHONY: collection docs try-rights
collection: ## Build the collection kubepin.tuning, with roles and playbooks, in dist/
	@tools/setup venv
	@tools/collection

docs: ## Write docs/reference and docs/rbac.yaml anew from the code
	@tools/setup venv
	@tools/docs

try-rights: ## The playbooks with docs/rbac.yaml's rights only, and what the API server saw them use
	@tools/setup venv
	@tools/setup sandbox
	@tools/try-rights rights "$(K8S)" docs/evidence/rights
	@python3 -m sandbox down --name rights

clean: ## Remove the virtual environment, the built collection and the checkers' caches of this checkout
	@rm -rf dist .venv .mypy_cache .ruff_cache .pytest_cache .ansible
