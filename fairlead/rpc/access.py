"""Who may call what: one table for every method of every service, carried out at each call.

A method without an entry is refused, so that a new one is open to nobody until somebody has decided.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from enum import StrEnum
from typing import Any

import grpc
from grpc import aio

from fairlead.rpc.malformed import MALFORMED, refusal, sound, tolerant
from fairlead.rpc.refusals import Refusal, ServicerContext, refuse

BUSY_RETRY_MS = 1000.0


class Role(StrEnum):
    """Who a caller has to be."""

    ANYONE = "anyone"
    """Whoever gets a connection; where client certificates are asked for, only who has one does."""
    TENANT = "tenant"
    """A tenant, by key or certificate; an operator is one too."""
    OPERATOR = "operator"
    """A tenant with `operator: true`."""
    SCHEDULER = "scheduler"
    """The scheduler, by certificate or the secret between services."""


_RULES: Mapping[tuple[str, Role], str] = {
    ("fairlead.v1.InferenceService", Role.TENANT): "Generate Attach Cancel ListModels",
    ("fairlead.v1.JobService", Role.TENANT): (
        "SubmitJob GetJob WatchJob ListJobs CancelJob FetchResults StreamResults DeleteJob"
    ),
    ("fairlead.v1.AdminService", Role.OPERATOR): (
        "GetStatus SetPolicy ListPolicies DrainScheduler Why ListRequests "
        "CreateTenant GetTenant ListTenants UpdateTenant DisableTenant EnableTenant "
        "DeleteTenant RotateKey ExportUsage ListAuditLog"
    ),
    ("fairlead.v1.WorkerService", Role.SCHEDULER): "Describe Tokenize Execute Drain",
    ("fairlead.v1.PredictorService", Role.SCHEDULER): "Predict Observe Describe",
    # Whether a server serves, and what its contract is, are no secrets; a load balancer has no key.
    ("grpc.health.v1.Health", Role.ANYONE): "Check List Watch",
    ("grpc.reflection.v1alpha.ServerReflection", Role.ANYONE): "ServerReflectionInfo",
}
ACCESS: Mapping[str, Role] = {
    f"/{service}/{method}": role for (service, role), methods in _RULES.items() for method in methods.split()
}
"""Full method name to who may call it."""

Check = Callable[[ServicerContext], str | None]
"""Raises Refusal where the caller may not; else the tenant under which the call counts, or None."""
Told = Callable[[str, Refusal], None]
"""Is told of each call that is refused here: full method name, why."""


class Gate(aio.ServerInterceptor):
    """Lets a call in as `ACCESS` says.

    Args:
        checks: how each role that this server knows is told; a method of another role is refused.
        max_calls_per_tenant: calls of one tenant in flight; None: not bounded here.
        told: of refusals.
    """

    def __init__(
        self, checks: Mapping[Role, Check], *, max_calls_per_tenant: int | None = None, told: Told | None = None
    ) -> None:
        self._checks = dict(checks)
        self._max_calls = max_calls_per_tenant
        self._told = told
        self._calls: Counter[str] = Counter()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler with its check before it; called by gRPC for each call."""
        handler = await continuation(handler_call_details)
        method: Any = handler_call_details.method
        name = method.decode() if isinstance(method, bytes) else str(method)
        role = ACCESS.get(name)
        if handler is None:
            return None
        if role is Role.ANYONE:
            return _guarded(handler, _let_in)
        return _guarded(handler, lambda context: self._enter(name, role, context))

    async def _enter(self, method: str, role: Role | None, context: ServicerContext) -> None:
        """Returns where the call may go on; else ends it."""
        try:
            tenant = self._check(method, role, context)
            if tenant is not None and self._max_calls is not None:
                self._count(tenant, self._max_calls, context)
        except Refusal as refusal:
            if self._told is not None:
                self._told(method, refusal)
            await refuse(context, refusal)

    def _check(self, method: str, role: Role | None, context: ServicerContext) -> str | None:
        check = self._checks.get(role) if role is not None else None
        if check is None:
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f"nobody may call {method} here: fairlead.rpc.access has no rule for it",
                reason="NO_RULE",
            )
        return check(context)

    def _count(self, tenant: str, most: int, context: ServicerContext) -> None:
        if self._calls[tenant] >= most:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"tenant {tenant!r} has {most} calls in flight; end some, or wait (security.max_calls_per_tenant)",
                quota=(tenant, f"{most} calls in flight"),
                retry_after_ms=BUSY_RETRY_MS,
                reason="TOO_MANY_CALLS",
            )
        self._calls[tenant] += 1

        def over(_call: Any) -> None:
            self._calls[tenant] -= 1
            if not self._calls[tenant]:
                del self._calls[tenant]

        context.add_done_callback(over)  # pyright: ignore[reportArgumentType]: the stub lacks `Protocol`


Enter = Callable[[ServicerContext], Awaitable[None]]


async def _let_in(context: ServicerContext) -> None:
    """Anyone may."""


def _guarded(handler: Any, enter: Enter) -> Any:
    """The same kind of handler, with `enter` before the first message is looked at; malformed messages are refused."""
    if handler.response_streaming:
        kind = "stream_stream" if handler.request_streaming else "unary_stream"
        inner = getattr(handler, kind)
        guarded = _guarded_stream(inner, enter) if inspect.isasyncgenfunction(inner) else _guarded_call(inner, enter)
    else:
        kind = "stream_unary" if handler.request_streaming else "unary_unary"
        guarded = _guarded_call(getattr(handler, kind), enter)
    make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(guarded, tolerant(handler.request_deserializer), handler.response_serializer)


async def _readable(request: Any, context: ServicerContext) -> Any:
    """One request, or a stream of them, without malformed ones: the first of those ends the call."""
    if request is MALFORMED:
        await refuse(context, refusal())
    return sound(request) if hasattr(request, "__aiter__") else request


def _guarded_call(inner: Any, enter: Enter) -> Any:
    async def call(request: Any, context: ServicerContext) -> Any:
        await enter(context)
        return await inner(await _readable(request, context), context)

    return call


def _guarded_stream(inner: Any, enter: Enter) -> Any:
    async def stream(request: Any, context: ServicerContext) -> Any:
        await enter(context)
        async with aclosing(inner(await _readable(request, context), context)) as responses:
            async for response in responses:
                yield response

    return stream
