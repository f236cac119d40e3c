"""One scheduler put together: configuration to core, shell, links and server; started, drained and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from fairlead.config import Config, ConfigError, Tenant
from fairlead.rpc import Gate, Outgoing, Refusal, Role, Server, ServicerContext, make_server
from fairlead.telemetry import get_logger
from fairlead.telemetry.opening import open_telemetry
from fairlead.v1 import admin_pb2_grpc, inference_pb2_grpc, jobs_pb2_grpc
from scheduler_svc import admin, service
from scheduler_svc.admin import AdminService
from scheduler_svc.auth import Authenticator
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.checks import BadChoice
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import Outcome, TenantsChanged
from scheduler_svc.decision_log import DecisionLog, LogSettings
from scheduler_svc.epoch import default_state_dir, hold_folder, next_epoch, note_epoch
from scheduler_svc.intake import Intake
from scheduler_svc.jobs import service as jobs_service
from scheduler_svc.jobs.door import IntakeDoor
from scheduler_svc.jobs.metrics import JobMetrics
from scheduler_svc.jobs.office import Office
from scheduler_svc.jobs.service import JobService
from scheduler_svc.jobs.submitting import Submissions
from scheduler_svc.names import check_addresses
from scheduler_svc.plugins import find_placements, find_policies
from scheduler_svc.policy_settings import configured
from scheduler_svc.predictor_link import PredictorLink
from scheduler_svc.records import Records
from scheduler_svc.requests import Book
from scheduler_svc.service import InferenceService
from scheduler_svc.shell import Shell
from scheduler_svc.telemetry import SchedulerTelemetry
from scheduler_svc.tenants.leftovers import Leftovers
from scheduler_svc.tenants.opening import Tenants
from scheduler_svc.worker_link import Leadership, Patience, WorkerLink
from scheduler_svc.worker_pool import WorkerPool

LAST_WRITES_WITHIN_S = 2.0
_SHORT = {admin.SERVICE: "admin", jobs_service.SERVICE: "jobs"}
"""Services as metrics name them."""


def monotonic_ms() -> float:
    """This host's monotonic clock, ms."""
    return time.monotonic() * 1000


def _take_lead(state_dir: Path) -> tuple[TextIO, Leadership]:
    """The folder, kept for this scheduler until the file is closed, and the epoch under which it leads."""
    folder = hold_folder(state_dir)
    newer_seen = functools.partial(note_epoch, state_dir)
    return folder, Leadership(secrets.token_hex(8), next_epoch(state_dir), newer_seen=newer_seen)


class SchedulerHost:
    """A scheduler from start to stop. Made inside a running event loop.

    Args:
        config: of the whole suite; `scheduler`, `defaults` and `tenants` are read.
        patience: with workers.
        clock_ms: monotonic.

    Attributes:
        address: host:port really bound.
        shell: requests, core and links.
        predictor: None where none is configured.
        tenants: who may ask.

    Raises:
        ConfigError: a value that can't be used: tenants, policy, worker addresses, state folder, telemetry.
        PortTaken: the address can't be listened on.
    """

    def __init__(
        self, config: Config, *, patience: Patience | None = None, clock_ms: Callable[[], float] = monotonic_ms
    ) -> None:
        scheduler = config.scheduler
        check_addresses(scheduler.workers, "scheduler.workers")
        if scheduler.predictor is not None:
            check_addresses([scheduler.predictor], "scheduler.predictor")
        state_dir = scheduler.state_dir or default_state_dir()
        tenants = self.tenants = Tenants(config, state_dir)
        authenticator = Authenticator(tenants.registry)
        limits = Limits(
            max_queued_requests=scheduler.max_queued_requests,
            max_queued_per_tenant=scheduler.max_queued_per_tenant,
            look_ahead=scheduler.look_ahead,
            max_queued_per_class=scheduler.max_queued_per_class,
        )
        policies = find_policies()
        settings = configured(scheduler, policies)
        try:
            core = SchedulerCore(scheduler.policy, settings, limits, policies=policies, placements=find_placements())
        except BadChoice as error:
            raise ConfigError(f"scheduler.{error}") from None
        to_workers = Outgoing.configured(config.security, "worker")
        to_predictor = Outgoing.configured(config.security, "predictor")
        for address in scheduler.workers:
            to_workers.check(address, "scheduler.workers")
        if scheduler.predictor is not None:
            to_predictor.check(scheduler.predictor, "scheduler.predictor")
        self._server: Server = make_server(
            scheduler.listen,
            (service.SERVICE, admin.SERVICE, jobs_service.SERVICE),
            port_setting="scheduler.listen",
            service="scheduler",
            security=config.security,
            gate=_gate(authenticator, config.security.max_calls_per_tenant, self._not_let_in),
        )
        self.address = self._server.address
        self._folder, leadership = _take_lead(state_dir)
        self._telemetry = open_telemetry(config.telemetry, "scheduler", clock_ms)
        self._server.observe(self._telemetry.meter)
        names = tenants.registry.names()
        telemetry = self._told = SchedulerTelemetry(self._telemetry, config.telemetry, names, clock_ms, tenants.usage)
        shell = self.shell = Shell(
            core,
            Book(scheduler.finished_kept, leadership.epoch),
            max_buffered_tokens=scheduler.max_buffered_tokens,
            clock_ms=clock_ms,
            telemetry=telemetry,
            cache_salt=tenants.salts.of,
        )
        records = Records(
            core,
            lambda job_id: shell.book.live[job_id].accepted.request_id,
            events=scheduler.why_events,
            finished=scheduler.why_finished,
        )
        shell.witnesses.append(records)
        log_settings = LogSettings.configured(scheduler)
        self._decision_log = DecisionLog(log_settings, core, limits, clock_ms) if log_settings is not None else None
        if self._decision_log is not None:
            shell.witnesses.append(self._decision_log)
        self._pool = WorkerPool(
            scheduler.workers,
            lambda address: WorkerLink(address, shell, leadership, patience or Patience(), to_workers),
            scheduler.resolve_every_s,
        )
        self.predictor: PredictorLink | None = None
        if scheduler.predictor is not None:
            self.predictor = PredictorLink(
                scheduler.predictor,
                shell,
                scheduler.predict_timeout_ms / 1000,
                scheduler.resolve_every_s,
                outgoing=to_predictor,
            )
            shell.forecaster = self.predictor
        if telemetry.metrics is not None:
            telemetry.metrics.observe(shell, self._pool, self.predictor)
            telemetry.metrics.observe_tenants(tenants)
        intake = Intake(shell, self._pool, scheduler, config.defaults)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(
            InferenceService(shell, intake, authenticator), self._server.server
        )
        self._office = self._open_office(config, state_dir, intake, authenticator)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminService(
                shell,
                self._pool,
                self.predictor,
                authenticator,
                settings,
                policies,
                scheduler.policy_options,
                records,
                tenants,
                Leftovers(shell.book, self._office.forget),
            ),
            self._server.server,
        )
        tenants.registry.on_change(self._tenants_changed)
        self._tenants_changed()
        self._health: asyncio.Task[None] | None = None
        self._log = get_logger("host")
        self._log.info("epoch taken", epoch=leadership.epoch)

    def _open_office(self, config: Config, state_dir: Path, intake: Intake, authenticator: Authenticator) -> Office:
        """Durable jobs and their service."""
        shell, scheduler, meter = self.shell, config.scheduler, self._telemetry.meter
        office = Office(
            scheduler,
            state_dir,
            IntakeDoor(shell, intake, self._tenant_of),
            clock_ms=shell.clock_ms,
            changed=shell.changed.set,
            metrics=JobMetrics(meter) if meter is not None else None,
        )
        submissions = Submissions(
            office, scheduler, config.defaults, lambda: list(intake.models()), lambda: shell.draining
        )
        jobs = JobService(office, submissions, authenticator, functools.partial(self._told.call_refused, "jobs"))
        jobs_pb2_grpc.add_JobServiceServicer_to_server(jobs, self._server.server)
        return office

    async def start(self) -> None:
        """Serves; workers and predictor are connected as they are reached. Raises ConfigError: a bad journal."""
        if self.shell.core.policy.settings.be_share == 0:
            self._log.warning("scheduler.be_share is 0: no bound on the wait of best-effort requests holds (I6)")
        await self._office.start()
        await self._server.start(admin.SERVICE)
        self.tenants.start()
        self._health = asyncio.create_task(self._report_health())

    async def drain(self, timeout_s: float) -> int:
        """Takes nothing new, waits at most so long for what lives, ends the rest; returns how many were ended."""
        self.shell.drain()
        self._office.drain()
        left = await self.shell.drained(timeout_s)
        for request in list(self.shell.book.live.values()):
            self.shell.cancel(request, Outcome.CANCELLED_BY_OPERATOR, "the scheduler was stopped")
        await self.shell.drained(LAST_WRITES_WITHIN_S)
        return left

    async def stop(self) -> None:
        """Lets clients have their last events, tells workers what they may forget, ends all streams."""
        if self._health is not None:
            self._health.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._health
        await self._server.stop(LAST_WRITES_WITHIN_S)
        await self._office.stop()
        await self._pool.close()
        await self.tenants.close()
        if self.predictor is not None:
            await self.predictor.close()
        await self._telemetry.close()
        if self._decision_log is not None:
            await asyncio.to_thread(self._decision_log.close)
        self._folder.close()

    async def reload(self) -> bool:
        """Reads the tenants file again; whether what is in it is in force."""
        return await self.tenants.watch.reload()

    def _tenant_of(self, name: str) -> Tenant | None:
        entry = self.tenants.registry.get(name)
        return None if entry is None else entry.tenant

    def _tenants_changed(self) -> None:
        """The core learns weights and limits, metrics the names."""
        registry = self.tenants.registry
        self.shell.handle(TenantsChanged(registry.terms()))
        if self.shell.telemetry.metrics is not None:
            self.shell.telemetry.metrics.tenant_labels.learn(registry.names())

    def _not_let_in(self, method: str, refusal: Refusal) -> None:
        if method == service.GENERATE:
            self._told.not_let_in(refusal)
        else:
            self._told.call_refused(_SHORT.get(method.split("/")[1], "inference"), refusal)

    async def _report_health(self) -> None:
        """Inference is served while there is a worker and no drain, jobs while the journal is open and no drain."""
        while True:
            self.shell.changed.clear()
            serving = bool(self.shell.workers) and not self.shell.draining
            await self._server.set_serving(service.SERVICE, serving)
            jobs_served = self._office.ready and not self.shell.draining
            await self._server.set_serving(jobs_service.SERVICE, jobs_served)
            await self.shell.changed.wait()


def _gate(authenticator: Authenticator, max_calls_per_tenant: int, told: Callable[[str, Refusal], None]) -> Gate:
    """Tenants and operators; nobody else has business with a scheduler."""

    def tenant(context: ServicerContext) -> str:
        return authenticator.caller(context).name

    def operator(context: ServicerContext) -> str:
        return authenticator.operator(context).name

    checks = {Role.TENANT: tenant, Role.OPERATOR: operator}
    return Gate(checks, max_calls_per_tenant=max_calls_per_tenant, told=told)
