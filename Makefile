# The verbs of the pipeline and their order. Each stage decides by itself, by content, whether it has something to do.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= data,train,optimize,export,eval,run,dev
TEST_EXTRAS ?= $(EXTRAS),modelopt,tflite,openvino,tensorrt-check
RECIPE ?= recipes/quickstart.toml
TARGET ?= cpu
RUN ?= runs/$(basename $(notdir $(RECIPE)))
ARGS ?=
TORCH_INDEX ?=

# Set-up is keyed by content: this file is named after what was installed.
SETUP_KEY := $(shell { cat pyproject.toml; echo '$(EXTRAS) $(TORCH_INDEX)'; } | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.edgekp-setup-$(SETUP_KEY)
TORCH := $(shell sed -n 's/^train = .*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
RUN_PYTHON = $(VENV)/bin/python

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup demo train optimize search export eval gate report test bench bench-gates gpu-check reproduce-claims soak faults fuzz lint clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */  make \1 - /p' Makefile | awk -F ' - ' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo "Variables: RECIPE=$(RECIPE) TARGET=$(TARGET) ARGS='--set section.key=value --force'"

setup: $(STAMP)  ## virtual environment in VENV with EXTRAS; PYTHON= and TORCH_INDEX= choose where from

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "setup: edgekp needs Python 3.10 or newer, '$(PYTHON)' is not; name one: make setup PYTHON=python3.12" >&2; exit 2; }
	@[ -x $(RUN_PYTHON) ] || $(PYTHON) -m venv $(VENV)
	@$(advise_on_torch)
	@echo "setup: installing [$(EXTRAS)] into $(VENV); the first time takes a minute or more" >&2
	$(if $(TORCH_INDEX),$(RUN_PYTHON) -m pip install --quiet --no-compile --extra-index-url $(TORCH_INDEX) $(TORCH))
	$(RUN_PYTHON) -m pip install --quiet --no-compile --editable '.[$(EXTRAS)]'
	@$(compile_on_all_cores)
	@rm -f $(VENV)/.edgekp-setup-*
	@touch $@

# pip would compile one file after the other, which takes longer than to install them. Some are meant for other Pythons.
define compile_on_all_cores
$(RUN_PYTHON) -m compileall -qq -j 0 -x 'site-packages/.*/tests?/' $(VENV)/lib || true
endef

# One line of advice where pip would fetch the CUDA build of PyTorch for a machine without a GPU; then it goes on.
define advise_on_torch
case "$(TORCH_INDEX),$(EXTRAS)," in \
  ,*train,*|,*optimize,*|,*export,*) \
    if [ "$$(uname -sm)" = "Linux x86_64" ] && ! command -v nvidia-smi >/dev/null \
       && ! $(RUN_PYTHON) -c 'import torch' 2>/dev/null \
       && ! $(RUN_PYTHON) -m pip index versions torch 2>/dev/null | grep -qF '$(subst torch==,,$(TORCH))+cpu'; then \
      echo "setup: no GPU here, but pip will fetch PyTorch with CUDA (several GB); README.md, Requirements, says how to avoid it" >&2; \
    fi;; \
esac
endef

write_report = $(RUN_PYTHON) -m eval waterfall --recipe $(RECIPE) --target $(TARGET) \
  && $(RUN_PYTHON) -m eval report --run $(RUN) --out $(RUN)/report.html \
  && $(RUN_PYTHON) -m eval card --run $(RUN) --out $(RUN)/MODEL_CARD.md

demo: RECIPE = recipes/quickstart.toml
demo: TARGET = cpu
demo: setup  ## the whole pipeline on the embedded data, with a verdict and a report
	@$(MAKE) --no-print-directory train optimize export eval RECIPE=$(RECIPE) TARGET=$(TARGET)
	@verdict=0; $(RUN_PYTHON) -m eval gate --recipe $(RECIPE) --target $(TARGET) $(ARGS) || verdict=$$?; \
	$(write_report) || exit; \
	case $$verdict in \
	  0) echo "demo: passed";; \
	  3) echo "demo: undecided; the lines of the gate above say how many images would decide it";; \
	  *) echo "demo: FAILED"; exit $$verdict;; \
	esac

train: setup  ## data -> checkpoint in runs/
	@$(RUN_PYTHON) -m train --recipe $(RECIPE) $(ARGS)

optimize: setup  ## checkpoint -> smaller, faster checkpoints: prune, distill, quantize
	@$(RUN_PYTHON) -m optimize --recipe $(RECIPE) $(ARGS)

search: setup  ## the best model within a budget: make search ARGS="--budget-ms 2"
	@$(RUN_PYTHON) -m optimize.search --recipe $(RECIPE) --target $(TARGET) $(ARGS)

export: setup  ## checkpoints -> artifacts for TARGET
	@$(RUN_PYTHON) -m deploy.export --recipe $(RECIPE) --target $(TARGET) $(ARGS)

eval: setup  ## accuracy, size and latency of every artifact for TARGET
	@$(RUN_PYTHON) -m eval run --recipe $(RECIPE) --target $(TARGET) $(ARGS)

gate: setup  ## verdict against the float baseline: the command exits 0 pass, 1 fail, 2 could not run, 3 undecided
	@$(RUN_PYTHON) -m eval gate --recipe $(RECIPE) --target $(TARGET) $(ARGS)

report: setup  ## one HTML file: table, curves, where points went, pictures; and the model card
	@$(write_report)

test:  ## all that a machine without a GPU can run; installs TEST_EXTRAS
	@$(MAKE) --no-print-directory setup EXTRAS=$(TEST_EXTRAS)
	$(RUN_PYTHON) -m pytest -q -n 2 -m 'not gpu' $(ARGS)

bench: setup  ## how fast, as ratios of two things measured in one run -> runs/bench.json
	@$(RUN_PYTHON) -m benchmarks $(ARGS)

bench-gates: setup  ## how often the gates are right, beside the naive rules -> runs/bench-gates.json; an hour
	@$(RUN_PYTHON) -m benchmarks.gates $(ARGS)

reproduce-claims: setup  ## the sources' claims put to the test at small scale -> runs/claims.json; 45 minutes
	@$(RUN_PYTHON) -m benchmarks.claims $(ARGS)

soak: setup  ## the camera loop for half an hour before a camera with every fault there is -> runs/soak.json
	@$(RUN_PYTHON) -m benchmarks.soak $(ARGS)

faults: setup  ## faults made on purpose: what is lost, what is silent -> runs/faults.json; 7 minutes
	@$(RUN_PYTHON) -m benchmarks.faults $(ARGS)

# atheris has wheels for Linux and Python 3.11 to 3.13 alone, so it is in no other set of extras.
fuzz:  ## fuzz every parser of foreign files: make fuzz ARGS="coco --minutes 3" -> runs/fuzz; 15 minutes each, resumable
	@$(MAKE) --no-print-directory setup EXTRAS=$(EXTRAS),fuzz
	@$(RUN_PYTHON) -m fuzz $(or $(ARGS),all)

# Without setup: a Jetson has packages of its own, and other machines with a GPU may reach no registry.
gpu-check:  ## all that needs a GPU; without one it is skipped, with the reasons -> runs/gpu-check.json
	@$(firstword $(wildcard $(RUN_PYTHON)) $(PYTHON)) -m benchmarks.gpu_check $(ARGS)

lint: setup  ## ruff, and mypy --strict
	$(RUN_PYTHON) -m ruff check .
	$(RUN_PYTHON) -m mypy

clean:  ## caches and build leftovers; runs/ and the virtual environment stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find edgekp train optimize deploy eval benchmarks fuzz tests -name __pycache__ -type d -prune -exec rm -rf {} +
