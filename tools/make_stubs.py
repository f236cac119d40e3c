"""Generates `fairlead/v1` (stubs and .pyi) from `protos/`. `--check` only says whether they are current."""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "fairlead" / "v1"


def generate(out: Path) -> None:
    """Writes `fairlead/v1/*_pb2*.py(i)` under `out`."""
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("fairlead/v1/*.proto"))
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{well_known}",
        f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}", f"--mypy_grpc_out={out}", *sources,
    ]  # fmt: skip
    subprocess.run(command, check=True)


def main() -> int:
    """Returns 0 where the stubs are current (or were written), 1 where `--check` finds them stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a stub is stale or missing")
    arguments = parser.parse_args()
    if not arguments.check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "fairlead" / "v1"
        names = sorted(path.name for path in fresh.iterdir())
        _, stale, missing = filecmp.cmpfiles(fresh, STUBS, names, shallow=False)
    if stale or missing:
        print(f"stale stubs: {', '.join(stale + missing)}; run `make stubs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
