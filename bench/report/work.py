"""Does the plan's runs, those that are not kept already, with progress and an estimate of the time left."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.measure import measured
from bench.report.plan import Plan, name_of
from bench.report.store import Entry, Store, capacity_key, run_key
from simulator.run import Run, Setup, measure_capacity
from simulator.study import Pool

Told = Callable[[str, float, int], None]
"""Called with what is being done, how many of it are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Done:
    """One finished run."""

    trace: str
    run: Run
    seed: int
    entry: Entry


def capacities(plan: Plan, store: Store, jobs: int, told: Told) -> dict[tuple[str, int], float]:
    """FCFS capacity in requests/s, by trace and seed."""
    wanted = [(source, seed) for source in plan.sources for seed in plan.seeds]
    keys = {each: capacity_key(each[0], plan.setup_of(each[1])) for each in wanted}
    found: dict[tuple[str, int], float] = {}
    missing: list[tuple[str, int]] = []
    for each in wanted:
        kept = store.get(keys[each])
        if kept is None:
            missing.append(each)
        else:
            found[each] = kept["requests_per_s"]
    tasks = [(measure_capacity, (source, plan.setup_of(seed))) for source, seed in missing]
    before = len(found)
    for index, per_s in Pool(jobs).map(tasks, lambda done: told("capacities", before + done, len(wanted))):
        store.put(keys[missing[index]], {"requests_per_s": per_s})
        found[missing[index]] = per_s
    told("capacities", len(wanted), len(wanted))
    return found


def all_runs(plan: Plan, capacity: dict[tuple[str, int], float], store: Store, jobs: int, told: Told) -> list[Done]:
    """Every run of the plan, seed by seed; what is kept is not done again."""
    wanted = [
        (Run(source, choice, load, load * capacity[source, seed]), seed)
        for seed in plan.seeds
        for source in plan.sources
        for load in plan.loads
        for choice in plan.choices
    ]
    kept: dict[int, Entry] = {}
    missing: list[int] = []
    for index, (run, seed) in enumerate(wanted):
        entry = store.get(run_key(run, plan.setup_of(seed)))
        if entry is None:
            missing.append(index)
        else:
            kept[index] = entry
    missing = _mixed(missing, len(wanted) // len(plan.seeds))
    tasks = [(measured, (wanted[index][0], plan.setup_of(wanted[index][1]))) for index in missing]
    before = len(kept)
    told("runs", before, len(wanted))
    for place, entry in Pool(jobs).map(tasks, lambda done: told("runs", before + done, len(wanted))):
        run, seed = wanted[missing[place]]
        store.put(run_key(run, plan.setup_of(seed)), entry)
        kept[missing[place]] = entry
    told("runs", len(wanted), len(wanted))
    return [Done(name_of(run.source), run, seed, kept[index]) for index, (run, seed) in enumerate(wanted)]


def rows_of(done: Sequence[Done]) -> list[dict[str, Any]]:
    """The rows of all runs, each with its seed."""
    return [row | {"seed": each.seed} for each in done for row in each.entry.get("rows", ())]


def failures_of(done: Sequence[Done]) -> list[str]:
    """One sentence a run that failed."""
    return [
        f"{each.trace}, {each.run.choice.text}, load {each.run.load:g}, seed {each.seed}: {each.entry['failed']}"
        for each in done
        if "failed" in each.entry
    ]


def describe(setup: Setup) -> str:
    """The machines of a setup, in a line."""
    model = setup.step_model
    return (
        f"{setup.workers} worker{'' if setup.workers == 1 else 's'} of {setup.seats} seats, "
        f"{setup.kv_tokens:,} KV tokens, {setup.token_budget:,}-token budget; a step lasts {model.c0_ms:g} ms + "
        f"{model.c1_ms_per_prefill_token:g} ms a prefill token + {model.c2_ms_per_decode:g} ms a decode + "
        f"{model.c3_ms_per_context_token:g} ms a context token"
    )


def _mixed(indices: list[int], per_seed: int) -> list[int]:
    """Quick and slow runs mixed, so that the time left can be told from the time gone; seed by seed all the same."""
    rng = random.Random("report")
    found: list[int] = []
    for seed in sorted({index // per_seed for index in indices}):
        part = [index for index in indices if index // per_seed == seed]
        rng.shuffle(part)
        found += part
    return found
