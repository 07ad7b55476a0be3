# make help lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
INTEROP := .venv-interop
INTEROP_PEERS ?= transformers argos marian onnx
INTEROP_RUN ?= runs/interop
NMT := $(BIN)/nmt
OVERRIDES := $(if $(SET),--set $(SET))
RUN ?= $(if $(CONFIG),$(basename $(notdir $(CONFIG))))
LOGS = $(if $(RUN),$(if $(wildcard $(RUN)/config.yaml),$(RUN),runs/$(RUN)),runs)

.DEFAULT_GOAL := help
.PHONY: help install prepare train evaluate translate tensorboard docs test test-fast lint experiments bench bench-peers interop interop-tests clean need-config need-run

help:  ## list the targets
	@echo "usage: make TARGET [CONFIG=configs/demo.yaml | RUN=demo] [SET=\"train.max_steps=100 seed=2\"]"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  \1\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nmt needs Python 3.11 or newer; choose one with make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing nmt and its libraries into $(VENV); PyTorch is 200 MB to download, with CUDA 2.7 GB"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

install: $(VENV)/.installed  ## create .venv and install nmt into it

need-config:
	@test -n "$(CONFIG)" || { echo "name a configuration: make $(MAKECMDGOALS) CONFIG=configs/demo.yaml" >&2; exit 2; }

need-run:
	@test -n "$(RUN)" || { echo "name a run: make $(MAKECMDGOALS) RUN=demo" >&2; exit 2; }

prepare: need-config $(VENV)/.installed  ## clean the corpus, train the tokenizer, encode the pairs (cached)
	@$(NMT) prepare $(CONFIG) $(OVERRIDES)

train: need-config $(VENV)/.installed  ## train (or resume) the run of CONFIG, then evaluate
	@$(NMT) train $(CONFIG) $(OVERRIDES)

evaluate: need-run $(VENV)/.installed  ## score the test sets of RUN with sacreBLEU
	@$(NMT) evaluate $(RUN)

translate: need-run $(VENV)/.installed  ## translate standard input with RUN
	@$(NMT) translate $(RUN)

tensorboard: $(VENV)/.installed  ## show the curves of RUN, or of all runs
	@test -d "$(LOGS)" || { echo "$(LOGS): no such folder; name a run: make tensorboard RUN=demo" >&2; exit 2; }
	@logs=$(LOGS); \
	if test -f $(LOGS)/config.yaml; then logs=$$(mktemp -d); ln -s "$(abspath $(LOGS))" "$$logs/$(notdir $(abspath $(LOGS)))"; fi; \
	$(BIN)/tensorboard --logdir "$$logs"

test: $(VENV)/.installed-dev  ## all tests
	@$(BIN)/python -m pytest -n 3 --dist worksteal

test-fast: $(VENV)/.installed-dev  ## tests not marked slow: under a minute
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow"

lint: $(VENV)/.installed-dev  ## ruff, mypy and the import rules of pyproject.toml
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

docs: .venv-docs/.installed $(VENV)/.installed  ## write the documentation as a site into build/site
	@$(BIN)/python scripts/reference.py
	@.venv-docs/bin/mkdocs build --strict --quiet && echo "open build/site/index.html"

.venv-docs/.installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Each file of configs/experiments/ is one experiment; SMALL=1 takes their short forms on the demo corpus.
EXPERIMENTS ?= attention families beam vocabulary
EXPERIMENT_FILES = $(EXPERIMENTS:%=configs/experiments/%$(if $(SMALL),-demo).yaml)

experiments: $(VENV)/.installed  ## train and compare what docs/experiments.md shows, into build/experiments; SMALL=1 for the demo corpus
	@mkdir -p build/experiments
	@failed=0; for file in $(EXPERIMENT_FILES); do \
	  to=build/experiments/$$(basename $$file .yaml); echo "$$file -> $$to.txt"; \
	  $(NMT) sweep $$file $(OVERRIDES) --csv $$to.csv --html $$to.html --plot $$to.png $(ARGS) > $$to.txt || failed=1; \
	done; exit $$failed

bench: $(VENV)/.installed  ## measure speed and memory, write benchmarks/RESULTS.md; ARGS=--quick for a trial
	@$(BIN)/python benchmarks/bench.py $(ARGS)

bench-peers: $(PEERS)/transformers/.installed $(PEERS)/joeynmt/.installed $(PEERS)/marian-cpp/.installed  ## install the programs that bench compares nmt with

$(PEERS)/%/.installed: benchmarks/contestants/peers-%.txt
	$(PYTHON) -m venv $(PEERS)/$*
	$(PEERS)/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# In each environment, the tests that need its program (marked interop); make test runs the others.
RUN_INTEROP_TESTS = failed=; for peer in $(INTEROP_PEERS); do \
		echo "tests with $$peer:"; \
		PYTHONPATH="$(CURDIR)" $(INTEROP)/$$peer/bin/python -m pytest --interop $$peer --durations=5 \
			$$(grep -rl --include='test_*.py' "interop(\"$$peer\")" tests) || failed="$$failed $$peer"; \
	done
REPORT_INTEROP_TESTS = test -z "$$failed" || { echo "failed: the tests with$$failed" >&2; exit 1; }; \
	echo "passed: the tests with $(INTEROP_PEERS)"

interop-tests: $(INTEROP_PEERS:%=$(INTEROP)/%/.installed)
	@$(RUN_INTEROP_TESTS); $(REPORT_INTEROP_TESTS)

interop: $(INTEROP_PEERS:%=$(INTEROP)/%/.installed) $(INTEROP_RUN)/model/model.safetensors  ## test exports with the programs they are for, and compare them with the run
	@$(RUN_INTEROP_TESTS); \
	$(BIN)/python scripts/interop.py $(INTEROP_RUN) $(INTEROP) $(INTEROP_PEERS); compared=$$?; \
	$(REPORT_INTEROP_TESTS); exit $$compared

runs/interop/model/model.safetensors: | $(VENV)/.installed-dev
	$(NMT) train configs/demo.yaml --set name=interop model.preset=marian train.max_steps=500 train.max_minutes=null

# An environment sees the packages of .venv, so that PyTorch is not installed again.
$(INTEROP)/%/.installed: tests/interop/%.txt $(VENV)/.installed-dev
	$(BIN)/python -m venv $(INTEROP)/$*
	site='import site; print(site.getsitepackages()[0])'; \
	$(abspath $(BIN))/python -c "$$site" > "$$($(INTEROP)/$*/bin/python -c "$$site")/nmt-venv.pth"
	$(INTEROP)/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean:  ## remove .venv, .venv-peers, .venv-docs, .venv-interop and caches; runs/ and data/ stay
	rm -rf $(VENV) $(PEERS) $(INTEROP) .venv-docs .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
