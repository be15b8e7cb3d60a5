# Everything a newcomer needs: `make chat` and `make test` set themselves up.
PYTHON ?= python3
# Each Python that is named has a virtual environment of its own: make test PYTHON=python3.13
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venv-$(VERSION))
BIN := $(VENV)/bin
# Further arguments for pytest, as in: make test TESTS=tests/ws
TESTS ?=
ADDRESS ?= 127.0.0.1
PORT ?= 8000

# Seconds for each fuzz target.
FUZZ_TIME ?= 60
FUZZ_FOUND ?= build/fuzz

# The peers live apart; BENCH has the benchmarks' arguments, as in: make bench BENCH=--report
BENCH ?=
BENCH_VENV ?= build/bench-venv

.PHONY: help chat test sanitize check lint types format autobahn reliability bench fuzz clean

help:
	@echo "make chat      set up, then serve the chat on http://$(ADDRESS):$(PORT)"
	@echo "make test      set up, then run all tests, with coverage; PYTHON=python3.13 names a Python"
	@echo "make sanitize  set up, then run the tests of the C extensions under ASan and UBSan"
	@echo "make check     set up, then lint and type-check"
	@echo "make autobahn  run the Autobahn Testsuite and write its table to docs/autobahn.md"
	@echo "make reliability  run the abuse suite and write docs/reliability.md"
	@echo "make bench     measure wsgate and its peers (25 minutes), write docs/performance.md"
	@echo "make fuzz      set up, then fuzz each target for $(FUZZ_TIME) seconds"

# A file that stands for the virtual environment: made anew when what is installed there changes.
$(VENV)/.ready: pyproject.toml setup.py wsgate/ws/frames/_messages.c wsgate/server/_fast_path.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "wsgate needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "Python's venv module is missing (on Debian: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

chat: $(VENV)/.ready
	@echo "The chat is at http://$(ADDRESS):$(PORT) (Ctrl+C ends it)"
	@$(BIN)/wsgate examples.chat.app:app --host $(ADDRESS) --port $(PORT)

# What speaks WebSocket is run with the fast lane and without it.
test: $(VENV)/.ready
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --fast-lane both \
		--cov --cov-report term $(TESTS)

# Leaks are the tests' business: Python itself keeps what it has until its end.
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
		tests/server/test_fast_path.py tests/server/test_message_reader.py tests/server/test_websocket.py

check: lint types

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

autobahn: $(VENV)/.ready
	$(BIN)/python -m conformance.autobahn --write docs/autobahn.md

# One run, so that the figures are of one machine and one day.
reliability: $(VENV)/.ready
	mkdir -p build && rm -f build/abuse.jsonl
	WSGATE_ABUSE_RESULTS=$(CURDIR)/build/abuse.jsonl $(BIN)/python -m pytest -q tests/abuse
	$(BIN)/python -m conformance.reliability build/abuse.jsonl docs/reliability.md

$(BENCH_VENV)/.ready: benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# wsgate is installed each time, so that its extension is built from the sources as they are.
bench: $(BENCH_VENV)/.ready
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BENCH_VENV)/bin/python -m benchmarks $(BENCH)

# What is new goes to build/fuzz; an input that breaks a check lies there as crash-*.
fuzz: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	for target in http codec session; do \
		mkdir -p $(FUZZ_FOUND)/$$target && \
		$(BIN)/python -m fuzz.target $$target -max_total_time=$(FUZZ_TIME) -timeout=10 \
			-artifact_prefix=$(FUZZ_FOUND)/ $(FUZZ_FOUND)/$$target fuzz/corpus/$$target || exit 1; \
	done

clean:
	rm -rf .venv .venv-* build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache
