"""Who may call what: every method of the contract has a rule, and a method without one is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from fairlead import v1
from fairlead.config import ConfigError, SecurityConfig
from fairlead.rpc import ACCESS, Gate, Refusal, Role, Server, make_channel, make_server, read_details, scheduler_only
from fairlead.v1 import inference_pb2, inference_pb2_grpc, worker_pb2_grpc

CODE = grpc.StatusCode
CONTRACTS = (
    *(import_module(f"fairlead.v1.{each.name}") for each in iter_modules(v1.__path__) if each.name.endswith("_pb2")),
    health_pb2,
    reflection_pb2,
)
KEY = "a-secret-of-some-length"


def methods() -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for contract in CONTRACTS
        for service in contract.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    assert set(ACCESS) == methods()


def test_only_health_and_reflection_are_open() -> None:
    assert {name for name, role in ACCESS.items() if role is Role.ANYONE} == {
        name for name in methods() if name.startswith("/grpc.")
    }


class Echo(inference_pb2_grpc.InferenceServiceServicer):
    """Answers whatever comes."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def Cancel(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return inference_pb2.CancelResponse(cancelled=True)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
        yield inference_pb2.GenerateResponse()
        await self.release.wait()


@asynccontextmanager
async def served(gate: Gate | None, servicer: Echo | None = None) -> AsyncIterator[Server]:
    server = make_server("127.0.0.1:0", [], port_setting="test", gate=gate)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer or Echo(), server.server)
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(worker_pb2_grpc.WorkerServiceServicer(), server.server)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "read"):
            await call.read()
        await call
    return caught.value.code(), read_details(caught.value).reason


async def test_without_a_gate_nobody_may_call() -> None:
    async with served(None) as server, make_channel(server.address) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        assert await refused(stub.Cancel(inference_pb2.CancelRequest())) == (CODE.PERMISSION_DENIED, "NO_RULE")
        assert await refused(stub.Generate(inference_pb2.GenerateRequest())) == (CODE.PERMISSION_DENIED, "NO_RULE")


async def test_a_method_without_a_rule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "/fairlead.v1.InferenceService/Cancel"
    monkeypatch.setattr("fairlead.rpc.access.ACCESS", {key: role for key, role in ACCESS.items() if key != name})
    open_to_all = Gate({role: lambda _context: None for role in Role})
    async with served(open_to_all) as server, make_channel(server.address) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        assert await refused(stub.Cancel(inference_pb2.CancelRequest())) == (CODE.PERMISSION_DENIED, "NO_RULE")


async def test_calls_of_one_tenant_are_bounded_and_those_of_another_go_on() -> None:
    def tenant(context: Any) -> str:
        return str(dict(context.invocation_metadata())["tenant"])

    told: list[tuple[str, str]] = []
    gate = Gate({Role.TENANT: tenant}, max_calls_per_tenant=2, told=lambda name, why: told.append((name, why.reason)))
    servicer = Echo()
    async with served(gate, servicer) as server, make_channel(server.address) as channel:
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)

        def generate(name: str) -> Any:
            return stub.Generate(inference_pb2.GenerateRequest(), metadata=(("tenant", name),))

        held = [generate("a"), generate("a")]
        for call in held:
            await call.read()
        assert await refused(generate("a")) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        other = generate("b")
        await other.read()
        assert told == [("/fairlead.v1.InferenceService/Generate", "TOO_MANY_CALLS")]
        held[0].cancel()
        for _ in range(200):
            again = generate("a")
            try:
                await again.read()
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
        else:
            raise AssertionError("a call that ended still counts")
        servicer.release.set()


def check(path: Path, authorization: list[str]) -> None:
    security = SecurityConfig(service_key_file=path)

    class Context:
        def invocation_metadata(self) -> list[tuple[str, str]]:
            return [("authorization", value) for value in authorization]

    scheduler_only(security, "worker", "10.0.0.1:7602")(Context())  # pyright: ignore[reportArgumentType]


def test_the_secret_between_services_is_asked_for_and_renewed_with_overlap(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    check(path, [f"Bearer {KEY}"])
    for wrong in ([], ["Bearer wrong"], [KEY], [f"Bearer {KEY}"] * 2, [f"Basic {KEY}"]):
        with pytest.raises(Refusal) as caught:
            check(path, wrong)
        assert caught.value.code is CODE.UNAUTHENTICATED
        assert KEY not in str(caught.value)
    newer = "another-secret-of-some-length"
    path.write_text(f"{newer}\n{KEY}\n")
    check(path, [f"Bearer {KEY}"])
    check(path, [f"Bearer {newer}"])


def test_a_port_that_others_reach_is_not_left_open(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"worker\.listen: 0\.0\.0\.0:7602 .*fairlead certs make"):
        scheduler_only(SecurityConfig(), "worker", "0.0.0.0:7602")
    short = tmp_path / "short"
    short.write_text("short\n")
    with pytest.raises(ConfigError, match="at least 16 characters"):
        scheduler_only(SecurityConfig(service_key_file=short), "worker", "127.0.0.1:0")
    scheduler_only(SecurityConfig(), "worker", "127.0.0.1:0")
    scheduler_only(SecurityConfig(allow_insecure=True), "worker", "0.0.0.0:0")
