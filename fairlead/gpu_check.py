"""Says in one sentence whether a machine has an NVIDIA driver; run before a container that asks for a GPU.

A container sees the kernel's driver without being given a device, so this runs where Docker can't yet give one.
"""

from __future__ import annotations

import sys
from pathlib import Path

_SIGNS = ("proc/driver/nvidia/version", "sys/module/nvidia", "sys/class/misc/dxg")
"""A Linux driver by its two faces, and the one of Windows' Linux subsystem."""

MISSING = (
    "fairlead: no NVIDIA driver was found on this machine, so the profile `gpu` can't run; install the driver and the "
    "NVIDIA Container Toolkit, or leave `--profile gpu` out to serve on CPUs"
)


def has_driver(root: Path = Path("/")) -> bool:
    """Whether the kernel below `root` has an NVIDIA driver loaded."""
    return any((root / sign).exists() for sign in _SIGNS)


def main() -> None:
    """Entry point: exit status 0 with a driver; else 1 and the sentence."""
    if has_driver():
        print("fairlead: an NVIDIA driver is loaded")
        return
    print(MISSING, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
