# Every target sets itself up: it makes .venv with any Python 3.11 or later and installs the pinned versions it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
CACHE := .cache

.PHONY: help demo demo-llm test test-triton test-vllm test-gpu check bench protos clean

help:
	@echo 'make demo   train a fraud model, serve it, call it over gRPC and HTTP, show its latency; then make demo-llm, unless DEMO_LLM=0'
	@echo 'make demo-llm  questions on these documents, answered from them by a small model under vLLM, which it installs where it can (3 GB)'
	@echo 'make test   run every test'
	@echo 'make test-triton  the tests that want a real Triton, after installing it (55 MB; make test skips them without it)'
	@echo 'make test-vllm  the tests that want a real vLLM, after installing it (3 GB; make test skips them)'
	@echo 'make test-gpu  the kernels for GPUs in their language'"'"'s interpreter, with no GPU, in an environment of its own (2 GB or more)'
	@echo 'make check  ruff, mypy --strict, architecture test'
	@echo 'make protos write the generated code of protos/ anew'
	@echo 'make bench  run the benchmarks (some seven minutes); report in $(CACHE)/bench'

NATIVE := $(wildcard serving/native/src/*.?pp engine/triton/src/*.?pp)

$(STAMP): pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Vireo needs Python 3.11 or later; set PYTHON=...'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,features,experiments,kafka,text,ray,bench,test]'
	touch $(STAMP)

# On all cores, where whoever needs a kernel first would wait for it on one
$(COMPILED): $(STAMP) $(wildcard kernels/*.py)
	$(BIN)/vireo compile
	touch $(COMPILED)

DEMO_LLM ?= 1

demo: $(COMPILED)
	$(BIN)/python -m benchmarks.demo --cache $(CACHE)
	@test '$(DEMO_LLM)' = 0 || $(MAKE) --no-print-directory demo-llm

test: $(COMPILED)
	$(BIN)/python -m pytest

test-triton: $(STAMP)
	test -e benchmarks/peers/.triton/complete || $(BIN)/python -m benchmarks.peers.triton install
	$(BIN)/python -m pytest tests/engine/triton tests/serving/test_triton_round_trip.py tests/serving/test_triton_statistics.py \
	  tests/benchmarks/workloads/test_on_triton.py

demo-llm: $(STAMP)
	$(BIN)/python -m benchmarks.workloads.generation --install --out $(CACHE)/generation --cache $(CACHE)/retrieval

test-vllm: $(STAMP)
	$(BIN)/python -m benchmarks.workloads.generation.install
	VIREO_TEST_VLLM=1 $(BIN)/python -m pytest tests/serving/test_openai.py tests/serving/test_vllm_*.py

GPU_VENV := $(CACHE)/gpu-venv

$(GPU_VENV)/.installed: pyproject.toml
	test -x $(GPU_VENV)/bin/python || $(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,gpu-search,features,text]' pytest
	touch $@

test-gpu: $(GPU_VENV)/.installed
	$(GPU_VENV)/bin/python -m pytest tests/kernels/gpu

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

bench: $(COMPILED)
	$(BIN)/python -m benchmarks all --out $(CACHE)/bench

protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. protos/vireo/v1/*.proto

clean:
	rm -rf $(VENV) $(CACHE) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
