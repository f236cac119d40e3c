"""One frame of `fairlead top` as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fairlead.cli.top_data import Frame, RequestRow
from fairlead.cli.why_view import span

SORTS: dict[str, Callable[[RequestRow], tuple[float | str, ...]]] = {
    "age": lambda row: (-row.age_ms,),
    "rank": lambda row: (row.worker or "~", row.tier, row.value),
    "state": lambda row: (row.state, -row.age_ms),
    "tenant": lambda row: (row.tenant, row.service_class, -row.age_ms),
    "tokens": lambda row: (-row.output_tokens,),
    "left": lambda row: (-row.mean_remaining_tokens,),
    "pauses": lambda row: (-row.pauses - row.evictions, -row.age_ms),
}
"""How requests can be ordered, by name."""

KEYS = "q quit  s sort  f state  t tenant  c class  w worker  r all again  space hold"
_STYLES = {"running": "green", "paused": "yellow", "evicted": "red", "placed": "cyan", "waiting": "dim"}


@dataclass
class Shown:
    """What of a frame is shown, and how; empty: everything."""

    sort: str = "age"
    state: str = ""
    tenant: str = ""
    service_class: str = ""
    worker: str = ""
    held: bool = False

    def words(self) -> str:
        """In one line."""
        filters = [
            f"{name} {value}"
            for name, value in (
                ("state", self.state), ("tenant", self.tenant), ("class", self.service_class), ("worker", self.worker),
            )
            if value
        ]  # fmt: skip
        return f"by {self.sort}" + (f", only {', '.join(filters)}" if filters else "") + (", held" if self.held else "")


def view(frame: Frame, shown: Shown, *, rows: int | None, problem: str = "", keys: bool = False) -> Group:
    """The whole frame; `rows`: most requests shown."""
    parts: list[Text | Table] = [_head(frame)]
    if problem:
        parts.append(Text(problem, style="bold red"))
    parts += [_workers(frame), _classes(frame), _requests(frame, shown, rows)]
    if keys:
        parts.append(Text(KEYS, style="dim"))
    return Group(*parts)


def _head(frame: Frame) -> Text:
    state = "" if frame.predictor_connected else " NOT CONNECTED"
    asked = frame.predictions_answered + frame.predictions_missing
    missing = f"{frame.predictions_missing / asked:.1%}" if asked else "none asked"
    faults = "".join(f"; policy {name} failed {count} times" for name, count in sorted(frame.policy_faults.items()))
    live = ", ".join(f"{count} {state}" for state, count in frame.live.items()) or "none live"
    return Text(
        f"policy {frame.policy}, up {span(frame.uptime_s * 1000)}{', draining' if frame.draining else ''}{faults}\n"
        f"predictor {frame.predictor or '-'}{state}: {frame.predictions_answered} answered, late or missing {missing}, "
        f"{frame.predictions_in_flight} in flight\nrequests: {live}"
    )


def _workers(frame: Frame) -> Table:
    table = _table(
        "workers", "worker", "state", "seats", "held/slots", "KV blocks", "step ms", "steps/s", "model error"
    )
    for row in frame.workers:
        kv = f"{row.kv_blocks_used}/{row.kv_blocks}" + (
            f" {row.kv_blocks_used / row.kv_blocks:.0%}" if row.kv_blocks else ""
        )
        error = "-" if row.step_model_error is None else f"{row.step_model_error:.1%}"
        table.add_row(
            escape(row.worker), escape(row.state), f"{row.seats_used}/{row.step_seats}", f"{row.held}/{row.slots}", kv,
            f"{row.step_ms:.1f}", _figure(row.steps_per_s), error,
        )  # fmt: skip
    return table


def _classes(frame: Frame) -> Table:
    table = _table(
        "tenants", "tenant", "class", "waiting", "running", "tokens/s", "arrivals/s", "in SLO", "in SLO now"
    )  # fmt: skip
    for row in frame.classes:
        table.add_row(
            escape(row.tenant), row.service_class, str(row.waiting), str(row.running), _figure(row.tokens_per_s),
            _figure(row.accepted_per_s), _share(row.attainment), _share(row.attainment_now),
        )  # fmt: skip
    return table


def _requests(frame: Frame, shown: Shown, rows: int | None) -> Table:
    ordered = sorted(frame.requests, key=SORTS[shown.sort])
    total = sum(frame.live.values())
    kept = ordered if rows is None else ordered[: max(rows, 1)]
    table = _table(
        f"requests {shown.words()}: {len(kept)} of {total}",
        "request", "tenant", "class", "state", "worker", "age", "in", "out", "expected", "paused", "evicted", "key",
    )  # fmt: skip
    for row in kept:
        expected = f"{row.expected_tokens:.0f}" + ("" if row.predictions else "?")
        table.add_row(
            escape(row.request_id), escape(row.tenant), row.service_class,
            Text(row.state, style=_STYLES.get(row.state, "")), escape(row.worker), span(row.age_ms),
            str(row.prompt_tokens), str(row.output_tokens), expected, str(row.pauses), str(row.evictions),
            f"({row.tier:g}, {row.value:.6g})",
        )  # fmt: skip
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        text = name in ("worker", "state", "tenant", "class", "request", "key")
        table.add_column(name, justify="left" if text else "right", no_wrap=True)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
