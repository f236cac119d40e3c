"""Figures of a load as a table for people."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from fairlead.load.metrics import Figures, Group, Spread


def load_table(found: Figures, title: str) -> Table:
    """One column a tenant and class; times at the client except where named otherwise, p50/p90/p99."""
    shown = [group for group in found.groups if not _repeats(group, found)]
    table = Table(title=title)
    table.add_column("figure")
    for group in shown:
        table.add_column(f"{group.tenant} {group.service_class}".replace("all all", "all"), justify="right")
    rows: tuple[tuple[str, Callable[[Group], str]], ...] = (
        ("offered", lambda group: str(group.offered)),
        ("finished", lambda group: str(group.finished)),
        ("refused, failed", lambda group: f"{group.refused}, {group.failed}"),
        ("TTFT, ms", lambda group: percentiles(group.ttft_ms)),
        ("TTFT at the scheduler, ms", lambda group: percentiles(group.scheduler_ttft_ms)),
        ("TPOT, ms", lambda group: percentiles(group.tpot_ms, digits=1)),
        ("JCT, s", lambda group: percentiles(group.jct_ms, scale=1000, digits=1)),
        ("JCT mean, s", lambda group: "-" if group.jct_ms.mean is None else f"{group.jct_ms.mean / 1000:.2f}"),
        ("LS attainment", lambda group: "-" if group.attainment is None else f"{group.attainment:.1%}"),
    )
    for words, cell in rows:
        table.add_row(words, *(cell(group) for group in shown))
    return table


def _repeats(group: Group, found: Figures) -> bool:
    """Whether "all of a class" is one tenant that has a column of its own."""
    same = [each for each in found.groups if each.service_class == group.service_class and each.tenant != "all"]
    return group.tenant == "all" and group.service_class != "all" and len(same) == 1


def percentiles(spread: Spread, *, scale: float = 1.0, digits: int = 0) -> str:
    """p50/p90/p99 of a figure, divided by `scale`."""
    values = (spread.p50, spread.p90, spread.p99)
    return "/".join("-" if value is None else f"{value / scale:.{digits}f}" for value in values)
