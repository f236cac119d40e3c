"""`fairlead certs`: a CA of one's own and certificates for all services, renewed before they expire."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fairlead.certs.issuing import utc_now
from fairlead.certs.store import SERVICES, CertStore, Entry, StoreError
from fairlead.cli.problems import EXIT_FAILED, EXIT_USAGE, fail, wide_console

certs_app = typer.Typer(
    help="Make, renew and show the certificates of a suite, for a first evening; in production use your own CA.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Option(help="Where they are kept; what security.folder names.")]
Days = Annotated[int, typer.Option(min=1, max=3650, help="Lifetime of a certificate, days.")]
Hosts = Annotated[str, typer.Option(help="Names and IP addresses that clients reach the scheduler by, with commas.")]
DEFAULT_FOLDER = Path("certs")
DEFAULT_DAYS = 90
CA_DAYS = 3650


@certs_app.command()
def make(
    folder: Folder = DEFAULT_FOLDER,
    hosts: Hosts = "",
    days: Days = DEFAULT_DAYS,
    ca_days: Annotated[int, typer.Option(min=1, max=7300, help="Lifetime of the CA, days.")] = CA_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a CA that is there: every client needs the new ca.crt.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what is there; make what is missing, renew what is due.")
    ] = False,
    every_h: Annotated[
        float | None, typer.Option(min=0.001, help="With --keep: do so again and again, and never end.")
    ] = None,
) -> None:
    """Make a CA, and a certificate for scheduler, predictor and worker.

    Keys are ECDSA P-256, in files of mode 0600. The CA's own key stays in FOLDER/ca: services and clients do not need
    it. Examples: fairlead certs make; fairlead certs make --hosts gpu-1.lan,10.0.0.5
    """
    if every_h is not None and not keep:
        fail("--every-h goes with --keep", EXIT_USAGE)
    store, wanted = CertStore(folder), tuple(filter(None, (host.strip() for host in hosts.split(","))))
    with told():
        if store.has_authority() and not (force or keep):
            fail(
                f"there is a CA in {folder}/ca already; `fairlead certs renew` renews what it issued, --keep makes "
                "what is missing, --force replaces it and everything that it issued",
                EXIT_USAGE,
            )
        if force or not store.has_authority():
            store.make_authority(timedelta(days=ca_days), utc_now())
            _make_all(store, SERVICES, wanted, days)
    while keep:
        with told():
            _keep(store, wanted, days)
        if every_h is None:
            break
        time.sleep(every_h * 3600)
    show(folder)
    print(f"next: FAIRLEAD_SECURITY__FOLDER={folder} fairlead up; clients take FAIRLEAD_CA={folder}/scheduler/ca.crt")


@certs_app.command()
def client(
    names: Annotated[list[str], typer.Argument(help="One certificate for each, e.g. the tenant's name.")],
    folder: Folder = DEFAULT_FOLDER,
    days: Days = DEFAULT_DAYS,
) -> None:
    """Make certificates for clients, where the scheduler asks for them (security.client_ca).

    A tenant whose certificate_names has the name that is printed needs no key. Example: fairlead certs client alice
    """
    store = CertStore(folder)
    with told():
        for name in names:
            inside = store.issue_client(name, timedelta(days=days), utc_now())
            print(f"{folder}/clients/{name}: certificate_names: [{inside}]")


@certs_app.command()
def renew(
    folder: Folder = DEFAULT_FOLDER,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="New lifetime; else as before.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is not due yet.")] = False,
    ca: Annotated[
        bool, typer.Option("--ca", help="A new CA too; the old one is believed until it expires. Implies --all.")
    ] = False,
) -> None:
    """Renew what has less than a third of its lifetime left, under new keys; services take it up by themselves.

    Put it into a weekly timer. Example: fairlead certs renew --folder /etc/fairlead/certs
    """
    store, now = CertStore(folder), utc_now()
    with told():
        if ca:
            store.replace_authority(timedelta(days=CA_DAYS), now)
        renewed = _renew(store, now, everything=everything or ca, lifetime=timedelta(days=days) if days else None)
    print(f"renewed: {', '.join(renewed) or 'nothing was due'}")


@certs_app.command()
def show(
    folder: Folder = DEFAULT_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="For a program, on standard output.")] = False,
) -> None:
    """Show every certificate, the names in it, and when it expires; exit code 1 where one has expired."""
    now = utc_now()
    with told():
        entries = CertStore(folder).entries()
        if not entries:
            raise StoreError(
                f"there are no certificates in {folder}; make some with `fairlead certs make --folder {folder}`"
            )
    if as_json:
        print(json.dumps([_plain(entry, now) for entry in entries], indent=2))
    else:
        table = Table("for", "names", "expires (UTC)", "days left", "SHA-256")
        for entry in entries:
            left = f"{entry.left(now) / timedelta(days=1):.0f}{' (due)' if entry.due(now) else ''}"
            table.add_row(
                entry.holder, ", ".join(entry.names), f"{entry.not_after:%Y-%m-%d %H:%M}", left, entry.fingerprint[:16]
            )
        wide_console().print(table)
    if any(entry.left(now) <= timedelta(0) for entry in entries):
        raise typer.Exit(EXIT_FAILED)


@contextmanager
def told() -> Generator[None]:
    """Failures of the folder end the command with their sentence."""
    try:
        yield
    except StoreError as error:
        fail(str(error))


def _make_all(store: CertStore, services: tuple[str, ...], hosts: tuple[str, ...], days: int) -> None:
    for service in services:
        own = hosts if service == "scheduler" else ()
        store.issue_service(service, own, timedelta(days=days), utc_now())


def _keep(store: CertStore, hosts: tuple[str, ...], days: int) -> None:
    missing = tuple(each for each in SERVICES if store.lacks(each, hosts if each == "scheduler" else ()))
    _make_all(store, missing, hosts, days)
    renewed = _renew(store, utc_now(), everything=False, lifetime=None)
    if missing or renewed:
        print(f"made: {', '.join(missing) or 'nothing'}; renewed: {', '.join(renewed) or 'nothing'}", flush=True)


def _renew(store: CertStore, now: datetime, *, everything: bool, lifetime: timedelta | None) -> list[str]:
    holders = [entry.holder for entry in store.entries() if entry.holder != "ca" and (everything or entry.due(now))]
    for holder in holders:
        store.renew(holder, now, lifetime)
    return holders


def _plain(entry: Entry, now: datetime) -> dict[str, object]:
    return {
        "holder": entry.holder,
        "names": list(entry.names),
        "not_after": entry.not_after.isoformat(),
        "days_left": round(entry.left(now) / timedelta(days=1), 2),
        "due": entry.due(now),
        "sha256": entry.fingerprint,
    }
