PYTHON ?= python3
# For `make bench`: a folder of develop.*.npz meshes, and (if at hand) SPD's published checkpoint.
MESHES ?= ../shared/data/meshes
OFFICIAL ?= $(wildcard ../shared/weights/score_denoise_official.pt)
BIN := .venv/bin

# Packages that tests need themselves, and the tests that run without the extras and with the oldest dependencies.
TOOLS := 'pytest>=8' 'pytest-xdist>=3.6' 'hypothesis>=6.100' 'jaxtyping>=0.2.34' 'beartype>=0.19'
# A worker a core, with one thread each: threads that wait for each other cost more than they bring.
WORKERS := OMP_NUM_THREADS=1
PARALLEL := -n logical --maxprocesses 8 --dist loadfile
QUICK ?= tests/core tests/points tests/cli tests/tasks tests/training tests/weights

.PHONY: demo test test-browser test-bare test-oldest fuzz page lint types layers bench docs clean

demo: .venv/demo
	$(BIN)/python examples/demo.py

test: .venv/test lint types layers
	$(WORKERS) $(BIN)/python -m pytest $(PARALLEL)

# Needs Chromium (Debian: apt-get install chromium); skips with a reason where it is missing.
test-browser: .venv/test
	$(BIN)/python -m pip install -q -c constraints.txt playwright
	BECALM_BROWSER=1 $(BIN)/python -m pytest tests/page/browser

# Without any extra: what needs one is skipped, and the command says in one line which extra that is.
test-bare: .venv-bare/test
	$(WORKERS) .venv-bare/bin/python -m pytest $(PARALLEL) $(QUICK)

# With the oldest versions that pyproject.toml allows.
test-oldest: .venv-oldest/test
	$(WORKERS) .venv-oldest/bin/python -m pytest $(PARALLEL) $(QUICK)

# Ten minutes of damaged files for every reader; `pip install atheris` first lets coverage guide it.
fuzz: .venv/test
	$(BIN)/python -m tests.attacks.fuzz --seconds 600

# Builds the static page from its sources; needs Node.
page:
	cd web && npm ci && npm run build

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/pyright

layers: .venv/test
	$(BIN)/lint-imports

bench: .venv/bench
	$(BIN)/python benchmarks/points.py --meshes $(MESHES) $(if $(OFFICIAL),--official $(OFFICIAL))

docs: .venv/docs
	PYTHONPATH=web $(BIN)/zensical build --strict --clean

.venv/made:
	$(PYTHON) -m venv .venv
	touch $@

.venv/demo: .venv/made pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all]'
	touch $@

.venv/test: .venv/made pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	touch $@ .venv/demo

.venv/bench: .venv/made pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[benchmarks]'
	touch $@

.venv-bare/test: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bare
	.venv-bare/bin/python -m pip install -q -c constraints.txt -e . $(TOOLS)
	touch $@

.venv-oldest/test: pyproject.toml constraints.txt constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -q -c constraints.txt -c constraints-oldest.txt -e '.[all]' $(TOOLS)
	touch $@

# The docs read the package's source and do not import it, so they need neither torch nor the package.
.venv/docs: .venv/made pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt 'zensical>=0.0.73' 'mkdocstrings[python]>=1.0' 'math-core>=0.9' 'ruff>=0.6'
	touch $@

clean:
	rm -rf .venv .venv-bare .venv-oldest site demo
