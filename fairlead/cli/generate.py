"""`fairlead generate`: one answer, streamed to the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncGenerator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fairlead.cli.options import Address, ConfigFile, Key, TenantName, access_of, key_of
from fairlead.cli.problems import EXIT_FAILED, EXIT_INTERRUPTED, explain, fail
from fairlead.cli.session import Access
from fairlead.client import (
    Accepted,
    AsyncClient,
    ChatMessage,
    Delta,
    FairleadError,
    Finished,
    Prompt,
    RequestOptions,
    ServiceClass,
)
from fairlead.client_stream import Event
from fairlead.pacing import paced


def generate(
    prompt: Annotated[str, typer.Argument(help="What to ask; `-` reads standard input.")],
    service_class: Annotated[
        ServiceClass | None, typer.Option("--class", help="ls: a person waits. be: it may wait. Else the tenant's own.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat/--text", help="With the model's chat template, or as plain text.")
    ] = True,
    system: Annotated[str | None, typer.Option(help="System message, with --chat.")] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where several are served.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most output tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling; 0 is greedy. Else the model's own.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling: the same seed gives the same answer.")] = None,
    ttft_ms: Annotated[float | None, typer.Option(help="Target: time to first token, ms.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(help="Target: mean time per output token, ms.")] = None,
    completion_ms: Annotated[float | None, typer.Option(help="Target: time to the last token, ms.")] = None,
    timeout_s: Annotated[float | None, typer.Option(help="Deadline of the whole answer, s.")] = None,
    pace_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Show at most one token in so many ms, however fast they come.")
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Then print times, tokens and what was decided.")] = False,
    tenant: TenantName = None,
    key: Key = None,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Ask for one answer and stream it; Ctrl-C cancels the request.

    The exit code is 0 for a whole answer, else 1. Examples: fairlead generate "Hello."; fairlead generate --class be
    --stats "List 20 animals."
    """
    access = access_of(address, key, config)
    asked = sys.stdin.read() if prompt == "-" else prompt
    turns = [*([ChatMessage("system", system)] if system else []), ChatMessage("user", asked)]
    options = RequestOptions(
        service_class=service_class, model=model, max_tokens=max_tokens, temperature=temperature, seed=seed,
        ttft_ms=ttft_ms, tpot_ms=tpot_ms, completion_ms=completion_ms, timeout_s=timeout_s,
    )  # fmt: skip
    try:
        code = asyncio.run(_stream(access, key_of(access, tenant), turns if chat else asked, options, stats, pace_ms))
    except FairleadError as error:
        fail(explain(error, access.address, access.tls))
    raise typer.Exit(code)


async def _stream(
    access: Access, key: str | None, prompt: Prompt, options: RequestOptions, stats: bool, pace_ms: float | None
) -> int:
    """Prints the answer as it comes; the exit code is 0 only for a whole answer."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    start_s, first_s, accepted = time.monotonic(), None, None
    try:
        async with (
            AsyncClient(access.address, key, tls=access.tls) as client,
            contextlib.aclosing(_events(client, prompt, options, pace_ms)) as events,
        ):
            async for event in events:
                if isinstance(event, Accepted):
                    accepted = event
                elif isinstance(event, Delta):
                    first_s = first_s or time.monotonic()
                    sys.stdout.write(event.text)
                    sys.stdout.flush()
                else:
                    return _finish(accepted, event, start_s, first_s, stats)
    except asyncio.CancelledError:
        print("\ncancelled", file=sys.stderr)
    return EXIT_INTERRUPTED


def _events(
    client: AsyncClient, prompt: Prompt, options: RequestOptions, pace_ms: float | None
) -> AsyncGenerator[Event, None]:
    events = client.generate(prompt, **options)
    return events if pace_ms is None else paced(events, pace_ms)


def _finish(accepted: Accepted | None, last: Finished, start_s: float, first_s: float | None, stats: bool) -> int:
    sys.stdout.write("\n")
    sys.stdout.flush()
    if stats:
        _print_stats(accepted, last, start_s, first_s, time.monotonic())
    if not last.outcome.complete:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]ended:[/] {last.outcome} {last.detail}".rstrip())
        return EXIT_FAILED
    return 0


def _print_stats(
    accepted: Accepted | None, last: Finished, start_s: float, first_s: float | None, end_s: float
) -> None:
    usage, decision = last.usage, last.decision
    predicted = (_number(decision.predicted_p50_tokens), _number(decision.predicted_p90_tokens))
    table = Table(title="answer", show_header=False)
    rows = {
        "request": accepted.request_id if accepted else "",
        "model": accepted.model if accepted else "",
        "tenant, class": f"{accepted.tenant if accepted else ''}, {decision.service_class}",
        "outcome": str(last.outcome),
        "tokens in (cached), out": f"{usage.prompt_tokens} ({usage.cached_prompt_tokens}), {usage.output_tokens}",
        "predicted p50, p90 tokens": ", ".join(predicted),
        "TTFT at the client, ms": _number((first_s - start_s) * 1000 if first_s else None),
        "TTFT at the scheduler, ms": _number(decision.ttft_ms),
        "JCT at the client, ms": _number((end_s - start_s) * 1000),
        "queue, ms": _number(decision.queue_ms),
        "policy, predictor": f"{decision.policy}, {decision.predictor or 'none'} ({decision.predictions} predictions)",
        "worker, attempts": f"{decision.worker_id}, {decision.attempts}",
        "pauses, evictions": f"{decision.pauses}, {decision.evictions}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True).print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
