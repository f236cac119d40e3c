"""A request's span on the client's side, where the program uses OpenTelemetry.

Whether it does is seen from `opentelemetry.trace` being imported: a program that has not imported it has set up nothing
that a span could go to. So this client needs no package of OpenTelemetry, and its import costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import TracebackType
from typing import Any, Self

from fairlead import telemetry_names as names
from fairlead.client_errors import FairleadError
from fairlead.client_types import Accepted, Finished
from fairlead.v1 import inference_pb2 as inference

_SAMPLING = {
    names.REQUEST_MAX_TOKENS: "max_tokens",
    names.REQUEST_TEMPERATURE: "temperature",
    names.REQUEST_TOP_P: "top_p",
    names.REQUEST_TOP_K: "top_k",
    names.REQUEST_PRESENCE_PENALTY: "presence_penalty",
    names.REQUEST_FREQUENCY_PENALTY: "frequency_penalty",
    names.REQUEST_SEED: "seed",
}


class CallTrace:
    """One request, over as many streams as it takes; to be used as `with`. No prompt or answer goes into it.

    Args:
        action: "generate" or "attach"; the span's name begins with it.
        address: host:port of the scheduler.
        request: what is asked for.

    Attributes:
        metadata: W3C context for the calls; empty where there is no span.
    """

    __slots__ = ("_action", "_span", "_waits_for_token", "metadata")

    def __init__(self, action: str, address: str, request: inference.GenerateRequest) -> None:
        self.metadata: tuple[tuple[str, str], ...] = ()
        self._action = action
        self._span: Any = None
        self._waits_for_token = False
        api: Any = sys.modules.get("opentelemetry.trace")
        if api is None:
            return
        tracer = api.get_tracer("fairlead.client")
        name = f"{action} {request.model}".rstrip()
        self._span = tracer.start_span(name, kind=api.SpanKind.CLIENT, attributes=_asked(address, request))
        self._waits_for_token = self._span.is_recording()
        carrier: dict[str, str] = {}
        w3c: Any = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        w3c.TraceContextTextMapPropagator().inject(carrier, api.set_span_in_context(self._span))
        self.metadata = tuple(carrier.items())

    def accepted(self, accepted: Accepted) -> None:
        """The scheduler took it."""
        if self._span is not None:
            self._span.update_name(f"{self._action} {accepted.model}")
            told = {
                names.RESPONSE_ID: accepted.request_id,
                names.RESPONSE_MODEL: accepted.model,
                names.USAGE_INPUT_TOKENS: accepted.prompt_tokens,
                names.TENANT: accepted.tenant,
                names.SERVICE_CLASS: str(accepted.service_class),
            }
            self._span.set_attributes(told)

    def delta(self) -> None:
        """Tokens came."""
        if self._waits_for_token:
            self._waits_for_token = False
            self._span.add_event(names.FIRST_TOKEN)

    def broke(self, why: FairleadError) -> None:
        """A stream broke, and another is tried."""
        if self._span is not None:
            self._span.add_event(names.STREAM_BROKE, {names.REASON: type(why).__name__})

    def finished(self, finished: Finished) -> None:
        """The last event came."""
        if self._span is None:
            return
        outcome = finished.outcome
        told = {
            names.OUTCOME: str(outcome),
            names.RESPONSE_FINISH_REASONS: (str(outcome).lower(),),
            names.USAGE_INPUT_TOKENS: finished.usage.prompt_tokens,
            names.USAGE_OUTPUT_TOKENS: finished.usage.output_tokens,
            names.USAGE_CACHE_READ_INPUT_TOKENS: finished.usage.cached_prompt_tokens,
        }
        self._span.set_attributes(told)
        if not outcome.complete:
            self._failed(str(outcome), finished.detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        if isinstance(error, FairleadError):
            self._failed(error.code.name, error.message)
        elif error is not None and not isinstance(error, GeneratorExit):
            self._failed(type(error).__name__, "")
        self._span.end()

    def _failed(self, reason: str, detail: str) -> None:
        api: Any = sys.modules["opentelemetry.trace"]
        self._span.set_attribute(names.ERROR_TYPE, reason)
        self._span.set_status(api.Status(api.StatusCode.ERROR, detail or reason))


def _asked(address: str, request: inference.GenerateRequest) -> dict[str, str | int | float | bool]:
    host, _, port = address.rpartition(":")
    chat = request.WhichOneof("input") == "messages"
    told: dict[str, str | int | float | bool] = {
        names.OPERATION_NAME: names.CHAT if chat else names.TEXT_COMPLETION,
        names.PROVIDER_NAME: names.PROVIDER,
        names.REQUEST_STREAM: True,
        names.SERVER_ADDRESS: host,
    }
    if port.isdigit():
        told[names.SERVER_PORT] = int(port)
    if request.HasField("model"):
        told[names.REQUEST_MODEL] = request.model
    for name, field in _SAMPLING.items():
        if request.sampling.HasField(field):
            told[name] = getattr(request.sampling, field)
    return told
