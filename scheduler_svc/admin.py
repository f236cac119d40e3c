"""What operators see: `AdminService`. Status, the policy, the drain, and why requests run when they do."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.rpc import Refusal, ServicerContext, invalid
from fairlead.telemetry import get_logger
from fairlead.v1 import admin_pb2
from scheduler_svc.auth import Authenticator
from scheduler_svc.core.checks import BadChoice
from scheduler_svc.core.policies import BadOption, Policy, PolicyError
from scheduler_svc.core.policies.options import as_text, describe
from scheduler_svc.core.types import PolicyChanged, PolicySettings
from scheduler_svc.live_list import LiveList
from scheduler_svc.policy_settings import Options, overlaid, told
from scheduler_svc.predictor_link import PredictorLink
from scheduler_svc.records import Records
from scheduler_svc.shell import Shell
from scheduler_svc.tenants.leftovers import Leftovers
from scheduler_svc.tenants.opening import Tenants
from scheduler_svc.tenants.rpcs import TenantRpcs
from scheduler_svc.why import Teller, find_record
from scheduler_svc.wire import OUTCOME_TO_WIRE, class_to_wire
from scheduler_svc.worker_link import WorkerLink
from scheduler_svc.worker_pool import WorkerPool

SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
MAX_WAIT_MS = 86_400_000.0


class AdminService(TenantRpcs):
    """GetStatus, SetPolicy, ListPolicies, DrainScheduler, Why, ListRequests, and those about tenants; operators only.

    Args:
        shell: what is asked about.
        pool: of workers.
        predictor: None where none is configured.
        authenticator: knows operators.
        settings: as configured; what SetPolicy leaves out.
        policies: by name.
        options: as configured, by policy; what SetPolicy leaves out.
        records: of requests.
        tenants: what `TenantRpcs` is about; its audit log has the other changes too.
        leftovers: of a tenant that is deleted.
    """

    def __init__(
        self,
        shell: Shell,
        pool: WorkerPool,
        predictor: PredictorLink | None,
        authenticator: Authenticator,
        settings: PolicySettings,
        policies: Mapping[str, type[Policy]],
        options: Options,
        records: Records,
        tenants: Tenants,
        leftovers: Leftovers,
    ) -> None:
        super().__init__(shell, tenants, authenticator, leftovers)
        self._shell = shell
        self._pool = pool
        self._predictor = predictor
        self._settings = settings
        self._policies = policies
        self._options = options
        self._records = records
        self._teller = Teller(shell.core, records)
        self._live = LiveList(shell.core, records, self._teller)
        self._started_ms = shell.clock_ms()
        self._log = get_logger("admin")

    async def GetStatus(
        self,
        request: admin_pb2.GetStatusRequest,  # noqa: ARG002
        context: ServicerContext,
    ) -> admin_pb2.GetStatusResponse:
        """Workers, classes, predictor and policy as they are now."""
        await self._operator(context)
        policy = self._shell.core.policy
        return admin_pb2.GetStatusResponse(
            policy=policy.name,
            settings=told(policy),
            workers=[
                *(self._worker(self._pool.links[address]) for address in sorted(self._pool.links)),
                *(
                    admin_pb2.WorkerStatus(address=name, problem=problem)
                    for name, problem in sorted(self._pool.unresolved.items())
                ),
            ],
            classes=self._classes(),
            predictor=self._predictor_status(),
            draining=self._shell.draining,
            policy_faults=self._shell.policy_faults.counts,
            uptime_s=(self._shell.clock_ms() - self._started_ms) / 1000,
            tenants=self.tenants_status(),
        )

    async def SetPolicy(
        self, request: admin_pb2.SetPolicyRequest, context: ServicerContext
    ) -> admin_pb2.SetPolicyResponse:
        """Another policy for all workers from the next tick on; settings left out are as configured."""
        caller = await self._operator(context)
        core = self._shell.core
        previous = core.policy.name
        try:
            settings = overlaid(request.policy, request.settings, self._settings, self._options)
            core.make_policy(request.policy, settings)
        except BadOption as error:
            await self._refuse(context, invalid("settings.options", str(error)))
        except BadChoice as error:
            await self._refuse(context, invalid(f"settings.choices.{error.setting}", str(error)))
        except PolicyError as error:
            await self._refuse(context, invalid("policy", str(error)))
        except Refusal as refusal:
            await self._refuse(context, refusal)
        self._shell.handle(PolicyChanged(request.policy, settings))
        self._log.info("policy set", policy=request.policy, previous=previous, by=caller.name)
        await self._written_down(caller, "SetPolicy", {"policy": (previous, request.policy)})
        return admin_pb2.SetPolicyResponse(previous_policy=previous, policy=core.policy.name)

    async def ListPolicies(
        self,
        request: admin_pb2.ListPoliciesRequest,  # noqa: ARG002
        context: ServicerContext,
    ) -> admin_pb2.ListPoliciesResponse:
        """Every policy that can be set."""
        await self._operator(context)
        return admin_pb2.ListPoliciesResponse(
            policies=[
                admin_pb2.PolicyInfo(policy=name, summary=policy.summary, options=_options_of(policy))
                for name, policy in sorted(self._policies.items())
            ]
        )

    async def DrainScheduler(
        self, request: admin_pb2.DrainSchedulerRequest, context: ServicerContext
    ) -> admin_pb2.DrainSchedulerResponse:
        """Takes nothing new from now on; waits at most `timeout_ms` (absent: not at all) for what lives."""
        caller = await self._operator(context)
        if not 0 <= request.timeout_ms <= MAX_WAIT_MS:  # NaN is not
            await self._refuse(context, invalid("timeout_ms", f"must be 0 to {MAX_WAIT_MS:.0f}"))
        self._shell.drain()
        self._log.info("draining", live=len(self._shell.book.live), by=caller.name)
        await self._written_down(caller, "DrainScheduler", {"draining": (False, True)})
        return admin_pb2.DrainSchedulerResponse(live=await self._shell.drained(request.timeout_ms / 1000))

    async def Why(self, request: admin_pb2.WhyRequest, context: ServicerContext) -> admin_pb2.WhyResponse:
        """Why a request ran when it did."""
        await self._operator(context)
        try:
            record = find_record(request, self._shell.book, self._records)
        except Refusal as refusal:
            await self._refuse(context, refusal)
        return self._teller.why(record, self._shell.clock_ms())

    async def ListRequests(
        self, request: admin_pb2.ListRequestsRequest, context: ServicerContext
    ) -> admin_pb2.ListRequestsResponse:
        """Live requests, a page at a time."""
        await self._operator(context)
        try:
            return await self._live.page(request, self._shell.clock_ms())
        except Refusal as refusal:
            await self._refuse(context, refusal)

    def _worker(self, link: WorkerLink) -> admin_pb2.WorkerStatus:
        status = admin_pb2.WorkerStatus(
            address=link.address, connected=link.connected, draining=link.draining, problem=link.problem
        )
        if link.description is not None:
            described = link.description
            status.worker_id, status.model = described.worker_id, described.model
            status.slots, status.step_seats = described.slots, described.step_seats
            status.kv_blocks = described.kv_blocks
        if link.executions is not None:
            view = self._shell.core.workers.get(link.executions.name)
            if view is not None:
                status.assigned = len(view.jobs)
                status.seats_used = sum(job.seated for job in view.jobs.values())
            status.step_ms = link.executions.step_ms
            status.steps, status.kv_blocks_used = link.executions.steps, link.executions.kv_blocks_used
            status.step_model.CopyFrom(link.step_model)
        return status

    def _classes(self) -> list[admin_pb2.ClassStatus]:
        accounts = sorted(self._shell.core.ledger.accounts.items())
        return [
            admin_pb2.ClassStatus(
                service_class=class_to_wire(latency_sensitive),
                tenant=tenant,
                accepted=account.accepted,
                waiting=account.waiting,
                running=account.running,
                outcomes=[
                    admin_pb2.OutcomeCount(outcome=OUTCOME_TO_WIRE[outcome], count=number)
                    for outcome, number in account.outcomes.items()
                ],
                output_tokens=account.output_tokens,
                slo_offered=self._records.offered[tenant] if latency_sensitive else 0,
                slo_met=self._records.met[tenant] if latency_sensitive else 0,
            )
            for (tenant, latency_sensitive), account in accounts
        ]

    def _predictor_status(self) -> admin_pb2.PredictorStatus:
        link = self._predictor
        if link is None:
            return admin_pb2.PredictorStatus()
        return admin_pb2.PredictorStatus(
            connected=link.connected,
            predictor=link.predictor,
            answered=link.answered,
            late_or_missing=link.missing,
            in_flight=link.in_flight,
            replicas=len(link.replicas),
            replicas_connected=link.replicas_connected,
        )


def _options_of(policy: type[Policy]) -> list[admin_pb2.PolicyOption]:
    return [
        admin_pb2.PolicyOption(
            name=each.name, default_value=as_text(each.default), allowed=each.allowed, description=each.text
        )
        for each in describe(policy.Options)
    ]
