"""TLS on real servers: who is believed, what a wrong certificate is told, and renewal while streams run."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from fairlead.certs import CertStore
from fairlead.client import Accepted, AsyncClient, Client, Delta, FairleadError, Finished, Retry, Tls, Unavailable
from fairlead.config import Config, SecurityConfig, Tenant
from fairlead.probe import ProbeTls, probe
from fairlead.rpc import make_channel, read_details
from fairlead.tls_diagnosis import diagnose
from fairlead.v1 import predictor_pb2, predictor_pb2_grpc, worker_pb2, worker_pb2_grpc
from tests.live.scheduler_suite import Suite, check_whole, running_suite, until, worker_config
from tests.live.suite_process import environment
from tests.live.test_mistakes import fairlead, told

pytestmark = pytest.mark.live
CODE = grpc.StatusCode
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
LONG_TOKENS = 400


def made(folder: Path) -> CertStore:
    store = CertStore(folder)
    store.make_authority(400 * DAY, NOW)
    for service in ("scheduler", "predictor", "worker"):
        store.issue_service(service, [], 90 * DAY, NOW)
    store.issue_client("alice", 90 * DAY, NOW)
    return store


@pytest.fixture
def store(tmp_path: Path) -> CertStore:
    return made(tmp_path / "certs")


def secured(store: CertStore, **values: Any) -> SecurityConfig:
    return SecurityConfig(folder=store.folder, **values)


def as_client(store: CertStore, holder: str, **values: Any) -> Tls:
    folder = store.folder / holder
    return Tls(folder / "ca.crt", folder / "tls.crt", folder / "tls.key", **values)


@asynccontextmanager
async def tls_suite(store: CertStore, tmp_path: Path, **values: Any) -> AsyncIterator[Suite]:
    async with running_suite(tmp_path / "state", security=secured(store, **values)) as suite:
        yield suite


def fingerprint(address: str, store: CertStore, holder: str = "") -> bytes:
    """SHA-256 of the certificate that the server shows to a new connection."""
    context = ssl.create_default_context(cafile=store.folder / "ca/ca.crt")
    context.set_alpn_protocols(["h2"])
    if holder:
        context.load_cert_chain(store.folder / holder / "tls.crt", store.folder / holder / "tls.key")
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as end,
    ):
        shown = end.getpeercert(binary_form=True)
    assert shown is not None
    import hashlib

    return hashlib.sha256(shown).digest()


async def test_a_whole_suite_over_mutual_tls(store: CertStore, tmp_path: Path) -> None:
    async with tls_suite(store, tmp_path) as suite:
        done = await suite.client().complete("Count to ten.", max_tokens=20)
        check_whole("Count to ten.", done)
        assert (await suite.status()).predictor.connected
        own = ProbeTls.in_folder(store.folder / "worker")
        assert await asyncio.to_thread(probe, suite.workers[0].address, "", 5.0, own) == ""


async def test_worker_and_predictor_serve_a_scheduler_alone(store: CertStore, tmp_path: Path) -> None:
    """A tenant's certificate comes from the same CA and opens nothing there; none at all opens no connection."""
    async with tls_suite(store, tmp_path) as suite:
        assert suite.predictor is not None
        for holder in ("clients/alice", "predictor", "worker"):
            async with make_channel(suite.workers[0].address, as_client(store, holder)) as channel:
                stub: Any = worker_pb2_grpc.WorkerServiceStub(channel)
                for call in (
                    stub.Describe(worker_pb2.WorkerServiceDescribeRequest()),
                    stub.Tokenize(worker_pb2.TokenizeRequest()),
                    stub.Drain(worker_pb2.DrainRequest()),
                    stub.Execute(iter([worker_pb2.ExecuteRequest()])),
                ):
                    assert await _refused(call) == (CODE.PERMISSION_DENIED, "NOT_SCHEDULER")
            async with make_channel(suite.predictor.address, as_client(store, holder)) as channel:
                asked: Any = predictor_pb2_grpc.PredictorServiceStub(channel)
                for call in (
                    asked.Describe(predictor_pb2.PredictorServiceDescribeRequest()),
                    asked.Observe(predictor_pb2.ObserveRequest()),
                    asked.Predict(iter([predictor_pb2.PredictRequest()])),
                ):
                    assert await _refused(call) == (CODE.PERMISSION_DENIED, "NOT_SCHEDULER")
        async with make_channel(suite.workers[0].address, Tls(store.folder / "ca/ca.crt")) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            code, _ = await _refused(stub.Describe(worker_pb2.WorkerServiceDescribeRequest(), timeout=5))
            assert code is CODE.UNAVAILABLE


async def test_a_scheduler_leads_no_worker_that_shows_another_role(store: CertStore, tmp_path: Path) -> None:
    """Whoever holds the predictor's certificate, from the same CA, is not taken for a worker."""
    other = SecurityConfig.model_validate(
        {
            "folder": store.folder,
            "worker": {
                name: store.folder / "predictor" / file
                for name, file in (("certificate", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt"))
            },
        }
    )
    from tests.live.scheduler_suite import running_worker

    async with (
        running_worker(worker_config(), other) as impostor,
        running_suite(tmp_path / "state", security=secured(store), addresses=[impostor.address]) as suite,
    ):
        status = await suite.status()
        (problem,) = [each.problem for each in status.workers if each.address == impostor.address]
        assert not [each for each in status.workers if each.address == impostor.address and each.connected]
        assert "the server's certificate is for other names" in problem, problem


async def test_the_secret_between_services_closes_ports_without_tls(tmp_path: Path) -> None:
    path = tmp_path / "service.key"
    path.write_text("a-secret-of-some-length\n")
    security = SecurityConfig(service_key_file=path)
    async with running_suite(tmp_path / "state", security=security) as suite:
        check_whole("Hello.", await suite.client().complete("Hello.", max_tokens=5))
        assert suite.predictor is not None
        async with make_channel(suite.workers[0].address) as channel:
            stub: Any = worker_pb2_grpc.WorkerServiceStub(channel)
            call = stub.Describe(worker_pb2.WorkerServiceDescribeRequest())
            assert await _refused(call) == (CODE.UNAUTHENTICATED, "NOT_SCHEDULER")
        async with make_channel(suite.predictor.address) as channel:
            asked: Any = predictor_pb2_grpc.PredictorServiceStub(channel)
            call = asked.Describe(predictor_pb2.PredictorServiceDescribeRequest())
            assert await _refused(call) == (CODE.UNAUTHENTICATED, "NOT_SCHEDULER")


async def test_certificates_are_renewed_under_load(store: CertStore, tmp_path: Path) -> None:
    """New connections see the new one, streams on old ones go on to their last token."""
    slow = worker_config(simulated_step_ms=(4.0, 0.0, 0.0, 0.0))
    async with running_suite(tmp_path / "state", workers=[slow], security=secured(store)) as suite:
        address, worker = suite.scheduler.address, suite.workers[0].address
        before = await asyncio.to_thread(fingerprint, address, store)
        streaming = [_stream(suite, number) for number in range(6)]
        for _, started in streaming:
            await started.wait()
        for holder in ("scheduler", "worker", "predictor"):
            store.renew(holder, NOW)
        after = await asyncio.to_thread(fingerprint, address, store)
        assert before != after
        assert await asyncio.to_thread(fingerprint, worker, store, "scheduler") != before
        async with AsyncClient(address, "alice-key", tls=suite.tls) as fresh:
            check_whole("Fresh.", await fresh.complete("Fresh.", max_tokens=5))
        for task, _ in streaming:
            tokens, last = await task
            assert last.outcome == "LENGTH"
            assert last.decision.attempts == 1
            assert tokens == list(range(LONG_TOKENS))


async def test_a_scheduler_whose_worker_came_back_uses_the_renewed_files(store: CertStore, tmp_path: Path) -> None:
    """The CA itself is replaced: both sides have new certificates, and the link that breaks stands again."""
    async with tls_suite(store, tmp_path) as suite:
        link = suite.scheduler._pool.links[suite.workers[0].address]  # type: ignore[attr-defined]
        store.replace_authority(400 * DAY, NOW)
        for holder in ("worker", "scheduler", "predictor"):
            store.renew(holder, NOW)
        link._task.cancel()  # type: ignore[attr-defined]
        await asyncio.gather(link._task, return_exceptions=True)  # type: ignore[attr-defined]
        link._broken("cut by the test")  # type: ignore[attr-defined]
        link._task = asyncio.create_task(link._run())  # type: ignore[attr-defined]
        await until(lambda: link.connected, "the link to stand again")
        async with AsyncClient(suite.scheduler.address, "alice-key", tls=suite.tls) as fresh:
            check_whole("Again.", await fresh.complete("Again.", max_tokens=5))


async def test_a_client_takes_up_its_renewed_certificate(store: CertStore, tmp_path: Path) -> None:
    """The old CA is no longer believed: a connection with the old certificate could not be made again."""
    async with tls_suite(store, tmp_path, client_ca=store.folder / "ca/ca.crt") as suite:
        tls = as_client(store, "clients/alice")
        async with AsyncClient(suite.scheduler.address, "alice-key", tls=tls, retry=Retry(attempts=1)) as client:
            check_whole("One.", await client.complete("One.", max_tokens=5))
            store.make_authority(400 * DAY, NOW)
            for holder in ("scheduler", "clients/alice"):
                store.renew(holder, NOW)
            check_whole("Two.", await client.complete("Two.", max_tokens=5))


async def test_a_tenant_is_told_by_its_clients_certificate(store: CertStore, tmp_path: Path) -> None:
    """No key is needed; a key of another tenant beside it is refused, and so is no credential at all."""
    for name in ("bob", "nobody"):
        store.issue_client(name, 90 * DAY, NOW)
    tenants = (
        Tenant(name="alice", certificate_names=("alice.clients.fairlead.internal",), default_class="ls"),
        Tenant(name="bob", key=SecretStr("bob-key"), certificate_names=("bob.clients.fairlead.internal",)),
        Tenant(name="op", key=SecretStr("op-key"), operator=True),
    )
    security = secured(store, client_ca=store.folder / "ca/ca.crt")
    async with running_suite(tmp_path / "state", security=security, tenants=tenants) as suite:

        async def asked(holder: str, key: str | None) -> str:
            tls = as_client(store, f"clients/{holder}")
            async with AsyncClient(suite.scheduler.address, key, tls=tls, retry=Retry(attempts=1)) as client:
                try:
                    async for event in client.generate("Hello.", max_tokens=3):
                        if isinstance(event, Accepted):
                            return event.tenant
                except FairleadError as error:
                    return error.reason
            raise AssertionError("it was neither accepted nor refused")

        assert await asked("alice", None) == "alice"
        assert await asked("bob", "bob-key") == "bob"
        assert await asked("nobody", "bob-key") == "bob"
        assert await asked("alice", "bob-key") == "CREDENTIALS_DIFFER"
        assert await asked("alice", "unknown-key") == "UNAUTHENTICATED"
        assert await asked("nobody", None) == "UNAUTHENTICATED"


def _stream(suite: Suite, number: int) -> tuple[asyncio.Task[tuple[list[int], Finished]], asyncio.Event]:
    started = asyncio.Event()

    async def follow() -> tuple[list[int], Finished]:
        tokens: list[int] = []
        async for event in suite.client().generate(
            f"Story {number}.", max_tokens=LONG_TOKENS, min_tokens=LONG_TOKENS, ignore_eos=True
        ):
            if isinstance(event, Delta):
                started.set()
                tokens += range(event.first_token, event.first_token + event.token_count)
            elif isinstance(event, Finished):
                return tokens, event
        raise AssertionError("it ended without an outcome")

    return asyncio.create_task(follow()), started


async def _refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "read"):
            await call.read()
        await call
    return caught.value.code(), read_details(caught.value).reason


# -- what a wrong one is told, by the command line, by `doctor` and by a program


async def test_each_mistake_is_one_sentence_with_its_remedy(store: CertStore, tmp_path: Path) -> None:
    other = made(tmp_path / "other")
    async with tls_suite(store, tmp_path) as suite:
        address = suite.scheduler.address
        asking = ("generate", "hi", "--address", address, "--key", "alice-key", "--max-tokens", "3")

        async def said(*options: str, code: int = 1, more: dict[str, str] | None = None) -> str:
            return await told(tmp_path, *fairlead(*options, *asking), code=code, more=more)

        plain = await said()
        assert plain.startswith(f"error: {address} speaks TLS, and plain text was tried")
        assert "--ca or FAIRLEAD_CA" in plain
        wrong_ca = await said("--ca", str(other.folder / "ca/ca.crt"))
        assert f"the certificate of {address} does not come from {other.folder}/ca/ca.crt" in wrong_ca
        assert "--ca or FAIRLEAD_CA" in wrong_ca
        ca = {"FAIRLEAD_CA": str(store.folder / "ca/ca.crt")}
        other_name = await said("--server-name", "elsewhere", more=ca)
        assert f"the certificate of {address} is for other names" in other_name
        assert "--server-name" in other_name
        missing = await said("--ca", str(tmp_path / "none"), code=2)
        assert "can't be read" in missing
        environment_only = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fairlead.cli.main", *asking, env={**environment(tmp_path), **ca},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert await environment_only.wait() == 0
        examined = fairlead("doctor", "--remote", "--address", address, "--key", "alice-key", "--json", "-")
        process = await asyncio.create_subprocess_exec(
            *examined, env=environment(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        report, _ = await process.communicate()
        assert process.returncode == 1
        assert b"speaks TLS, and plain text was tried" in report


async def test_mistakes_of_certificates_are_told_apart(store: CertStore, tmp_path: Path) -> None:
    ca = store.folder / "ca/ca.crt"
    async with tls_suite(store, tmp_path, client_ca=ca) as suite:
        address = suite.scheduler.address

        async def why(tls: Tls | None) -> str:
            return await asyncio.to_thread(diagnose, address, tls)

        assert await why(as_client(store, "clients/alice")) == ""
        assert "asks for a client certificate" in await why(Tls(ca))
        stranger = as_client(made(tmp_path / "other"), "clients/alice")
        mixed = Tls(ca, stranger.certificate, stranger.key)
        assert "not from a CA that security.client_ca names" in await why(mixed)
        assert "speaks TLS, and plain text was tried" in await why(None)
    expired = CertStore(tmp_path / "expired")
    expired.make_authority(400 * DAY, NOW - 100 * DAY)
    expired.issue_service("scheduler", [], DAY, NOW - 50 * DAY)
    async with _bare_tls(expired) as bare:
        said = await asyncio.to_thread(diagnose, bare, Tls(expired.folder / "ca/ca.crt"))
        assert said.startswith(f"the certificate of {bare} has expired")
        assert "fairlead certs renew" in said
    async with running_suite(tmp_path / "plain") as plain:
        said = await asyncio.to_thread(diagnose, plain.scheduler.address, Tls(ca))
        assert "does not speak TLS" in said
        with (
            pytest.raises(Unavailable),
            Client(plain.scheduler.address, "alice-key", tls=Tls(ca), retry=Retry(attempts=1)) as client,
        ):
            await asyncio.to_thread(client.list_models)


async def test_a_program_is_told_what_is_wrong_in_the_error_itself(store: CertStore, tmp_path: Path) -> None:
    other, ca = made(tmp_path / "other"), store.folder / "ca/ca.crt"

    async def said(address: str, tls: Tls | None) -> str:
        async with AsyncClient(address, "alice-key", tls=tls, retry=Retry(attempts=1)) as client:
            with pytest.raises(Unavailable) as caught:
                await client.list_models()
            return caught.value.message

    async with tls_suite(store, tmp_path) as suite:
        address = suite.scheduler.address
        assert (await said(address, None)).startswith("the server closed the connection at once: it speaks TLS")
        assert "is not from the CA that was given" in await said(address, Tls(other.folder / "ca/ca.crt"))
        assert "is for other names" in await said(address, Tls(ca, server_name="elsewhere"))
    expired = CertStore(tmp_path / "expired")
    expired.make_authority(400 * DAY, NOW - 100 * DAY)
    expired.issue_service("scheduler", [], DAY, NOW - 50 * DAY)
    async with _bare_tls(expired) as bare:
        assert "has expired: renew it" in await said(bare, Tls(expired.folder / "ca/ca.crt"))
    async with running_suite(tmp_path / "plain") as plain:
        assert "does not speak TLS" in await said(plain.scheduler.address, Tls(ca))


@asynccontextmanager
async def _bare_tls(store: CertStore) -> AsyncIterator[str]:
    """A TLS server that shows what ours would refuse to start with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(store.folder / "scheduler/tls.crt", store.folder / "scheduler/tls.key")
    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_service_says_what_is_wrong_with_its_certificate_and_does_not_start(
    store: CertStore, tmp_path: Path
) -> None:
    import yaml

    store.issue_service("worker", [], DAY, NOW - 2 * DAY)
    sections = {
        "worker": {"listen": "127.0.0.1:0", "engine": "simulated"}, "security": {"folder": str(store.folder)},
    }  # fmt: skip
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(sections))
    said = await told(tmp_path, sys.executable, "-m", "worker_svc", "--config", str(path), code=2)
    assert "security.worker.certificate" in said
    assert "fairlead certs renew" in said
    path.write_text(yaml.safe_dump({"worker": {"listen": "0.0.0.0:0", "engine": "simulated"}}))
    said = await told(tmp_path, sys.executable, "-m", "worker_svc", "--config", str(path), code=2)
    assert "worker.listen: 0.0.0.0:0 is reached from other machines" in said
    assert "fairlead certs make" in said
    assert Config().security.allow_insecure is False
