# Two commands do everything: make demo, make test.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# mypy looks for packages by folder: this link makes the checkout a folder called nstrt.
TYPING = $(VENV)/typing

.PHONY: demo test test-fast coverage fuzz test-gimp screenshots lint format setup export examples sheets bench bench-gpu \
  clean

demo: setup export ## set up, export, repaint an example, say where the picture is
	@mkdir -p out
	$(BIN)/nstrt stylize examples/cat.jpg examples/night.jpg -o out/demo.png \
	  --preset fast --seed 1 --force
	@echo "The picture is $(CURDIR)/out/demo.png"

test: setup ## set up and run all tests
	$(BIN)/pytest -q --numprocesses logical --maxprocesses 4 --dist loadfile \
	  --no-loadscope-reorder

test-fast: setup ## run the tests of the everyday loop: under two minutes on two cores
	$(BIN)/pytest -q --numprocesses logical --maxprocesses 4 --dist loadfile -m "not slow"

coverage: setup ## run all tests and show which lines they miss
	$(BIN)/pytest -q --numprocesses logical --maxprocesses 4 --dist loadfile \
	  --no-loadscope-reorder --cov=exporter --cov=runtime --cov=plugins \
	  --cov-report=term-missing:skip-covered

fuzz: setup ## hand 24,000 damaged files and messages to their readers (FUZZ="pictures --seed 1")
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

test-gimp: setup ## test the filter in a real GIMP 3, which is built first where there is none
	$(BIN)/python tests/gimp/prepare.py
	$(BIN)/pytest -q --tb=short tests/gimp

screenshots: test-gimp ## take the screenshots of docs/gimp.md again
	$(BIN)/python tests/gimp/pictures.py

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p $(TYPING) && ln -sfn "$(CURDIR)" $(TYPING)/nstrt
	MYPYPATH=$(TYPING) $(BIN)/mypy -p nstrt.exporter -p nstrt.runtime -p nstrt.plugins

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

export: setup ## export VGG19 to checked ONNX files in the user's cache
	$(BIN)/nstrt export

examples: setup ## paint the example paintings again
	$(BIN)/python examples/paint.py

sheets: setup ## make the contact sheets of docs/presets.md and docs/method.md again
	$(BIN)/python benchmarks/presets.py
	$(BIN)/python benchmarks/strength.py

bench: setup ## measure against other programs: docs/benchmarks.md (BENCH="--quick" to try)
	$(BIN)/python benchmarks/speed.py $(BENCH) \
	  $(if $(STYLE_TRANSFER_PYTORCH),--style-transfer-pytorch "$(STYLE_TRANSFER_PYTORCH)") \
	  $(if $(NEURAL_STYLE_PT),--neural-style-pt "$(NEURAL_STYLE_PT)")

bench-gpu: setup ## measure on an NVIDIA card, pages in out/bench-gpu
	for size in 512 1024 2048; do for precision in fp32 tf32 fp16; do \
	  $(BIN)/python benchmarks/engines.py --provider cuda --precision $$precision --size $$size; \
	done; done
	$(BIN)/python benchmarks/speed.py --device cuda --sizes 512,1024,2048 --only step \
	  --ours engine=graph engine=torch --docs out/bench-gpu $(BENCH) \
	  $(if $(STYLE_TRANSFER_PYTORCH),--style-transfer-pytorch "$(STYLE_TRANSFER_PYTORCH)")

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nstrt needs Python 3.11 or later; name one with: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 6 GB, some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[full,dev]"
	@touch $@

clean:
	rm -rf $(VENV) build out *.egg-info
