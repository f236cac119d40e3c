"""Which choices make sense together, and with a policy: refused with a reason before they come into force."""

from __future__ import annotations

from collections.abc import Collection

from scheduler_svc.core.choices import ALLOWED, Choices
from scheduler_svc.core.policies import Pace, Policy
from scheduler_svc.core.policies.guard import PolicyGuard
from scheduler_svc.core.policies.options import PolicyError
from scheduler_svc.core.priors import UNKNOWN
from scheduler_svc.core.types import Arrived, Job, PolicySettings, Rules


class BadChoice(PolicyError):
    """A choice that does not exist, or a combination that makes no sense; the message names the setting and why.

    Attributes:
        setting: the name of the setting at fault.
    """

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(f"{setting}: {why}")
        self.setting = setting


def check_choices(choices: Choices, *, repredict: str, placements: Collection[str]) -> None:
    """What can be said whatever the policy.

    Args:
        choices: to be checked.
        repredict: "auto", "always" or "never".
        placements: those that exist.

    Raises:
        BadChoice: an unknown name, a number outside its range, or two choices that exclude each other.
    """
    for name, allowed in (ALLOWED | {"placement": tuple(sorted(placements))}).items():
        value = getattr(choices, name)
        if value not in allowed:
            raise BadChoice(name, f"unknown choice {value!r}; known: {', '.join(allowed)}")
    for name, least in _LEAST.items():
        value = getattr(choices, name)
        if value is not None and not least <= value <= 1_000_000:
            raise BadChoice(name, f"must be {least} to 1000000, got {value}")
    if choices.chunk_tokens is not None and choices.chunking != "fixed":
        raise BadChoice("chunk_tokens", f"chunking is {choices.chunking!r}; only 'fixed' has a fixed size")
    if choices.admission != "none" and choices.overload not in ("auto", "queue"):
        raise BadChoice(
            "overload",
            f"admission {choices.admission!r} already decides what becomes of a request that would miss its target: "
            + ("it is refused" if choices.admission == "guards" else "it is served as BE")
            + f"; {choices.overload!r} would decide the same again. Set one of the two",
        )
    if choices.predict != "always" and repredict != "auto":
        what = "asks about every request each window" if repredict == "always" else "asks about none"
        raise BadChoice("predict", f"repredict {repredict!r} {what}, so {choices.predict!r} has no say; use 'auto'")


def check_with_policy(
    choices: Choices, policy: str, rules: Rules, *, knows_classes: bool, classes_apart: bool, asks: bool
) -> None:
    """Whether the choices make sense with a policy.

    Args:
        choices: to be checked, sound in themselves.
        policy: its name.
        rules: what it has without them.
        knows_classes: it orders LS and BE differently.
        classes_apart: it puts every LS request before every BE request.
        asks: it wants predictions.

    Raises:
        BadChoice: they do not.
    """
    if choices.batching == "credit" and not rules.displace:
        raise BadChoice(
            "batching",
            f"'credit' lets running requests sit out steps, but under policy {policy!r} who runs, runs on; "
            "choose a policy that displaces, or batching 'rank'",
        )
    becomes_be = choices.overload == "relegate" or choices.admission == "dp_soft"
    if becomes_be and not knows_classes:
        name = "overload" if choices.overload == "relegate" else "admission"
        raise BadChoice(
            name,
            f"policy {policy!r} knows no classes, so a request that becomes best-effort would stand where it stood; "
            f"choose a policy that orders LS before BE, or overload 'reject'",
        )
    if choices.fair_shares == "on" and knows_classes and not classes_apart:
        raise BadChoice(
            "fair_shares",
            f"policy {policy!r} weighs LS and BE requests against each other, so that a tenant's yielding would put BE "
            "before LS; choose a policy that knows no classes, or one with LS before BE (slo, priority)",
        )
    if choices.class_tiers and not rules.displace:
        raise BadChoice("class_tiers", f"tiers reorder what runs, but under policy {policy!r} who runs, runs on")
    tiers = rules.class_tiers if choices.class_tiers is None else choices.class_tiers
    for name in ("relegate_late", "hold_be_decodes"):
        if getattr(choices, name) is not None and not tiers:
            raise BadChoice(name, f"is an ingredient of class tiers, which policy {policy!r} does not have")
    sized = choices.chunking == "slack" or (tiers and rules.step_budget and choices.chunking == "auto")
    if choices.min_chunk_tokens is not None and not sized:
        raise BadChoice("min_chunk_tokens", "chunks are not sized by time here; set chunking 'slack'")
    if choices.predict != "always" and not asks and not choices.wants_lengths:
        raise BadChoice(
            "predict", f"policy {policy!r} asks for no predictions, so there is nothing to {choices.predict}"
        )


def check_settings(settings: PolicySettings, policy: Policy, placements: Collection[str]) -> None:
    """All that is to be checked of a policy about to come into force. Raises BadChoice."""
    check_choices(settings, repredict=settings.repredict, placements=placements)
    if any(getattr(settings, name) != default for name, default in _DEFAULTS.items()):
        guard = PolicyGuard(policy)  # a plug-in may fail here as well as later
        jobs = _probe(guard, latency_sensitive=True), _probe(guard, latency_sensitive=False)
        rules = guard.rules()
        blind = guard.key(jobs[0], 0.0) == guard.key(jobs[1], 0.0) and not rules.class_tiers
        asks = any(guard.wants_prediction(job, 0) for job in jobs)
        check_with_policy(
            settings, policy.name, rules, knows_classes=not blind, classes_apart=policy.classes_apart, asks=asks
        )


CHOICES = tuple(Choices.__dataclass_fields__)
"""Every setting that combines with any policy."""

_LEAST = {
    "chunk_tokens": 1,
    "predict_tokens": 1,
    "min_chunk_tokens": 0,
    "fair_bound_tokens": 1,
    "output_token_weight": 1,
}
_NUMBERS = frozenset(_LEAST)
_SWITCHES = frozenset(("class_tiers", "relegate_late", "hold_be_decodes"))
_WORDS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


def read_choice(name: str, text: str) -> bool | int | str | None:
    """A choice given as text: `none` for a number or a switch leaves it to the policy. Raises BadChoice."""
    if name not in CHOICES:
        raise BadChoice(name, f"no such choice; there are {', '.join(CHOICES)}")
    if name in _NUMBERS | _SWITCHES and text.lower() == "none":
        return getattr(Choices(), name)
    if name in _SWITCHES:
        if text.lower() not in _WORDS:
            raise BadChoice(name, f"must be true, false or none, got {text[:80]!r}")
        return _WORDS[text.lower()]
    if name in _NUMBERS:
        if not text.isdecimal() or len(text) > 7:
            raise BadChoice(name, f"must be a whole number up to 1000000, or none, got {text[:80]!r}")
        return int(text)
    return text


def as_text(choices: Choices) -> dict[str, str]:
    """Every choice as text, as `read_choice` takes it."""
    values = {name: getattr(choices, name) for name in CHOICES}
    return {name: "none" if value is None else str(value).lower() for name, value in values.items()}


_DEFAULTS = {name: getattr(Choices(), name) for name in CHOICES}


def _probe(guard: PolicyGuard, *, latency_sensitive: bool) -> Job:
    """A request like any other, but for its class."""
    spec = Arrived(0, "", "", latency_sensitive, 1000.0, 50.0, prompt_tokens=100, max_tokens=512)
    job = Job(spec, 0.0, UNKNOWN)
    job.cost = guard.cost(job, Pace())
    return job
