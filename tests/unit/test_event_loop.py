"""gRPC's wake-ups taken in bulk: nothing is lost, nothing is left over, and gRPC still does what is reckoned with."""

import asyncio
import os
import socket
import subprocess
import sys

import grpc
import pytest
import uvloop
from grpc import aio

from fairlead import event_loop
from fairlead.event_loop import ease_grpc

STREAMS, MESSAGES = 20, 30


@pytest.fixture(params=["asyncio", "uvloop"])
def policy(request):
    return uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop


def run(new_loop, work):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)


async def bursts(context: aio.ServicerContext, turn: asyncio.Condition) -> None:
    for number in range(MESSAGES):
        async with turn:
            await turn.wait()
        await context.write(str(number).encode())


async def everything_arrives() -> list[list[bytes]]:
    ease_grpc()
    turn, ready = asyncio.Condition(), asyncio.Semaphore(0)

    async def stream(_request: bytes, context: aio.ServicerContext) -> None:
        ready.release()
        await bursts(context, turn)

    server = aio.server()
    handlers = {"Stream": grpc.unary_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def read(channel: aio.Channel) -> list[bytes]:
        return [message async for message in channel.unary_stream("/test.Test/Stream")(b"")]

    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        reading = [asyncio.create_task(read(channel)) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            await ready.acquire()
        while not all(task.done() for task in reading):
            async with turn:
                turn.notify_all()
            await asyncio.sleep(0)
        found = [await task for task in reading]
    await server.stop(None)
    return found


def test_every_message_of_every_stream_arrives_in_order(policy):
    assert run(policy, everything_arrives()) == [[str(n).encode() for n in range(MESSAGES)]] * STREAMS


def test_one_call_takes_all_wakeups_and_leaves_the_one_that_grpc_reads():
    told, teller = socket.socketpair()
    with told, teller:
        told.setblocking(False)
        taken = []
        finish = event_loop._in_bulk(told, lambda: taken.append(told.recv(1)))
        event_loop._eased.clear()
        loop = asyncio.new_event_loop()
        event_loop._eased.add(loop)
        teller.send(b"1" * 500)
        finish()
        assert taken == [b"1"]
        with pytest.raises(BlockingIOError):
            told.recv(1)
        # With a second loop on the same socket each takes its own, as gRPC has it.
        other = asyncio.new_event_loop()
        event_loop._eased.add(other)
        teller.send(b"1" * 5)
        finish()
        assert len(told.recv(100)) == 4
        event_loop._eased.clear()
        loop.close()
        other.close()


def test_grpc_is_still_found_and_eased():
    """Fails where a release of gRPC names its reader otherwise: then nothing would be eased, silently."""

    async def what_reads() -> list[str]:
        ease_grpc()
        async with aio.insecure_channel("127.0.0.1:1"):
            loop = asyncio.get_running_loop()
            handles = [key.data[0] for key in loop._selector.get_map().values() if key.data and key.data[0]]
            return [getattr(handle._callback, "__qualname__", "") for handle in handles]

    assert any("_in_bulk" in name for name in run(asyncio.SelectorEventLoop, what_reads()))


def test_outside_a_loop_nothing_is_eased():
    ease_grpc()


def test_a_service_runs_on_uvloop_with_the_older_poller_unless_the_environment_says_otherwise():
    work = (
        "import asyncio, os\n"
        "from fairlead import event_loop\n"
        "async def tell():\n"
        "    print(type(asyncio.get_running_loop()).__module__, os.environ['GRPC_EXPERIMENTS'])\n"
        "event_loop.run(tell())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}

    def told(**more: str) -> list[str]:
        command = [sys.executable, "-c", work]
        return subprocess.run(
            command, env=environment | more, capture_output=True, text=True, check=True
        ).stdout.split()

    assert told() == ["uvloop", "-event_engine_client,-event_engine_listener"]
    assert told(GRPC_EXPERIMENTS="tcp_rcv_lowat") == ["uvloop", "tcp_rcv_lowat"]
