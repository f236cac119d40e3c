"""`make chaos SEEDS=N`: many seeds of faults in virtual time, in parallel processes; a seed that breaks is named.

A seed is a whole world: the real scheduler, workers, predictor and client library on a network in memory. What holds at
each event and at the end is in `invariants.py` and `clients.py`. `--seed S` repeats one seed and says what broke.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import structlog
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.fault.world import Result, kind_of, run_seed

EVERY_TWICE = 100
"""Of so many seeds one is run twice: its decisions and tokens must be the same, byte for byte (I9)."""
BATCH = 5


def run_checked(seed: int) -> Result:
    """One seed; every `EVERY_TWICE`th twice (I9)."""
    result = run_seed(seed)
    if seed % EVERY_TWICE == 0 and not result.broken:
        again = run_seed(seed)
        if again.digest != result.digest:
            result.broken.append("I9: two runs of this seed differ")
    return result


def main() -> int:
    """Runs the seeds that the command line names; 1 if one broke something."""
    options = _options()
    _quiet()
    seeds = [options.seed] if options.seed is not None else list(range(options.first, options.first + options.seeds))
    console = Console(stderr=True)
    began_s = time.monotonic()
    broken: list[Result] = []
    faults: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    tokens = count = waits_kept = 0
    virtual_s = 0.0
    # Ctrl-C ends it with what there is so far.
    with contextlib.suppress(KeyboardInterrupt), Progress(console=console, transient=True) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for result in _results(seeds, options.jobs):
            progress.advance(task)
            count += 1
            virtual_s += result.virtual_s
            tokens += result.tokens
            waits_kept += result.waits_kept
            kinds[kind_of(result.seed)] += 1
            if options.progress_every and count % options.progress_every == 0:
                print(f"{count} seeds in {time.monotonic() - began_s:.0f} s", flush=True)
            outcomes.update(result.outcomes)
            if result.broken:
                broken.append(result)
                console.print(_broken_text(result), highlight=False, soft_wrap=True)
                if len(broken) >= options.most_broken:
                    break
            else:
                faults.update(result.faults)
                hit.update(result.faults.keys())
    took_s = time.monotonic() - began_s
    _print_table(faults, hit)
    print(
        f"{count} seeds, {sum(outcomes.values())} requests, {tokens} tokens, {virtual_s / 3600:.1f} virtual hours "
        f"in {took_s:.0f} s; {len(broken)} seeds broke something"
    )
    print("worlds: " + ", ".join(f"{number} {name}" for name, number in kinds.most_common()))
    print(f"BE requests that began within the wait that they were promised: {waits_kept}")
    print("outcomes: " + ", ".join(f"{name} {number}" for name, number in outcomes.most_common()))
    if options.json:
        figures = {
            "seeds": count, "broken": sorted(result.seed for result in broken), "faults": dict(faults),
            "outcomes": dict(outcomes), "worlds": dict(kinds), "waits_kept": waits_kept, "tokens": tokens,
            "virtual_s": virtual_s, "took_s": took_s,
        }  # fmt: skip
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--most-broken", type=int, default=1, help="stop after so many seeds that broke something")
    parser.add_argument("--progress-every", type=int, default=0, help="a line after so many seeds; 0: none")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def _quiet() -> None:
    """What services log in mid-fault is no news here."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.unraisablehook = lambda _: None  # what a killed process leaves behind is collected some time


def _results(seeds: list[int], jobs: int) -> Iterator[Result]:
    if len(seeds) == 1 or jobs == 1:
        yield from map(run_checked, seeds)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_quiet, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(run_checked, seeds, chunksize=BATCH)


def _broken_text(result: Result) -> str:
    lines = "\n".join(f"  {what}" for what in result.broken[:10])
    return f"seed {result.seed} broke:\n{lines}\n  again: python -m tests.fault.chaos --seed {result.seed}"


def _print_table(faults: Counter[str], hit: Counter[str]) -> None:
    table = Table("fault", "survived", "in seeds", title=None)
    for name, number in sorted(faults.items(), key=lambda item: -item[1]):
        table.add_row(name, str(number), str(hit[name]))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
