"""A suite of real processes for live chaos and the soak, with a TCP proxy before each worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fairlead.certs import CertStore
from fairlead.client import Tls
from fairlead.rpc import free_port
from tests.fault.processes import MODULES, Service, running, write_config
from tests.fault.proxy import Proxy

KEY = "chaos-key"
LASTS = timedelta(days=2)


@dataclass
class Suite:
    """What runs.

    Attributes:
        services: by name: scheduler, predictor, worker0, worker1.
        proxies: before the workers.
        state: the scheduler's folder.
        tls: for clients; None: plain text.
    """

    services: dict[str, Service]
    proxies: list[Proxy]
    state: Path
    tls: Tls | None = None


@asynccontextmanager
async def running_suite(folder: Path, *, vllm: bool, tls: bool = False, **scheduler: Any) -> AsyncIterator[Suite]:
    """All services; `tls`: mutual TLS between them and to clients; `scheduler`: settings of it."""
    engine: dict[str, Any] = {"engine": "vllm", "slots": 16, "step_seats": 8, "max_context_tokens": 512}
    if not vllm:
        engine |= {"engine": "simulated", "simulated_step_ms": [8.0, 0.0, 0.2, 0.0], "simulated_answer_tokens": 100}
    common: dict[str, Any] = {"security": {"folder": str(_certificates(folder / "certs"))}} if tls else {}
    async with AsyncExitStack() as stack:
        services: dict[str, Service] = {}

        async def start(name: str, **sections: Any) -> None:
            module = MODULES[name.rstrip("01")]
            one = Service(module, write_config(folder, name, **common, **sections), folder / f"{name}.log")
            services[name] = await stack.enter_async_context(running(one))

        proxies: list[Proxy] = []
        for index in range(2):
            listen = f"127.0.0.1:{free_port()}"
            await start(f"worker{index}", worker={**engine, "listen": listen, "worker_id": f"worker{index}"})
            proxies.append(Proxy(listen))
            await proxies[-1].start()
            stack.push_async_callback(proxies[-1].stop)
        predictor = f"127.0.0.1:{free_port()}"
        await start("predictor", predictor={"listen": predictor, "predictor": "history"})
        state = folder / "state"
        section = {
            "listen": f"127.0.0.1:{free_port()}", "workers": [proxy.address for proxy in proxies],
            "predictor": predictor, "state_dir": str(state), **scheduler,
        }  # fmt: skip
        tenants = [{"name": "chaos", "key": KEY, "default_class": "be"}]
        await start("scheduler", scheduler=section, tenants=tenants)
        yield Suite(services, proxies, state, Tls(folder / "certs" / "scheduler" / "ca.crt") if tls else None)


def _certificates(folder: Path) -> Path:
    now = datetime.now(UTC)
    store = CertStore(folder)
    store.make_authority(LASTS, now)
    for service in MODULES:
        store.issue_service(service, [], LASTS, now)
    return folder
