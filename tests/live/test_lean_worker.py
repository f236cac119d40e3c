"""What loads the scheduler in `bench.scheduler_capacity` speaks the contract: answers come whole in both classes."""

import asyncio

import pytest

from bench.lean_suite import lean_suite
from bench.lean_worker import TEXT
from fairlead.client import AsyncClient

pytestmark = pytest.mark.live


async def test_a_scheduler_in_front_of_lean_workers_gives_whole_answers() -> None:
    async with lean_suite(8, 500.0, 2, "fcfs") as suite, AsyncClient(suite.address, suite.key) as client:
        asked = [
            client.complete([1, 2, 3], service_class=service_class, max_tokens=tokens, ignore_eos=True)
            for service_class in ("ls", "be")
            for tokens in (1, 7, 30)
        ]
        done = await asyncio.gather(*asked)
    assert [(each.text, each.usage.output_tokens) for each in done] == [
        (TEXT * tokens, tokens) for _ in range(2) for tokens in (1, 7, 30)
    ]
