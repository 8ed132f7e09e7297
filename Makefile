# Everything on a fresh machine: `make demo` runs the whole workflow, `make test` checks it. Both set up first.
PYTHON ?= python3
CORES ?= all
# The address of a package index with torch for CPUs alone (PyTorch's install page names it): saves the CUDA libraries.
# Kept, so that a later `make` with newer requirements stays with it.
TORCH_INDEX ?= $(shell cat .venv/.torch-index 2>/dev/null)
ready := .venv/.ready
tools := .venv/.tools
bin := .venv/bin
install := $(bin)/python -m pip install --quiet --disable-pip-version-check
# Keeps hubs from being asked: nothing here needs a network once it is installed.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format docs docs-site sbom segmenter benchmark-crop benchmark-partition benchmark-copies benchmark-restore benchmark-classify benchmark-measure benchmark-embed benchmark-refine benchmark-scale benchmark-gpu clean

help:
	@echo "make setup   install into .venv; TORCH_INDEX=ADDRESS takes torch for CPUs from there (docs/installation.md)"
	@echo "make demo    install, simulate a small data set, run all stages, show where the report is"
	@echo "make test    install, check style and types, run the tests: about ten minutes on two cores"
	@echo "make test-all    make test, then kills, full disks, fuzzing at length and a Slurm: three quarters of an hour"
	@echo "make check   style, types and the linters of Snakemake alone"
	@echo "make format  put all code in its standard form"
	@echo "make docs    write the reference of settings and tables (docs/)"
	@echo "make docs-site    the documentation as a site (local/site/index.html); installs mkdocs in .venv-docs"
	@echo "make sbom    write the bill of materials of .venv (sbom.json); installs cyclonedx-bom in .venv-sbom"
	@echo "make segmenter        train the embedded segmenter anew (needs the masks that docs/method.md names)"
	@echo "make benchmark-crop   measure the segmenters against experts' masks: benchmarks/crop.json"
	@echo "make benchmark-partition  measure the noise, blur and light scores (minutes)"
	@echo "make benchmark-copies     how many near copies are found, and how many distinct cells pass for such (minutes)"
	@echo "make benchmark-restore    train and measure restoration on real cells: benchmarks/restore.json (an hour)"
	@echo "make benchmark-classify   measure training and prediction of branch A against the usual loop (half an hour)"
	@echo "make benchmark-measure    time the measuring of cells and compare it with experts' attributes (minutes)"
	@echo "make benchmark-embed      parity, speed and worth of branch B's encoders and head (a quarter of an hour)"
	@echo "make benchmark-refine     three drawn sets like WBCBench, refined, beside the paper's constants (an hour)"
	@echo "make benchmark-scale      every step without a network on 1,000 to 55,012 drawn images (an hour)"
	@echo "make benchmark-gpu        every stage's GPU path on one GPU, at most eight minutes: benchmarks/gpu.json"
	@echo "make clean   delete what the demo made (results/)"

setup: $(ready)

$(ready): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
ifneq ($(TORCH_INDEX),)
	$(install) --no-deps --index-url "$(TORCH_INDEX)" $$(grep -E '^torch(vision)?==' requirements.txt)
	grep -vE '^(cuda-|nvidia-|triton)' requirements.txt > .venv/requirements-cpu.txt
	$(install) -r .venv/requirements-cpu.txt
	echo "$(TORCH_INDEX)" > .venv/.torch-index
else
	$(install) -r requirements.txt
endif
	$(install) --no-deps --no-build-isolation -e .
	touch $@

$(tools): $(ready) requirements-dev.txt
	$(install) -r requirements-dev.txt
	touch $@

demo: $(ready)
	$(bin)/buffycoat run -- --cores $(CORES) --workflow-profile workflow/profiles/local

# Side by side: the types take the longest, and the others fit beside them.
checks := check-style check-types check-workflow
.PHONY: $(checks)

check: $(tools)
	$(MAKE) --no-print-directory --jobs=2 $(checks)

check-style:
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/snakefmt --check Snakefile workflow

check-types:
	$(bin)/mypy

check-workflow:
	$(bin)/snakemake --lint

# Two processes, each of them and all that it starts with one thread; the tests of a file stay together, for their fixtures.
TEST_PROCESSES ?= 2
pytest := $(bin)/python -m pytest --durations=20
parallel := --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder
test test-all: export OMP_NUM_THREADS := 1

test: check
	$(pytest) $(parallel) -m "not slow and not cluster"

# What `make test` leaves out. Slurm comes last and has the machine to itself.
test-all: test
	$(pytest) $(parallel) -m "slow or hypothesis" --hypothesis-profile=long
	$(pytest) -m cluster

format: $(tools)
	$(bin)/ruff check --fix
	$(bin)/ruff format
	$(bin)/snakefmt Snakefile workflow

docs: $(ready)
	$(bin)/python docs/write_reference.py

docs-site: .venv-docs/.ready
	.venv-docs/bin/mkdocs build --strict

.venv-docs/.ready: requirements-docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

sbom: $(ready) .venv-sbom/.ready
	.venv-sbom/bin/cyclonedx-py environment $(bin)/python --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file sbom.json

.venv-sbom/.ready: requirements-sbom.txt
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-sbom.txt
	touch $@

# The weights that ship in the package: src/buffycoat/crop/segmenter.safetensors. About 25 minutes of one core.
# Those were averaged with a decay of 0.997; it is 0.995 now (EMA in segmenter_training.py), and nothing was trained anew.
segmenter_settings := {"start": "imagenet", "held_out": 0.05, "steps": 1600, "batch": 16}
segmenter: $(ready)
	$(bin)/python -m benchmarks.segmenter_data --folder local/segmenter
	$(bin)/python -m buffycoat.simulate.draw_smears --smears local/segmenter/smears --seed 11 --settings '{"images": 300}'
	$(bin)/python -m buffycoat.crop.train_segmenter \
		--masks local/segmenter/bcisc.csv local/segmenter/bccd.csv local/segmenter/smears/masks.csv \
		--segmenter local/segmenter/segmenter.safetensors --history local/segmenter/history.parquet \
		--seed 1 --settings '$(segmenter_settings)'
	@echo "copy local/segmenter/segmenter.safetensors into src/buffycoat/crop/ and its SHA-256 into segmenter.py"

benchmark-crop: $(ready)
	$(bin)/python -m benchmarks.crop

benchmark-partition: $(ready)
	$(bin)/python -m benchmarks.partition

benchmark-copies: $(ready)
	$(bin)/python -m benchmarks.copies --data $(or $(BUFFYCOAT_DATA),../shared/data)

benchmark-restore: $(ready)
	$(bin)/python -m benchmarks.restore

benchmark-classify: $(ready)
	$(bin)/python -m benchmarks.classify

benchmark-measure: $(ready)
	$(bin)/python -m benchmarks.measure

benchmark-embed: $(ready)
	$(bin)/python -m benchmarks.embed

benchmark-refine: $(ready)
	$(bin)/python -m benchmarks.refine

benchmark-scale: $(ready)
	$(bin)/python -m benchmarks.scale

benchmark-gpu: $(ready)
	$(bin)/python -m benchmarks.gpu

clean:
	rm -rf results
