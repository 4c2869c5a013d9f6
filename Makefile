# Every target with a line of help: `make`. The two that matter: `make demo`, `make test`.
.DEFAULT_GOAL := help
.PHONY: help install demo serve test lint types test-rust test-python bench bench-batch bench-channels bench-gateway bench-local bench-peers chaos chaos-channels consumer services services-status services-stop docs lock clean

BIN := .venv/bin
UV := $(BIN)/uv
SOURCES := pyproject.toml uv.lock Cargo.toml Cargo.lock $(shell find engine -name '*.rs' -o -name Cargo.toml)

help: ## list the targets
	@grep -E '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/.installed ## make .venv, install the locked dependencies, build the engine

.venv/.installed: $(SOURCES)
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.89 or newer (https://rustup.rs)." >&2; exit 1; }
	@test -x $(BIN)/python || { python=$$(scripts/find-python) || { echo "Python 3.11 or newer with venv is missing." >&2; exit 1; }; "$$python" -m venv .venv; }
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) sync --locked --all-extras --no-extra torch --quiet
	@touch $@

demo: install ## the main job: 200 ethical scenarios with 3 actions each, on the rehearsal model
	$(BIN)/wordmill generate rlhi --model rehearsal --scenarios 200 --actions 3 --out datasets/demo --replace --yes
	@command -v wordmill >/dev/null || printf '\nTo type these as they stand: . $(BIN)/activate\n'

serve: install ## the web workbench and the API, on http://127.0.0.1:8501
	$(BIN)/wordmill serve

test: lint types test-rust test-python ## all of the proof: lint, types, Rust tests, Python tests on 3.11 and 3.12

lint: install ## ruff, rustfmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

types: install ## mypy --strict, and the engine's stub against the engine
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest wordmill._engine --mypy-config-file pyproject.toml --ignore-disjoint-bases

test-rust: ## the tests of the Rust crates
	cargo test --workspace --locked --quiet

consumer: ## build wordmill-consumer, into target/release
	cargo build --release --locked --quiet --package wordmill-consumer

test-python: install consumer ## the Python tests
	scripts/test-python

services: install ## private PostgreSQL, RabbitMQ, Redis and Elasticsearch in build/services, and what to export
	@$(BIN)/python scripts/services.py start

services-status: install ## what to export for them, or which does not run
	@$(BIN)/python scripts/services.py status

services-stop: install ## stop them; their data stays
	@$(BIN)/python scripts/services.py stop

bench: install ## measure, side by side with a bare client; fails when a figure is missed
	$(BIN)/python benchmarks/run.py

bench-gateway: install ## what the gateway adds to the first token, and 300 streams at once
	$(BIN)/python benchmarks/gateway.py

bench-batch: install ## batches: on one machine, and through RabbitMQ, consumers and Elasticsearch
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/scale.py

chaos-channels: install ## 200 messages of 20 people on Matrix while the server is killed; LOAD="--default-limits --encrypted"
	scripts/get-synapse
	$(BIN)/python -m tests.matrix.load $(LOAD)

bench-channels: install ## what a channel adds between a prompt on Matrix and its answer there
	scripts/get-synapse
	$(BIN)/python benchmarks/channels.py

bench-local: install ## local models: tokens a second and first tokens, beside the ways one would take otherwise
	scripts/local-models
	$(BIN)/python benchmarks/local.py

chaos: install consumer ## 50,000 requests while brokers, stores and processes are killed
	$(BIN)/python -m tests.chaos

bench-peers: install ## the same with the Python peers, each in an environment of its own
	benchmarks/peers/setup.sh
	$(BIN)/python benchmarks/run.py --peers

docs: install ## rebuild the generated pages
	$(BIN)/python scripts/docs.py

lock: install ## write uv.lock anew, and requirements.txt after it
	$(UV) lock
	cargo update --workspace
	scripts/requirements requirements.txt

clean: ## remove what was built here
	@test ! -d build/services || ! test -x $(BIN)/python || $(BIN)/python scripts/services.py stop
	rm -rf .venv build target src/wordmill/*.so
