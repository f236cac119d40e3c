"""What answers like this one came to: no text, only model, tenant, class and prompt length.

Lengths are kept in groups from narrow to wide; the narrowest one with enough answers speaks. Answers that were cut or
cancelled count as "at least so long" (Kaplan-Meier). A tenant's own record comes before that of all tenants; nothing
but lengths is shared between them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import ClassVar, TypeAlias

from fairlead.config import PredictorConfig
from fairlead.lengths import LengthDistribution
from predictor_svc.predictors.base import Answer, Observed, Predictor, Question

KEPT_A_GROUP = 512
MAX_GROUPS = 4096
LEAST_ENDED = 20
"""Answers that ended by themselves before a group speaks; a quantile of fewer is noise."""
REBUILT_EVERY = 16
UNKNOWN = LengthDistribution.lognormal(150.0, 1.0, source="history")
"""Before anything is known: the middle of public traces' answers, broad."""

_Key: TypeAlias = tuple[str | bool | int, ...]


class _Group:
    """The last lengths of one group and the distribution made from them."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bool]] = deque(maxlen=KEPT_A_GROUP)
        self._since_built = 0
        self._distribution: LengthDistribution | None = None

    def add(self, tokens: int, ended: bool) -> None:
        self._kept.append((tokens, ended))
        self._since_built += 1

    def distribution(self) -> LengthDistribution | None:
        """None while too few answers ended; at most `REBUILT_EVERY` answers old."""
        stale = self._since_built >= (REBUILT_EVERY if self._distribution else 1)
        if stale and sum(ended for _, ended in self._kept) >= LEAST_ENDED:
            lengths, ended = zip(*self._kept, strict=True)
            self._distribution = LengthDistribution.from_samples(lengths, ended=ended, source=HistoryPredictor.name)
            self._since_built = 0
        return self._distribution


class HistoryPredictor(Predictor):
    """Empirical lengths by (model, tenant, class, prompt-length bucket), widening where answers are few."""

    name: ClassVar[str] = "history"

    def __init__(self) -> None:
        self._groups: OrderedDict[_Key, _Group] = OrderedDict()

    @classmethod
    def open(cls, config: PredictorConfig) -> HistoryPredictor:
        """Starts with nothing known."""
        del config
        return cls()

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """The narrowest group's distribution of the whole length; the asker conditions it on the tokens out."""
        return [self._of(question).truncated(question.max_tokens) for question in questions]

    def observe(self, observed: Sequence[Observed]) -> int:
        """Adds each to its groups; the groups longest unused go first when there are too many."""
        for one in observed:
            for key in _keys(one):
                group = self._groups.setdefault(key, _Group())
                group.add(one.output_tokens, one.ended)
                self._groups.move_to_end(key)
        while len(self._groups) > MAX_GROUPS:
            self._groups.popitem(last=False)
        return len(observed)

    def _of(self, question: Question) -> LengthDistribution:
        for key in _keys(question):
            group = self._groups.get(key)
            distribution = group.distribution() if group else None
            if distribution is not None:
                return distribution
        return UNKNOWN


def _keys(of: Question | Observed) -> tuple[_Key, ...]:
    """From narrow to wide; prompt lengths share a bucket within a factor of two."""
    bucket = of.prompt_tokens.bit_length()
    return (
        (of.model, of.tenant, of.latency_sensitive, bucket),
        (of.model, of.tenant, of.latency_sensitive),
        (of.model, of.tenant),
        (of.model,),
        (),
    )
