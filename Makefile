# The one entrance: people, continuous integration and pre-commit call the same targets. `make help` lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup setup-scale run test check format bench bench-features bench-features-scale bench-audit bench-stream bench-online-read bench-serving bench-overload bench-swap bench-rollback notebooks lab lock clean reset bench-judge bench-soak

PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
HOME ?= $(CURDIR)/.cache/home
export HOME
unexport PYTHONDONTWRITEBYTECODE  # compiled once, every kedro and mlflow process starts seconds earlier
TEST_WORKERS ?= 2

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv from requirements.lock; nothing to do where it is up to date
	@set -eu; \
	key="$$(cat requirements.lock pyproject.toml | cksum)"; \
	if [ -f .venv/.ready ] && [ "$$(cat .venv/.ready)" = "$$key" ]; then exit 0; fi; \
	is_311() { "$$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }; \
	if ! is_311 $(PY); then \
		for python in python3.11 python3 python; do if is_311 $$python; then break; fi; python=; done; \
		if [ -z "$$python" ]; then echo "error: Python 3.11 is needed and was not found" >&2; exit 1; fi; \
		echo "setup 1/3: making .venv with $$($$python --version)"; \
		rm -rf .venv; $$python -m venv .venv; \
	fi; \
	rm -f .venv/.ready; \
	echo "setup 2/3: installing $$(grep -c '==' requirements.lock) pinned packages and compiling them"; \
	$(PY) -m pip install --quiet --disable-pip-version-check uv==0.13.9 || echo "setup: no uv, going on with pip"; \
	index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null || true)}}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(PY) -m uv pip sync --compile-bytecode --python $(PY) requirements.lock 2>.venv/setup.log & worker=$$!; waited=0; \
	while kill -0 $$worker 2>/dev/null; do \
		sleep 5; waited=$$((waited + 5)); echo "setup 2/3: $$waited s, $$(tail -n 1 .venv/setup.log | cut -c 1-60)"; \
	done; \
	if ! wait $$worker; then \
		tail -n 5 .venv/setup.log; \
		echo "setup: uv did not finish, going on with pip"; \
		$(PY) -m pip install --disable-pip-version-check --progress-bar off -r requirements.lock; \
		$(PY) -m compileall -q -j 0 .venv/lib || true; \
	fi; \
	echo "setup 3/3: installing flightdeck itself"; \
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	echo "$$key" > .venv/.ready

setup-scale: setup ## add Spark (needs Java 17) and PostgreSQL's driver to .venv
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null || true)}}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(PY) -m uv pip install --quiet --python $(PY) -c requirements.lock -r requirements-scale.lock \
		|| $(PY) -m pip install --quiet --disable-pip-version-check -c requirements.lock -r requirements-scale.lock
	@command -v java >/dev/null || echo "setup-scale: there is no Java; Spark needs version 17" >&2

run: setup ## golden path, service, dashboard and the replay of one day; ONCE=1 prints a summary and stops
	@exec .venv/bin/kedro up $(if $(ONCE),--once)

test: setup ## run all tests; TEST_WORKERS=1 for one process, ARGS="-k ledger" for some. Browser tests need Chromium
	@$(PY) -m pytest -n $(TEST_WORKERS) --dist loadfile $(ARGS)

check: setup ## lint, format, types, import rules, stage contracts, notebooks, doctests
	@echo "check 1/7: ruff check" && .venv/bin/ruff check .
	@echo "check 2/7: ruff format" && .venv/bin/ruff format --check .
	@echo "check 3/7: mypy" && .venv/bin/mypy
	@echo "check 4/7: import rules" && .venv/bin/lint-imports
	@echo "check 5/7: stage contracts" && .venv/bin/kedro contracts lint
	@echo "check 6/7: notebooks" && .venv/bin/kedro notebooks check
	@echo "check 7/7: doctests" && $(PY) -m pytest --doctest-modules -p no:cacheprovider src

format: setup ## sort imports and format
	@.venv/bin/ruff check --select I --fix --quiet . && .venv/bin/ruff format .

bench: setup ## run all quick measurements, paired with their peers; each prints one JSON line last
	@set -eu; for benchmark in benchmarks/bench_*.py; do \
		case "$$benchmark" in *_scale.py) continue;; *_serving.py|*_overload.py|*_swap.py|*_audit.py) args=--quick;; \
			*_judge.py) args="--canaries 500";; *) args=;; esac; \
		echo "== $$benchmark"; $(PY) -m "benchmarks.$$(basename "$$benchmark" .py)" $$args; done

bench-features: setup ## offline: all views on all flights, against pandas, Polars, DuckDB and Feast
	@exec $(PY) -m benchmarks.bench_features $(ARGS)

bench-features-scale: setup ## offline: 10M requests over 100M events in bounded memory; takes minutes
	@exec $(PY) -m benchmarks.bench_features_scale $(ARGS)

bench-audit: setup ## ledger: a million records verified, and an append with its signed checkpoint; ARGS=--quick
	@exec $(PY) -m benchmarks.bench_audit $(ARGS)

bench-stream: setup ## materializer: updates a second, freshness and bytes a key, embedded and Redis
	@exec $(PY) -m benchmarks.bench_stream $(ARGS)

bench-online-read: setup ## online: four views for 1 and 50 entities, embedded and Redis, against Feast
	@exec $(PY) -m benchmarks.bench_online_read $(ARGS)

bench-serving: setup ## serving: requests a second and CPU of a request, against peers; ARGS=--quick for minutes
	@exec $(PY) -m benchmarks.bench_serving $(ARGS)

bench-overload: setup ## serving: three surfaces at 50 to 1200 % of capacity; ARGS=--quick
	@exec $(PY) -m benchmarks.bench_overload $(ARGS)

bench-swap: setup ## serving: 100 swaps of the champion under load; ARGS=--quick
	@exec $(PY) -m benchmarks.bench_swap $(ARGS)

bench-rollback: setup ## serving: from the order to the last worker, by hand, by the judge, with all else down
	@exec $(PY) -m benchmarks.bench_rollback $(ARGS)

bench-judge: setup ## canary judge: false rollbacks of 12,000 healthy canaries, requests to catch a sick one
	@exec $(PY) -m benchmarks.bench_judge $(ARGS)

bench-soak: setup ## serving: an hour at half of the capacity; ARGS="--minutes 2" for less
	@exec $(PY) -m benchmarks.soak $(ARGS)

notebooks: setup ## run every notebook top to bottom, results below data/08_reporting/notebooks
	@set -eu; mkdir -p data/08_reporting/notebooks; for notebook in notebooks/*/*.ipynb; do \
		echo "== $$notebook"; \
		$(PY) -m papermill --kernel python3 --no-progress-bar "$$notebook" \
			"data/08_reporting/notebooks/$$(basename "$$notebook")"; done

lab: setup ## open JupyterLab on the exploration notebook, with Kedro's catalog at hand
	@exec .venv/bin/kedro jupyter lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) notebooks/explore/01_flights.ipynb

lock: setup ## resolve pyproject.toml into requirements.lock, and the peers that benchmarks measure against
	@$(PY) -m uv pip compile -q --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" \
		--extra dev pyproject.toml -o requirements.lock
	@{ echo "# What the extra \`scale\` adds to requirements.lock; made by: make lock"; \
		$(PY) -m uv pip compile -q --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
			-c requirements.lock --extra scale pyproject.toml | grep -vxFf requirements.lock; } > requirements-scale.lock
	@set -eu; for peer in benchmarks/requirements/*.in; do \
		$(PY) -m uv pip compile -q --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" \
			"$$peer" -o "$${peer%.in}.txt"; done

clean: ## delete caches; keeps .venv and data
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .viz build .cache
	@find src serving dashboards tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

reset: ## delete everything that was produced below data, the ledger and all releases included; needs SURE=1
	@if [ -z "$(SURE)" ]; then echo "this deletes every release and the ledger: make reset SURE=1" >&2; exit 1; fi
	@find data -mindepth 1 -maxdepth 1 ! -name .gitkeep -exec rm -rf {} +
