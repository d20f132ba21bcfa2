# Two commands to know: `make demo` and `make test`. Each sets up .venv by itself.
export UV_PYTHON_DOWNLOADS = never
export NO_ALBUMENTATIONS_UPDATE = 1
export MLFLOW_DISABLE_TELEMETRY = true
PYTHON ?= python3
BIN = .venv/bin
PORT ?= 5000
MLRUNS ?= mlruns

.PHONY: demo test proof lint ui picture lock clean

demo: .venv/.ready
	$(BIN)/python -m experiments.tune

test: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q --durations=5

proof: .venv/.ready
	$(BIN)/python -m pytest -m proof -n 2 --dist worksteal -q --durations=5 --timeout 1500

picture: .venv/.ready ## the picture in the README, of the demo as it ends
	mkdir -p docs
	PICTURE=docs/leaderboard.png $(BIN)/python -m pytest -m proof -q tests/test_demo.py

lint: .venv/.ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

ui: .venv/.ready
	$(BIN)/python -m experiments.ui --port $(PORT) --mlruns $(MLRUNS)

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Pass PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==0.13.8"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

lock:
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --generate-hashes --python-version 3.11 --no-header -o requirements.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
