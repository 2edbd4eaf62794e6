# Two commands for newcomers: `make demo` and `make test`. Both need only Python 3.11+.
PYTHON ?= python3
BACKENDS = tensorflow jax torch
# One thread a process: two backends are tested at a time.
SINGLE = OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=2

.PHONY: demo test lint clean $(BACKENDS:%=test-%)

demo: .venv/demo-ready
	TF_CPP_MIN_LOG_LEVEL=2 .venv/bin/python examples/finetune_classifier.py

test: .venv/test-ready
	$(MAKE) --jobs=2 --output-sync=target --keep-going $(BACKENDS:%=test-%)

$(BACKENDS:%=test-%): test-%: .venv/test-ready
	$(SINGLE) KERAS_BACKEND=$* .venv/bin/python -m pytest

lint: .venv/test-ready
	.venv/bin/ruff check
	.venv/bin/ruff format --check

.venv/bin/python:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip

.venv/demo-ready: .venv/bin/python pyproject.toml
	.venv/bin/python -m pip install --quiet --editable '.[tensorflow,examples]'
	touch $@

.venv/test-ready: .venv/bin/python pyproject.toml
	.venv/bin/python -m pip install --quiet --editable '.[tensorflow,jax,torch,test]'
	touch $@ .venv/demo-ready

clean:
	rm -rf .venv build *.egg-info demo-output
