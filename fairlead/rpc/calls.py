"""Streaming calls of gRPC that several tasks share: who ends, who was only cancelled by another."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def is_ending() -> bool:
    """Whether the present task itself is to end.

    A call of gRPC raises CancelledError in whoever waits for it when somebody else cancels it or closes its channel;
    that is a call that failed, not an order to end.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def together(call: Any, *works: Coroutine[Any, Any, None]) -> None:
    """Runs these on one streaming call until the first of them ends, then ends the others and the call.

    Raises:
        Exception: what the first of `works` that failed had raised.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            # One that ends the call cancels the others' reads and writes: that is no cancellation of ours.
            if task.done() and not task.cancelled():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        call.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
