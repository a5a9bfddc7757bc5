PYTHON ?= python3
# For `make bench`: a folder of develop.*.npz meshes, and (if at hand) SPD's published checkpoint.
MESHES ?= ../shared/data/meshes
OFFICIAL ?= $(wildcard ../shared/weights/score_denoise_official.pt)
BIN := .venv/bin

.PHONY: demo test test-browser fuzz page lint types layers bench docs clean

demo: .venv/demo
	$(BIN)/python examples/demo.py

test: .venv/test lint types layers
	$(BIN)/python -m pytest

# Needs Chromium (Debian: apt-get install chromium); skips with a reason where it is missing.
test-browser: .venv/test
	$(BIN)/python -m pip install -q -c constraints.txt playwright
	BECALM_BROWSER=1 $(BIN)/python -m pytest tests/page/browser

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

# The docs read the package's source and do not import it, so they need neither torch nor the package.
.venv/docs: .venv/made pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt 'zensical>=0.0.73' 'mkdocstrings[python]>=1.0' 'math-core>=0.9' 'ruff>=0.6'
	touch $@

clean:
	rm -rf .venv site demo
