"""The report's pages in Markdown: the front page, which policy to choose, and one page of tables a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.report.about import About
from bench.report.findings import (
    ENOUGH,
    GOALS,
    Goal,
    candidates,
    choosable,
    gains_attainment,
    gains_jct,
    no_gain_until,
    score,
    slo_goodput,
    to_baseline,
)
from bench.report.plan import BASELINE, BOUNDS
from bench.report.table import Table

SHOWN_LOADS = (0.95, 1.1)
"""Loads that the tables show, as near as there are: just before and just after requests begin to queue for good."""
ALIKE, SHOWN_ALIKE = 1.01, 6
"""Policies within 1 % of the best do alike; more than so many of them are not named one by one."""
Tenants = Mapping[tuple[str, str, float, str], Mapping[str, float | None]]


def front_page(table: Table, about: About, failures: Sequence[str]) -> str:
    """What a reader should know within a minute."""
    parts = [
        "# What each policy does with this traffic",
        about.one_line,
        "Which one to take: [which policy, when](which_policy.md). What each policy does and needs: "
        "[policies](../policies/README.md). What is simulated and what is not: [the simulator](../simulator.md); how "
        "far it is from a real engine: [fidelity](../fidelity.md).",
        "## In short",
        in_short(table),
        f"Changes are against `{BASELINE}`; the bounds are an order that is told the true lengths (`{BOUNDS[1]}`) "
        f"and the LS requests alone on the machine (`{BOUNDS[0]}`). An order is worth something where some policy's "
        f"mean completion time is more than 2 % below that of `{BASELINE}`, or its LS attainment more than half a "
        "point above.",
        "![LS attainment of every policy](all_attainment.png)",
        "![Mean completion time of every policy](all_jct.png)",
        f"The last lines are the bounds. `{BOUNDS[1]}` is no strict one: sequences share each step, and with many "
        "seats and few waiting another order can come out a little below it.",
        "## SLO goodput",
        f"The highest load at which {100 * ENOUGH:.0f} % of the LS requests offered meet both targets, interpolated "
        "between the loads that were run; in multiples of FCFS capacity.",
        goodput_table(table),
        "## By trace",
        "\n\n".join(
            f"### [{trace}]({trace}.md)\n\n![{trace}: figures over load]({trace}.png)" for trace in table.traces
        ),
        "## How it was made",
        about.details(table),
    ]
    if failures:
        parts += ["## Runs that failed", "\n".join(f"- {line}" for line in failures)]
    return "\n\n".join(parts) + "\n"


def in_short(table: Table) -> str:
    """A line a trace: the region without gain, then what the best policies reach where there is something to gain."""
    loads = shown_loads(table)
    heads = ["trace", "loads where order is worth nothing"]
    for load in loads:
        heads += [f"load {load:g}: shortest mean completion", "most LS within SLO"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for trace in table.traces:
        cells = [f"[{trace}]({trace}.md)", _region(table, trace)]
        for load in loads:
            cells += [_shortest(table, trace, load), _most_in_slo(table, trace, load)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shortest(table: Table, trace: str, load: float) -> str:
    found = candidates(table, trace, load, GOALS[2])
    if not found:
        return "-"
    name = found[0][0]
    ratio = to_baseline(table, trace, name, load, "all", "jct_mean_s") or 1.0
    bound = to_baseline(table, trace, BOUNDS[1], load, "all", "jct_mean_s")
    return f"`{name}` {_change(ratio)}" + (f" (bound {_change(bound)})" if bound else "")


def _most_in_slo(table: Table, trace: str, load: float) -> str:
    found = candidates(table, trace, load, GOALS[0])
    if not found:
        return "-"
    base = table.value(trace, BASELINE, load, "ls", "attainment") or 0.0
    alone = table.value(trace, BOUNDS[0], load, "ls", "attainment")
    name, value = found[0]
    return f"`{name}` {100 * value:.1f} % (`{BASELINE}` {100 * base:.1f} %" + (
        f", bound {100 * alone:.1f} %)" if alone is not None else ")"
    )


def _no_gain(table: Table, trace: str) -> str:
    jct, kept = (no_gain_until(table, trace, gains) for gains in (gains_jct, gains_attainment))
    least, most = table.loads[0], table.loads[-1]

    def words(until: float | None) -> str:
        if until is None:
            return f"from {least:g} on"
        return "at no load that was run" if until == most else f"only above {until:g}"

    return (
        f"order is worth something for mean completion time (more than 2 % against `{BASELINE}`) {words(jct)}, "
        f"for LS attainment (more than half a point) {words(kept)}."
    )


def which_policy(table: Table) -> str:
    """One page: what you want and how loaded the machine is, to a policy."""
    loads = _choice_loads(table)
    lines = [
        "# Which policy, when",
        "From the figures of [this report](README.md), not from opinion: each cell has the policies that come out "
        "best, as the mean over its traces of how far each is from the best (in brackets: how much worse than the best "
        "of each trace, where it is more than 1 %). What each policy does, needs and risks is on its own page: "
        "[policies](../policies/README.md).",
        "| you want | " + " | ".join(f"load {load:g}" for load in loads) + " |",
        "|---|" + "---|" * len(loads),
    ]
    body = [f"| {goal.words} | " + " | ".join(_cell(table, load, goal) for load in loads) + " |" for goal in GOALS]
    text = "\n\n".join(lines[:2]) + "\n\n" + "\n".join([*lines[2:], *body])
    rules = [
        "## How to read it",
        f"- Load 1 is what `{BASELINE}` can serve at most. Find yours: requests per second offered over those at which "
        "the queue begins to grow (`fairlead simulate YOUR_TRACE` prints the capacity).",
        f"- Where order is worth nothing (below), take `{BASELINE}` or leave the default: "
        + "; ".join(f"{trace}: {_region(table, trace)}" for trace in table.traces)
        + ".",
        f"- A dash, or fewer traces: elsewhere no policy keeps {100 * ENOUGH:.0f} % of LS within SLO at that load; "
        "then it takes fewer requests (`overload=reject` or `relegate`, see [choices](../choices.md)) or more "
        "machines, no other order.",
        "- A policy without a predictor is the safer choice where predictions are poor; `make report` with "
        '`REPORT_OPTIONS="--prediction-tau 0.3"` shows what yours would cost.',
    ]
    return text + "\n\n" + rules[0] + "\n\n" + "\n".join(rules[1:]) + "\n"


def _region(table: Table, trace: str) -> str:
    both = [no_gain_until(table, trace, gains) for gains in (gains_jct, gains_attainment)]
    known = [each for each in both if each is not None]
    return f"up to {min(known):g}" if len(known) == 2 else "nowhere"


def _cell(table: Table, load: float, goal: Goal) -> str:
    kept = sum(bool(candidates(table, trace, load, goal)) for trace in table.traces)
    if not kept:
        return "-"
    where = "" if kept == len(table.traces) else f"on {kept} of {len(table.traces)} traces: "
    found = score(table, load, goal)
    alike = [name for name, worse in found if worse <= ALIKE]
    if len(alike) > SHOWN_ALIKE:
        return f"{where}nearly any ({len(alike)} within 1 %)" + (f": `{BASELINE}` will do" if BASELINE in alike else "")
    shown = ", ".join(
        f"`{name}`" + (f" (+{100 * (worse - 1):.0f} %)" if worse > ALIKE else "") for name, worse in found[:3]
    )
    return where + shown if shown else "-"


def _choice_loads(table: Table) -> list[float]:
    wanted = (0.7, 0.95, 1.1, 1.5)
    return sorted({min(table.loads, key=lambda load, at=each: abs(load - at)) for each in wanted})


def shown_loads(table: Table) -> list[float]:
    """Those of the report's loads that tables show."""
    return sorted({min(table.loads, key=lambda load, at=each: abs(load - at)) for each in SHOWN_LOADS})


def goodput_table(table: Table) -> str:
    """A line a policy, best first by its mean over traces."""
    found = {name: [slo_goodput(table, trace, name) for trace in table.traces] for name in _with_bound(table)}
    most = table.loads[-1]
    order = sorted(found, key=lambda name: -sum(min(value, most) for value, _ in found[name]))
    lines = ["| policy | " + " | ".join(table.traces) + " |", "|---|" + "---|" * len(table.traces)]
    lines += [f"| {_named(name)} | " + " | ".join(text for _, text in found[name]) + " |" for name in order]
    return "\n".join(lines)


def _with_bound(table: Table) -> list[str]:
    return [*choosable(table), *(name for name in BOUNDS[:1] if name in table.policies)]


def _named(policy: str) -> str:
    return f"*{policy}, bound*" if policy in BOUNDS else f"`{policy}`"


def trace_page(table: Table, trace: str, tenants: Tenants) -> str:
    """All policies at the loads that matter, all metrics; tenants where the trace has them."""
    parts = [
        f"# {trace}",
        "Back to [the report](README.md). Every load and class is in [rows.csv](rows.csv).",
        _no_gain(table, trace).replace("order", "Order", 1),
        f"![Figures over load]({trace}.png)",
    ]
    for load in shown_loads(table):
        parts += [f"## Load {load:g}", _metrics(table, trace, load)]
        if any(key[0] == trace for key in tenants):
            parts += [f"### Tenants at load {load:g}", _tenants(tenants, trace, load)]
    parts.append(
        "JCT: arrival to last token. Slowdown: JCT over JCT alone on an idle worker. Preempted: seats lost a request, "
        "the KV cache kept or dropped; recomputed: tokens computed again because it was dropped. Gap: longest time "
        "that a running request went without a token. Jain: over the tokens of tenants that had to wait, 1 is even."
    )
    return "\n\n".join(parts) + "\n"


_COLUMNS: tuple[tuple[str, str, str, float, str], ...] = (
    ("LS in SLO, %", "ls", "attainment", 100, ".1f"),
    ("LS TTFT p50, ms", "ls", "ttft_p50_ms", 1, ".0f"),
    ("p99", "ls", "ttft_p99_ms", 1, ".0f"),
    ("LS TPOT p99, ms", "ls", "tpot_p99_ms", 1, ".0f"),
    ("BE JCT mean, s", "be", "jct_mean_s", 1, ".1f"),
    ("BE p99, s", "be", "jct_p99_s", 1, ".0f"),
    ("all JCT mean, s", "all", "jct_mean_s", 1, ".1f"),
    ("p99, s", "all", "jct_p99_s", 1, ".0f"),
    ("slowdown", "all", "slowdown_mean", 1, ".1f"),
    ("tokens/s", "all", "tokens_per_s", 1, ".0f"),
    ("rejected", "all", "rejected", 1, ".0f"),
    ("gap, s", "all", "gap_max_s", 1, ".1f"),
    ("Jain", "all", "jain", 1, ".2f"),
)


def _metrics(table: Table, trace: str, load: float) -> str:
    heads = ["policy", *(column[0] for column in _COLUMNS), "preempted", "recomputed"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    policies = [*choosable(table), *(name for name in BOUNDS if name in table.policies)]
    for policy in policies:
        cells = [
            _text(table.value(trace, policy, load, class_, figure), scale, form)
            for _, class_, figure, scale, form in _COLUMNS
        ]
        offered = table.value(trace, policy, load, "all", "requests") or 1.0
        for figure in ("preemptions", "recomputed_tokens"):
            cells.append(_text(table.value(trace, policy, load, "all", figure), 1 / offered, ".2f"))
        lines.append("| " + " | ".join([_named(policy), *cells]) + " |")
    return "\n".join(lines)


def _tenants(tenants: Tenants, trace: str, load: float) -> str:
    """Mean slowdown and attainment of each tenant, a line a policy; all of it is in tenants.csv."""
    names = list(dict.fromkeys(key[3] for key in tenants if key[0] == trace))
    policies = list(dict.fromkeys(key[1] for key in tenants if key[0] == trace and key[2] == load))
    lines = [
        "Mean slowdown, and LS within SLO in %. [tenants.csv](tenants.csv) has more.\n",
        "| policy | " + " | ".join(names) + " |",
        "|---|" + "--:|" * len(names),
    ]
    for policy in policies:
        cells: list[str] = []
        for name in names:
            found = tenants.get((trace, policy, load, name), {})
            cells.append(f"{_text(found.get('slowdown_mean'), 1, '.1f')}, {_text(found.get('attainment'), 100, '.0f')}")
        lines.append(f"| {_named(policy)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _text(value: float | None, scale: float, form: str) -> str:
    return "-" if value is None else format(value * scale, form)


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def write_pages(table: Table, about: About, tenants: Tenants, failures: Sequence[str], folder: Path) -> list[Path]:
    """Writes all pages; the files."""
    pages = {"README.md": front_page(table, about, failures), "which_policy.md": which_policy(table)}
    pages |= {f"{trace}.md": trace_page(table, trace, tenants) for trace in table.traces}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]
