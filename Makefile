PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install format check test demo table serve bench clean

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

test: check ## every check and every test
	$(BIN)/python -m pytest

demo: install ## corpus, training, bundles, service and answers: at most ten minutes on two cores
	$(BIN)/pkdot demo

table: install ## teacher, student without privileged, hallucination only, PKDOT: 3 seeds of one fold, both tasks
	$(BIN)/pkdot compare training/configs/synthetic-pain.yaml training/configs/synthetic-valence-arousal.yaml --seeds 3 --folds 1

serve: install ## the service on the demo's bundles
	$(BIN)/pkdot serve --bundles runs/demo/bundles

bench: install ## every benchmark; have nothing else running
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean: ## remove what make made in this checkout
	rm -rf $(VENV) runs
