PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TOY := datasets/BOP_DATASETS/toy
DETECTOR := output/detector/toy
# A process for each core, as far as memory goes along.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal
LOWEST := .venv-lowest
DEMO_CONFIG := configs/gdrn_selfocc/toy/demo.py
# Two busy processes on few cores starve each other while their idle threads spin.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-all test-lowest lint install install-dev clean-demo

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e ".[train]"
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e ".[dev]"
	touch $@ $(VENV)/.installed

# Data set, training, evaluation, table and report, a detector, poses in images: the whole path on toy objects.
demo: $(VENV)/.installed
	$(BIN)/sopose toy --root $(TOY)
	$(BIN)/sopose train --config-file $(DEMO_CONFIG) --resume
	$(BIN)/sopose detector --config-file $(DEMO_CONFIG) --output $(DETECTOR) --epochs 4 --resume
	$(BIN)/sopose predict $(TOY)/test/000001 --checkpoint output/gdrn_selfocc/toy/demo/model_final.safetensors \
		--detector $(DETECTOR)/detector.safetensors --models $(TOY)/models --output output/predictions/toy

# What most changes need, in minutes; `test-all` adds what is slow by nature: runs killed ten times, clusters, exports.
test: $(VENV)/.installed-dev lint
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.installed-dev lint
	$(PYTEST)

# The lowest versions that pyproject.toml claims, in an environment of their own. Builds of torch with CUDA are gigabytes:
# PIP_EXTRA_INDEX_URL may name PyTorch's own index of those without. TORCH=2.14.1 takes that release from wherever pip
# looks, and the torchvision that fits: the bounds of these two are not tested then.
TORCH ?=
test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) tests/support/lowest_versions.py $(if $(TORCH),--without torch torchvision) > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install -c $(LOWEST)/constraints.txt -e ".[dev]" \
		$(if $(TORCH),torch==$(TORCH))
	$(LOWEST)/bin/python -m pytest -n logical --maxprocesses 8 --dist worksteal -m "not slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean-demo:
	rm -rf $(TOY) output/gdrn_selfocc/toy $(DETECTOR) output/predictions/toy
