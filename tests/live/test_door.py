"""What comes to the door of a running service: floods, half handshakes, hostile metadata; others are served."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from fairlead.certs import CertStore
from fairlead.client import Delta, Finished
from fairlead.config import SecurityConfig
from fairlead.rpc import read_details
from fairlead.v1 import inference_pb2, types_pb2
from tests.live.scheduler_suite import Suite, check_whole, running_suite, worker_config

pytestmark = pytest.mark.live
CODE = grpc.StatusCode
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, DATA, RESET, GOAWAY = 4, 1, 0, 3, 7
WITHIN_S = 10.0
GENERATE = "/fairlead.v1.InferenceService/Generate"
LONG = 600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    now, days = datetime.now(UTC), timedelta(days=9)
    store = CertStore(tmp_path / "certs")
    store.make_authority(days, now)
    for service in ("scheduler", "predictor", "worker"):
        store.issue_service(service, [], days, now)
    return store.folder


@asynccontextmanager
async def meanwhile(suite: Suite) -> AsyncIterator[None]:
    """One long answer runs all the while, and must be whole in the end."""
    tokens: list[int] = []
    started = asyncio.Event()

    async def follow() -> Finished:
        async for event in suite.client().generate("All the while.", max_tokens=LONG, min_tokens=LONG, ignore_eos=True):
            if isinstance(event, Delta):
                started.set()
                tokens.extend(range(event.first_token, event.first_token + event.token_count))
            elif isinstance(event, Finished):
                return event
        raise AssertionError("it ended without an outcome")

    task = asyncio.create_task(follow())
    await started.wait()
    yield
    last = await task
    assert (last.outcome, last.decision.attempts) == ("LENGTH", 1)
    assert tokens == list(range(LONG))


def connected(address: str, folder: Path | None = None) -> socket.socket:
    host, port = address.split(":")
    plain = socket.create_connection((host, int(port)), WITHIN_S)
    if folder is None:
        return plain
    context = ssl.create_default_context(cafile=folder / "ca/ca.crt")
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(plain, server_hostname="localhost")


def until_closed(open_socket: socket.socket) -> bool:
    """Whether the server closes it within the bound."""
    open_socket.settimeout(WITHIN_S)
    try:
        while open_socket.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize("secured", [False, True])
async def test_a_connection_that_never_finishes_its_handshake_is_closed(
    secured: bool, folder: Path, tmp_path: Path
) -> None:
    security = SecurityConfig(folder=folder if secured else None, handshake_timeout_s=1.0)
    slow = worker_config(simulated_step_ms=(4.0, 0.0, 0.0, 0.0))
    async with running_suite(tmp_path / "state", workers=[slow], security=security) as suite, meanwhile(suite):
        address = suite.scheduler.address
        silent = [connected(address) for _ in range(20)]
        dripping = connected(address)
        for byte in b"\x16\x03\x01\x00\xf1" if secured else PREFACE[:5]:
            dripping.send(bytes([byte]))
            await asyncio.sleep(0.05)
        closed = await asyncio.gather(*(asyncio.to_thread(until_closed, each) for each in (*silent, dripping)))
        assert all(closed), "a connection without a handshake is still open"


@pytest.mark.parametrize("secured", [False, True])
async def test_connections_are_bounded_and_those_that_stand_go_on(secured: bool, folder: Path, tmp_path: Path) -> None:
    """A place that is left is taken again."""
    security = SecurityConfig(folder=folder if secured else None, max_connections=4)
    slow = worker_config(simulated_step_ms=(4.0, 0.0, 0.0, 0.0))
    async with running_suite(tmp_path / "state", workers=[slow], security=security) as suite, meanwhile(suite):

        def served() -> int:
            kept: list[socket.socket] = []
            for _ in range(8):
                try:
                    one = connected(suite.scheduler.address, folder if secured else None)
                    one.settimeout(WITHIN_S)
                    one.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
                    if one.recv(9):
                        kept.append(one)
                except OSError:
                    pass
            for one in kept:
                one.close()
            return len(kept)

        first = await asyncio.to_thread(served)
        assert 1 <= first < 4, "one place is the answer's that runs"
        for _ in range(100):
            if await asyncio.to_thread(served) == first:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("places that were left are not free again")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """HPACK (RFC 7541, 6.2.2): a literal header field without indexing, as bytes that no client library would send."""

    def string(data: bytes) -> bytes:
        if len(data) < 127:
            return bytes([len(data)]) + data
        left, out = len(data) - 127, [127]
        while left >= 128:
            out.append(left % 128 + 128)
            left //= 128
        return bytes([*out, left]) + data

    return b"\x00" + string(name) + string(value)


def raw_call(address: str, *headers: tuple[bytes, bytes]) -> list[int]:
    """One Generate with these headers; the kinds of frames that the server answers it with until it ends."""
    whole = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", GENERATE.encode()), (b":authority", b"localhost"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), *headers,
    ]  # fmt: skip
    block = b"".join(literal(name, value) for name, value in whole)
    message = inference_pb2.GenerateRequest(text="hi").SerializeToString()
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    sent = PREFACE + frame(SETTINGS, 0, 0, b"")
    for index, piece in enumerate(pieces):
        last = 4 if index == len(pieces) - 1 else 0
        sent += frame(HEADERS if index == 0 else 9, last, 1, piece)
    sent += frame(DATA, 1, 1, b"\0" + struct.pack(">I", len(message)) + message)
    found: list[int] = []
    with connected(address) as end:
        end.settimeout(WITHIN_S)
        try:
            end.sendall(sent)
            while True:
                head = _exactly(end, 9)
                kind, flags = head[3], head[4]
                _exactly(end, int.from_bytes(head[:3], "big"))
                if kind in (HEADERS, DATA, RESET, GOAWAY):
                    found.append(kind)
                if kind in (RESET, GOAWAY) or (kind in (HEADERS, DATA) and flags & 1):
                    return found
        except ConnectionError:
            return [*found, GOAWAY]


def _exactly(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


KEY = (b"authorization", b"Bearer alice-key")


@pytest.mark.parametrize(
    "headers",
    [
        [KEY, KEY],
        [(b"authorization", b"Bearer alice-key\r\nx: y")],
        [(b"authorization", b"Bearer \x00\x01\x1b[2J")],
        [(b"authorization", bytes(range(128, 256)))],
        [(b"authorization-bin", b"!!not base64!!")],
        [(b"authorization", b"Bearer " + b"k" * 12_000)],
        [(b"authorization", b"x" * 200_000)],
        [(b"x-%d" % index, b"y" * 50) for index in range(2000)],
        [(b"authorization", b"bearer")],
        [(b"", b"empty name")],
        [(b"Upper-Case", b"name")],
    ],
    ids=["twice", "crlf", "control", "high bytes", "binary", "long", "huge", "many", "no key", "no name", "upper case"],
)
async def test_hostile_metadata_is_refused_and_harms_nobody(headers: list[tuple[bytes, bytes]], quiet: Suite) -> None:
    """Whatever a header holds, no answer begins (there are no DATA frames), and the next call is served."""
    answered = await asyncio.to_thread(raw_call, quiet.scheduler.address, *headers)
    assert DATA not in answered
    check_whole("Still there.", await quiet.client().complete("Still there.", max_tokens=5))


async def test_the_raw_call_is_a_call(quiet: Suite) -> None:
    """With a sound key the same bytes bring an answer, so that the refusals above are of the headers."""
    assert DATA in await asyncio.to_thread(raw_call, quiet.scheduler.address, KEY)


@pytest.fixture
async def quiet(tmp_path: Path) -> AsyncIterator[Suite]:
    async with running_suite(tmp_path / "quiet", predictor=None) as suite:
        yield suite


async def test_a_flood_of_calls_is_refused_by_type_and_another_tenants_answer_goes_on(tmp_path: Path) -> None:
    """Calls of one tenant beyond its bound, calls without a key, attaches to what is not there."""
    security = SecurityConfig(max_calls_per_tenant=20)
    slow = worker_config(simulated_step_ms=(4.0, 0.0, 0.0, 0.0))
    async with (
        running_suite(tmp_path, workers=[slow], security=security) as suite,
        meanwhile(suite),
        suite.stub() as stub,
    ):
        bob = (("authorization", "Bearer bob-key"),)

        async def ask(call: Any) -> str:
            try:
                while await call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as error:
                return read_details(error).reason
            return "OK"

        def generate(index: int) -> Any:
            options = {"max_tokens": 100, "min_tokens": 100, "ignore_eos": True}
            request = inference_pb2.GenerateRequest(
                request_id=f"flood-{index}", text="hi", sampling=types_pb2.SamplingParams(**options)
            )
            return stub.Generate(request, metadata=bob)

        flood = await asyncio.gather(*(ask(generate(index)) for index in range(120)))
        assert set(flood) == {"OK", "TOO_MANY_CALLS"}
        assert flood.count("OK") >= 20
        unknown = [
            stub.Attach(inference_pb2.AttachRequest(request_id=f"no-{index}"), metadata=bob) for index in range(15)
        ]
        assert set(await asyncio.gather(*map(ask, unknown))) == {"UNKNOWN_REQUEST"}
        nobody = [stub.Generate(inference_pb2.GenerateRequest(text="hi")) for _ in range(300)]
        assert set(await asyncio.gather(*map(ask, nobody))) == {"UNAUTHENTICATED"}


async def test_calls_in_flight_on_a_port_are_bounded(tmp_path: Path) -> None:
    """Beyond the bound gRPC itself refuses; a place that is left is taken again."""
    async with (
        running_suite(tmp_path, predictor=None, security=SecurityConfig(max_calls=4)) as suite,
        suite.stub() as stub,
    ):
        alice = (("authorization", "Bearer alice-key"),)
        long = types_pb2.SamplingParams(max_tokens=4000, min_tokens=4000, ignore_eos=True)
        held = [
            stub.Generate(inference_pb2.GenerateRequest(text="hi", sampling=long), metadata=alice) for _ in range(4)
        ]
        for call in held:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListModels(inference_pb2.ListModelsRequest(), metadata=alice)
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
        for call in held:
            call.cancel()
        for _ in range(200):
            try:
                assert (await stub.ListModels(inference_pb2.ListModelsRequest(), metadata=alice)).models
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)
        else:
            raise AssertionError("calls that ended still count")


async def test_the_bound_on_streams_is_announced(quiet: Suite) -> None:
    def announced() -> int:
        with connected(quiet.scheduler.address) as end:
            end.settimeout(WITHIN_S)
            end.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
            head = _exactly(end, 9)
            assert head[3] == SETTINGS
            payload = _exactly(end, int.from_bytes(head[:3], "big"))
            pairs = [struct.unpack(">HI", payload[at : at + 6]) for at in range(0, len(payload), 6)]
            return dict(pairs)[3]  # SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113 6.5.2

    assert await asyncio.to_thread(announced) == 4096
