"""What `fairlead why` prints: one sentence first, then where it stands, then what happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairlead.v1 import admin_pb2, types_pb2

REASONS = {
    admin_pb2.HINDRANCE_REASON_NO_WORKER: "no worker of its model is connected",
    admin_pb2.HINDRANCE_REASON_DRAINING: "the worker takes nothing new",
    admin_pb2.HINDRANCE_REASON_REFUSED_FULL: "the worker refused for want of room, and nothing has left it since",
    admin_pb2.HINDRANCE_REASON_HELD_BOUND: "the worker holds as many requests as it can",
    admin_pb2.HINDRANCE_REASON_SLOTS: "all slots are taken, none may be evicted for it",
    admin_pb2.HINDRANCE_REASON_SEATS: "seats and places ahead are taken by requests that go before it or stay",
    admin_pb2.HINDRANCE_REASON_KV_SIZE: "its context does not fit into the KV cache at all",
    admin_pb2.HINDRANCE_REASON_KV_PEAK: "the predicted KV peak with it would exceed the cache",
    admin_pb2.HINDRANCE_REASON_PACE_GUARD: "the LS requests there would miss their pace with it",
    admin_pb2.HINDRANCE_REASON_BEHIND_OTHERS: "those before it are tried first and find no room",
}
_RANK = ("tier", "value", "cost")
_RULES = (
    "class_tiers", "step_budget", "displace", "evict", "yield_when_ahead", "relegate_late", "hold_be_decodes",
    "credit_batching",
)  # fmt: skip


def print_why(console: Console, answer: admin_pb2.WhyResponse) -> None:
    """Prints all of it for people."""
    view = answer.request
    console.print(f"[bold]{escape(view.request_id)}[/]  {_who(view)}, {state_word(view.state)}{_where(view)}")
    console.print(f"{summary(answer)}\n")
    console.print(_facts(answer))
    if answer.HasField("standing"):
        _print_standing(console, answer.standing, view)
    console.print(_moments(answer))
    if answer.moments_left_out:
        console.print(f"{answer.moments_left_out} older moments are left out (scheduler.why_events)", style="dim")


def summary(answer: admin_pb2.WhyResponse) -> str:
    """Why it ran when it did, in a sentence or two."""
    parts: list[str] = []
    times, view = answer.times, answer.request
    waits = [moment for moment in answer.moments if moment.kind == admin_pb2.MOMENT_KIND_WAITS]
    assigned = [moment for moment in answer.moments if moment.kind == admin_pb2.MOMENT_KIND_ASSIGNED]
    if view.state == admin_pb2.REQUEST_STATE_WAITING:
        found = answer.standing
        reasons = dict.fromkeys(REASONS.get(each.reason, "?") for each in found.hindrances)
        parts.append(f"It waits for {span(view.age_ms)} now: {'; '.join(reasons)}; {found.ahead} are ahead of it.")
    elif times.HasField("assigned_ms"):
        waited = f"It was placed {span(times.assigned_ms)} after its arrival"
        kept = f", kept until then because {waits[0].text}" if waits and not answer.moments_left_out else ""
        parts.append(f"{waited}{kept}" + (f"; then {assigned[0].text}." if assigned else "."))
    if answer.HasField("outcome"):
        name = types_pb2.Outcome.Name(answer.outcome).removeprefix("OUTCOME_").lower()
        parts.append(f"It ended ({name}) after {span(times.ended_ms)}.")
    if view.pauses or view.evictions:
        parts.append(f"It was paused {view.pauses} times and evicted {view.evictions} times.")
    return " ".join(parts)


def span(ms: float) -> str:
    """A time for people."""
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"


def state_word(state: admin_pb2.RequestState) -> str:
    """A state in one word."""
    return admin_pb2.RequestState.Name(state).removeprefix("REQUEST_STATE_").lower()


def class_word(service_class: types_pb2.ServiceClass) -> str:
    """ls or be."""
    return "ls" if service_class == types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE else "be"


def rank_words(rank: admin_pb2.RankKey) -> str:
    """A key as it is compared."""
    return f"({rank.tier:g}, {rank.value:.6g})"


def _who(view: admin_pb2.RequestView) -> str:
    return f"{view.tenant} {class_word(view.service_class)}{' (came as ls)' if view.relegated else ''} of {view.model}"


def _where(view: admin_pb2.RequestView) -> str:
    return f" on {view.worker_id}" if view.worker_id else ""


def _facts(answer: admin_pb2.WhyResponse) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    view, times = answer.request, answer.times
    targets = [
        f"{name} {span(getattr(answer.slo, field))}"
        for name, field in (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("completion", "completion_ms"))
        if answer.slo.HasField(field) and (field == "completion_ms" or _came_as_ls(view))
    ]
    reached = [
        f"{name} {span(getattr(times, field))}"
        for name, field in (
            ("first prediction", "predicted_ms"), ("placed", "assigned_ms"), ("first token", "first_token_ms"),
            ("last token", "last_token_ms"), ("ended", "ended_ms"),
        )
        if times.HasField(field)
    ]  # fmt: skip
    source = f"{view.predictions} predictions" if view.predictions else "requests of its kind"
    live = "" if answer.HasField("outcome") else f", {view.mean_remaining_tokens:.0f} to come on average ({source})"
    table.add_row("targets", ", ".join(targets) or "none")
    table.add_row("since arrival", ", ".join(reached) or "nothing yet")
    table.add_row("tokens", f"{view.prompt_tokens} in, {view.output_tokens} of at most {view.max_tokens} out{live}")
    table.add_row("attempts", str(view.attempts))
    table.add_row("policy", ", then ".join(f"{each.policy} from {span(each.from_ms)}" for each in answer.policies))
    rules = [name for name in _RULES if getattr(answer.rules, name)]
    table.add_row("rules in force", f"{', '.join(rules) or 'none'}; BE share {answer.rules.be_share:g}")
    options = [f"{name}={value}" for name, value in sorted(answer.settings.options.items())]
    table.add_row("options in force", ", ".join(options) or "none")
    return table


def _came_as_ls(view: admin_pb2.RequestView) -> bool:
    return view.relegated or view.service_class == types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE


def _print_standing(console: Console, found: admin_pb2.Standing, view: admin_pb2.RequestView) -> None:
    where = f"on {view.worker_id}, which has {found.seats} seats" if found.seats else "in the pool"
    console.print(
        f"\nnumber {found.ahead + 1} of {found.standing} {where}; key {rank_words(found.rank)}, smaller first"
    )
    console.print(f"  made from {_figures(found.inputs)}")
    if found.ahead:
        by_class = ", ".join(f"{count} {name}" for name, count in sorted(found.ahead_by_class.items()))
        first = ", ".join(f"{_other(each)} {rank_words(each.rank)}" for each in found.first_ahead)
        console.print(f"  ahead: {by_class}; first {escape(first)}")
    for each in found.hindrances:
        console.print(f"  {each.worker_id or 'no worker'}: {REASONS.get(each.reason, 'unknown')}")


def _moments(answer: admin_pb2.WhyResponse) -> Table:
    table = Table("at", "what", "where", "why and with which figures", title="what happened", title_justify="left")
    for moment in answer.moments:
        others = ", ".join(_other(each) for each in moment.others)
        figures = _figures({name: value for name, value in moment.figures.items() if name not in _RANK})
        if "value" in moment.figures:
            key = f"({moment.figures.get('tier', 0):g}, {moment.figures['value']:.6g})"
            figures = f"key {key}{', ' if figures else ''}{figures}"
        told = "; ".join(part for part in (moment.text, others, figures) if part)
        name = admin_pb2.MomentKind.Name(moment.kind).removeprefix("MOMENT_KIND_").lower().replace("_", " ")
        table.add_row(span(moment.at_ms), name, moment.worker_id, escape(told))
    return table


def _other(each: admin_pb2.OtherRequest) -> str:
    if not each.request_id:
        return "a forgotten one"
    return f"{each.request_id} ({each.tenant} {class_word(each.service_class)})"


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(_told(sorted(figures.items())))


def _told(items: Iterable[tuple[str, float]]) -> list[str]:
    """`name value unit` of each."""
    told: list[str] = []
    for name, value in items:
        words = name.split("_")
        unit = f" {words.pop()}" if words[-1] in ("ms", "tokens") and len(words) > 1 else ""
        told.append(f"{' '.join(words)} {value:.6g}{unit}")
    return told
