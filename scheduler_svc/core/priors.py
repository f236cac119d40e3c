"""The length distribution where there is no prediction: what requests of this class, model and tenant came to."""

from __future__ import annotations

from collections import deque

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.types import Arrived

KEPT = 512
REBUILT_EVERY = 32
LEAST_SAMPLES = 20
KEPT_CUTS = 64
UNKNOWN = LengthDistribution.lognormal(150.0, 1.0, source="unknown")
"""Before anything is known: the middle of the public traces' answers."""


class _Cut:
    """One distribution, cut at a few values of max_tokens: what it is asked for is worked out once for all of them."""

    def __init__(self) -> None:
        self._made: dict[int, LengthDistribution] = {}

    def at(self, max_tokens: int, distribution: LengthDistribution) -> LengthDistribution:
        made = self._made.get(max_tokens)
        if made is None:
            if len(self._made) >= KEPT_CUTS:
                self._made.clear()
            made = self._made[max_tokens] = distribution.truncated(max_tokens)
        return made


class _Sample:
    def __init__(self) -> None:
        self.lengths: deque[int] = deque(maxlen=KEPT)
        self.since_built = 0
        self.distribution: LengthDistribution | None = None
        self.cut = _Cut()

    def add(self, tokens: int) -> None:
        self.lengths.append(tokens)
        self.since_built += 1
        enough = len(self.lengths) >= LEAST_SAMPLES
        if enough and (self.distribution is None or self.since_built >= REBUILT_EVERY):
            self.distribution = LengthDistribution.from_samples(list(self.lengths), source="prior")
            self.cut = _Cut()
            self.since_built = 0


class Priors:
    """Recent output lengths by (model, class, tenant), then (model, class), then a broad guess."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, bool, str | None], _Sample] = {}
        self._unknown = _Cut()

    def observe(self, spec: Arrived, output_tokens: int) -> None:
        """A request ended by itself after `output_tokens`."""
        if output_tokens < 1:
            return
        for tenant in (spec.tenant, None):
            key = (spec.model, spec.latency_sensitive, tenant)
            self._samples.setdefault(key, _Sample()).add(output_tokens)

    def distribution(self, spec: Arrived) -> LengthDistribution:
        """The narrowest one with enough samples, cut at the request's max_tokens."""
        for tenant in (spec.tenant, None):
            sample = self._samples.get((spec.model, spec.latency_sensitive, tenant))
            if sample is not None and sample.distribution is not None:
                return sample.cut.at(spec.max_tokens, sample.distribution)
        return self._unknown.at(spec.max_tokens, UNKNOWN)
