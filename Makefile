# The only entry point: `make run`, `make test`, `make check`. Needs python3 >= 3.11 and nothing else.
PYTHON ?= python3
BIN := .venv/bin
MODEL ?=
AUDIO ?=

.DEFAULT_GOAL := help
MINUTES ?= 60
.PHONY: help setup dev run test slow fuzz faults mutants soak check generate cuda-wheel docker-test bench bench-webhooks speech speech-short voice-model lock clean

help:
	@echo "make run [MODEL=demo|base.en|large-v3|...|path/to/file.bin] [AUDIO=file]   start everything on port 8080 (or transcribe one file)"
	@echo "make setup | test | slow | fuzz | faults [ONLY=...] | mutants | soak MINUTES=60 | check | bench | bench-webhooks"
	@echo "make speech | speech-short SPEECH_DIR=folder                  words and times of real speech, beside whisper-cli"
	@echo "make cuda-wheel | docker-test | generate | lock | clean"

# Each marker is as new as the lock file that it was installed from. pip runs with --no-deps, because the lock is complete.
.venv/run.done: requirements/run.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python >= 3.11 is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/run.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.done: .venv/run.done requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.lock
	@touch $@

setup: .venv/run.done

dev: .venv/dev.done

run: setup
	@$(BIN)/whisper-jetstream up $(if $(MODEL),--model "$(MODEL)") $(if $(AUDIO),--audio "$(AUDIO)")

test: dev
	$(BIN)/pytest -n 2 --dist worksteal

# Breaks one line at a time, in a copy of the tree, and runs the test that must fail then. Minutes.
mutants: dev
	$(BIN)/python -m tests.mutants -j 2

# Load, long waits and matrices of signals: minutes.
slow: dev
	$(BIN)/pytest -n 2 --dist worksteal -m slow --deselect tests/faults/test_random.py

# Random bytes and mutated messages on every subject and in every bucket of a running system, for a minute.
fuzz: dev
	FUZZ_SECS=60 $(BIN)/pytest -rP tests/fuzz

# Random faults against real processes, for as long as asked.
soak: dev
	SOAK_MINUTES=$(MINUTES) $(BIN)/pytest -rP -m slow tests/faults/test_random.py

# Each part ended, frozen and restarted in each phase of a job; writes docs/evidence/faults.md unless ONLY is given.
ONLY ?=
faults: dev
	$(BIN)/python -m tests.faults.matrix --only "$(ONLY)"

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Everything that is generated from schemas/; tests/contract fails when a file differs.
generate: dev
	$(BIN)/python -m schemas.export
	$(BIN)/python -m schemas.option_table
	$(BIN)/python -m gateway.openapi
	$(BIN)/python -m asyncapi

# pywhispercpp with CUDA, by the script that the image is built with. Needs nvcc, a C++ compiler, cmake and ninja.
CUDA_ARCHITECTURES ?= 75
JOBS ?= $(shell nproc)
cuda-wheel: setup
	PYTHON=$(CURDIR)/$(BIN)/python docker/cuda-libraries.sh build/cuda/libraries
	PYTHON=$(CURDIR)/$(BIN)/python JOBS=$(JOBS) CUDA_ARCHITECTURES="$(CUDA_ARCHITECTURES)" \
		CUDA_LIBRARIES=build/cuda/libraries docker/build-wheel.sh cuda build/cuda/wheel > build/cuda/build.log 2>&1
	@ls -l build/cuda/wheel

# The scripts that the image is built with, run here; minutes, and the package registries.
docker-test: dev
	DOCKER_TESTS=1 $(BIN)/pytest tests/e2e/test_docker.py

bench: dev
	$(BIN)/python -m benchmarks

# What a healthy webhook receiver notices of dead, slow and absent ones: docs/evidence/webhooks.md.
bench-webhooks: dev
	$(BIN)/python -m benchmarks.webhooks --write

# Real speech, Whisper's own weights from packages, and whisper-cli beside the product: docs/evidence/speech.md. Three quarters of an hour; the short
# form takes four minutes and only prints. SPEECH_DIR is a folder with clips, a refs.json and a long.py.
SPEECH_DIR ?=
speech: dev
	@$(if $(SPEECH_DIR),$(BIN)/python -m tests.speech "$(SPEECH_DIR)",echo "make speech SPEECH_DIR=folder: which folder has the speech?"; exit 2)

speech-short: dev
	@$(if $(SPEECH_DIR),$(BIN)/python -m tests.speech "$(SPEECH_DIR)" --short,echo "make speech-short SPEECH_DIR=folder: which folder has the speech?"; exit 2)

# Writes the voice detector's model again, from the package that carries it, by the hash in its README.
voice-model: setup
	$(BIN)/python gpu_worker/audio/silero_vad/fetch.py

lock:
	$(PYTHON) -m venv .venv/uv && .venv/uv/bin/pip install --quiet uv
	sh requirements/lock.sh .venv/uv/bin/uv

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache data
