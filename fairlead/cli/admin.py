"""`fairlead policy` and `fairlead status`: what operators see and set."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Table

from fairlead.cli import tenants_view
from fairlead.cli.options import Asked, access_of, asking, key_of
from fairlead.cli.problems import explain, fail, wide_console
from fairlead.client import Admin, FairleadError
from fairlead.v1 import admin_pb2, types_pb2

policy_app = typer.Typer(
    help="See and change the policy of a running suite; needs an operator's key.", no_args_is_help=True
)


@contextmanager
def operator(asked: Asked) -> Generator[Admin]:
    """An admin client; its errors end the command with a sentence."""
    access = access_of(asked.address, asked.key, asked.config)
    admin = Admin(access.address, key_of(access, asked.tenant, operator=True), tls=access.tls)
    try:
        yield admin
    except FairleadError as error:
        fail(explain(error, access.address, access.tls))
    finally:
        admin.close()


@policy_app.command("get")
@asking
def get_policy(asked: Asked) -> None:
    """Print the policy in force, its options and the choices beside it."""
    with operator(asked) as admin:
        status = admin.status()
    print(status.policy)
    for name, value in _settings(status.settings):
        print(f"{name}: {value}")


@policy_app.command("set")
@asking
def set_policy(
    asked: Asked,
    policy: Annotated[str, typer.Argument(help="One of `fairlead policy list`.")],
    seats: Annotated[int | None, typer.Option(min=1, help="Places in a step on each worker.")] = None,
    window_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens between two estimates.")] = None,
    be_share: Annotated[float | None, typer.Option(min=0, max=0.99, help="Share of a step kept for BE.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Of the policy itself; `fairlead policy show` lists them. May be repeated."
        ),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="What combines with any policy: kv_admission, admission, chunking, batching, overload, placement, "
            "predict and more; `fairlead policy get` lists them. May be repeated.",
        ),
    ] = None,
) -> None:
    """Change the policy of every worker at once, without a restart.

    Settings left out are as configured. Examples: fairlead policy set rank --option quantum_tokens=100;
    fairlead policy set slo --choice placement=freeness --choice overload=relegate
    """
    options, choices = _pairs(option or []), _pairs(choice or [], "--choice", "placement=freeness")
    with operator(asked) as admin:
        before = admin.set_policy(
            policy, step_seats=seats, window_tokens=window_tokens, be_share=be_share, options=options,
            choices=choices,
        )  # fmt: skip
    print(f"{before} -> {policy}")


@policy_app.command("list")
@asking
def list_policies(asked: Asked) -> None:
    """Print every policy that can be set, plug-ins included."""
    with operator(asked) as admin:
        policies = admin.policies()
    table = Table("policy", "what it does")
    for each in policies:
        table.add_row(each.policy, each.summary)
    wide_console().print(table)


@policy_app.command("show")
@asking
def show_policy(
    asked: Asked,
    policy: Annotated[str, typer.Argument(help="One of `fairlead policy list`.")],
) -> None:
    """Print what a policy does and the options that it takes."""
    with operator(asked) as admin:
        policies = {each.policy: each for each in admin.policies()}
    if policy not in policies:
        fail(f"unknown policy {policy!r}; known: {', '.join(policies)}")
    console = wide_console()
    console.print(f"[bold]{policy}[/]  {policies[policy].summary}")
    table = Table("option", "default", "allowed", "what it does")
    for each in policies[policy].options:
        table.add_row(each.name, each.default_value, each.allowed, each.description)
    console.print(table if policies[policy].options else "It has no options of its own.")


@asking
def status(asked: Asked) -> None:
    """Print workers, tenants, predictor and policy of a running suite; needs an operator's key."""
    with operator(asked) as admin:
        found = admin.status()
    console = wide_console()
    draining = ", draining" if found.draining else ""
    console.print(f"policy [bold]{found.policy}[/], up {found.uptime_s:.0f} s{draining}")
    predictor = found.predictor
    state = "connected" if predictor.connected else "not connected"
    if predictor.replicas > 1:
        state = f"{predictor.replicas_connected} of {predictor.replicas} replicas connected"
    console.print(
        f"predictor {predictor.predictor or '-'} {state}, {predictor.answered} answered, "
        f"{predictor.late_or_missing} late or missing, {predictor.in_flight} in flight"
    )
    for policy, faults in sorted(found.policy_faults.items()):
        console.print(f"[bold]policy {policy} failed {faults} times[/]; what it did not answer kept its last order")
    for problem in tenants_view.problems(found.tenants):
        console.print(problem)
    console.print(_workers(found))
    console.print(_classes(found))


def _workers(found: admin_pb2.GetStatusResponse) -> Table:
    table = Table("worker", "address", "model", "state", "held", "seats/slots", "KV blocks", "steps", title="workers")
    for worker in found.workers:
        state = (
            "draining" if worker.draining else "connected" if worker.connected else worker.problem or "not connected"
        )
        table.add_row(
            worker.worker_id, worker.address, worker.model, state, str(worker.assigned),
            f"{worker.step_seats}/{worker.slots}", f"{worker.kv_blocks_used}/{worker.kv_blocks}", str(worker.steps),
        )  # fmt: skip
    return table


def _classes(found: admin_pb2.GetStatusResponse) -> Table:
    table = Table("tenant", "class", "accepted", "waiting", "running", "tokens out", "outcomes", title="tenants")
    for item in found.classes:
        latency = item.service_class == types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE
        outcomes = ", ".join(
            f"{types_pb2.Outcome.Name(each.outcome).removeprefix('OUTCOME_').lower()} {each.count}"
            for each in item.outcomes
        )
        table.add_row(
            item.tenant, "ls" if latency else "be", str(item.accepted), str(item.waiting), str(item.running),
            str(item.output_tokens), outcomes,
        )  # fmt: skip
    return table


def _settings(settings: admin_pb2.PolicySettings) -> Iterator[tuple[str, float | str]]:
    for name in ("step_seats", "window_tokens", "be_share"):
        if settings.HasField(name):
            yield name, getattr(settings, name)
    yield from sorted(settings.options.items())
    yield from sorted(settings.choices.items())


def _pairs(given: list[str], name_of: str = "--option", example: str = "quantum_tokens=100") -> dict[str, str]:
    """`key=value` texts as a mapping; one that is none ends the command."""
    pairs = [each.partition("=") for each in given]
    for text, (name, equals, _) in zip(given, pairs, strict=True):
        if not name or not equals:
            fail(f"{name_of} {text!r}: give KEY=VALUE, such as {example}")
    return {name.strip(): value.strip() for name, _, value in pairs}
