# Two commands set everything up: `make demo` and `make test`. Each creates .venv and installs what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test quick fuzz check zoo twins bench scale gpu depth golden compared release dist docs clean

demo: $(VENV)/.demo
	$(BIN)/regraft demo --out regraft-demo --overwrite

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term

quick: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 -m "not slow"

# New random damage each time, a thousand of each kind; what it finds becomes a test.
fuzz: $(VENV)/.test
	REGRAFT_HYPOTHESIS=search $(BIN)/python -m pytest -n 2 tests/hostile

check: $(VENV)/.test
	./check

# Heavier sweeps: each writes its dated table under docs/.
zoo: $(VENV)/.zoo
	$(BIN)/python benchmarks/zoo.py

# Its heavy peers get an environment of their own, .venv-bench; WORKLOADS="W1 W4" runs some.
bench: $(VENV)/.test
	$(BIN)/python benchmarks/bench.py $(WORKLOADS)

# Stores of a million parts on a simulated object store; several builders; workers that are killed.
scale: $(VENV)/.test
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/builders.py
	$(BIN)/python benchmarks/kills.py

# On a machine with a GPU, with its own torch; needs numpy and safetensors beside it.
gpu:
	PYTHONPATH=src $(PYTHON) benchmarks/gpu.py

# The depth benchmark: sources are trained once; rows are kept in build/depth, so that an interrupted sweep goes on.
depth: $(VENV)/.test
	$(BIN)/python benchmarks/depth.py
	$(BIN)/python benchmarks/depth_tuning.py
	$(BIN)/python benchmarks/depth_page.py

# Tiny checkpoints written by the real frameworks, in an environment of its own (3 GB); their values change each time.
golden: .venv-golden/.made
	for script in tests/golden/make_*.py; do PYTHONPATH=tests:src .venv-golden/bin/python $$script || exit 1; done

.venv-golden/.made: tests/golden/requirements.txt
	test -x .venv-golden/bin/python || $(PYTHON) -m venv .venv-golden
	.venv-golden/bin/python -m pip install --quiet --requirement $<
	touch $@

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) --editable '.[test]'
# torchvision has no CPU build and asks for a torch of its own; tests use its Python part alone (tests/vision_stub.py).
	$(PIP) --no-deps timm torchvision
	touch $@

$(VENV)/.zoo: $(VENV)/.test
	$(PIP) torch_geometric
	touch $@

# keras.applications needs TensorFlow: an environment of its own writes the networks.
twins: $(VENV)/.test .venv-golden/.keras
	.venv-golden/bin/python benchmarks/twins_keras.py build/twins
	$(BIN)/python benchmarks/twins.py build/twins

.venv-golden/.keras:
	test -x .venv-golden/bin/python || $(PYTHON) -m venv .venv-golden
	.venv-golden/bin/python -m pip install --quiet 'tensorflow==2.21.*' 'keras==3.15.*'
	touch $@

# The tools that regraft is compared with, in an environment of their own; Orbax comes with the golden one.
compared: $(VENV)/.test .venv-peers/.made .venv-golden/.made
	$(BIN)/python benchmarks/compared.py --peers .venv-peers/bin/python --jax .venv-golden/bin/python

.venv-peers/.made: constraints.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --constraint constraints.txt torch numpy safetensors transformers gguf onnx
	.venv-peers/bin/python -m pip install --quiet --no-deps timm torchvision onnx2torch monai
	touch $@

# `make release VERSION=0.2.0`: CHANGELOG.md from changes/, and the version; then commit and tag.
release: $(VENV)/.release
	test -n "$(VERSION)"
	$(BIN)/towncrier build --yes --version $(VERSION)
	sed -i.bak 's/^__version__ = .*"/__version__ = "$(VERSION)"/' src/regraft/__init__.py && rm src/regraft/__init__.py.bak

# The site, into build/site: any warning is an error. The code blocks of its pages run in the tests.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.docs: $(VENV)/.demo
	$(PIP) --editable '.[docs]'
	touch $@

dist: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

$(VENV)/.release: $(VENV)/.demo
	$(PIP) --editable '.[release]'
	touch $@

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info src/*.egg-info
