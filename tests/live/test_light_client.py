"""The light install as a user makes it: built as a wheel, put into a clean environment, streaming from a suite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.suite_process import up

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fairlead", "predictor_svc", "scheduler_svc", "worker_svc", "simulator")
WITHIN_S = 300.0
HEAVY = (
    "torch",
    "vllm",
    "onnx",
    "onnxruntime",
    "transformers",
    "sentence_transformers",
    "sklearn",
    "scipy",
    "matplotlib",
)
NOT_FOR_A_CLIENT = (*HEAVY, "numpy", "typer", "rich", "opentelemetry", "grpc_tools")

STREAM = """
import json, sys, time
start_s = time.perf_counter()
import fairlead.client
import_s = time.perf_counter() - start_s
loaded = sorted({name.partition(".")[0] for name in sys.modules})
address, key = sys.argv[1:]
with fairlead.client.Client(address, key) as client:
    events = list(client.generate("Count to ten.", max_tokens=20, min_tokens=20, ignore_eos=True))
deltas = [event for event in events if isinstance(event, fairlead.client.Delta)]
print(json.dumps({
    "import_s": import_s, "loaded": loaded, "outcome": str(events[-1].outcome), "file": fairlead.client.__file__,
    "tokens": sum(delta.token_count for delta in deltas), "text": "".join(delta.text for delta in deltas),
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLEAD_", "PYTHONPATH"))}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build in the tree leaves files that a later one would pack again."""
    tree = tmp_path_factory.mktemp("tree")
    for name in PACKAGES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "demo"):
        (tree / name).mkdir()
        (tree / name / "__init__.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tree / "dist", tree, cwd=tree)
    (built,) = (tree / "dist").glob("fairlead-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An interpreter with the light install and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet",
        "--constraint", ROOT / "constraints.txt", wheel, cwd=folder,
    )  # fmt: skip
    yield python
    shutil.rmtree(folder, ignore_errors=True)


def test_the_wheel_has_all_packages_with_their_data_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    expected = {name for name in PACKAGES if (ROOT / name).is_dir()}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == expected
    needed = {
        "fairlead/py.typed", "fairlead/v1/inference_pb2.pyi", "predictor_svc/demo_head/head.safetensors",
        "worker_svc/demo_model/config.json", "worker_svc/demo_model/tokenizer.json",
    }  # fmt: skip
    assert needed <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    sources = {str(path.relative_to(ROOT)) for name in expected for path in (ROOT / name).rglob("*.py")}
    assert sources <= names


def test_light_install_pulls_nothing_heavy_and_streams_from_a_suite(python: Path, tmp_path: Path) -> None:
    installed = json.loads(
        run(python, "-c", "import importlib.metadata as m, json; "
            "print(json.dumps([d.metadata['Name'].lower() for d in m.distributions()]))", cwd=tmp_path)
    )  # fmt: skip
    assert "fairlead" in installed
    assert not {name.replace("_", "-") for name in HEAVY} & set(installed)
    with up(tmp_path) as suite:
        key = suite.session.keys["interactive"]
        told = json.loads(run(python, "-c", STREAM, suite.address, key, cwd=tmp_path))
        answer = run(
            python, "-m", "fairlead.cli.main", "generate", "Say hello.", "--max-tokens", "5", "--address",
            suite.address, "--key", key, cwd=tmp_path,
        )  # fmt: skip
    assert str(python.parents[1]) in told["file"]
    assert (told["outcome"], told["tokens"]) == ("LENGTH", 20)
    assert told["text"]
    assert answer.strip()
    assert not set(NOT_FOR_A_CLIENT) & set(told["loaded"])
    print(f"\nimport fairlead.client: {told['import_s']:.2f} s; {len(installed)} distributions")
