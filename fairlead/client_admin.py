"""Operators' calls: the policy, and what the suite is doing. They need an operator's key."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import grpc

from fairlead.client_connection import Connection
from fairlead.client_errors import error_from
from fairlead.client_tenants import TenantCalls
from fairlead.client_types import ServiceClass
from fairlead.rpc import Tls
from fairlead.v1 import admin_pb2 as admin
from fairlead.v1 import admin_pb2_grpc
from fairlead.v1 import types_pb2 as types

TIMEOUT_S = 10.0
_CLASSES: dict[str | None, types.ServiceClass] = {
    None: types.SERVICE_CLASS_UNSPECIFIED,
    "ls": types.SERVICE_CLASS_LATENCY_SENSITIVE,
    "be": types.SERVICE_CLASS_BEST_EFFORT,
}


class Admin(TenantCalls):
    """Blocking admin client; the answers are the messages of `fairlead.v1.AdminService`.

    The calls about tenants are those of `TenantCalls`.

    Args:
        address: host:port of the scheduler.
        key: the API key of an operator.
        tls: as of `Client`.
    """

    def __init__(self, address: str, key: str | None = None, *, tls: Tls | bool | None = None) -> None:
        self.address = address
        self._metadata: tuple[tuple[str, str | bytes], ...] = (("authorization", f"Bearer {key}"),) if key else ()
        self._connection: Connection[grpc.Channel] = Connection(
            address, tls, None, secure=grpc.secure_channel, insecure=grpc.insecure_channel,
            stub=admin_pb2_grpc.AdminServiceStub, close=grpc.Channel.close,
        )  # fmt: skip

    @property
    def _stub(self) -> admin_pb2_grpc.AdminServiceStub:
        return self._connection.stub()

    @property
    def tls(self) -> Tls | None:
        """How it is reached; None: in plain text."""
        return self._connection.tls

    def close(self) -> None:
        """Closes the connection."""
        for channel in self._connection.channels():
            channel.close()

    def status(self) -> admin.GetStatusResponse:
        """Workers, classes, predictor and policy as they are now. Raises FairleadError."""
        try:
            return self._stub.GetStatus(admin.GetStatusRequest(), metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from(error) from None

    def policies(self) -> list[admin.PolicyInfo]:
        """Every policy that can be set. Raises FairleadError."""
        try:
            answer = self._stub.ListPolicies(admin.ListPoliciesRequest(), metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from(error) from None
        return list(answer.policies)

    def set_policy(
        self,
        policy: str,
        *,
        step_seats: int | None = None,
        window_tokens: int | None = None,
        be_share: float | None = None,
        options: Mapping[str, str] | None = None,
        choices: Mapping[str, str] | None = None,
    ) -> str:
        """Sets the policy of every worker at once, and what is given of its settings; returns the previous policy.

        `options` are the policy's own, as text; `policies` tells which there are. `choices` combine with any policy, as
        text too: `{"placement": "freeness"}`; `status` tells which there are.

        Raises:
            FairleadError: `InvalidRequest` lists the known policies where this one is unknown, and names an option that
                it does not take.
        """
        settings = admin.PolicySettings(
            step_seats=step_seats, window_tokens=window_tokens, be_share=be_share, options=options or {},
            choices=choices or {},
        )  # fmt: skip
        message = admin.SetPolicyRequest(policy=policy, settings=settings)
        try:
            return self._stub.SetPolicy(message, metadata=self._metadata, timeout=TIMEOUT_S).previous_policy
        except grpc.RpcError as error:
            raise error_from(error) from None

    def why(self, request_id: str, tenant: str | None = None) -> admin.WhyResponse:
        """Why a request, live or ended lately, ran when it did.

        `tenant` says whose it is where several have a request of this id.

        Raises:
            FairleadError: `NotFound` where it is not known, or its record is gone.
        """
        message = admin.WhyRequest(request_id=request_id, tenant=tenant or "")
        try:
            return self._stub.Why(message, metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from(error) from None

    def requests(
        self,
        *,
        tenant: str = "",
        service_class: ServiceClass | Literal["ls", "be"] | None = None,
        worker_id: str = "",
        state: admin.RequestState | str = admin.REQUEST_STATE_UNSPECIFIED,
        page_size: int = 100,
        page_token: str = "",
    ) -> admin.ListRequestsResponse:
        """One page of live requests, those on workers first, oldest first; without any of their text.

        Args:
            tenant, service_class, worker_id, state: only these; left out: all.
            page_size: at most 1000.
            page_token: `next_page_token` of the page before.

        Raises:
            FairleadError: a field does not fit.
        """
        message = admin.ListRequestsRequest(
            page_size=page_size, page_token=page_token, tenant=tenant, worker_id=worker_id, state=state,
            service_class=_CLASSES[service_class],
        )  # fmt: skip
        try:
            return self._stub.ListRequests(message, metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from(error) from None

    def wait_idle(self, timeout_s: float, poll_s: float = 0.1) -> bool:
        """Waits until no request waits or runs; False where that takes longer than `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        while any(item.waiting or item.running for item in self.status().classes):
            if time.monotonic() >= end_s:
                return False
            time.sleep(poll_s)
        return True
