# Each target makes .venv and installs its requirements on a new machine, and again only when pyproject.toml or
# constraints.txt has changed. PYTHON=python3.12 chooses the interpreter of a new .venv.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

VENDOR_SDK := $(CURDIR)/.venv-vendor-sdk
export VENDOR_SDK
OLD_DJANGO := $(CURDIR)/.venv-django-4.2
export OLD_DJANGO

OLDEST := 5.4
OLDER := $(OLDEST) 5.5 5.6
MATRIX_TESTS := tests/integration/test_outcomes.py tests/integration/test_outcomes_of_workers.py
MONITOR_TESTS := tests/integration/test_monitor_outcomes.py tests/integration/test_monitor_outcomes_of_workers.py \
	tests/integration/test_monitor_beside_agents.py

.DEFAULT_GOAL := help
.PHONY: help demo pictures test unit wheel test-oldest test-gevent check docs packages bench acceptance matrix outcomes celery-suite

help:
	@echo "make demo    a local Sluice, a real worker and 200 tasks with every outcome; ARGS=--keep leaves them running"
	@echo "make pictures ARGS=URL  pictures of all pages of a running server, for example that of make demo ARGS=--keep"
	@echo "make unit    the tests that need no server, in a minute"
	@echo "make test    all tests, on the built wheel, a real Redis, RabbitMQ, PostgreSQL and Chromium (installed by apt if absent, as root)"
	@echo "make test-gevent  every outcome in one process that gevent has patched; part of make test"
	@echo "make check   ruff, mypy and the pages in docs/"
	@echo "make packages  wheel and sdist, checked, and run in empty venvs of each Python that is here; the newest Django; uWSGI"
	@echo "make docs    the pages in docs/ as a site, into build/site"
	@echo "make matrix  every outcome on every pool and broker, with Celery 5.4 to 5.7; takes an hour"
	@echo "make celery-suite  Celery's own tests, without the agent and with it: outside CI, takes an hour"
	@echo "make outcomes  docs/outcomes.md, from the rows that the tests run"
	@echo "make bench   what everything costs, beside other tools: writes docs/benchmarks.md, in hours; ARGS=--small in minutes"
	@echo "make acceptance  what the server was promised to do, in full size; ARGS=--small shows that it runs"
	@echo "make soak    a worker for 3 minutes, or SOAK_MINUTES=180: its resources do not grow"

demo: $(VENV)/.installed-server
	@$(BIN)/python -m examples.demo $(ARGS)

pictures: $(VENV)/.installed-dev
	@sh scripts/servers.sh
	@$(BIN)/python -m tests.pictures $(ARGS)

# Without ARGS: the unit tests on the source, and all others on the built wheel. Those that need servers mostly wait, and
# the others run beside them, one target after the other.
test: $(VENV)/.installed-dev $(VENDOR_SDK)/.installed $(OLD_DJANGO)/.installed $(if $(ARGS),,wheel)
	@sh scripts/servers.sh
	@rm -f flaky-tests.txt
	@echo "test: pytest $(or $(ARGS),$(SERVER_TESTS))"
	@$(if $(ARGS),,$(ON_WHEEL) PYTEST="$(CURDIR)/build/$(BIN)/python -m pytest" BESIDE="$(BESIDE)") \
		sh scripts/test.sh $(or $(ARGS),$(SERVER_TESTS))

BESIDE = $(MAKE) -C $(CURDIR) --no-print-directory -k -o wheel unit test-oldest test-gevent
SERVER_TESTS := tests/integration tests/faults tests/contract tests/pages

# The vendor's own SDK, with whose requests the server is tested. It needs Python 3.11: elsewhere the venv stays empty, and
# its tests are skipped.
$(VENDOR_SDK)/.installed: tests/contract/vendor-sdk.txt constraints.txt | $(BIN)/pip
	@echo "setup: installing the vendor's SDK into $(notdir $(@D))"
	@test -x $(@D)/bin/pip || $(BIN)/python -m venv $(@D)
	@! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		$(@D)/bin/python -m pip --disable-pip-version-check -qq install -c constraints.txt -r tests/contract/vendor-sdk.txt
	@touch $@

$(OLD_DJANGO)/.installed: tests/matrix/django-4.2.txt $(VENV)/.installed-dev
	@echo "setup: installing Django 4.2 into $(notdir $(@D))"
	@sh scripts/overlay.sh $(VENV) $(notdir $(@D)) -r $<
	@touch $@

unit: $(VENV)/.installed-dev
	@echo "test: unit tests"
	@PYTEST=$(BIN)/pytest sh scripts/unit.sh $(ARGS)

# The wheel is tested in a copy of everything but the package's source.
ON_WHEEL := cd build/tree &&
BUILT := --no-index build/wheel/*.whl

wheel: $(VENV)/.installed-dev
	@echo "test: building the wheel"
	@sh scripts/wheel.sh
	@sh scripts/overlay.sh $(VENV) build/$(VENV) $(BUILT)

# The oldest supported Celery, on the broker and pool where it differs most from the newest.
test-oldest: .venv-celery-$(OLDEST)/.installed wheel
	@sh scripts/servers.sh
	@sh scripts/overlay.sh .venv-celery-$(OLDEST) build/.venv-celery-$(OLDEST) $(BUILT)
	@echo "test: celery $(OLDEST)"
	@$(ON_WHEEL) PART="celery $(OLDEST)" PYTEST="$(CURDIR)/build/.venv-celery-$(OLDEST)/bin/python -m pytest" \
		sh scripts/pytest.sh -q -p no:cacheprovider tests/integration/test_outcomes.py -k redis-prefork

# Producer, worker, agent and endpoint in one patched process: pytest itself must start patched.
test-gevent: wheel
	@sh scripts/servers.sh
	@echo "test: gevent, monkey-patched"
	@$(ON_WHEEL) PYTEST="$(CURDIR)/build/$(BIN)/python -m tests.gevent" sh scripts/pytest.sh -q -p no:cacheprovider tests/gevent

check: $(VENV)/.installed-dev
	@echo "check: ruff check"
	@$(BIN)/ruff check --quiet
	@echo "check: ruff format --check"
	@$(BIN)/ruff format --check --quiet
	@echo "check: mypy"
	@$(BIN)/mypy
	@$(BIN)/mypy --strict -m tests.packages.typed_user
	@$(MAKE) --no-print-directory docs

# The last uWSGI that runs no Python threads by default, and the newest.
UWSGI := 2.0.26 2.0.31

packages: $(VENV)/.installed-dev $(UWSGI:%=.venv-uwsgi-%/.installed)
	@sh scripts/servers.sh
	@sh scripts/packages.sh
	@UWSGI="$(UWSGI)" $(BIN)/python -m pytest -q tests/packages/test_uwsgi.py

.venv-uwsgi-%/.installed: $(VENV)/.installed-dev
	@echo "setup: building uWSGI $* into $(@D)"
	@sh scripts/overlay.sh $(VENV) $(@D) uwsgi==$*
	@touch $@

# mkdocs-material prints a note on MkDocs 2 at each build.
docs: $(VENV)/.installed-dev
	@echo "check: mkdocs build --strict"
	@mkdir -p build
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict >build/docs.log 2>&1 || { grep -v ^INFO build/docs.log >&2; exit 1; }

# Each older Celery has a venv over the other: 5.4 and 5.5 with the kombu and billiard of their time, 5.6 with the newest.
matrix: $(VENV)/.installed-dev $(OLD_DJANGO)/.installed $(OLDER:%=.venv-celery-%/.installed)
	@sh scripts/servers.sh
	@failed=; for python in $(OLDER:%=.venv-celery-%) $(VENV); do \
		echo "matrix: $$($$python/bin/python -m celery --version)"; \
		MATRIX=full $$python/bin/python -m pytest $(MATRIX_TESTS) $(ARGS) || failed="$$failed $$python"; \
	done; \
	MATRIX=full $(BIN)/pytest tests/integration/test_django.py $(MONITOR_TESTS) $(ARGS) || failed="$$failed the monitor's"; \
	if [ -n "$$failed" ]; then echo "matrix: failed:$$failed" >&2; exit 1; fi

.venv-celery-%/.installed: tests/matrix/celery-%.txt $(VENV)/.installed-dev
	@echo "setup: installing celery $* into .venv-celery-$*"
	@sh scripts/overlay.sh $(VENV) .venv-celery-$* -r $<
	@touch $@

# Celery's tests are in its source distribution only, and their requirements need a separate venv. Requirements for
# servers that are not started here are left out: the tests that need them skip themselves.
CELERY := 5.7.0
SUITE := .celery-suite-$(CELERY)
SUITE_EXTRAS := redis sqlalchemy pymemcache auth eventlet elasticsearch slmq

celery-suite: $(VENV)/.installed-dev $(SUITE)/.installed
	@sh scripts/servers.sh
	@$(BIN)/python -m tests.celery_suite $(SUITE)/celery-$(CELERY) $(SUITE)/venv/bin/python $(ARGS)

$(SUITE)/.installed: pyproject.toml | $(BIN)/pip
	@echo "setup: installing the test suite of celery $(CELERY) into $(SUITE)"
	@mkdir -p $(SUITE)
	@$(PIP) download --no-binary :all: --no-deps -d $(SUITE) celery==$(CELERY)
	@tar -xzf $(SUITE)/celery-$(CELERY).tar.gz -C $(SUITE)
	@test -x $(SUITE)/venv/bin/pip || $(BIN)/python -m venv $(SUITE)/venv
	@$(SUITE)/venv/bin/python -m pip --disable-pip-version-check -qq install celery==$(CELERY) 'fakeredis[lua]' -e . \
		-r $(SUITE)/celery-$(CELERY)/requirements/test.txt \
		$(SUITE_EXTRAS:%=-r $(SUITE)/celery-$(CELERY)/requirements/extras/%.txt)
	@touch $@

outcomes: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.integration.outcomes.document

# What is measured side by side, each in a venv that has nothing else.
BENCH_VENVS := celery sluice-agent sluice-celery opentelemetry sentry flower

bench: $(VENV)/.installed-bench $(BENCH_VENVS:%=.venv-bench-%/.installed)
	@$(BIN)/python -m tests.benchmarks $(ARGS)

.venv-bench-%/.installed: tests/benchmarks/venvs/%.txt pyproject.toml constraints.txt | $(BIN)/pip
	@echo "setup: installing $* into $(@D)"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install -c constraints.txt -r $<
	@touch $@

acceptance: $(VENV)/.installed-dev
	@sh scripts/servers.sh
	@$(BIN)/python -m tests.acceptance $(ARGS)

SOAK_MINUTES ?= 3

soak: $(VENV)/.installed-dev
	@sh scripts/servers.sh
	@SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m tests.soak

# Debian keeps venv in a separate package, without which a new .venv has no pip.
$(BIN)/pip:
	@echo "setup: making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "setup: $(PYTHON) is missing or older than 3.10; choose another, for example: make PYTHON=python3.12" >&2; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "setup: installing python3-venv by apt"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >/dev/null; \
		else \
			echo "setup: $(PYTHON) has no venv module; as root: apt-get install python3-venv" >&2; exit 1; \
		fi; \
	fi
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed-server: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "setup: installing sluice-agent[server] into $(VENV)"
	@$(PIP) install -c constraints.txt -e '.[server]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	@sh scripts/servers.sh
	@sh scripts/valgrind.sh
	@echo "setup: installing sluice-agent[bench] into $(VENV)"
	@$(PIP) install -c constraints.txt -e '.[bench]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "setup: installing sluice-agent[dev] into $(VENV)"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed-server
