# Each target creates the virtual environment that it needs. `make help` lists the targets.
PYTHON ?= python3
# Each value of PYTHON has its own virtual environment: make test PYTHON=python3.13
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
SUFFIX := $(if $(filter python3,$(PYTHON)),,-$(VERSION))
VENV ?= .venv$(SUFFIX)
BIN := $(VENV)/bin
# Processes of the test run. Many tests wait for timeouts and other processes, so two more than there
# are processors take less time.
PROCESSES ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 2 )))
# More arguments for pytest: make test TESTS=tests/ws
TESTS ?=
# For `make chat`, which needs nothing but wsgate. With WORKERS=2 or more, `wsgate ctl --socket $(CONTROL) restart` replaces them.
ADDRESS ?= 127.0.0.1
PORT ?= 8000
WORKERS ?=
CONTROL := build/chat.sock
CHAT_VENV ?= build/chat-venv$(SUFFIX)

# Seconds per fuzz target.
FUZZ_TIME ?= 60
FUZZ_FOUND ?= build/fuzz

# Arguments of the benchmarks: make bench BENCH=--report
# The other servers are installed into a separate virtual environment.
BENCH ?=
BENCH_VENV ?= build/bench-venv

.PHONY: help chat test plain sanitize check lint types docs check-docs format autobahn reliability \
	bench soak fuzz clean

help:
	@echo "make chat         serve the example chat on http://$(ADDRESS):$(PORT); PORT=... chooses the port"
	@echo "make chat WORKERS=2    the same with two workers"
	@echo "make test         run all tests with coverage; PYTHON=python3.13 chooses a Python"
	@echo "make test TESTS=tests/ws    run some tests, or pass arguments to pytest; without coverage"
	@echo "make plain        run the tests of the Python twins of the C extensions"
	@echo "make sanitize     run the tests of the C extensions under ASan and UBSan"
	@echo "make check        lint, check types, and check that the generated docs are up to date"
	@echo "make docs         write the docs that are made from the code"
	@echo "make format       fix what the linter can fix, and format the code"
	@echo "make autobahn     run the Autobahn Testsuite and write docs/autobahn.md (needs Docker)"
	@echo "make reliability  run the abuse suite and write docs/reliability.md"
	@echo "make bench        measure wsgate and other servers (60 minutes) and write docs/performance.md"
	@echo "make soak         compare the metrics of a server with what 5,000 clients count, for ten minutes"
	@echo "make fuzz         fuzz each target for $(FUZZ_TIME) seconds"
	@echo "make clean        delete virtual environments, builds and caches"

# A virtual environment has a file .ready when it is complete. It is completed again when the
# dependencies or the C sources change.
SOURCES := pyproject.toml setup.py wsgate/ws/frames/_messages.c wsgate/server/_fast_path.c \
	wsgate/server/_message_meter.h

# $(call make_venv,FOLDER,WHAT): make one, and install WHAT into it.
define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "wsgate needs Python 3.11 or newer; choose one with: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(1) || { \
		echo "Python's venv module is missing (on Debian: apt install python3-venv)"; exit 1; }
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --editable '$(2)'
	@touch $@
endef

$(VENV)/.ready: $(SOURCES)
	@echo "Installing wsgate and all development tools into $(VENV) (the first time about a minute)"
	$(call make_venv,$(VENV),.[dev])

$(CHAT_VENV)/.ready: $(SOURCES)
	@echo "Installing wsgate into $(CHAT_VENV) (the first time about half a minute)"
	$(call make_venv,$(CHAT_VENV),.)

chat: $(CHAT_VENV)/.ready
	@mkdir -p build
	@$(CHAT_VENV)/bin/wsgate examples.chat.app:app --host $(ADDRESS) --port $(PORT) \
		$(and $(WORKERS),--workers $(WORKERS) --control-socket $(CONTROL))

# Tests of servers that speak WebSocket run twice: with the fast path and without it.
# With TESTS there is no coverage: that of some of the tests means nothing.
test: $(VENV)/.ready
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal --fast-path both \
		$(or $(TESTS),--cov --cov-report term)

# The Python modules that replace the C extensions where there is no compiler.
plain: $(VENV)/.ready
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --compiled plain \
		tests/ws tests/server tests/testing tests/fuzz $(TESTS)

# Leak detection is off: Python does not free everything at its exit.
SANITIZED := build/sanitize
sanitize: $(VENV)/.ready
	mkdir -p $(SANITIZED)
	for source in wsgate/ws/frames/_messages.c wsgate/server/_fast_path.c; do \
		$(CC) -fsanitize=address,undefined -fno-sanitize-recover -g -O1 -fPIC -shared \
			-Wall -Wextra -Wconversion -Werror \
			-isystem "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
			-o $(SANITIZED)/$$(basename $$source .c).so $$source || exit 1; \
	done
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(BIN)/python -m pytest --compiled=$(SANITIZED) tests/ws/frames \
		tests/ws/test_encoded.py tests/fuzz \
		tests/server/test_fast_path.py tests/server/test_fast_path_writing.py \
		tests/server/test_fast_path_coroutines.py tests/server/test_message_reader.py \
		tests/server/test_deliver.py tests/server/test_flushing_many.py \
		tests/server/test_websocket.py

check: lint types check-docs

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

# The references of settings, close codes and metrics, the Grafana dashboard, and the state diagrams
# of docs/architecture.md.
docs: $(VENV)/.ready
	$(BIN)/python -m docs.generate

check-docs: $(VENV)/.ready
	$(BIN)/python -m docs.generate --check

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

autobahn: $(VENV)/.ready
	$(BIN)/python -m conformance.autobahn --write docs/autobahn.md

# All figures come from one run, so they are from one machine and one day.
reliability: $(VENV)/.ready
	mkdir -p build && rm -f build/abuse.jsonl
	WSGATE_ABUSE_RESULTS=$(CURDIR)/build/abuse.jsonl $(BIN)/python -m pytest -q tests/abuse
	$(BIN)/python -m conformance.reliability build/abuse.jsonl docs/reliability.md

$(BENCH_VENV)/.ready: benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Install wsgate each time, so that its extensions are compiled from the current sources.
bench: $(BENCH_VENV)/.ready
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BENCH_VENV)/bin/python -m benchmarks $(BENCH)

# New inputs are stored in build/fuzz; an input that fails a check is stored there as crash-*.
fuzz: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	for target in http codec session proxy_header forwarded; do \
		mkdir -p $(FUZZ_FOUND)/$$target && \
		$(BIN)/python -m fuzz.target $$target -max_total_time=$(FUZZ_TIME) -timeout=10 \
			-artifact_prefix=$(FUZZ_FOUND)/ $(FUZZ_FOUND)/$$target fuzz/corpus/$$target || exit 1; \
	done

# 5,000 clients, two restarts. SOAK: --connections, --seconds, --restarts, --pause.
SOAK ?=
soak: $(VENV)/.ready
	$(BIN)/python -m benchmarks.soak $(SOAK)

clean:
	rm -rf .venv .venv-* build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache
