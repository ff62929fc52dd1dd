# Every command of the project; `make` alone lists them.

.DEFAULT_GOAL := help
SIM :=
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest --numprocesses auto --maxprocesses 8 --dist loadgroup

ifneq ($(filter-out icarus verilator,$(SIM)),)
$(error SIM must be icarus or verilator, not $(SIM))
endif

.PHONY: help setup demo test nightly sim prove lint docs bench report networks clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

setup: .venv/ready ## install what is missing: system packages, then Python packages in .venv

.venv/ready: pyproject.toml bootstrap.sh
	@./bootstrap.sh

demo: setup ## train, pack, generate, simulate and compare one network
	@$(PYTHON) -m verif demo

test: setup ## run the tests
	@$(PYTEST)

nightly: setup ## run the tests that are too long for every change
	@$(PYTEST) -m nightly

sim: setup ## run the cocotb benches on both simulators, or on one: make sim SIM=icarus
	@$(PYTEST) tests/test_benches.py tests/test_dot_benches.py tests/test_companding.py tests/test_activation.py tests/test_accelerator.py $(SIM:%=--simulator %)

prove: setup ## prove that blocks equal their level tables, for all inputs and all time
	@$(PYTHON) -m verif prove

lint: setup ## check style, formatting and types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

docs: setup ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs --quiet build --strict

bench: setup ## measure speed, results as JSON
	@$(PYTHON) -m verif bench

report: setup ## measure what every block costs on each family: tables and a plot in build/report
	@$(PYTHON) -m fpga report --blocks

networks: setup ## run whole networks on simulated hardware, a table in build/networks; MNIST lies in data/mnist
	@$(PYTHON) -m verif networks --data-dir data/mnist

clean: ## remove everything generated; .venv stays
	rm -rf build site .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +
