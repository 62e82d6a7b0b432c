# make up     everything on this machine, until Ctrl-C
# make test   lint, types, import rules, then all tests
# make check  lint, types and import rules only
# make check-deploy  image, compose, chart, rules and dashboards; needs Node.js
# make chart-schema  the chart's schema and README, after a setting or a value changed
# make bench  the benchmarks behind benchmarks/README.md, half an hour; the soak is not among them
# make lock   resolve the dependencies anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEPLOY_VENV := .venv-deploy
DEPLOY_BIN := $(DEPLOY_VENV)/bin

.PHONY: up test check check-deploy chart-schema bench lock clean

up: $(VENV)/.run-installed
	$(BIN)/screener up

test: check
	$(BIN)/python -m pytest

check: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-deploy: $(DEPLOY_VENV)/.installed $(VENV)/.run-installed
	$(DEPLOY_BIN)/python -m pytest -c deploy/checks/pytest.ini deploy/checks

chart-schema: $(VENV)/.run-installed
	$(BIN)/python deploy/helm/schema.py

bench: $(VENV)/.bench-installed
	$(BIN)/python -m benchmarks.matrix
	$(BIN)/python -m benchmarks.rules
	$(BIN)/python -m benchmarks.backtest
	$(BIN)/python -m benchmarks.simexchange
	$(BIN)/python -m benchmarks.feed
	$(BIN)/python -m benchmarks.webhooks
	$(BIN)/python -m benchmarks.rest
	$(BIN)/python -m benchmarks.fanout --clients 2000
	$(BIN)/python -m benchmarks.footprint --symbols 200 --seconds 40
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.pipeline --ours-full

lock: $(VENV)/.test-installed
	$(BIN)/pip install --quiet 'pip-tools>=7.6,<8'
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate \
		--no-header --extra test --extra benchmark --output-file requirements.lock setup.cfg

clean:
	rm -rf $(VENV) $(DEPLOY_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# requirements.lock constrains every install, so that all machines run the same versions
$(VENV)/.run-installed: $(VENV)/bin/python setup.cfg pyproject.toml requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/bin/python setup.cfg pyproject.toml requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[test]'
	touch $@ $(VENV)/.run-installed

$(VENV)/.bench-installed: $(VENV)/.test-installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[test,benchmark]'
	touch $@

$(DEPLOY_VENV)/.installed: deploy/checks/requirements.txt deploy/checks/requirements.lock deploy/checks/install.py deploy/checks/package.json
	$(PYTHON) -m venv $(DEPLOY_VENV)
	$(DEPLOY_BIN)/pip install --quiet --disable-pip-version-check --constraint deploy/checks/requirements.lock \
		--requirement deploy/checks/requirements.txt
	$(DEPLOY_BIN)/python deploy/checks/install.py $(DEPLOY_VENV)
	touch $@
