# What a reader types; `make help` lists it. Every target sets up what it needs, once, in .venv.
#   make book PROFILE=gpu                what to spend: smoke, laptop (default), colab, gpu or paper; published trains nothing
#   make book PYTHON=/path/to/python3.12 another Python, 3.11 or newer, to make the environment with
#   make book VENV=/path/to/environment  another place for the environment
SHELL   := /bin/bash

# Targets with a fixed profile refuse another one on the command line before anything is set up.
own = $(if $(filter read pdf release,$(MAKECMDGOALS)),published,$(if $(filter smoke,$(MAKECMDGOALS)),smoke))
typed = $(if $(filter command,$(origin PROFILE)),$(value PROFILE))
ifneq ($(own),$(if $(own),$(or $(typed),$(own))))
$(error make $(MAKECMDGOALS) is for profile $(own): leave PROFILE out, or type make book)
endif

# So is a variable that no target reads, such as seeds, which snakemake takes.
ignored = $(foreach name,$(filter-out PROFILE PYTHON VENV,$(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(name)))
ifneq ($(strip $(ignored)),)
$(error make knows no $(firstword $(ignored)): choose from PROFILE, PYTHON and VENV, or call snakemake --config)
endif

# Recipes read these from the environment, so that any characters in them reach the shell as they are.
override PYTHON := $(or $(value PYTHON),python3)
override VENV := $(or $(value VENV),.venv)
override PROFILE := $(or $(value PROFILE),laptop)
export PYTHON VENV
book: export PROFILE := $(PROFILE)
export JUPYTER_PREFER_ENV_PATH = 1
unexport JUPYTER_PATH

python = "$$VENV/bin/python"
# Snakemake's own count of cores leaves out the quota of a container.
cores = "$$($(python) -c 'from mlplib.limits import cores; print(cores())')"
# Files are compared by content: a checkout that only touches files starts nothing. Snakemake's lock is off, since it
# would outlive a killed `make`; runs have their own.
engine = $(python) -m snakemake --cores $(cores) --keep-going --rerun-incomplete --nolock \
	--max-checksum-file-size 20MB --quiet host reason rules progress --config quiet=true

.NOTPARALLEL: # with make -j: each target keeps all cores busy, and read, book and pdf write into one folder
.PHONY: help setup read book smoke pdf release test clean
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' Makefile

setup: ## install the package and what it needs into .venv (the others do it, too)
	@bin/set-up

read: setup ## render the book from the published records, train nothing: book/_build/html/index.html
	@exec $(engine) profile=published out=book
	@echo "read the book: book/_build/html/index.html"

book: setup ## run the notebooks, then render the book: book/_build/html/index.html
	@exec $(engine) profile="$$PROFILE" out=book
	@echo "read the book: book/_build/html/index.html"

smoke: setup ## the same in profile smoke, in minutes: build/smoke/_build/html/index.html
	@exec $(engine) profile=smoke out=build/smoke
	@echo "read the book: build/smoke/_build/html/index.html"

pdf: read ## print the published book with Chromium: book/_build/scaling-mlps.pdf
	@$(python) -m mlpstudy.book.pdf book

release: setup ## tag the version in pyproject.toml and zip its pages: dist/
	@$(python) bin/release --check
	@$(MAKE) --no-print-directory read
	@$(python) bin/release

test: setup ## run every test
	@bin/set-up ffcv
	@status=0; $(python) -m pytest -n 3 --dist loadfile -m "not alone" || status=1; \
	 $(python) -m pytest -m alone || status=1; exit $$status

clean: ## remove what was rendered; keep .venv, the data and the runs
	@rm -rf build book/_build book/chapters .snakemake .pytest_cache .ruff_cache .hypothesis
