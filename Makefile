# Postrider. `make demo` for the ten-minute tour, `make test` for everything that must hold.
# Every target but `clean` sets .venv up first; that costs nothing when it is up to date.

# The system's Python where it can be used: it is built for speed, and lies where a service can reach it.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
PREFIX ?= /usr/local
DESTDIR ?=

VENV := .venv
STAMP := $(VENV)/set-up
SHELL := /bin/bash
# Debian keeps smtp-source, smtp-sink and opendkim where only root looks.
export PATH := $(PATH):/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup packages lint types unit test soak demo bench bench-spool bench-millions bench-sms bench-bounces bench-suppression bench-tracking install clean

help:
	@echo "make demo      engine and sinks on loopback; mail submitted, signed, delivered, deferred, bounced, clicked; SMS"
	@echo "make test      set-up, Debian packages the tests need, lint, types, all tests"
	@echo "make soak      SOAK_S=600: the tests of the spool against crashes, each so long; POSTRIDER_SEED=N repeats one"
	@echo "make unit      the fast tests only"
	@echo "make bench     rates and CPU per message beside Postfix (see bench/)"
	@echo "make bench-spool, make bench-millions    the spool's figures beside their bars; ARGS=--n=20000 for less"
	@echo "make bench-sms SMS through the spool to a carrier and receipts back, beside Kannel; ARGS=--n=10000 for less"
	@echo "make bench-bounces    what share of bounces is read right, and how fast, beside flufl.bounce"
	@echo "make bench-suppression    a look-up among ten million; import, memory; ARGS=--n=100000 for less"
	@echo "make bench-tracking    what a recipient's own links cost, after the first; redirects on one core"
	@echo "make lint      ruff;  make types: mypy"
	@echo "make setup     .venv with .venv/bin/postrider, from constraints.txt"
	@echo "make install   PREFIX=/usr/local DESTDIR=: program, unit, settings"
	@echo "make clean     remove what make made"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=python3.11"; exit 1; }
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[dev]' </dev/null
	@touch $(STAMP)

packages: setup
	@tests/support/packages.sh

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: setup
	$(VENV)/bin/mypy

unit: setup
	$(VENV)/bin/pytest tests/unit

# Tests wait much of the time: two at once, each file in one process.
TEST_JOBS ?= 3

# One step after the other, also under `make -j`; pytest's summary is the last thing printed.
# In the order of the folders: otherwise files with few tests, which take longest, come last, and one core waits.
test: setup
	@tests/support/packages.sh
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

# Each test prints its seed; -s shows it while it runs.
SOAK_S ?= 600

soak: setup
	POSTRIDER_SOAK_S=$(SOAK_S) $(VENV)/bin/pytest -s tests/fault/test_power_cut.py tests/fault/test_disk_faults.py \
		tests/fault/test_bit_flips.py tests/fault/test_spool_model.py tests/fault/test_spool_kill.py \
		tests/fault/test_kill.py tests/fuzz/test_spool_files.py

# What is installed, and measured: what every message passes through compiled (setup.py), where there is a C compiler
# and Python's headers. COMPILE=0: plain Python, as in .venv.
COMPILE ?= $(shell command -v cc >/dev/null && $(PYTHON) -c \
	'import os, sysconfig; print(int(os.path.exists(sysconfig.get_path("include") + "/Python.h")))')
WHEEL := build/wheel
COMPILED := build/compiled/built
BENCH = POSTRIDER_ENGINE=build/compiled $(VENV)/bin/python -m bench

$(WHEEL)/built: $(STAMP) setup.py $(shell find engine -name '*.py')
	rm -rf $(WHEEL) build/lib* build/temp.* build/bdist.*
	POSTRIDER_COMPILE=$(COMPILE) $(VENV)/bin/pip wheel -q --no-build-isolation --no-deps -w $(WHEEL) . </dev/null
	touch $@

$(COMPILED): $(WHEEL)/built
	rm -rf build/compiled
	$(VENV)/bin/pip install -q --no-index --no-deps --target build/compiled $(WHEEL)/postrider-*.whl </dev/null
	touch $@

demo: setup
	@$(VENV)/bin/postrider demo

bench: packages $(COMPILED)
	$(BENCH).intake
	$(BENCH).dkim
	$(BENCH).large
	$(BENCH).relay

# What the spool holds and how fast, beside its bars; the second alone, with ten million deliveries, needs 5 GiB of disk.
bench-spool: packages $(COMPILED)
	$(BENCH).spool $(ARGS)

bench-millions: setup $(COMPILED)
	$(BENCH).millions $(ARGS)

bench-sms: packages $(COMPILED)
	$(BENCH).sms $(ARGS)

bench-bounces: setup
	$(VENV)/bin/python -m bench.bounces

# Needs 3 GiB of disk.
bench-suppression: setup $(COMPILED)
	$(BENCH).suppression $(ARGS)

bench-tracking: packages $(COMPILED)
	$(BENCH).tracking $(ARGS)
	$(BENCH).tracking_redirects

# The installed program is a copy: nothing in it points to this folder or to DESTDIR.
ETC = $(if $(filter /usr,$(PREFIX)),,$(PREFIX))/etc
LIB = $(PREFIX)/lib/postrider

install: setup $(WHEEL)/built
	rm -rf "$(DESTDIR)$(LIB)/venv"
	install -d "$(DESTDIR)$(LIB)" "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/systemd/system" \
		"$(DESTDIR)$(PREFIX)/lib/sysusers.d" "$(DESTDIR)$(ETC)/postrider"
	$(PYTHON) -m venv "$(DESTDIR)$(LIB)/venv"
	"$(DESTDIR)$(LIB)/venv/bin/pip" install -q -c constraints.txt $(WHEEL)/postrider-*.whl </dev/null
	@# Again from the folder of wheels, which unlike the file's own path is not recorded in the result.
	"$(DESTDIR)$(LIB)/venv/bin/pip" install -q --no-index --no-deps --force-reinstall --find-links $(WHEEL) postrider
	@# The scripts beside python carry the path they were installed under; the program needs none of them.
	"$(DESTDIR)$(LIB)/venv/bin/python" -m pip uninstall -q -y setuptools pip
	find "$(DESTDIR)$(LIB)/venv/bin" -type f -delete
	sed -i '/^command/d' "$(DESTDIR)$(LIB)/venv/pyvenv.cfg"
	printf '%s\n' '#!/bin/sh' 'export POSTRIDER_CONFIG="$${POSTRIDER_CONFIG:-$(ETC)/postrider/postrider.toml}"' \
		'exec $(LIB)/venv/bin/python -I -m engine.cli.main "$$@"' >"$(DESTDIR)$(PREFIX)/bin/postrider"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/postrider"
	@for unit in postrider.service postrider-redirect.service; do \
		sed -e 's|/usr/local/etc/|$(ETC)/|' -e 's|/usr/local/|$(PREFIX)/|' systemd/$$unit \
			>"$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit"; done
	install -m 644 systemd/postrider.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/postrider.conf"
	@for file in postrider.toml providers.toml bounces.toml scanners.toml; do \
		if [ -e "$(DESTDIR)$(ETC)/postrider/$$file" ]; then echo "$(ETC)/postrider/$$file is there: left as it is"; \
		else install -m 644 config/$$file "$(DESTDIR)$(ETC)/postrider/$$file"; fi; done
	@case "$$(readlink -f "$(DESTDIR)$(LIB)/venv/bin/python")" in /home/*|/root/*) \
		echo "Warning: this Python lies in a home, where the service cannot reach it: make install PYTHON=/usr/bin/python3";; \
	esac
	@echo "Installed. Next: the user (systemd-sysusers), then $(ETC)/postrider/postrider.toml,"
	@echo "then: $(PREFIX)/bin/postrider check && systemctl daemon-reload && systemctl enable --now postrider"

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
