# Two environments are made here, and nothing outside this folder is touched:
#   .venv       what a user has: the package, and what a notebook needs
#   .venv-test  the same, and the tools for tests and lint
# and build/node, the library by which VS Code speaks to a Jupyter server, for the tests of that.

PYTHON ?= python3
# What `make test` installs: the tree, or a built wheel (`make test WHEEL=dist/….whl`).
WHEEL ?=

DEMO := .venv/bin
TOOLS := .venv-test/bin
SOURCES := pyproject.toml README.md $(shell find tci_kernel kernelspec -type f -not -name '*.pyc')
# Sent as source into sessions, whose Python may be older than ours.
SENT := tci_kernel/agent tci_kernel/transport/far_side.py tci_kernel/magics/receive.py tci_kernel/server/probe.py
INSTALLED := .venv-test/.installed-$(if $(WHEEL),wheel,tree)
# Without npm the tests that need it are skipped, but not in CI.
NODE := $(if $(CI)$(shell command -v npm),build/node/.installed)
# Run beside the checkout, so that `tci_kernel` can only be the installed one.
PYTEST = mkdir -p build/run && cd build/run && ../../$(TOOLS)/pytest -c ../../pyproject.toml ../../tests

.PHONY: help demo test quick bench node lint docs wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.installed  ## Run examples/tour.ipynb with TCI Python into build/tour.html
	TCI_BACKEND=local $(DEMO)/jupyter-nbconvert --to html --execute examples/tour.ipynb \
	    --output-dir build --output tour.html
	@echo "The tour is in $(CURDIR)/build/tour.html"

test: $(INSTALLED) $(NODE)  ## Run all tests on the installed package
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder --reruns 2 --reruns-delay 2 --rerun-show-tracebacks

quick: $(INSTALLED)  ## Run the tests that take less than ten seconds each
	$(PYTEST) -m "not slow"

# To shorten it: make bench BENCH='--round-trips 0 --only "trivial cell" --repeat 0.5'
bench: $(INSTALLED)  ## Measure stock ipykernel, plain and live side by side, into build/bench.md
	$(TOOLS)/python -m bench $(BENCH)

node: build/node/.installed  ## Install what tests of VS Code's client need (Node 18 or newer)

lint: .venv-test/.tools  ## Check style and types
	$(TOOLS)/ruff check
	$(TOOLS)/ruff format --check
	$(TOOLS)/mypy
	$(TOOLS)/vermin --quiet --no-tips --violations --target=3.8- $(SENT)

docs: $(INSTALLED)  ## Build the documentation into build/docs; a warning is an error
	$(TOOLS)/python -m sphinx -W -n --keep-going -q -d build/doctrees docs build/docs
	@echo "The documentation is in $(CURDIR)/build/docs/index.html"

wheel: .venv-test/.tools  ## Build the source archive, and from it the wheel, into dist/
	rm -rf dist
	$(TOOLS)/python -m build

clean:  ## Remove all that was made here
	rm -rf .venv .venv-test build dist

.venv/.installed: .venv/.pip $(SOURCES)
	$(DEMO)/pip install --quiet '.[notebook]'
	@touch $@

.venv-test/.tools: .venv-test/.pip pyproject.toml
	$(TOOLS)/pip install --quiet --group test --group lint --group docs '.[notebook]'
	@touch $@

# A wheel of the version that is there already is installed only by force.
$(INSTALLED): .venv-test/.tools $(or $(WHEEL),$(SOURCES))
	$(TOOLS)/pip install --quiet --force-reinstall --no-deps '$(or $(WHEEL),.)'
	@rm -f .venv-test/.installed-*
	@touch $@

build/node/.installed: tests/node/package.json
	@mkdir -p $(@D)
	cp $< $(@D)
	npm install --silent --no-audit --no-fund --no-package-lock --prefix $(@D)
	@touch $@

# Dependency groups came with pip 25.1.
%/.pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is \
	needed, this is " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@
