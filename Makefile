# make up     everything on this machine, until Ctrl-C
# make test   lint, types, import rules, then all tests
# make check  lint, types and import rules only
# make check-deploy  image, compose, chart, rules and dashboards; needs Node.js
# make check-image   builds the image and runs every role in it; needs podman or docker; BASE=IMAGE for another base
# make check-compose brings Compose up, kills every container, restores a backup; needs Docker; WITH=FILE for other images
# make check-cluster installs the chart on the current cluster and troubles it; IMAGE=NAME:TAG that its nodes have; WITH=FILE
# make chart-schema  the chart's schema and README, after a setting or a value changed
# make bench  the shorter benchmarks of benchmarks/README.md, in sequence
# make page   the web page, after a change of its sources
# make lock   resolve the dependencies anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEPLOY_VENV := .venv-deploy
DEPLOY_BIN := $(DEPLOY_VENV)/bin
# Bytecode at once: the processes of one start would each compile the same modules, and under PYTHONDONTWRITEBYTECODE
# every process would, at every start. That is half of what a start costs.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
LOCKED := --quiet --generate-hashes --no-annotate --no-header
# Which tests share a process: tests/conftest.py
PARALLEL := --numprocesses=2 --dist=loadscope --no-loadscope-reorder --max-worker-restart=0

.PHONY: up test check check-deploy check-image check-compose check-cluster chart-schema page bench lock clean

up: $(VENV)/.run-installed page
	$(BIN)/screener up

test: check page
	$(BIN)/python -m compileall -q -j 0 app agents tables tests
	$(BIN)/python -m pytest $(PARALLEL)

check: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-deploy: $(DEPLOY_VENV)/.installed $(VENV)/.run-installed
	$(DEPLOY_BIN)/python -m pytest -c deploy/checks/pytest.ini --numprocesses=2 --dist=loadfile --max-worker-restart=0 deploy/checks

check-image: $(VENV)/.run-installed
	BASE=$(BASE) $(BIN)/python deploy/checks/image.py

check-compose: $(VENV)/.run-installed
	WITH=$(WITH) $(BIN)/python deploy/checks/compose.py

check-cluster: $(VENV)/.run-installed
	IMAGE=$(IMAGE) WITH=$(WITH) $(BIN)/python deploy/checks/cluster.py

chart-schema: $(VENV)/.run-installed
	$(BIN)/python deploy/helm/schema.py

# it does nothing while the built files are of the present sources
page: $(VENV)/.run-installed
	$(BIN)/python app/sidecar/page/build.py

bench: $(VENV)/.bench-installed page
	$(BIN)/python -m benchmarks.frames
	$(BIN)/python -m benchmarks.matrix
	$(BIN)/python -m benchmarks.rules
	$(BIN)/python -m benchmarks.market_rules
	$(BIN)/python -m benchmarks.rule_library
	$(BIN)/python -m benchmarks.backtest
	$(BIN)/python -m benchmarks.simexchange
	$(BIN)/python -m benchmarks.feed
	$(BIN)/python -m benchmarks.webhooks
	$(BIN)/python -m benchmarks.rest
	$(BIN)/python -m benchmarks.klines --symbols 100
	$(BIN)/python -m benchmarks.fanout --clients 2000
	$(BIN)/python -m benchmarks.footprint --symbols 200 --seconds 40
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.live --minutes 3
	$(BIN)/python -m benchmarks.pipeline --ours-full

lock: $(VENV)/.test-installed
	$(BIN)/uv pip compile $(LOCKED) --extra local --extra page --extra test --extra benchmark --output-file requirements.lock setup.cfg
	$(BIN)/uv pip compile $(LOCKED) --output-file deploy/checks/requirements.lock deploy/checks/requirements.txt

clean:
	rm -rf $(VENV) $(DEPLOY_VENV) app/sidecar/page/built app/sidecar/page/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/uv: requirements-uv.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.lock
	touch $@

# requirements.lock constrains every install, so that all machines run the same versions, of the same content. pip
# does not check the hashes of constraints, uv does.
$(VENV)/.run-installed: $(VENV)/bin/uv setup.cfg pyproject.toml requirements.lock
	$(INSTALL) --constraint requirements.lock --editable '.[local,page]'
	touch $@

$(VENV)/.test-installed: $(VENV)/bin/uv setup.cfg pyproject.toml requirements.lock
	$(INSTALL) --constraint requirements.lock --editable '.[local,page,test]'
	touch $@ $(VENV)/.run-installed

$(VENV)/.bench-installed: $(VENV)/.test-installed
	$(INSTALL) --constraint requirements.lock --editable '.[local,page,test,benchmark]'
	touch $@

$(DEPLOY_VENV)/.installed: deploy/checks/requirements.txt deploy/checks/requirements.lock deploy/checks/install.py deploy/checks/package.json
	$(PYTHON) -m venv $(DEPLOY_VENV)
	$(DEPLOY_BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement deploy/checks/requirements.lock
	$(DEPLOY_BIN)/python deploy/checks/install.py $(DEPLOY_VENV)
	touch $@
