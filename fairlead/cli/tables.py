"""Figures of a load as tables for people."""

from __future__ import annotations

from rich.table import Table

from fairlead.load.metrics import Figures, Group, Spread


def load_table(found: Figures, title: str) -> Table:
    """TTFT, TPOT, JCT (p50/p90/p99 at the client, ms) and attainment, one row a tenant and class."""
    table = Table(title=title)
    for name in ("tenant", "class"):
        table.add_column(name)
    for name in (
        "offered", "done", "refused", "failed", "TTFT p50/p90/p99 ms", "at scheduler", "TPOT p50/p90/p99 ms",
        "JCT p50/p90/p99 s", "JCT mean s", "attainment",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for group in found.groups:
        table.add_row(*_row(group))
    return table


def _row(group: Group) -> tuple[str, ...]:
    mean = group.jct_ms.mean
    return (
        group.tenant,
        group.service_class,
        str(group.offered),
        str(group.finished),
        str(group.refused),
        str(group.failed),
        percentiles(group.ttft_ms),
        percentiles(group.scheduler_ttft_ms),
        percentiles(group.tpot_ms, digits=1),
        percentiles(group.jct_ms, scale=1000, digits=1),
        "-" if mean is None else f"{mean / 1000:.2f}",
        "-" if group.attainment is None else f"{group.attainment:.1%}",
    )


def percentiles(spread: Spread, *, scale: float = 1.0, digits: int = 0) -> str:
    """p50/p90/p99 of a figure, divided by `scale`."""
    values = (spread.p50, spread.p90, spread.p99)
    return "/".join("-" if value is None else f"{value / scale:.{digits}f}" for value in values)
