"""What a load is held against: times on the idle engine, and how much the suite can serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from fairlead.client import AsyncClient, ServiceClass
from fairlead.load.plan import Planned
from fairlead.load.run import Load, Record


class NotMeasured(Exception):
    """Too little came back to measure; the message says what did."""


@dataclass(frozen=True)
class Idle:
    """Medians over single requests on an idle engine, at the client: TTFT and time per step (= per token), ms."""

    ttft_ms: float
    step_ms: float
    requests: int


@dataclass(frozen=True)
class Capacity:
    """What the suite serves when it never idles: requests/s of this mix, tokens/s, and the mean answer in tokens."""

    requests_per_s: float
    tokens_per_s: float
    mean_answer_tokens: float
    requests: int


async def measure_idle(clients: Mapping[str, AsyncClient], plan: Sequence[Planned], *, warm_up: int = 3) -> Idle:
    """Sends the plan's requests one by one as LS; the first `warm_up` are not counted.

    Raises:
        NotMeasured: none finished with two tokens or more.
    """
    single = [replace(each, service_class=ServiceClass.LATENCY_SENSITIVE, arrival_s=0.0) for each in plan]
    records = await Load(clients).run_closed(single, in_flight=1, submit_s=60.0)
    counted = [each for each in records[warm_up:] if each.finished and each.tpot_ms is not None]
    if not counted:
        raise NotMeasured(f"no request finished on the idle engine: {_outcomes(records)}")
    return Idle(
        median(each.ttft_ms for each in counted if each.ttft_ms is not None),
        median(each.tpot_ms for each in counted if each.tpot_ms is not None),
        len(counted),
    )


async def measure_capacity(
    clients: Mapping[str, AsyncClient], plan: Sequence[Planned], *, in_flight: int, submit_s: float
) -> Capacity:
    """Keeps more in flight than there are seats for `submit_s`, then lets them finish.

    Tokens/s are those of the time in which the seats were full; divided by the mean answer of all that were sent (all
    finish, so that short answers do not count twice) they are requests/s.

    Raises:
        NotMeasured: nothing finished.
    """
    load = Load(clients)
    records = await load.run_closed(plan, in_flight=in_flight, submit_s=submit_s)
    finished = [each for each in records if each.finished and each.last_s is not None]
    if not finished:
        raise NotMeasured(f"no request finished in {submit_s:.0f} s: {_outcomes(records)}")
    window_s = max(each.arrival_s for each in records) or submit_s
    tokens = sum(_tokens_until(each, window_s) for each in finished)
    mean = sum(each.output_tokens for each in finished) / len(finished)
    return Capacity(tokens / window_s / mean, tokens / window_s, mean, len(finished))


def sustained(records: Sequence[Record], *, from_s: float, until_s: float) -> Capacity:
    """What was served from `from_s` to `until_s` of an open loop that sent more than can be served.

    A closed loop, which keeps few in flight, flatters a machine on which queue, predictor and clients take their time
    from the engine.

    Raises:
        NotMeasured: nothing finished.
    """
    finished = [each for each in records if each.finished and each.last_s is not None]
    if not finished:
        raise NotMeasured(f"no request finished in {until_s:.0f} s: {_outcomes(records)}")
    tokens = sum(_tokens_until(each, until_s) - _tokens_until(each, from_s) for each in finished)
    tokens_per_s = tokens / (until_s - from_s)
    mean = sum(each.output_tokens for each in finished) / len(finished)
    return Capacity(tokens_per_s / mean, tokens_per_s, mean, len(finished))


def _tokens_until(record: Record, end_s: float) -> float:
    """Tokens of a finished request that were out by `end_s`, its pace taken as even."""
    if record.first_s is None or record.last_s is None or record.first_s >= end_s:
        return 0.0
    if record.last_s <= end_s:
        return record.output_tokens
    return record.output_tokens * (end_s - record.first_s) / (record.last_s - record.first_s)


def _outcomes(records: Sequence[Record]) -> str:
    return "; ".join(sorted({f"{each.outcome} {each.detail}".strip() for each in records})) or "nothing was sent"
