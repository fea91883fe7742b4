# Two commands do all set-up on a machine with Python 3.11 or newer, git and make:
#   make demo   install into .venv, segment the bundled images, write the results to out/
#   make test   install the development tools into .venv, run the tests
# Options:
#   PYTHON=python3.12    the Python that makes .venv
#   TORCH_INDEX=URL      a package index with CPU builds of PyTorch; without it pip's own index
#                        decides, which on Linux may mean the much larger CUDA build
#   JOBS=4 TESTS=tests/core/test_cli.py   test processes; what to test

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
TESTS ?= tests
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
OLDEST := .venv-oldest
OLDEST_NAPARI := $(shell sed -n 's/^napari = \["napari>=\([0-9.]*\)".*/\1/p' pyproject.toml)
PIP = $(BIN)/python -m pip install --constraint constraints.txt

.PHONY: demo test test-oldest lint docs clean

demo: $(VENV)/installed-base
	$(BIN)/napari-dinocell segment src/napari_dinocell/resources/samples --output out \
		--overlay --csv --overwrite

# When a process of tests ends, so does the run: `loadfile` would wait for ever for its replacement.
PYTEST = -m pytest -n $(JOBS) --dist loadfile --max-worker-restart 0

# Where the libraries of a display are not installed, the pytest plugins of Qt and napari would stop
# all tests, not only those of the viewer.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(TESTS) \
		$(shell $(BIN)/python -c 'import qtpy.QtWidgets, napari.utils' 2>/dev/null \
			|| echo "-p no:pytest-qt -p no:napari")

# The plugin with the oldest napari that it supports, and all else as in `make test`.
test-oldest: $(OLDEST)/installed
	@[ "$$(uname)" != Linux ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || { \
		echo "The viewer tests need a display; without one run: xvfb-run -a make test-oldest" >&2; \
		exit 2; }
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python $(PYTEST) -p no:cacheprovider \
		$(foreach flow,matrix inputs channels planes segment editing,tests/widgets/test_viewer_$(flow).py)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev
	$(PIP) mkdocs-material "mkdocstrings[python]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or newer was found; install one, or name it: make demo PYTHON=/path/to/python" >&2; \
		exit 2; fi
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu run: apt install python3-venv" >&2; \
		exit 2; }
	"$(PYTHON)" -m venv $(VENV)

# The losses of lightly judge ours; what else it requires (torchvision, Lightning) no test needs.
# The stamps are renewed when the dependencies change.
$(VENV)/torch: constraints.txt | $(BIN)/python
	$(PIP) "torch>=2.4" $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

$(VENV)/installed-base: pyproject.toml constraints.txt | $(VENV)/torch
	$(PIP) --editable ".[formats]"
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/torch
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps lightly
	@touch $@

# Its own napari comes first; everything else is that of the other environment.
$(OLDEST)/installed: pyproject.toml $(VENV)/installed-dev
	$(BIN)/python -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --no-deps "napari==$(OLDEST_NAPARI)"
	$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
		> "$$($(OLDEST)/bin/python -c 'import site; print(site.getsitepackages()[0])')/others.pth"
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) out build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
