"""The Python client: `AsyncClient` and `Client` for tenants, `Admin` for operators.

    with Client("127.0.0.1:7600", key="...") as client:
        for event in client.generate("Write a short poem about rain.", service_class="ls"):
            if isinstance(event, Delta):
                print(event.text, end="")

Reading guide: `client_types.py` is what goes in and comes out, `client_errors.py` what can go wrong,
`client_stream.py` the pure rules of retrying and resuming, which `client_async.py` and `client_sync.py` carry out;
`client_jobs.py` and `client_job_types.py` are durable jobs, `client_connection.py` is TLS and its renewal;
`client_trace.py` is a request's span where the program uses OpenTelemetry.
"""

from fairlead.client_admin import Admin
from fairlead.client_async import AsyncClient
from fairlead.client_errors import (
    AlreadyExists,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    FairleadError,
    InternalError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    StreamLost,
    Unauthenticated,
    Unavailable,
)
from fairlead.client_job_types import Job, JobOptions, JobResult, JobState
from fairlead.client_stream import Retry
from fairlead.client_sync import Client
from fairlead.client_types import (
    Accepted,
    ChatMessage,
    Completion,
    Decision,
    Delta,
    Event,
    Finished,
    ModelInfo,
    Outcome,
    Prompt,
    RequestFailed,
    RequestOptions,
    ServiceClass,
    Usage,
)
from fairlead.rpc import InsecureAddress, Tls

__all__ = [
    "Accepted",
    "Admin",
    "AlreadyExists",
    "AsyncClient",
    "Cancelled",
    "ChatMessage",
    "Client",
    "Completion",
    "Conflict",
    "DeadlineExceeded",
    "Decision",
    "Delta",
    "Event",
    "FairleadError",
    "Finished",
    "InsecureAddress",
    "InternalError",
    "InvalidRequest",
    "Job",
    "JobOptions",
    "JobResult",
    "JobState",
    "ModelInfo",
    "NotFound",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "Prompt",
    "RequestFailed",
    "RequestOptions",
    "Retry",
    "ServiceClass",
    "StreamLost",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Usage",
]
