"""Bytes that are no message: refused by name, where gRPC would answer UNKNOWN and log a traceback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from fairlead.rpc.refusals import Refusal


class Malformed:
    """Stands for a message that could not be read."""


MALFORMED = Malformed()


def tolerant(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Reads a message, or gives `MALFORMED`."""

    def read_or_mark(data: bytes) -> Any:
        try:
            return read(data)
        except (DecodeError, ValueError):  # ValueError: a text that is no UTF-8, in the pure-Python library
            return MALFORMED

    return read_or_mark


def refusal() -> Refusal:
    """What the sender of a malformed message is told."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message can't be read: it is no protobuf message of this method's request type; make the client from "
        "the protos of this release",
        reason="INVALID_FIELD",
    )


async def sound(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """A stream of requests up to the first malformed one, which raises its refusal."""
    async for request in requests:
        if request is MALFORMED:
            raise refusal()
        yield request
