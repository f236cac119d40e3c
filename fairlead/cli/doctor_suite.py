"""`fairlead doctor`, the suite: configuration, ports, state folder, and what runs and answers."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fairlead.cli.doctor_findings import Check, Finding, State
from fairlead.cli.doctor_security import security
from fairlead.cli.problems import explain
from fairlead.cli.session import Access, load_session
from fairlead.client import Admin, Client, FairleadError, InsecureAddress, PermissionDenied, Retry, Tls, Unauthenticated
from fairlead.client_connection import chosen_tls
from fairlead.config import Config, ConfigError
from fairlead.config.tenants_file import load_tenants
from fairlead.probe import ProbeTls, probe
from fairlead.tls_diagnosis import diagnose
from fairlead.v1 import admin_pb2

LEAST_STATE_BYTES = 16 * 1024**2
PROBE_WITHIN_S = 3.0
INFERENCE, ADMIN = "fairlead.v1.InferenceService", "fairlead.v1.AdminService"


def local_checks(config: Config) -> list[tuple[str, Check]]:
    """Checks of what `fairlead up` would need here, with this configuration."""
    return [
        ("tenants", lambda: tenants(config)),
        ("security", lambda: security(config)),
        ("model", lambda: model(config.worker.engine, config.worker.model)),
        ("ports", lambda: ports(config)),
        ("state", lambda: state_dir(config.scheduler.state_dir or _default_state_dir())),
    ]


def suite_checks(access: Access, *, asked: bool) -> list[tuple[str, Check]]:
    """Checks of a running suite; `asked`: it was named, so that its absence is a failure."""
    return [("suite", lambda: suite(access, asked=asked))]


def tenants(config: Config) -> Iterator[Finding]:
    """Whether each tenant's credential can be read."""
    path, filed = config.scheduler.tenants_file, ()
    if path is not None:
        try:
            filed = load_tenants(path)
        except ConfigError as error:
            yield Finding("tenants", State.FAIL, str(error), "mend it; a running scheduler keeps what was in force")
            return
    if not config.tenants and not filed:
        yield Finding("tenants", State.NOTE, "none is configured: `fairlead up` makes three with keys of their own")
        return
    for tenant in (*config.tenants, *filed):
        try:
            for credential in tenant.all_credentials():
                credential.digest_of(tenant.name)
        except ConfigError as error:
            yield Finding("tenants", State.FAIL, str(error), "set it, or name the key in another way")
            return
    yield Finding("tenants", State.OK, f"{len(config.tenants) + len(filed)} configured, every credential can be read")


def model(engine: str, name: str) -> Iterator[Finding]:
    """Whether a model that is a local folder is there; a name on a model hub is only tried by a worker."""
    path = Path(name).expanduser()
    if engine != "vllm" or name == "demo":
        yield Finding("model", State.OK, f"{name!r} with engine {engine!r}")
    elif path.is_dir():
        if (path / "config.json").is_file():
            yield Finding("model", State.OK, f"folder {name}")
        else:
            remedy = "download the whole model, or set worker.model to another folder"
            yield Finding("model", State.FAIL, f"worker.model: {name} has no config.json, so it holds no model", remedy)
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
        remedy = "set worker.model to a folder that exists, a Hugging Face id or `demo`"
        yield Finding("model", State.FAIL, f"worker.model: there is no folder {name!r}", remedy)
    else:
        yield Finding("model", State.NOTE, f"{name!r} is fetched from Hugging Face, or its cache, when a worker starts")


def ports(config: Config) -> Iterator[Finding]:
    """Whether the configured ports are free, unless the suite that runs here holds them."""
    session = load_session()
    if session is not None and Path(f"/proc/{session.pid}").exists():
        yield Finding("ports", State.OK, f"a suite runs here (process {session.pid}), which may hold them")
        return
    taken = 0
    for section in ("scheduler", "predictor", "worker"):
        listen: str = getattr(config, section).listen
        problem = listen_problem(listen)
        if problem:
            taken += 1
            remedy = "stop what holds it (ss -ltnp), set another address, or give `fairlead up --free-ports`"
            yield Finding("ports", State.FAIL, f"{section}.listen: cannot listen on {listen} ({problem})", remedy)
    if not taken:
        yield Finding("ports", State.OK, "all three can be listened on")


def listen_problem(listen: str) -> str:
    """Why host:port can't be listened on now; "" where it can."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, ValueError, OverflowError) as error:
        return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return ""


def state_dir(folder: Path) -> Iterator[Finding]:
    """Whether the state folder, or the first folder above it that exists, takes a file and has room."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    remedy = "make room or rights there, or set scheduler.state_dir to another folder that outlives restarts"
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".fairlead-doctor-") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        why = error.strerror or error
        yield Finding("state", State.FAIL, f"scheduler.state_dir: {folder} can't be written ({why})", remedy)
        return
    free = shutil.disk_usage(there).free
    told = f"{folder} can be written, {free / 1024**3:.1f} GiB free"
    if free < LEAST_STATE_BYTES:
        yield Finding("state", State.WARN, told, remedy)
    else:
        yield Finding("state", State.OK, told)


def suite(access: Access, *, asked: bool) -> Iterator[Finding]:
    """Whether a scheduler answers and serves; then what its operators can see."""
    try:
        tls = chosen_tls(access.address, access.tls)
    except InsecureAddress as error:
        yield Finding("suite", State.FAIL, str(error))
        return
    unreachable = probe(access.address, ADMIN, PROBE_WITHIN_S, _probe_tls(tls))
    if unreachable and (told := diagnose(access.address, tls)):
        yield Finding("suite", State.FAIL, told)
        return
    if unreachable:
        told = f"no scheduler answers at {access.address}"
        remedy = "start one with `fairlead up`, or give its address with --address"
        yield Finding("suite", State.FAIL if asked else State.NOTE, told, remedy)
        return
    yield Finding("suite", State.OK, f"a scheduler answers at {access.address}")
    yield from _models(access)
    yield from _operators_view(access)


def _models(access: Access) -> Iterator[Finding]:
    key = access.explicit_key or next(iter(access.keys.values()), None)
    try:
        with Client(access.address, key, retry=Retry(attempts=1), tls=access.tls) as client:
            served = client.list_models()
    except Unauthenticated as error:
        yield Finding("models", State.FAIL, error.message, "give a key with --key or FAIRLEAD_KEY")
        return
    except FairleadError as error:
        yield Finding("models", State.FAIL, explain(error, access.address, access.tls))
        return
    if not served:
        remedy = "start a worker and name it in scheduler.workers; a large model loads for minutes"
        yield Finding("models", State.FAIL, "the scheduler has no worker yet, so it serves no model", remedy)
        return
    told = ", ".join(f"{each.model} ({each.workers} workers)" for each in served)
    yield Finding("models", State.OK, f"served: {told}")


def _operators_view(access: Access) -> Iterator[Finding]:
    key = access.explicit_key or access.keys.get("operator") or next(iter(access.keys.values()), None)
    admin = Admin(access.address, key, tls=access.tls)
    try:
        status = admin.status()
    except (PermissionDenied, Unauthenticated):
        yield Finding("workers", State.NOTE, "only an operator's key shows workers and predictor")
        return
    except FairleadError as error:
        yield Finding("workers", State.FAIL, explain(error, access.address, access.tls))
        return
    finally:
        admin.close()
    yield from _workers(status)
    yield from _predictor(status)


def _workers(status: admin_pb2.GetStatusResponse) -> Iterator[Finding]:
    for worker in status.workers:
        name = worker.worker_id or worker.address
        if worker.connected:
            told = f"{name} at {worker.address}: {worker.model}, {worker.step_seats} seats, {worker.slots} slots"
            yield Finding("workers", State.OK, told + (", draining" if worker.draining else ""))
        else:
            remedy = "see that worker's log; start it, or take its address out of scheduler.workers"
            told = f"{name} at {worker.address} is not connected" + (f": {worker.problem}" if worker.problem else "")
            yield Finding("workers", State.FAIL, told, remedy)


def _predictor(status: admin_pb2.GetStatusResponse) -> Iterator[Finding]:
    told = status.predictor
    if told.connected:
        yield Finding("predictor", State.OK, f"{told.predictor}: {told.answered} answered, {told.late_or_missing} late")
    else:
        remedy = "start it, or set scheduler.predictor to null; until then requests are ordered by class priors"
        yield Finding("predictor", State.WARN, "not connected", remedy)


def _probe_tls(tls: Tls | None) -> ProbeTls | None:
    if tls is None:
        return None
    files = tls.files()
    return ProbeTls(files.ca, files.certificate, files.key, tls.server_name)


def _default_state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "fairlead"
