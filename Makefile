# The two commands are `make demo` and `make test`. Both need only Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALLED := $(VENV)/.installed-demo
INSTALLED_DEV := $(VENV)/.installed-dev
# An environment of its own: on Linux, torch brings gigabytes.
VENV_TORCH := .venv-torch
BIN_TORCH := $(subst $(VENV),$(VENV_TORCH),$(BIN))
INSTALLED_TORCH := $(VENV_TORCH)/.installed
PYTEST := $(BIN)/python -m pytest
# As many tests at a time as there are cores; those of one group one after the other. A process that
# ends in the middle of a test ends them all, with its stacks: pytest-xdist would wait for ever.
PARALLEL := --numprocesses logical --dist loadgroup --max-worker-restart 0
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' qupath_bridge/_version.py)
# Java takes the names of files from the locale; quiet, except for what goes wrong.
MAVEN := LC_ALL=C.UTF-8 mvn --quiet --batch-mode --no-transfer-progress

.DEFAULT_GOAL := help
# Half an environment, for example without Debian's python3-venv, is made again by the next call.
.DELETE_ON_ERROR:
.PHONY: help demo quick test extension test-qupath test-torch test-services services soak check bench clean

help:
	@echo "make demo         the whole loop on a real slide, into demo/"
	@echo "make quick        lint, and the tests that take no more than seconds"
	@echo "make test         all checks and all tests"
	@echo "make extension    the extension for QuPath, into build/; needs Java 17 and Maven"
	@echo "make test-qupath  the tests that need a QuPath on this machine"
	@echo "make test-torch   the tests with PyTorch and the loaders of other libraries; some 5 GB"
	@echo "make services     PostgreSQL, RabbitMQ and an S3 server for you, until Ctrl-C"
	@echo "make test-services the tests with these servers"
	@echo "make soak         long tests: every kill and every fault, fuzzing for ten minutes"
	@echo "make bench        every goal of speed and memory, beside other programs; BENCH=--quick"
	@echo "make clean        remove what these commands made"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; say which with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(INSTALLED): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(INSTALLED_TORCH): pyproject.toml
	$(PYTHON) -m venv $(VENV_TORCH)
	$(BIN_TORCH)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN_TORCH)/python -m pip install --quiet --editable . --group dev --group torch
	@touch $@

demo: $(INSTALLED)
	rm -rf demo
	$(BIN)/qupath-bridge demo demo

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

quick: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(PYTEST) $(PARALLEL) -m "not slow"

test: check
	$(PYTEST) $(PARALLEL) --cov --cov-report=term:skip-covered

# The jar carries the wheel, so that Set up installs the package of the jar's own version. The tests
# talk with the package that is installed here.
extension: $(INSTALLED)
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	QUPATH_BRIDGE_PYTHON="$(CURDIR)/$(BIN)/python" \
	$(MAVEN) --file qupath_extension clean package -Drevision=$(VERSION) \
	  "-Dwheel.directory=$(CURDIR)/build/wheel"
	cp qupath_extension/bridge-qupath/target/qupath-extension-patch-bridge-$(VERSION).jar build/

test-qupath: $(INSTALLED_DEV) extension
	$(PYTEST) -m qupath

test-torch: $(INSTALLED_TORCH)
	$(BIN_TORCH)/python -m pytest tests/torch tests/datasets/layouts tests/outputs/test_parquet.py \
	  tests/outputs/test_tar.py

# Debian's packages postgresql and rabbitmq-server; what is not installed is named and left out.
services: $(INSTALLED_DEV)
	@$(BIN)/python -m qupath_bridge.testing.services

test-services: $(INSTALLED_DEV)
	$(PYTEST) tests/services

soak: $(INSTALLED_DEV)
	$(PYTEST) $(PARALLEL) -m soak --soak --override-ini faulthandler_timeout=4000
	$(BIN)/python -m qupath_bridge.testing.fuzz --seconds 600 tests/data/qupath-samples

bench: $(INSTALLED_DEV)
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf demo $(VENV) $(VENV_TORCH) build dist qupath_extension/target qupath_extension/*/target .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
