# Every verb can be typed first: what it needs is made.
PYTHON ?= python3
STUDY ?= quick
# Results lie beside a study's file, or in results/ for a built-in study.
RESULTS = $(if $(filter %.toml,$(STUDY)),$(patsubst %.toml,%,$(patsubst studies/%.toml,results/%.toml,$(STUDY))),results/$(STUDY))
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev reproduce fgsm figures report leaderboard test lint fuzz bench test-gpu bench-gpu

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "STUDY=name runs another study than quick, STUDY=path/to/my.toml one of your own; PYTHON=python3.12 takes another interpreter (3.11 to 3.13)."

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"error: Python {v[0]}.{v[1]}: 3.11 to 3.13 is needed, as in make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bindsnet,spikingjelly,video]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bindsnet,dev,foreign,nir,peers,spikingjelly,video]'
	@touch $@

setup: .venv/.installed ## make .venv and install what constraints.txt pins

setup-dev: .venv/.installed-dev

reproduce: setup ## run the study (train, convert, evaluate, attack), draw it, write its page
	$(BIN)/python reproduce.py $(STUDY)

fgsm: setup ## run the study's attacks and what they need, draw them, sum them up in five lines
	$(BIN)/python reproduce.py $(STUDY) --only attack
	$(BIN)/python -m adversarial verdict $(RESULTS)

figures: setup ## draw the study from its rows
	$(BIN)/python plot.py $(RESULTS)

report: figures ## draw the study and write its page, report/index.html in its results
	$(BIN)/python -m analysis.report $(RESULTS)

leaderboard: setup ## one table of all studies and cards in results/, results/leaderboard.md
	$(BIN)/python -m card.leaderboard

test: setup-dev ## run all tests, side by side
	$(BIN)/python -m pytest -n auto --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

lint: setup-dev ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

fuzz: setup-dev ## mutate 2,000 agents, rows, manifests, states, studies and archives; read each as a command does
	$(BIN)/python -m tests.hostile.fuzz

bench: setup-dev ## time the house against its peers; measure what stages cost; kill runs and compare their bits
	for name in conversion training cartpole evaluation adversarial resume ray_overhead help rates; do $(BIN)/python -m benchmarks.$$name || exit 1; done

test-gpu: setup-dev ## run the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

bench-gpu: setup-dev ## time updates on a GPU, beside this CPU; measure what stages cost on it
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.rates --device cuda
