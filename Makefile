# PYTHON makes the environment; VENV is where. With VENV= (empty) nothing is installed and PYTHON itself runs everything.
PYTHON ?= python3
VENV ?= .venv
# PyTorch's own environment, for make parity. One that has torch and diffusers already: make parity PARITY_VENV=DIR
PARITY_VENV ?= .venv-parity
# The documentation's environment, for make docs.
DOCS_VENV ?= .venv-docs
# Test processes; 0 runs them in this one.
WORKERS ?= 2
# Neighbours share compiled programs: a process takes half of the tests, and of the other's only when it is done.
PYTEST := -q -n $(WORKERS) --dist worksteal
# More for pytest, the demo or the benchmark: make test ARGS="-k window"
ARGS ?=

ifeq ($(strip $(VENV)),)
RUN := $(PYTHON)
READY :=
else
RUN := $(VENV)/bin/python
READY := $(VENV)/.stamp
endif

.DEFAULT_GOAL := help
.PHONY: help venv test test-all fast lint demo pcm bench accelerator parity readme docs clean distclean

help: ## Show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  PYTHON=python3.12  the interpreter that makes .venv (after 'make distclean' if there is one already)"
	@echo "  VENV=DIR           another place for it"
	@echo "  VENV=              install nothing and run PYTHON itself, for machines that come with JAX and without a"
	@echo "                     network: make bench PYTHON=python3 VENV="
	@echo "  ARGS='...'         passed on to pytest, the demo or the benchmark"
	@echo "  WORKERS=N          test processes ($(WORKERS))"

venv: $(READY) ## Make .venv with the pinned requirements and this package

# -qq keeps errors and drops pip's notices. The package is built with the pinned setuptools, not a downloaded one.
$(VENV)/.stamp: requirements.txt pyproject.toml
	@echo "Installing into $(VENV) (one to two minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -r requirements.txt
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test: $(READY) ## Test every law of the library, under eight minutes on two cores
	$(RUN) -m pytest $(PYTEST) -m "not slow" $(ARGS)

test-all: $(READY) ## Run every test, studies and campaigns too, with XLA's own kernels
	PCM_JAX_TEST_QUICK=0 $(RUN) -m pytest $(PYTEST) $(ARGS)

fast: $(READY) ## Run one test of each kind, under 45 s on two cores
	$(RUN) -m pytest $(PYTEST) -m fast $(ARGS)

lint: $(READY) ## Check style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

demo: $(READY) ## Sample with the shipped model: sequential, Picard, Picard with secant
	$(RUN) -m experiments.demo $(ARGS)

pcm: $(READY) ## Fine-tune and measure adapters: make pcm ARGS="train --model digits"
	$(RUN) -m experiments.pcm $(ARGS)

bench: $(READY) ## Measure overhead, rounds and cost per device into experiments/results
	$(RUN) -m experiments.bench $(ARGS)

accelerator: $(READY) ## Measure seconds on one GPU or TPU, under eight minutes
	$(RUN) -m experiments.bench.accelerator $(ARGS)

# Not pinned to a build: where pip is told of an index with CPU builds of torch, this saves gigabytes.
$(PARITY_VENV)/bin/python:
	@echo "Installing PyTorch and diffusers into $(PARITY_VENV) (minutes) ..."
	@$(PYTHON) -m venv $(PARITY_VENV)
	@$(PARITY_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r requirements-parity.txt

parity: $(READY) $(PARITY_VENV)/bin/python ## Compare imported models and samplers with PyTorch's own outputs
	$(PARITY_VENV)/bin/python tests/reference/make_models.py --folders experiments/out/parity
	$(PARITY_VENV)/bin/python tests/reference/make_schedulers.py --out experiments/out/parity/schedulers
	$(RUN) -m experiments.parity.imports --folders experiments/out/parity
	$(RUN) -m experiments.parity.schedulers --reference experiments/out/parity/schedulers

# The reference is read from the package itself, so this environment also sees what the first one holds.
$(DOCS_VENV)/.stamp: requirements-docs.txt $(READY)
	@echo "Installing Sphinx into $(DOCS_VENV) ..."
	@$(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r requirements-docs.txt
	@$(RUN) -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(DOCS_VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/borrowed.pth"
	@touch $@

docs: $(DOCS_VENV)/.stamp ## Build the documentation into docs/_build/html and check its links
	rm -rf docs/_build
	$(DOCS_VENV)/bin/python -m sphinx -q -E -W --keep-going -b html docs docs/_build/html
	$(RUN) -m experiments.site check

readme: $(READY) ## Write the tables of README and docs anew from experiments/results
	$(RUN) -m experiments.site.readme

clean: ## Remove caches, builds and scratch output
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis experiments/out docs/_build
	find pcm_jax experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf .venv-parity .venv-docs
	$(if $(strip $(VENV)),rm -rf $(VENV),@true)
