"""Between the contract and the engine: what comes in is checked here, field by field, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.config import PROTOCOL_VERSION, ClassDefaults
from fairlead.rpc import invalid
from fairlead.steps import Chunking
from fairlead.v1 import types_pb2, worker_pb2
from worker_svc.engines.base import BadPrompt, EngineInfo, EngineRequest, Sampling
from worker_svc.ordering import StepModel, StepRules

MAX_KEY_CHARS = 512
MAX_STOPS = 64
MAX_STOP_CHARS = 1024
_DEFAULTS = ClassDefaults()
_CLASSES = {
    types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE: True,
    types_pb2.SERVICE_CLASS_BEST_EFFORT: False,
}
_CHUNKING: dict[worker_pb2.ChunkSizing, Chunking] = {
    worker_pb2.CHUNK_SIZING_UNSPECIFIED: "auto",
    worker_pb2.CHUNK_SIZING_FIXED: "fixed",
    worker_pb2.CHUNK_SIZING_SLACK: "slack",
}
# field: (least, most, whether the least itself is allowed)
_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0.0, 100.0, True),
    "top_p": (0.0, 1.0, False),
    "min_p": (0.0, 1.0, True),
    "presence_penalty": (-2.0, 2.0, True),
    "frequency_penalty": (-2.0, 2.0, True),
    "repetition_penalty": (0.0, 100.0, False),
}


def engine_request(admit: worker_pb2.Admit, info: EngineInfo, now_ms: float) -> EngineRequest:
    """What the engine is given for an Admit.

    Args:
        admit: as it came.
        info: of the engine.
        now_ms: on the engine's clock (this host's monotonic one).

    Raises:
        BadPrompt: a field does not fit; the message names it.
    """
    prompt = len(admit.token_ids)
    if not 0 < len(admit.request_key) <= MAX_KEY_CHARS:
        raise BadPrompt(f"request_key: must have 1 to {MAX_KEY_CHARS} characters")
    if admit.forced_tokens >= prompt:
        raise BadPrompt("token_ids: must hold at least one token beside the forced ones")
    if prompt >= info.max_context_tokens:
        raise BadPrompt(f"token_ids: {too_long(prompt, info.max_context_tokens)}")
    if admit.service_class not in _CLASSES:
        raise BadPrompt("service_class: must be latency-sensitive or best-effort")
    slo = admit.slo
    return EngineRequest(
        handle=admit.handle,
        token_ids=list(admit.token_ids),
        forced_tokens=admit.forced_tokens,
        sampling=sampling(admit.sampling, info.max_context_tokens - prompt),
        latency_sensitive=_CLASSES[admit.service_class],
        arrival_ms=now_ms - _number("age_ms", admit.age_ms, 0.0, 1e12),
        ttft_ms=_number("slo.ttft_ms", slo.ttft_ms if slo.HasField("ttft_ms") else _DEFAULTS.ls_ttft_ms, 1e-3, 1e12),
        tpot_ms=_number("slo.tpot_ms", slo.tpot_ms if slo.HasField("tpot_ms") else _DEFAULTS.ls_tpot_ms, 1e-3, 1e12),
        rank=admit.rank,
        cache_salt=admit.cache_salt,
    )


def sampling(params: types_pb2.SamplingParams, room: int) -> Sampling:
    """Checked sampling parameters; `room` is what the context leaves for the answer, tokens, at least 1."""
    for name, (least, most, closed) in _RANGES.items():
        value = getattr(params, name) if params.HasField(name) else most
        if not (least <= value <= most and (closed or value > least)):  # NaN is neither
            raise BadPrompt(f"sampling.{name}: must be {'at least' if closed else 'above'} {least:g}, at most {most:g}")
    if params.HasField("max_tokens") and params.max_tokens < 1:
        raise BadPrompt("sampling.max_tokens: must be at least 1")
    max_tokens = min(params.max_tokens, room) if params.HasField("max_tokens") else room
    if len(params.stop) > MAX_STOPS or len(params.stop_token_ids) > MAX_STOPS:
        raise BadPrompt(f"sampling.stop: at most {MAX_STOPS} texts and {MAX_STOPS} token ids")
    if any(not 0 < len(stop) <= MAX_STOP_CHARS for stop in params.stop):
        raise BadPrompt(f"sampling.stop: each must have 1 to {MAX_STOP_CHARS} characters")

    def given(name: str) -> float | None:
        return getattr(params, name) if params.HasField(name) else None

    return Sampling(
        max_tokens=max_tokens,
        min_tokens=min(params.min_tokens, max_tokens),
        temperature=given("temperature"),
        top_p=given("top_p"),
        top_k=params.top_k if params.HasField("top_k") else None,
        min_p=given("min_p"),
        presence_penalty=given("presence_penalty"),
        frequency_penalty=given("frequency_penalty"),
        repetition_penalty=given("repetition_penalty"),
        seed=params.seed if params.HasField("seed") else None,
        stop=tuple(params.stop),
        stop_token_ids=tuple(params.stop_token_ids),
        ignore_eos=params.ignore_eos,
    )


def step_rules(rules: worker_pb2.StepRules, slots: int) -> StepRules:
    """Checked rules of a step; seats beyond the engine's slots are cut to them. Raises Refusal."""
    if not 0.0 <= rules.be_share < 1.0:
        raise invalid("ranks.rules.be_share", "must be at least 0 and below 1")
    if rules.step_budget and not 0.0 < rules.max_itl_factor < 1e6:
        raise invalid("ranks.rules.max_itl_factor", "must be a positive number where step_budget is on")
    if not 0.0 <= rules.borrow_tpots < 1e6:
        raise invalid("ranks.rules.borrow_tpots", "must be a number of at least 0")
    if rules.HasField("step_seats") and rules.step_seats < 1:
        raise invalid("ranks.rules.step_seats", "must be at least 1")
    if rules.HasField("chunk_tokens") and rules.chunk_tokens < 1:
        raise invalid("ranks.rules.chunk_tokens", "must be at least 1; leave it out for the engine's token budget")
    if rules.chunking not in _CHUNKING:
        raise invalid("ranks.rules.chunking", "must be unspecified, fixed or slack")
    default = StepRules()
    return StepRules(
        class_tiers=rules.class_tiers,
        step_budget=rules.step_budget,
        displace=rules.displace,
        evict=rules.evict,
        be_share=rules.be_share,
        max_itl_factor=rules.max_itl_factor if rules.step_budget else default.max_itl_factor,
        yield_when_ahead=rules.yield_when_ahead,
        step_seats=min(rules.step_seats, slots) if rules.HasField("step_seats") else None,
        relegate_late=rules.relegate_late if rules.HasField("relegate_late") else default.relegate_late,
        hold_be_decodes=rules.hold_be_decodes if rules.HasField("hold_be_decodes") else default.hold_be_decodes,
        min_chunk_tokens=rules.min_chunk_tokens if rules.HasField("min_chunk_tokens") else default.min_chunk_tokens,
        chunking=_CHUNKING[rules.chunking],
        chunk_tokens=rules.chunk_tokens if rules.HasField("chunk_tokens") else None,
        credit_batching=rules.credit_batching,
        borrow_tpots=rules.borrow_tpots,
    )


def step_model(model: StepModel, relative_error: float | None) -> worker_pb2.StepModel:
    """The fitted step-time model as the contract has it."""
    return worker_pb2.StepModel(
        c0_ms=model.c0_ms,
        c1_ms_per_prefill_token=model.c1_ms_per_prefill_token,
        c2_ms_per_decode=model.c2_ms_per_decode,
        c3_ms_per_context_token=model.c3_ms_per_context_token,
        relative_error=relative_error,
    )


def description(
    info: EngineInfo,
    worker_id: str,
    incarnation: str,
    max_held: int,
    draining: bool,
    model: worker_pb2.StepModel,
    leader_epoch: int,
) -> worker_pb2.WorkerServiceDescribeResponse:
    """What Describe answers."""
    return worker_pb2.WorkerServiceDescribeResponse(
        worker_id=worker_id,
        incarnation=incarnation,
        protocol_version=PROTOCOL_VERSION,
        model=info.model,
        engine=info.engine,
        engine_version=info.engine_version,
        device=info.device,
        max_context_tokens=info.max_context_tokens,
        slots=info.slots,
        step_seats=info.step_seats,
        kv_blocks=info.kv_blocks,
        kv_block_tokens=info.kv_block_tokens,
        step_token_budget=info.step_token_budget,
        draining=draining,
        step_model=model,
        max_held=max_held,
        leader_epoch=leader_epoch,
        vocabulary_tokens=info.vocabulary_tokens,
    )


def too_long(prompt_tokens: int, context_tokens: int) -> str:
    """What is wrong with a prompt that leaves no room for one output token."""
    return f"{prompt_tokens} tokens exceed the model's context of {context_tokens}; the answer needs at least one of it"


def roles(messages: Iterable[types_pb2.ChatMessage]) -> list[dict[str, str]]:
    """Messages as an engine's `render` takes them. Raises Refusal."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    if not turns:
        raise invalid("messages", "must hold at least one message")
    for index, turn in enumerate(turns):
        if not turn["role"]:
            raise invalid(f"messages[{index}].role", "must be given")
    return turns


def _number(name: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:  # NaN is not
        raise BadPrompt(f"{name}: must be between {least:g} and {most:g}")
    return value
