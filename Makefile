# The two commands of the README: `make demo`, `make test`. `make help` lists the rest.
SHELL := /bin/bash
PY := .venv/bin/python
SEEDS ?= 1
LOAD ?= 0.9
REPORT_REQUESTS ?= 1000
REPORT_SEEDS ?= 3
MESSAGES ?= 20000
MINUTES ?= 10

.PHONY: chaos fuzz soak chaos-live
.PHONY: help setup demo test lint unit live compose-test stubs config-docs protos-released clean bench-overhead bench-scheduler-capacity bench-engine-hook bench-predict bench-predict-serving bench-predict-narrowing bench-fidelity bench-step-profile report bench-tls
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 26

setup: .venv/ready  ## make .venv with everything (about 3 minutes the first time)

.venv/ready: pyproject.toml constraints.txt tools/setup.sh
	tools/setup.sh

demo: setup  ## the main job on real vLLM: fcfs, isrtf and slo side by side (SEEDS=3 for three seeds)
	$(PY) -m demo.run_demo --seeds $(SEEDS) --out build/demo

test: setup lint unit live compose-test  ## every check and test, fast ones first

chaos: setup  ## faults at every point in virtual time, all invariants at each event (SEEDS=10000: about 40 minutes of two cores)
	$(PY) -m tests.fault.chaos --seeds $(if $(filter-out 1,$(SEEDS)),$(SEEDS),200) --json build/chaos.json

chaos-live: setup  ## real processes killed under 2,000 requests and a 1,000-line job: 50 kills of scheduler and predictor, 20 of workers (VLLM=--vllm)
	$(PY) -m tests.fault.chaos_live --kills 50 20 --requests 2000 $(VLLM) --json build/chaos_live.json

soak: setup  ## mixed load that comes and goes; memory, files and what is held must be flat (MINUTES=60)
	$(PY) -m tests.fault.soak --minutes $(MINUTES) --json build/soak.json

fuzz: setup  ## hostile messages to every method of every service (MESSAGES=1000000 to each: some two hours)
	$(PY) -m tests.fault.fuzz --messages $(MESSAGES) --json build/fuzz.json

lint: setup  ## style, types, import contracts, the contract's own rules, stubs and settings page current
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports
	.venv/bin/buf lint protos
	.venv/bin/buf breaking protos --against protos/released.binpb
	$(PY) tools/make_stubs.py --check
	$(PY) tools/make_config_docs.py --check

unit: setup  ## fast tests
	$(PY) -m pytest -q -m "not live and not compose"

live: setup  ## tests on real processes and real vLLM
	$(PY) -m pytest -q -m live

compose-test: setup  ## builds the images and runs compose.yaml on this machine's Docker engine; skipped without one
	$(PY) -m pytest -q -rsP -m compose

stubs: setup  ## make fairlead/v1 from protos/ again
	$(PY) tools/make_stubs.py

config-docs: setup  ## make docs/configuration.md from fairlead/config again
	$(PY) tools/make_config_docs.py

protos-released: setup  ## take the contract as it is for the one that later changes must not break
	.venv/bin/buf build protos -o protos/released.binpb

bench-overhead: setup  ## what it costs to have the suite in the way: AsyncLLM, vLLM's HTTP server and the suite (9 minutes)
	$(PY) -m bench.overhead --json build/overhead.json

bench-engine-hook: setup  ## what our order at each step costs inside vLLM's EngineCore, and what new orders and pauses cost
	$(PY) -m bench.engine_hook

bench-scheduler-capacity: setup  ## tokens and streams a second that one scheduler process carries on one core
	$(PY) -m bench.scheduler_capacity

bench-tls: setup  ## what TLS and client certificates cost: tokens per second and CPU time per token (5 minutes)
	$(PY) -m bench.tls_cost --json build/tls-cost.json

bench-predict: setup  ## every predictor beside simple baselines on the files in FAIRLEAD_DATA (an hour of one core)
	$(PY) -m bench.predict --out build/predict

bench-predict-serving: setup  ## how fast the default predictor answers on two cores; torch, ONNX and int8 side by side (4 minutes)
	$(PY) -m bench.predict_serving --json build/predict-serving.json

bench-predict-narrowing: setup  ## how asking again narrows the interval, on real vLLM with the demo model (2 minutes)
	$(PY) -m bench.predict_narrowing --out build/narrowing

bench-fidelity: setup  ## the same requests on real vLLM and in the simulator, and the errors (3 minutes; LOAD=0.9)
	$(PY) -m bench.fidelity --load $(LOAD) --json build/fidelity.json

bench-step-profile: setup  ## step times of vLLM on this machine as a profile for `fairlead simulate --profile FILE`
	$(PY) -m bench.step_profile --json build/step_profile.json

report: setup  ## docs/report from your traces (TRACES="a.csv b.csv", else those in FAIRLEAD_DATA; REPORT_REQUESTS=2000)
	$(PY) -m bench.report $(TRACES) --requests $(REPORT_REQUESTS) --seeds $(REPORT_SEEDS) $(REPORT_OPTIONS)

clean:  ## remove what was built and installed
	rm -rf .venv build dist *.egg-info
