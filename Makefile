PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

MINUTES ?= 60

TOOLS := .tools
LOCK := $(TOOLS)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--constraints constraints.txt --no-annotate --custom-compile-command 'make lock'

.PHONY: help install format check test fuzz demo table serve bench lock sbom audit clean

help: ## what there is to do
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

install: $(VENV)/.installed ## make .venv with everything pinned, and fetch the face nets once

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "== Install pkdot and its pinned dependencies into $(VENV) (about two minutes)."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,serve,dev]'
	$(BIN)/python -m training.face_nets.fetch
	@touch $@

format: install ## rewrite the code in its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: install ## lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## every check and every test, in two processes
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

fuzz: install $(TOOLS)/.installed ## damaged inputs against a real service, for MINUTES (60); what fails is kept in runs/fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --keep runs/fuzz --schemathesis $(TOOLS)/bin/st

demo: install ## corpus, training, bundles, service and answers: at most ten minutes on two cores
	$(BIN)/pkdot demo

table: install ## teacher, student without privileged, hallucination only, PKDOT: 3 seeds of one fold, both tasks
	$(BIN)/pkdot compare training/configs/synthetic-pain.yaml training/configs/synthetic-valence-arousal.yaml --seeds 3 --folds 1

serve: install ## the service on the demo's bundles
	$(BIN)/pkdot serve --bundles runs/demo/bundles

bench: install ## every benchmark; have nothing else running
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(TOOLS)/.installed: docker/tools.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r docker/tools.txt
	@touch $@

lock: $(TOOLS)/.installed ## pin what the images install, with the hashes of all its files
	$(LOCK) --extra serve --output-file docker/serve.lock
	$(LOCK) --extra serve --extra gpu --no-emit-package onnxruntime --output-file docker/gpu.lock
	echo 'setuptools' | $(LOCK:pyproject.toml=-) --output-file docker/build.lock

sbom: $(TOOLS)/.installed ## sbom/pkdot.cdx.json (CycloneDX) and sbom/licences.md of what the CPU image installs
	rm -rf $(TOOLS)/serve sbom && mkdir sbom
	$(PYTHON) -m venv --without-pip $(TOOLS)/serve
	$(TOOLS)/bin/python -m pip --python $(TOOLS)/serve/bin/python install --quiet --disable-pip-version-check --require-hashes --no-deps -r docker/serve.lock
	$(TOOLS)/serve/bin/python docker/bundled.py > $(TOOLS)/bundled.json
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file $(TOOLS)/python.cdx.json $(TOOLS)/serve/bin/python
	$(TOOLS)/bin/python docker/sbom.py $(TOOLS)/python.cdx.json $(TOOLS)/bundled.json sbom

audit: $(TOOLS)/.installed ## ask PyPI whether anything in the locks has a known vulnerability (needs the network)
	$(TOOLS)/bin/python docker/audit.py docker/serve.lock docker/gpu.lock docker/build.lock

clean: ## remove what make made in this checkout, but for runs/compare and the runs of your own
	rm -rf $(VENV) $(TOOLS) runs/demo runs/fuzz sbom
