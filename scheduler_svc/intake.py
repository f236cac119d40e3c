"""From a call to an accepted request: which model, how many tokens, whether there is room. Refusals are typed."""

from __future__ import annotations

import asyncio
from array import array
from functools import partial
from itertools import count

import grpc
from grpc import aio

from fairlead.config import ClassDefaults, SchedulerConfig, Tenant
from fairlead.rpc import Refusal, invalid, is_ending, read_details
from fairlead.v1 import inference_pb2, types_pb2, worker_pb2
from scheduler_svc.answer import Answer
from scheduler_svc.core.admission import OF_TENANT, AdmissionRefusal
from scheduler_svc.core.types import Arrived, Outcome
from scheduler_svc.requests import Book, Key, Request, Reservation, tokens_agree
from scheduler_svc.shell import Shell
from scheduler_svc.telemetry import Asked
from scheduler_svc.validation import Wanted, check_generate
from scheduler_svc.wire import class_to_wire
from scheduler_svc.worker_link import WorkerLink
from scheduler_svc.worker_pool import WorkerPool

MAX_PREPARING = 2048
"""Requests between their arrival and their acceptance."""
TOKENIZE_WITHIN_S = 10.0
TOKENIZE_TRIES = 2
NO_WORKER_RETRY_MS = 1000.0


class Intake:
    """Prepares and accepts requests."""

    def __init__(self, shell: Shell, pool: WorkerPool, config: SchedulerConfig, defaults: ClassDefaults) -> None:
        self._shell = shell
        self._pool = pool
        self._config = config
        self._defaults = defaults
        self._turn = count()

    @property
    def _book(self) -> Book:
        return self._shell.book

    async def accept(
        self, request: inference_pb2.GenerateRequest, tenant: Tenant, time_left_s: float | None, asked: Asked
    ) -> tuple[Request, int]:
        """Accepts a request, or finds the one that has its id and content already.

        Args:
            request: as it came.
            tenant: who asks.
            time_left_s: to the deadline of the call; None: it has none.
            asked: the call's telemetry.

        Returns:
            The request, and the first token that the client does not have.

        Raises:
            Refusal: it is not accepted.
        """
        arrived_ms = self._shell.clock_ms()
        wanted = check_generate(request, tenant, self._config, self._defaults)
        key = (tenant.name, wanted.request_id)
        while True:
            known = self._book.find(key)
            if known is not None:
                return _same(known, wanted), len(wanted.received)
            reservation = self._book.preparing.get(key)
            if reservation is None:
                break
            _check_digest(reservation.digest, wanted)
            await reservation.done.wait()
        reservation = self._reserve(key, wanted)
        try:
            self._check_open(tenant)
            links = self._links_for(wanted.model)
            tokenized = self._as_given(links, request) or await self._tokenize(links, request)
            self._check_open(tenant)
            accepted = self._make(tenant, wanted, links, tokenized, request, arrived_ms, time_left_s)
            asked.accept(accepted, clamped=wanted.clamped)
        finally:
            del self._book.preparing[key]
            reservation.done.set()
        return accepted, len(wanted.received)

    def _reserve(self, key: Key, wanted: Wanted) -> Reservation:
        """Keeps the id until its request is accepted or refused. Raises Refusal where too many are at that."""
        if len(self._book.preparing) >= MAX_PREPARING:
            what = f"{MAX_PREPARING} requests are being prepared"
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{what}; try again shortly",
                quota=("scheduler", what),
                retry_after_ms=NO_WORKER_RETRY_MS,
                reason="TOO_MANY_ARRIVALS",
            )
        reservation = self._book.preparing[key] = Reservation(wanted.digest)
        return reservation

    def models(self) -> dict[str, list[WorkerLink]]:
        """Connected workers by model, in the order of model names."""
        found: dict[str, list[WorkerLink]] = {}
        for link in self._pool.connected():
            if link.description is not None:
                found.setdefault(link.description.model, []).append(link)
        return dict(sorted(found.items()))

    def _check_open(self, tenant: Tenant) -> None:
        """Raises Refusal while nothing, or nothing more of this tenant, is taken."""
        if self._shell.draining or self._shell.died.done():
            raise Refusal(
                grpc.StatusCode.UNAVAILABLE, "this scheduler drains: ask another, or again later", reason="DRAINING"
            )
        refusal = self._shell.core.refusal_for(tenant.name, self._shell.clock_ms())
        if refusal is not None:
            raise _refused(refusal, tenant)

    def _links_for(self, model: str) -> list[WorkerLink]:
        """Workers of the model that is asked for. Raises Refusal."""
        models = self.models()
        served_before = {link.description.model for link in self._pool.links.values() if link.description is not None}
        if not models or (model in served_before and model not in models):
            which = f"no worker of model {model!r}" if model else "no worker"
            raise Refusal(
                grpc.StatusCode.UNAVAILABLE,
                f"{which} is connected; try again shortly",
                retry_after_ms=NO_WORKER_RETRY_MS,
                reason="NO_WORKERS",
            )
        if not model and len(models) > 1:
            raise invalid("model", f"must be given: {', '.join(models)}")
        if model and model not in models:
            raise Refusal(
                grpc.StatusCode.NOT_FOUND,
                f"model: {model!r} is not served; served now: {', '.join(models)}",
                fields=[("model", f"must be one of: {', '.join(models)}")],
                reason="UNKNOWN_MODEL",
            )
        return models[model] if model else next(iter(models.values()))

    def _as_given(
        self, links: list[WorkerLink], request: inference_pb2.GenerateRequest
    ) -> worker_pb2.TokenizeResponse | None:
        """A prompt of token ids that any worker of the model takes as it is; None: one must be asked.

        Its text is fetched when somebody wants it, so that no first token waits for it.
        """
        ids = request.token_ids.ids
        if not ids or self._shell.telemetry.captures_content:
            return None
        for link in links:
            assert link.description is not None
            if max(ids) >= link.description.vocabulary_tokens or len(ids) >= link.context_tokens:
                return None
        return worker_pb2.TokenizeResponse(token_ids=ids)

    async def _text_of_ids(self, links: list[WorkerLink], request: inference_pb2.GenerateRequest) -> str:
        """The text of a prompt of token ids; "" where no worker tells it."""
        try:
            return (await self._tokenize(links, request)).rendered_text
        except Refusal:
            return ""

    async def _tokenize(
        self, links: list[WorkerLink], request: inference_pb2.GenerateRequest
    ) -> worker_pb2.TokenizeResponse:
        """Asks the workers of a model in turn. Raises Refusal, the worker's own where the prompt is at fault."""
        assert links[0].description is not None
        question = worker_pb2.TokenizeRequest(model=links[0].description.model)
        match request.WhichOneof("input"):
            case "messages":
                question.messages.CopyFrom(request.messages)
            case "token_ids":
                question.token_ids.CopyFrom(request.token_ids)
            case _:
                question.text = request.text
        first = next(self._turn)
        for attempt in range(min(TOKENIZE_TRIES, len(links))):
            link = links[(first + attempt) % len(links)]
            stub = link.stub
            if stub is None:
                continue
            try:
                return await stub.Tokenize(question, timeout=TOKENIZE_WITHIN_S, metadata=link.metadata)
            except asyncio.CancelledError:
                # The link to this worker was closed under the call; or it is we who are to end.
                if is_ending():
                    raise
            except aio.UsageError:
                continue  # closed a moment ago
            except aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise _passed_on(error) from None
        raise Refusal(
            grpc.StatusCode.UNAVAILABLE,
            "the prompt could not be tokenized: no worker of the model answers; try again shortly",
            retry_after_ms=NO_WORKER_RETRY_MS,
            reason="NO_TOKENIZER",
        )

    def _make(
        self,
        tenant: Tenant,
        wanted: Wanted,
        links: list[WorkerLink],
        tokenized: worker_pb2.TokenizeResponse,
        request: inference_pb2.GenerateRequest,
        arrived_ms: float,
        time_left_s: float | None,
    ) -> Request:
        """Accepts it: nothing here waits."""
        assert links[0].description is not None
        model = links[0].description.model
        prompt_tokens = len(tokenized.token_ids)
        context = min(link.context_tokens for link in links)
        field = request.WhichOneof("input") or "input"
        if prompt_tokens + len(wanted.received) >= context:
            what = f"{prompt_tokens} tokens leave no room in the model's context of {context}"
            raise invalid(field, what)
        sampling = types_pb2.SamplingParams()
        sampling.CopyFrom(wanted.sampling)
        sampling.max_tokens = min(sampling.max_tokens, context - prompt_tokens)
        sampling.min_tokens = min(sampling.min_tokens, sampling.max_tokens)
        lifetime_s = self._config.max_lifetime_s if time_left_s is None else time_left_s
        accepted = Request(
            handle=self._book.next_handle(),
            accepted=inference_pb2.Accepted(
                request_id=wanted.request_id,
                model=model,
                tenant=tenant.name,
                effective_class=class_to_wire(wanted.latency_sensitive),
                effective_slo=wanted.slo(),
                prompt_tokens=prompt_tokens,
                max_tokens=sampling.max_tokens,
                continuable=wanted.continuable,
            ),
            digest=wanted.digest,
            latency_sensitive=wanted.latency_sensitive,
            prompt_ids=array("I", tokenized.token_ids),
            prompt_text=_text_for_predictor(request, tokenized),
            sampling=sampling,
            slo=types_pb2.Slo(ttft_ms=wanted.ttft_ms, tpot_ms=wanted.tpot_ms, completion_ms=wanted.completion_ms),
            arrived_ms=arrived_ms,
            expires_ms=arrived_ms + 1000 * min(lifetime_s, self._config.max_lifetime_s),
            resume_grace_ms=wanted.resume_grace_ms,
            return_token_ids=request.return_token_ids,
            length_hint=wanted.length_hint,
            answer=Answer(wanted.received),
        )
        if field == "token_ids" and not tokenized.rendered_text:
            accepted.fetch_text = partial(self._text_of_ids, links, request)
        arrival = _arrival(accepted, wanted)
        refusal = self._shell.core.refusal_for(tenant.name, arrived_ms, arrival)
        if refusal is not None:
            raise _refused(refusal, tenant, field)
        self._shell.accept(accepted, arrival)
        if wanted.received and not wanted.continuable:
            # It had been accepted by a scheduler that is lost: it gets its outcome here.
            what = "the scheduler was lost in mid-answer; penalties or a seed forbid an exact continuation"
            self._shell.cancel(accepted, Outcome.FAILED_WORKER_LOST, what)
        return accepted


def _refused(refusal: AdmissionRefusal, tenant: Tenant, field: str = "input") -> Refusal:
    """What the core does not take, as the client is told it."""
    if refusal.retry_after_ms is None:
        return Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{field}: {refusal.message}",
            fields=[(field, refusal.message)],
            reason=refusal.reason.value,
        )
    of_tenant = refusal.reason in OF_TENANT
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"{refusal.message}; try again in {refusal.retry_after_ms / 1000:.1f} s",
        quota=(f"tenant:{tenant.name}" if of_tenant else "scheduler", refusal.message),
        retry_after_ms=refusal.retry_after_ms,
        reason=refusal.reason.value,
    )


def _arrival(request: Request, wanted: Wanted) -> Arrived:
    accepted = request.accepted
    return Arrived(
        job_id=request.handle,
        tenant=accepted.tenant,
        model=accepted.model,
        latency_sensitive=wanted.latency_sensitive,
        ttft_ms=wanted.ttft_ms,
        tpot_ms=wanted.tpot_ms,
        prompt_tokens=accepted.prompt_tokens,
        max_tokens=accepted.max_tokens,
        continuable=wanted.continuable,
        completion_ms=wanted.completion_ms,
        expires_ms=request.expires_ms,
        received_tokens=len(wanted.received),
        length_hint_tokens=wanted.length_hint,
        may_become_be=wanted.may_become_be,
    )


def _same(known: Request, wanted: Wanted) -> Request:
    """The request that has this id already. Raises Refusal where it is another one."""
    _check_digest(known.digest, wanted)
    if not tokens_agree(known.answer, wanted.received):
        raise invalid("received_token_ids", "these are not the first tokens of this request's answer")
    return known


def _check_digest(digest: bytes, wanted: Wanted) -> None:
    if digest != wanted.digest:
        what = f"{wanted.request_id!r} is in use for another content"
        raise Refusal(
            grpc.StatusCode.ALREADY_EXISTS,
            f"request_id: {what}; choose a new id, or send exactly what was sent first",
            fields=[("request_id", what)],
            reason="ID_IN_USE",
        )


def _passed_on(error: aio.AioRpcError) -> Refusal:
    """What the worker refused, as the client's own refusal."""
    details = read_details(error)
    return Refusal(
        error.code(),
        error.details() or "the worker refused the prompt",
        fields=list(details.fields.items()),
        quota=("worker", details.quota) if details.quota else None,
        retry_after_ms=details.retry_after_ms,
        reason=details.reason,
    )


def _text_for_predictor(request: inference_pb2.GenerateRequest, tokenized: worker_pb2.TokenizeResponse) -> str:
    """What was asked, in the words of who asked: a chat template's marks are in no recorded answer to learn from."""
    match request.WhichOneof("input"):
        case "text":
            return request.text
        case "messages":
            return "\n".join(message.content for message in request.messages.messages)
        case _:
            return tokenized.rendered_text
