# Everything on a fresh machine: `make demo` runs the whole workflow, `make test` checks it. Both set up first.
PYTHON ?= python3
CORES ?= all
ready := .venv/.ready
bin := .venv/bin
# Keeps hubs from being asked: nothing here needs a network once it is installed.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format docs docs-site sbom segmenter benchmark-crop benchmark-partition benchmark-copies benchmark-restore benchmark-classify benchmark-measure benchmark-embed benchmark-refine benchmark-scale benchmark-gpu clean

help:
	@echo "make demo    install, simulate a small data set, run all stages, show where the report is"
	@echo "make test    install, check style and types, run all tests"
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
	@echo "make benchmark-refine     three drawn twins of WBCBench, refined, beside the paper's constants (an hour)"
	@echo "make benchmark-scale      every step without a network on 1,000 to 55,012 drawn images (an hour)"
	@echo "make benchmark-gpu        every stage's GPU path on one GPU, at most eight minutes: benchmarks/gpu.json"
	@echo "make clean   delete what the demo made (results/)"

setup: $(ready)

$(ready): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(bin)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(ready)
	$(bin)/buffycoat run -- --cores $(CORES) --workflow-profile workflow/profiles/local

check: $(ready)
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/snakefmt --check Snakefile workflow
	$(bin)/mypy
	$(bin)/snakemake --lint

test: check
	$(bin)/python -m pytest

format: $(ready)
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
