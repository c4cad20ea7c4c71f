# Every target does its own set-up on a machine that has make, a shell and Python 3.11 or newer with venv: an environment
# in $(VENV), the project in it (editable), and the one dependency group of pyproject.toml that the target needs.
# What was done is noted in $(VENV)/.made/, in files named by the checksum of pyproject.toml: a second run starts at once,
# a changed pyproject.toml is installed again, an interrupted set-up leaves no note and is repeated.
#
#   make test PYTHON=/usr/bin/python3.12                   another interpreter (the environment is made anew)
#   make test PYTHON=/usr/bin/python3.12 VENV=.venv-3.12   another interpreter beside the first one
#   make test-main ARGS="-k wheel -x"                      words handed on to pytest, the demo or a benchmark

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV ?= .venv
PYTHON ?=
ARGS ?=
PYTHONS := 3.11 3.12 3.13

BIN := $(VENV)/bin
MADE := $(VENV)/.made
# The folder is part of the key: in a copied or moved project the environment still points at the old one.
KEY := $(firstword $(shell { cat pyproject.toml; echo '$(CURDIR)'; } | cksum))
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# uv installs in seconds what takes pip minutes. It asks the index that pip is configured with, as where packs are made;
# where there is none for this machine, or it fails, pip does it. $(call install,ARGUMENTS)
AS_PIP := import os, sys; sys.path.insert(0, "envpack/pack/sources"); import registry; os.execve(sys.argv[1], sys.argv[1:], {"UV_LINK_MODE": "copy", **registry.uv_environ(os.environ)})
install = { $(PIP) uv && $(BIN)/python -c '$(AS_PIP)' $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) || $(PIP) $(1); }

# $(call find,NAMES): the first that runs, is new enough and can make environments. A name on PATH proves nothing: version
# managers put names there that only print an error. The answer is the real file behind a shim or an environment.
PROBE := import sys, venv, ensurepip; sys.version_info >= (3, 11) or sys.exit(1); print(sys._base_executable)
find = for name in $(1); do path=$$("$$name" -c '$(PROBE)' 2>/dev/null) && echo "$$path" && break; done
CANDIDATES := python3.13 python3.12 python3.11 python3 python $(wildcard $(HOME)/.pyenv/versions/3.1[1-9]*/bin/python)

# Does the environment run, and is it of the interpreter that was asked for (none: any will do)?
FITS := import os, sys; sys.exit(sys.version_info < (3, 11) or sys.argv[1] != "" and not os.path.samefile(sys.argv[1], sys._base_executable))
fail = { echo "make: error: $(1)" >&2; exit 1; }

define environment
python=''; \
[ -z '$(PYTHON)' ] || python=$$($(call find,'$(PYTHON)')) || $(call fail,PYTHON=$(PYTHON) does not run$(comma) is older than 3.11$(comma) or lacks venv); \
$(BIN)/python -c '$(FITS)' "$$python" 2>/dev/null || { \
    [ -n "$$python" ] || python=$$($(call find,$(CANDIDATES))) || \
        $(call fail,no Python 3.11 or newer with venv found; install one (Debian: python3 and python3-venv) or name it: make PYTHON=FILE); \
    echo "make: $(VENV): new environment of $$python"; \
    rm -rf $(VENV) && "$$python" -m venv --without-pip $(VENV) || exit 1; \
}; \
$(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip >/dev/null || exit 1
endef

# Dependency groups need pip 25.1; the one that comes with an interpreter may be older.
define project
[ -e $(MADE)/project-$(KEY) ] || { \
    echo "make: $(VENV): installing the project"; \
    mkdir -p $(MADE) && rm -f $(MADE)/* && $(PIP) 'pip>=25.1' && $(call install,--editable .) && touch $(MADE)/project-$(KEY); \
} || exit 1
endef

define group
[ -e $(MADE)/$(1)-$(KEY) ] || { \
    echo "make: $(VENV): installing what '$(1)' needs"; \
    $(call install,--group $(1)) && touch $(MADE)/$(1)-$(KEY); \
} || exit 1
endef

comma := ,
setup = @$(environment); $(project); $(call group,$(1))

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: ## run the main job on real data: examples/inference
	$(call setup,demo)
	$(BIN)/python examples/inference/run.py $(ARGS)

# Most tests wait, for processes and for disks: half of them run beside the others, and those in their packs give way to
# both. What talks to processes stays together: these tests need cores least.
TALKING := tests/executor tests/plugs
.PHONY: test
test: ## run all tests, then their short form under other Pythons; beside them, those in their packs
	$(call setup,test)
	$(suite)
	@trap 'trap - INT TERM; kill 0' INT TERM; \
	echo "make: tests of $(TALKING); the others, and some in their packs, run beside them and are shown when they are done"; \
	nice -n 10 $(MAKE) --no-print-directory test-packs-short >$(VENV)-packs.log 2>&1 & packs=$$!; \
	$(MAKE) --no-print-directory test-main ARGS="tests $(TALKING:%=--ignore %) $(ARGS)" >$(VENV)-others.log 2>&1 & others=$$!; \
	status=0; \
	$(MAKE) --no-print-directory test-main ARGS="$(TALKING) $(ARGS)" || status=1; \
	wait $$others || status=1; \
	echo "make: the other tests"; cat $(VENV)-others.log; \
	$(MAKE) --no-print-directory test-pythons || status=1; \
	wait $$packs || status=1; \
	echo "make: tests in their packs"; cat $(VENV)-packs.log; \
	exit $$status

.PHONY: test-main
test-main: ## run all tests under one Python
	$(call setup,test)
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-short
test-short: ## run the tests that are not marked slow
	$(call setup,test)
	$(BIN)/python -m pytest -q -m 'not slow' $(ARGS)

# Files that begin with check_ are collected only where they are named: they run the others once more.
.PHONY: test-packs
test-packs: ## run each test file and example where nothing but its pack is installed
	$(call setup,test)
	$(BIN)/python -m pytest -q tests/packs/check_tests.py tests/packs/check_examples.py $(ARGS)

.PHONY: test-packs-short
test-packs-short: ## the same with all examples, a third of the test files and two functions of each, without those marked slow
	@$(MAKE) --no-print-directory test-packs ARGS="--alone 0 --without-slow --most 2 --share 0.34 $(ARGS)"

# What checks the repository, and whole examples, is the same under each of them. Under the one between the oldest and the
# newest run those of processes, threads and measures, whose Python changes most from version to version.
OTHERS := --ignore tests/house --ignore tests/examples --ignore tests/packs
BETWEEN := tests/executor tests/monitor

.PHONY: test-pythons
test-pythons: ## run the short form under each other Python found of 3.11, 3.12 and 3.13
	@$(environment)
	@main=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); started=''; trap 'trap - INT TERM; kill 0' INT TERM; \
	for version in $(PYTHONS); do \
	    [ "$$version" != "$$main" ] || continue; \
	    python=$$($(call find,python$$version $(HOME)/.pyenv/versions/$$version*/bin/python)) || { \
	        echo "make: Python $$version: not found here, skipped"; continue; }; \
	    echo "make: Python $$version: $$python, shown when it is done"; \
	    which='$(OTHERS)'; [ "$$version" != 3.12 ] || which='$(BETWEEN)'; \
	    FUZZ_TIMES=$${FUZZ_TIMES:-0.3} $(MAKE) --no-print-directory test-short VENV=.venv-$$version PYTHON="$$python" ARGS="$$which $(ARGS)" >.venv-$$version.log 2>&1 & \
	    started="$$started $$version:$$!"; \
	done; \
	status=0; \
	for one in $$started; do \
	    wait $${one#*:} || status=1; \
	    echo "make: Python $${one%%:*}"; cat .venv-$${one%%:*}.log; \
	done; \
	exit $$status

# One environment for each Python found, with what the proof packs; pip's own configuration says where torch comes from.
OFFLINE := tests/packs/offline.txt
.PHONY: prove-packs
prove-packs: ## run packs of numpy, scipy, torch and others without network and files, under each Python found
	$(call setup,test)
	@for version in $(PYTHONS); do \
	    python=$$($(call find,python$$version $(HOME)/.pyenv/versions/$$version*/bin/python)) || { \
	        echo "make: Python $$version: not found here, skipped"; continue; }; \
	    client=.venv-proof-$$version; key=$$(cat $(OFFLINE) pyproject.toml | cksum | cut -d ' ' -f 1); \
	    [ -e $$client/.made-$$key ] || { \
	        echo "make: $$client: installing $(OFFLINE)"; \
	        rm -rf $$client && "$$python" -m venv $$client && \
	        $$client/bin/python -m pip --disable-pip-version-check install --quiet -r $(OFFLINE) --editable . && \
	        touch $$client/.made-$$key; \
	    } || exit 1; \
	done
	$(BIN)/python -m pytest tests/packs/check_offline.py $(ARGS)

# CPython's tests are not part of the project: the interpreter has them, CPYTHON_TESTS names their folder, or Debian's
# package is unpacked beside the environment.
.PHONY: conformance
conformance: ## run CPython's own tests of concurrent.futures against ContextExecutor (CPYTHON_TESTS=DIR)
	$(call setup,test)
	$(BIN)/python -m tests.executor.conformance --download $(VENV)/cpython-tests $(ARGS)

.PHONY: storm
storm: ## let a million strangers knock at an executor that serves a worker meanwhile
	$(call setup,test)
	$(BIN)/python -m tests.executor.storm $(ARGS)

.PHONY: chaos
chaos: ## make 50,000 calls over four workers while processes, workers and cables are killed (ARGS="--seed 7")
	$(call setup,test)
	$(BIN)/python -m tests.executor.chaos $(ARGS)

.PHONY: soak-executor
soak-executor: ## the same with a million calls in ten minutes
	$(call setup,test)
	$(BIN)/python -m tests.executor.chaos --calls 1000000 --seconds 600 $(ARGS)

# Parsl's own tests need an older pytest than ours: an environment upon that of our tests holds what differs.
SUITE := $(VENV)-parsl
LIBRARY := import sysconfig; print(sysconfig.get_path("purelib"))
define suite
@key=$$(cat tests/plugs/parsl_suite.txt pyproject.toml | cksum | cut -d ' ' -f 1); [ -e $(SUITE)/.made-$$key ] || { \
    echo "make: $(SUITE): installing tests/plugs/parsl_suite.txt"; \
    rm -rf $(SUITE) && $(BIN)/python -m venv --without-pip $(SUITE) && \
    echo "import site; site.addsitedir('$$($(BIN)/python -c '$(LIBRARY)')')" >"$$($(SUITE)/bin/python -c '$(LIBRARY)')/below.pth" && \
    into="$(BIN)/python -m pip --python $(SUITE)/bin/python --disable-pip-version-check install --quiet" && \
    $$into -r tests/plugs/parsl_suite.txt && \
    $$into --no-deps --ignore-installed "parsl==$$($(BIN)/python -c 'import importlib.metadata as m; print(m.version("parsl"))')" && \
    touch $(SUITE)/.made-$$key; \
} || exit 1
endef

.PHONY: parsl-suite
parsl-suite: ## run Parsl's own tests with its executor and with ours (ARGS="--provider slurm --rounds 3")
	$(call setup,test)
	$(suite)
	$(BIN)/python -m tests.plugs.parsl_suite $(ARGS)

.PHONY: slurm
slurm: slurm-tools ## try the plugs on a Slurm of two nodes: nodes that crash, jobs that are cancelled or run out of time, Parsl's own tests
	$(call setup,test)
	$(suite)
	$(BIN)/python -m pytest -q --timeout 600 tests/plugs/check_slurm.py $(ARGS)
	$(BIN)/python -m tests.plugs.parsl_suite --provider slurm

.PHONY: slurm-tools
slurm-tools: ## install Slurm and munge, of which tests start some for themselves (Debian, as root)
	@missing=''; for name in slurmctld slurmd munged sbatch; do PATH="$$PATH:/usr/sbin" command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	[ -z "$$missing" ] || { \
	    export DEBIAN_FRONTEND=noninteractive; \
	    echo "make: installing what has$$missing"; \
	    apt-get install -qq -y --no-install-recommends slurm-wlm munge >/dev/null 2>&1 || { \
	        apt-get update -qq && apt-get install -qq -y --no-install-recommends slurm-wlm munge >/dev/null; \
	    }; \
	}

.PHONY: ssh-tools
ssh-tools: ## install sshd, of which tests start some for themselves on hosts of their own (Debian, as root)
	@PATH="$$PATH:/usr/sbin" command -v sshd >/dev/null || { \
	    export DEBIAN_FRONTEND=noninteractive; \
	    echo "make: installing what has sshd"; \
	    apt-get install -qq -y --no-install-recommends openssh-server openssh-client >/dev/null 2>&1 || { \
	        apt-get update -qq && apt-get install -qq -y --no-install-recommends openssh-server openssh-client >/dev/null; \
	    }; \
	}

# Needs root, ip, tc and nsenter; where there are none, the tests say so and are skipped.
.PHONY: links
links: ## bring a pack of 300 MB to two hosts behind cables of 100 Mbit/s, and cut one of them off during a run
	$(call setup,test)
	LINKS_MEGABYTES=300 $(BIN)/python -m pytest -s --timeout 1200 tests/executor/test_links.py $(ARGS)

.PHONY: bench-links
bench-links: ## time a pack on its way to two and to four hosts, with and without passing it on (ARGS="--megabytes 300")
	$(call setup,test)
	$(BIN)/python $(EXECUTOR)/pack_to_hosts.py $(ARGS)

.PHONY: joblib-suite
joblib-suite: ## run joblib's own tests of Parallel with our backend in their lists (ARGS="--backend envpack")
	$(call setup,test)
	$(BIN)/python -m tests.plugs.joblib_suite $(ARGS)

.PHONY: fuzz
fuzz: ## try a hundred times as many inputs, and new ones each time, in the tests that make their inputs up
	$(call setup,test)
	FUZZ_TIMES=100 $(BIN)/python -m pytest -q -m hypothesis --timeout 7200 $(ARGS)

.PHONY: fuzz-reader
fuzz-reader: ## hand a million hostile layers and packs to what reads them (ARGS="--inputs 100000 --seed 7")
	$(call setup,test)
	$(BIN)/python -m tests.pack.fuzz_reader $(ARGS)

.PHONY: soak-store
soak-store: ## kill 300 clients of a store at their work, and see that the next one repairs it
	$(call setup,test)
	SOAK_KILLS=300 $(BIN)/python -m pytest -s --timeout 3600 tests/pack/test_many_processes.py -k killed_at_any_moment $(ARGS)

.PHONY: soak-history
soak-history: ## kill 300 writers of a history at their work, and see that nothing that was flushed is lost
	$(call setup,test)
	SOAK_KILLS=300 $(BIN)/python -m pytest -s --timeout 3600 tests/monitor/test_history_durability.py -k kill_at_any_moment $(ARGS)

.PHONY: soak-monitor
soak-monitor: ## make a hundred thousand isolated calls, and as many in process, with all kinds of ends
	$(call setup,test)
	SOAK_CALLS=100000 $(BIN)/python -m pytest -s --timeout 36000 tests/monitor/test_soak.py $(ARGS)

.PHONY: lint
lint: ## check style, format, types and the direction of imports
	$(call setup,lint)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

.PHONY: format
format: ## mend style and format where a tool can
	$(call setup,lint)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

EXECUTOR := benchmarks/executor
EXECUTOR_CLAIMS := rate round_trip metg pending first_result context_reuse many_functions large_values bulk_channel contexts_in_turn events

.PHONY: bench
bench: ## run every benchmark in its short form
	$(call setup,bench)
	@for file in benchmarks/*.py $(EXECUTOR)/allocations.py $(patsubst %,$(EXECUTOR)/%.py,$(EXECUTOR_CLAIMS)); do \
	    echo "make: $$file --quick"; $(BIN)/python "$$file" --quick $(ARGS) || exit 1; \
	done

# Two more environments: the one that the cases are asked in, and the tools that envpack is compared with.
DISCOVERY := benchmarks/discovery
CORPUS := $(VENV)-corpus
PEERS := $(VENV)-peers
define filled
@key=$$(cat $(2) | cksum | cut -d ' ' -f 1); [ -e $(1)/.made-$$key ] || { \
    echo "make: $(1): installing $(2)"; \
    rm -rf $(1) && $(BIN)/python -m venv $(1) && \
    $(1)/bin/python -m pip --disable-pip-version-check install --quiet $(patsubst %,-r %,$(firstword $(2))) $(patsubst %,-c %,$(word 2,$(2))) && \
    touch $(1)/.made-$$key; \
} || exit 1
endef

.PHONY: bench-discovery
bench-discovery: ## compare what is discovered with other tools over our cases
	$(call setup,bench)
	$(call filled,$(CORPUS),$(DISCOVERY)/requirements.txt $(DISCOVERY)/constraints.txt)
	$(call filled,$(PEERS),$(DISCOVERY)/peers.txt)
	$(BIN)/python $(DISCOVERY)/compare.py --python $(CORPUS)/bin/python --peers $(PEERS)/bin $(ARGS)

PACKING := cold repack unpack environments imports memory identical conda_prefix

.PHONY: bench-packing
bench-packing: ## compare packing and unpacking with other tools, claim by claim
	$(call setup,bench)
	@$(call group,test)
	@for name in $(PACKING); do $(BIN)/python benchmarks/packing/$$name.py $(ARGS) || exit 1; echo; done

# Traces are not part of the project: TRACES names files or folders; without it, the one among the tests is replayed.
TRACES ?=
PREDICTION := benchmarks/prediction

.PHONY: bench-prediction
bench-prediction: ## compare predictions with published policies (TRACES="FILE.csv FOLDER", ARGS=--quick)
	$(call setup,bench)
	@for name in replay packing; do $(BIN)/python $(PREDICTION)/$$name.py $(TRACES) $(ARGS) || exit 1; echo; done
	@for name in synthetic speed; do $(BIN)/python $(PREDICTION)/$$name.py $(ARGS) || exit 1; echo; done

# Memory profilers and pollers stand in an environment of their own; envpack joins them as sources.
MONITORING := benchmarks/monitoring
MONITORS := $(VENV)-monitors

.PHONY: bench-monitoring
bench-monitoring: ## show what monitoring costs and how exact it is, beside other monitors
	$(call setup,bench)
	$(call filled,$(MONITORS),$(MONITORING)/peers.txt)
	@for name in overhead spikes tree isolated hundred history; do $(BIN)/python $(MONITORING)/$$name.py $(ARGS) || exit 1; echo; done
	$(BIN)/python $(MONITORING)/comparison.py --peers $(MONITORS)/bin $(ARGS)

# Other executors stand in an environment of their own, with envpack as an editable project: all run under one Python.
RIVALS := $(VENV)-executor

.PHONY: bench-executor
bench-executor: ## compare the executor with others, claim by claim (ARGS="--only envpack loky")
	@$(environment)
	@key=$$(cat $(EXECUTOR)/peers.txt pyproject.toml | cksum | cut -d ' ' -f 1); [ -e $(RIVALS)/.made-$$key ] || { \
	    echo "make: $(RIVALS): installing $(EXECUTOR)/peers.txt"; \
	    rm -rf $(RIVALS) && $(BIN)/python -m venv $(RIVALS) && \
	    $(RIVALS)/bin/python -m pip --disable-pip-version-check install --quiet -r $(EXECUTOR)/peers.txt --editable . && \
	    touch $(RIVALS)/.made-$$key; \
	}
	@for name in $(EXECUTOR_CLAIMS); do $(RIVALS)/bin/python $(EXECUTOR)/$$name.py $(ARGS) || exit 1; echo; done

PLUG_CLAIMS := parsl_rate gridsearch

.PHONY: bench-plugs
bench-plugs: ## compare the plugs with what their engines bring, claim by claim
	$(call setup,test)
	@for name in $(PLUG_CLAIMS); do $(BIN)/python benchmarks/plugs/$$name.py $(ARGS) || exit 1; echo; done

.PHONY: docs
docs: ## build the documentation into site/; a warning is an error
	$(call setup,docs)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "make: site/index.html"

.PHONY: wheel
wheel: ## build the wheel and the source archive into dist/
	$(call setup,test)
	$(BIN)/python -m build --no-isolation .

.PHONY: clean
clean: ## remove what the targets wrote, but not the environments
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache benchmarks/results
	find envpack executor monitor tests benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove the environments too
	rm -rf .venv .venv-corpus .venv-peers .venv-monitors .venv-executor .venv-parsl .venv-proof-* $(PYTHONS:%=.venv-%) .venv-*.log
