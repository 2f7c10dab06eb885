# `make demo` and `make test` need nothing but Linux, Python >= 3.10 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo serve test test-rest test-all image-test actionmesh gltfpack test-actionmesh check hooks format bench quality torture fuzz attack audit ray-demo lock clean

demo: $(VENV)/.runtime  ## clip in, animated mesh out, through the real server
	$(BIN)/python -m examples.demo

serve: $(VENV)/.runtime  ## the server on PORT (8000)
	$(BIN)/python main.py

# One test more at a time than there are cores, up to four: many wait. One folder alone, in seconds:
# make test PACKAGE=video (tests/video), make test PACKAGE=job_store (tests/test_job_store*.py)
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses=4 --dist=loadgroup
TESTS = $(if $(PACKAGE),$(wildcard tests/$(PACKAGE) tests/test_$(PACKAGE)*.py),tests)
REST := slow or browser or ray or blender or image

test: $(VENV)/.dev  ## the whole contract; no browser, Ray, Blender or buildah needed
	$(PYTEST) -m "not ($(REST))" $(TESTS)

test-rest: $(VENV)/.dev  ## what `make test` leaves out; skips what this machine lacks
	$(PYTEST) -m "$(REST)" $(TESTS)

test-all: $(VENV)/.dev  ## both
	$(PYTEST) $(TESTS)

image-test: $(VENV)/.dev  ## build the CPU image with buildah, run jobs in it; needs root, debootstrap
	$(BIN)/python -m pytest -v tests/deploy/test_image.py

actionmesh: $(VENV)/bin/python  ## ActionMesh for a CUDA GPU: code, packages (6 GB), weights (16 GB)
	@$(BIN)/python -m upstream.install_check
	@$(MAKE) --no-print-directory $(VENV)/.runtime
	git -c url."https://github.com/".insteadOf="git@github.com:" submodule update --init --recursive
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements/actionmesh.txt
	$(BIN)/python -m upstream.weights

gltfpack: $(VENV)/bin/python  ## for formats=compact; needs Node.js 18 or newer with npm
	npm install --global --prefix $(VENV) --no-audit --no-fund gltfpack@1.3.0

test-actionmesh: $(VENV)/.dev  ## upstream's real code with tiny random weights; no GPU needed
	$(PYTEST) tests/upstream

check: $(VENV)/.dev  ## what CI checks before the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

hooks: HOOKS = $(shell git rev-parse --git-path hooks)
hooks:  ## git runs `make check` before each commit
	mkdir -p "$(HOOKS)"
	printf '#!/bin/sh\nexec make check\n' > "$(HOOKS)/pre-commit"
	chmod +x "$(HOOKS)/pre-commit"

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## the figures in the docs, measured on this machine
	$(BIN)/python -m benchmarks.run

quality: $(VENV)/.dev  ## what truth can measure, as a table in benchmarks/RESULTS.md; needs TEST_MEDIA
	$(BIN)/python -m benchmarks.run quality

KILLS ?= 1000
torture: $(VENV)/.dev  ## kill servers and children at random (KILLS), count what breaks
	$(BIN)/python -m tests.faults.random_kills $(KILLS)

FILES ?= 10000
CORPUS ?= all
fuzz: $(VENV)/.dev  ## hostile inputs (FILES of each CORPUS) for everything that reads strangers' bytes
	$(BIN)/python -m tests.faults.fuzz --files $(FILES) --corpus $(CORPUS)

attack: $(VENV)/.dev  ## attacks on a server without a key; its memory, answers, delays
	$(BIN)/python -m benchmarks.attacks $(ATTACKS)

audit: $(VENV)/bin/python  ## known weaknesses of the locked packages (needs the network)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install -q --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/cpu.lock
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/gpu.lock

ray-demo: $(VENV)/.runtime  ## four jobs on a Ray cluster of two nodes on this machine; one is killed
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/ray.txt
	$(BIN)/python -m examples.ray_demo

lock: $(VENV)/bin/python  ## the containers' packages anew, with their hashes (needs the network)
	$(BIN)/python -m deploy.lock

clean:
	rm -rf $(VENV) demo_output .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; name it with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@# 4.6 MB; without them everything works, and the server's later starts try again
	@$(BIN)/python -m subject.model_file || true
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/dev.txt
	@touch $@
