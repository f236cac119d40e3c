"""Named policies on real vLLM: the same requests under each, on one engine: `python -m bench.policies_live`.

One suite is started, the policy changed through the admin service. Requests of two lengths and both classes come while
others hold every seat, and those go once all have been accepted: the policy chooses among all of them, however fast the
machine. Their lengths are told to the oracle, so that what a policy should do is known: all answers must be those of
`fcfs`, token for token (greedy), only their order may differ, as the policy says. Nobody is refused, whatever the
targets. Orders are places, not times.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fairlead.cli.problems import SuiteError, explain, fail, wide_console
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.client import Accepted, Admin, AsyncClient, Delta, FairleadError, Outcome, Retry
from fairlead.config import Config

BASELINE = "fcfs"
SHORT_FIRST = ("isrtf", "srpt_limited", "mlfq", "hrrn", "gittins")
"""Bring what is short forward, by prediction, by what it has used, or by its waiting time over its length."""
LS_FIRST = ("hybrid_slo", "slo")
POLICIES = (*SHORT_FIRST, *LS_FIRST)
SEATS, SLOTS = 3, 24
SHORT_TOKENS, LONG_TOKENS = 8, 80
HOLDING_TOKENS = 800
"""Of a request that holds a seat until all have come: more than it will ever get."""
IDLE_S = 30.0
CLEARLY = 0.1
"""Of all places: a mean place that differs by less says nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its place of arrival, its length and its class."""

    index: int
    tokens: int
    latency_sensitive: bool

    @property
    def short(self) -> bool:
        """It is one of the short ones."""
        return self.tokens < LONG_TOKENS


@dataclass(slots=True)
class Served:
    """What came of all requests under one policy.

    Attributes:
        begun, ended: indices in the order of first and of last tokens.
        texts: by index, of those that finished.
    """

    policy: str
    begun: list[int] = field(default_factory=list[int])
    ended: list[int] = field(default_factory=list[int])
    texts: dict[int, str] = field(default_factory=dict[int, str])

    def mean_end(self, requests: Sequence[Asked], *, short: bool) -> float:
        """Mean place among the ends of the short or the long ones, as a share of all places."""
        places = {index: place for place, index in enumerate(self.ended)}
        return mean(places[each.index] for each in requests if each.short is short) / len(requests)

    def mean_begin(self, requests: Sequence[Asked], *, latency_sensitive: bool) -> float:
        """Mean place among the beginnings of a class, as a share of all places."""
        places = {index: place for place, index in enumerate(self.begun)}
        chosen = [each for each in requests if each.latency_sensitive is latency_sensitive]
        return mean(places[each.index] for each in chosen) / len(requests)


def requests_of(count: int) -> list[Asked]:
    """Long and short, BE and LS, in turn: long BE, short LS, long LS, short BE."""
    return [
        Asked(index, SHORT_TOKENS + index % 5 if index % 2 else LONG_TOKENS + index % 7, index % 4 in (1, 2))
        for index in range(count)
    ]


def faults(served: Served, baseline: Served, requests: Sequence[Asked]) -> list[str]:
    """What is not as it should be; empty: the policy works."""
    found: list[str] = []
    if len(served.texts) < len(requests):
        return [f"{len(served.texts)} of {len(requests)} finished"]
    differ = sorted(index for index, text in served.texts.items() if text != baseline.texts.get(index))
    if differ:
        found.append(f"answers {differ} are not those of {BASELINE}")
    if served.policy == BASELINE:
        return found
    if (served.begun, served.ended) == (baseline.begun, baseline.ended):
        found.append(f"the order is that of {BASELINE}")
    if served.policy in SHORT_FIRST:
        gain = baseline.mean_end(requests, short=True) - served.mean_end(requests, short=True)
        if gain < CLEARLY:
            found.append(f"short requests end only {gain:.0%} of all places earlier than under {BASELINE}")
    if served.policy in LS_FIRST:
        lead = served.mean_begin(requests, latency_sensitive=False) - served.mean_begin(
            requests, latency_sensitive=True
        )
        if lead < CLEARLY:
            found.append(f"LS begins only {lead:.0%} of all places before BE")
    return found


async def serve_all(
    policies: Sequence[str], requests: Sequence[Asked], engine: str, logs: Path | None, console: Console
) -> list[Served]:
    """Starts the suite once and serves the requests under each policy.

    Raises:
        SuiteError, FairleadError: the suite can't be started, or a call failed.
    """
    config = change(Config(), "worker", engine=engine, step_seats=SEATS, slots=SLOTS)
    config = change(change(config, "scheduler", policy=BASELINE, overload="queue"), "predictor", predictor="oracle")
    config = with_demo_tenants(change(config, "log", level="warning"))
    async with Suite(config, SuiteOptions(free_ports=True, logs=logs, drain_s=10.0)) as suite:
        key = suite.keys["operator"]
        admin = Admin(suite.address, key)
        found: list[Served] = []
        try:
            async with AsyncClient(suite.address, key, retry=Retry(attempts=1)) as client:
                for policy in policies:
                    await asyncio.to_thread(admin.set_policy, policy)
                    found.append(await _serve(client, policy, requests))
                    console.print(f"{policy}: {len(found[-1].texts)} of {len(requests)} finished", style="dim")
                    await asyncio.to_thread(admin.wait_idle, IDLE_S)
        finally:
            admin.close()
        return found


async def _serve(client: AsyncClient, policy: str, requests: Sequence[Asked]) -> Served:
    served = Served(policy)
    holding = [await _accepted(partial(_hold, client)) for _ in range(SEATS)]
    # the next one comes once this one is accepted, so that the order of arrival is known
    running = [await _accepted(partial(_one, client, each, served)) for each in requests]
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    await asyncio.gather(*running)
    return served


async def _accepted(ask: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> asyncio.Task[None]:
    """Starts a request and comes back once it is accepted, or over."""
    accepted = asyncio.Event()
    task = asyncio.create_task(ask(accepted))
    waits = asyncio.create_task(accepted.wait())
    await asyncio.wait((waits, task), return_when=asyncio.FIRST_COMPLETED)
    waits.cancel()
    return task


async def _hold(client: AsyncClient, accepted: asyncio.Event) -> None:
    async for event in client.generate(
        "Hold a seat.", service_class="be", max_tokens=HOLDING_TOKENS, min_tokens=HOLDING_TOKENS, ignore_eos=True,
        length_hint_tokens=HOLDING_TOKENS,
    ):  # fmt: skip
        if isinstance(event, Delta):
            accepted.set()


async def _one(client: AsyncClient, each: Asked, served: Served, accepted: asyncio.Event) -> None:
    text = ""
    async for event in client.generate(
        f"Number {each.index}: tell me about it.",
        service_class="ls" if each.latency_sensitive else "be",
        max_tokens=each.tokens, min_tokens=each.tokens, ignore_eos=True, temperature=0.0,
        length_hint_tokens=each.tokens,
    ):  # fmt: skip
        if isinstance(event, Accepted):
            accepted.set()
        elif isinstance(event, Delta):
            if not text:
                served.begun.append(each.index)
            text += event.text
        elif event.outcome in (Outcome.STOP, Outcome.LENGTH):
            served.ended.append(each.index)
            served.texts[each.index] = text


def main(
    policy: Annotated[str, typer.Option(help="Policies, by commas; fcfs is always the first.")] = ",".join(POLICIES),
    requests: Annotated[int, typer.Option(min=8, help="Requests under each policy.")] = 24,
    engine: Annotated[str, typer.Option(help="`vllm`, or `simulated` (in real time).")] = "vllm",
    logs: Annotated[Path | None, typer.Option(help="Folder for the services' logs.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write orders and places here.")] = None,
) -> None:
    """Serves the same requests under each policy and says whether each works as it should."""
    console = wide_console()
    asked = requests_of(requests)
    policies = [BASELINE, *(name for name in policy.split(",") if name != BASELINE)]
    try:
        found = asyncio.run(serve_all(policies, asked, engine, logs, console))
    except SuiteError as error:
        fail(str(error))
    except FairleadError as error:
        fail(explain(error, "the suite's scheduler"))
    table = Table(
        "policy", "finished", "as fcfs", "short end at", "long end at", "LS begins at", "BE begins at", "fault"
    )
    wrong = 0
    for served in found:
        said = faults(served, found[0], asked)
        wrong += bool(said)
        same = sum(found[0].texts.get(index) == text for index, text in served.texts.items())
        places = ["-"] * 4
        if len(served.texts) == len(asked):
            ends = [served.mean_end(asked, short=short) for short in (True, False)]
            begins = [served.mean_begin(asked, latency_sensitive=ls) for ls in (True, False)]
            places = [f"{value:.0%}" for value in (*ends, *begins)]
        table.add_row(served.policy, str(len(served.texts)), str(same), *places, "; ".join(said) or "none")
    console.print(table)
    console.print("mean places in the order of last and of first tokens, of all requests: 0 % is first")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(served) for served in found], indent=1) + "\n")
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
