"""What many tenants cost: CPU time to start with them, of a change to one, and to find one by its key.

python -m bench.tenants --tenants 10000
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from fairlead.config import Tenant
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import PolicySettings, TenantsChanged
from scheduler_svc.tenants.registry import TenantRegistry
from scheduler_svc.tenants.store import Record, StoredKey, TenantStore

LOOK_UPS = 100_000
TIMES = 5


def cpu_ms(act: Callable[[], object]) -> float:
    """Median CPU time of this process, ms."""
    taken: list[float] = []
    for _ in range(TIMES):
        began_s = time.process_time()
        act()
        taken.append(1000 * (time.process_time() - began_s))
    return sorted(taken)[TIMES // 2]


async def measure(number: int) -> None:
    """Prints a line for each figure."""
    operator = Tenant(name="op", key=SecretStr("k"), operator=True)
    now = datetime.now(UTC)
    records = {
        name: Record(name=name, made=True, settings={"weight": 2.0}, keys=(StoredKey(sha256=digest),), updated=now)
        for name, digest in ((f"t{index}", hashlib.sha256(b"%d" % index).hexdigest()) for index in range(number))
    }
    registry = TenantRegistry([operator], (), records)
    view = registry.merged()
    digest = hashlib.sha256(b"7").digest()
    with tempfile.TemporaryDirectory() as folder:
        store = TenantStore(Path(folder))
        kept_ms = cpu_ms(lambda: store.write(records))
        read_ms = cpu_ms(store.read)
    look_ups_ms = cpu_ms(lambda: [registry.by_key(digest) for _ in range(LOOK_UPS)])
    print(f"{number} tenants made by operators; CPU time, median of {TIMES}")
    print(f"start: reading what was kept    {read_ms:8.1f} ms")
    print(f"change: merging, beside the loop {cpu_ms(registry.merged):7.1f} ms")
    print(f"change: keeping, beside the loop {kept_ms:7.1f} ms")
    core = SchedulerCore("slo", PolicySettings(), Limits())
    told_ms = cpu_ms(lambda: core.handle(TenantsChanged(registry.terms()), 0.0))
    print(f"change: on the event loop       {cpu_ms(lambda: registry.put(view)) + told_ms:8.3f} ms, the core included")
    print(f"a key looked up                 {1000 * look_ups_ms / LOOK_UPS:8.2f} us")


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=10_000)
    asyncio.run(measure(parser.parse_args().tenants))


if __name__ == "__main__":
    main()
