# One command each, from a fresh clone, with nothing but Python and make:
#   make demo   installs, synthesises a small corpus, trains, verifies, reports
#   make test   installs and runs every test and linter
#   make docs   installs and writes the pages and the API reference, build/docs
#   make chaos  kills, full disks, flipped bits: docs/reliability.md
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint docs chaos clean

demo: $(VENV)/.demo
	$(BIN)/python -m demo.mini data/mini
	for epochs in 12 48; do \
	    $(BIN)/python benchmarks/ladder.py --output results/demo/$$epochs-epochs \
	        --data-folder data/mini --only aam balancing --seeds 1986 --jobs 2 \
	        --trials data/mini/trials-same-language.txt \
	                 data/mini/trials-cross-language.txt \
	        -- --number_of_epochs=$$epochs || exit; \
	done
	$(BIN)/python benchmarks/ladder.py --output results/demo/wrong-labels \
	    --data-folder data/mini --variants hparams/labels.yaml --jobs 2 \
	    --only aam aam_cleaned --mislabelled 0.1 --seeds 1986 \
	    --trials data/mini/trials-same-language.txt \
	             data/mini/trials-cross-language.txt \
	    -- --number_of_epochs=12
	$(BIN)/python benchmarks/pictures.py budget results/demo/budget.png \
	    results/demo/*-epochs/*/1986
	$(BIN)/python benchmarks/pictures.py scores results/demo/scores.png \
	    trials-same-language results/demo/48-epochs/balancing/1986

# Two files at a time, each with one thread: a small machine has two cores
test: $(VENV)/.test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint .
	$(BIN)/codespell --toml pyproject.toml

docs: $(VENV)/.test
	$(BIN)/python -m sphinx -W --keep-going docs build/docs

chaos: $(VENV)/.test
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python tests/chaos.py

$(VENV)/.demo: setup.py | $(VENV)
	$(PIP) install -e '.[demo]'
	touch $@

$(VENV)/.test: setup.py | $(VENV)
	$(PIP) install -e '.[test]'
	touch $@

$(VENV):
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) data results build docs/api *.egg-info
