"""What answers like this one came to: no text, only model, tenant, class and prompt length.

Lengths are kept in groups from narrow to wide; the narrowest one with enough answers speaks. Answers that were cut or
cancelled count as "at least so long" (Kaplan-Meier). A tenant's own record comes before that of all tenants; nothing
but lengths is shared between them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from fairlead.config import PredictorConfig
from fairlead.lengths import MAX_TOKENS, LengthDistribution
from predictor_svc.online.packing import packed, unpacked
from predictor_svc.predictors.base import Answer, Arrays, Observed, Predictor, Question

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

    @property
    def kept(self) -> Sequence[tuple[int, bool]]:
        """Lengths and whether each ended by itself, oldest first."""
        return self._kept

    def distribution(self) -> LengthDistribution | None:
        """None while too few answers ended; at most `REBUILT_EVERY` answers old."""
        stale = self._since_built >= (REBUILT_EVERY if self._distribution else 1)
        if stale and sum(ended for _, ended in self._kept) >= LEAST_ENDED:
            lengths, ended = zip(*self._kept, strict=True)
            self._distribution = LengthDistribution.from_samples(lengths, ended=ended, source=HistoryPredictor.name)
            self._since_built = 0
        return self._distribution


class HistoryPredictor(Predictor):
    """Empirical lengths by (model, tenant, class, prompt-length bucket), widening where answers are few.

    Unlike other predictors it may be asked while it learns: it also answers the questions that no other one can.
    """

    name: ClassVar[str] = "history"

    def __init__(self) -> None:
        self._groups: OrderedDict[_Key, _Group] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, config: PredictorConfig) -> HistoryPredictor:
        """Starts with nothing known."""
        del config
        return cls()

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """The narrowest group's distribution of the whole length; the asker conditions it on the tokens out."""
        with self._lock:
            return [self._of(question).truncated(question.max_tokens) for question in questions]

    def observe(self, observed: Sequence[Observed]) -> int:
        """Adds each to its groups; the groups longest unused go first when there are too many."""
        with self._lock:
            for one in observed:
                for key in _keys(one):
                    group = self._groups.setdefault(key, _Group())
                    group.add(one.output_tokens, one.ended)
                    self._groups.move_to_end(key)
            while len(self._groups) > MAX_GROUPS:
                self._groups.popitem(last=False)
        return len(observed)

    def learned(self) -> Arrays:
        """Every group's lengths."""
        kept = [group.kept for group in self._groups.values()]
        flat = [one for group in kept for one in group]
        return {
            "keys": packed([list(key) for key in self._groups]),
            "counts": np.array([len(group) for group in kept], np.int32),
            "tokens": np.array([tokens for tokens, _ in flat], np.int32),
            "ended": np.array([ended for _, ended in flat], np.uint8),
        }

    def relearn(self, arrays: Arrays) -> None:
        """Takes every group back."""
        if not arrays:
            return
        keys, counts = unpacked(arrays["keys"]), arrays["counts"].tolist()
        tokens, ended = arrays["tokens"].tolist(), arrays["ended"].tolist()
        if len(keys) != len(counts) or sum(counts) != len(tokens) or len(tokens) != len(ended):
            raise ValueError("history: keys, counts and lengths don't belong together")
        if any(not 1 <= length <= MAX_TOKENS for length in tokens) or len(keys) > MAX_GROUPS:
            raise ValueError("history: a length out of bounds, or too many groups")
        groups: OrderedDict[_Key, _Group] = OrderedDict()
        at = 0
        for key, count in zip(keys, counts, strict=True):
            group = groups[tuple(key)] = _Group()
            for one, end in zip(tokens[at : at + count], ended[at : at + count], strict=True):
                group.add(one, bool(end))
            at += count
        with self._lock:
            self._groups = groups

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
