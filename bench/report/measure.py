"""One run of the report: the simulator's rows, and figures by tenant where the trace has tenants."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.figures import alone_ms, attainment, finished, middle_of, tpot_ms, ttft_ms
from simulator.run import Run, Setup, machine_of, simulate, workload_of
from simulator.study import rows_from
from simulator.world import Request

MOST_TENANTS = 8
OTHERS = "all others"


def measured(run: Run, setup: Setup) -> dict[str, Any]:
    """Rows and tenants of one run, or under `failed` why there are none; `cpu_s` is what it took."""
    began_s = time.process_time()
    try:
        result = simulate(run, setup)
        found: dict[str, Any] = {"rows": [row.to_json() for row in rows_from(run, setup, result)]}
        if any(row.session for row in workload_of(run.source, setup.requests, setup.seed).rows):
            found["tenants"] = tenants_of(
                result.requests, setup, machine_of(run.choice, setup).limits.step_token_budget
            )
    except Exception as error:  # one run that fails must not cost the report; it is told by name
        found = {"failed": f"{type(error).__name__}: {error}"}
    return found | {"cpu_s": time.process_time() - began_s}


def tenants_of(requests: Sequence[Request], setup: Setup, token_budget: int) -> list[dict[str, Any]]:
    """One row a tenant, the largest `MOST_TENANTS` by requests; the rest together."""
    middle = middle_of(requests)
    largest = [name for name, _ in Counter(each.spec.tenant for each in middle).most_common(MOST_TENANTS)]
    groups: dict[str, list[Request]] = {name: [] for name in largest}
    for each in middle:
        groups.setdefault(each.spec.tenant if each.spec.tenant in largest else OTHERS, []).append(each)
    return [_tenant(name, group, setup, token_budget) for name, group in groups.items()]


def _tenant(name: str, requests: Sequence[Request], setup: Setup, token_budget: int) -> dict[str, Any]:
    ended = [each for each in requests if finished(each) and each.last_ms is not None]
    jcts = np.array([(each.last_ms or 0.0) - each.arrival_ms for each in ended])
    alone = np.array(
        [alone_ms(each.spec.prompt_tokens, each.answer_tokens, setup.step_model, token_budget) for each in ended]
    )
    firsts = [value for each in requests if each.spec.latency_sensitive and (value := ttft_ms(each)) is not None]
    paces = [value for each in requests if each.spec.latency_sensitive and (value := tpot_ms(each)) is not None]
    return {
        "tenant": name,
        "requests": len(requests),
        "output_tokens": sum(each.received for each in requests),
        "attainment": attainment(requests),
        "ls_ttft_p99_ms": float(np.percentile(firsts, 99)) if firsts else None,
        "ls_tpot_p99_ms": float(np.percentile(paces, 99)) if paces else None,
        "jct_mean_s": float(jcts.mean()) / 1000.0 if ended else None,
        "slowdown_mean": float((jcts / alone).mean()) if ended else None,
    }
