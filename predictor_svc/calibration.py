"""Keeps a predictor honest while it serves: intervals corrected from outcomes, drift told, a bad predictor put aside.

Every law passes through here. What was told waits for its outcome (`online/pending.py`); the outcome says where the
truth fell, and moves the levels of later laws of the same model and tenant (`online/correction.py`). First questions
and later ones are corrected apart. `history` learns beside, answers where the predictor is put aside
(`online/contest.py`), and is never worse than knowing nothing.

A tenant is corrected by its own outcomes as soon as it has some; until then by those of all tenants of the model, in
which no tenant speaks louder than another. Only lengths cross from tenant to tenant, never text.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np

from fairlead.config import PredictorConfig
from fairlead.lengths import MAX_TOKENS, LengthDistribution
from fairlead.telemetry import get_logger
from predictor_svc.models.levels import LEVELS, Z_LEVELS, Array, at_z, increasing
from predictor_svc.online.contest import Contest, pinball
from predictor_svc.online.correction import Z_90, Group, place_of
from predictor_svc.online.learned import GroupKey, joined, kept_groups, parted, restored_groups
from predictor_svc.online.pending import MAX_PROMPT_CHARS, Pending, Record, Told
from predictor_svc.predictors.base import Answer, Arrays, Observed, Predictor, Question, open_predictor
from predictor_svc.predictors.history import HistoryPredictor
from predictor_svc.predictors.reading import distribution_of

MAX_GROUPS = 1024
"""Of model, tenant and stage; those longest without an outcome go first."""

EVERYONE = ""
"""Stands for all tenants of a model; a tenant always has a name."""

_log = get_logger("calibration")
_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True)
class Standing:
    """How the first predictions of one model and tenant do.

    Attributes:
        model, tenant: whose; tenant "" stands for all.
        outcomes: seen since the start or the last restart that lost them.
        coverage_90: of the 90 % intervals that were told, over about the last 500 outcomes.
        drifts: how often drift was found.
        drifting: now, and intervals are wider for it.
        put_aside: `history` answers, since the predictor is worse.
    """

    model: str
    tenant: str
    outcomes: int
    coverage_90: float
    drifts: int
    drifting: bool
    put_aside: bool


class CalibratedPredictor(Predictor):
    """A predictor with its intervals corrected online; called from one thread, as every predictor.

    Args:
        inner: what is corrected.
        history: what has been learned of lengths so far; None: nothing.
    """

    name: ClassVar[str] = "calibrated"

    def __init__(self, inner: Predictor, history: HistoryPredictor | None = None) -> None:
        self._inner = inner
        self._history = inner if isinstance(inner, HistoryPredictor) else history or HistoryPredictor()
        self._pending = Pending()
        self._groups: OrderedDict[GroupKey, Group] = OrderedDict()
        self._contests: OrderedDict[tuple[str, str], Contest] = OrderedDict()

    @classmethod
    def open(cls, config: PredictorConfig) -> CalibratedPredictor:
        """Round the predictor that the configuration names."""
        return cls(open_predictor(config))

    def around(self, inner: Predictor) -> CalibratedPredictor:
        """The same round another model: lengths stay known, corrections begin anew."""
        return CalibratedPredictor(inner, self._history)

    @property
    def inner(self) -> Predictor:
        """What is corrected."""
        return self._inner

    @property
    def fingerprint(self) -> str:
        """That of what is corrected."""
        return self._inner.fingerprint

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """The predictor's laws, corrected; those of `history` where it is put aside."""
        answers = self._inner.predict(questions)
        if len(answers) != len(questions):
            return answers
        known = answers if self._history is self._inner else self._history.predict(questions)
        return [
            self._told(question, answer, history)
            if isinstance(answer, LengthDistribution) and isinstance(history, LengthDistribution)
            else answer
            for question, answer, history in zip(questions, answers, known, strict=True)
        ]

    def fallback(self, question: Question) -> LengthDistribution:
        """What `history` says, at once; from any thread."""
        (answer,) = self._history.predict([question])
        return answer if isinstance(answer, LengthDistribution) else LengthDistribution.lognormal(150.0, 1.0)

    def observe(self, observed: Sequence[Observed]) -> int:
        """Learns from outcomes; the predictor inside does too, with the prompts of answers that were asked about."""
        whole: list[Observed] = []
        for one in observed:
            record = self._pending.ended(one)
            if record is not None:
                self._learn(one, record)
                whole.append(replace(one, prompt=record.prompt) if record.prompt else one)
            else:
                self._learn_late(one)
                whole.append(one)
        if self._history is not self._inner:
            self._history.observe(whole)
        return max(self._inner.observe(whole), len(whole))

    def standings(self, most: int = 100) -> list[Standing]:
        """Of models and tenants, those with an outcome last first."""
        found: list[Standing] = []
        for (model, tenant, stage), group in reversed(list(self._groups.items())):
            if stage == 0 and len(found) < most:
                contest = self._contests.get((model, tenant))
                aside = contest is not None and contest.aside
                coverage = round(group.coverage, 4)
                found.append(Standing(model, tenant, group.seen, coverage, group.drifts, group.drifting, aside))
        return found

    # -- telling

    def _told(self, question: Question, law: LengthDistribution, history: LengthDistribution) -> LengthDistribution:
        stage = int(question.generated_tokens > 0)
        raw = quantiles_left(law, question.generated_tokens)
        places = self._places(question.model, question.tenant, stage)
        corrected, answer = raw, law
        if places is not Z_LEVELS:
            corrected = increasing(at_z(raw[None], places))[0]
            left = np.exp(np.clip(corrected.astype(np.float64), -5, math.log(MAX_TOKENS)))
            answer = distribution_of(left, question, law.source)
        told = corrected
        if self._aside(question.model, question.tenant):
            answer, told = history, quantiles_left(history, question.generated_tokens)
        record = self._pending.continued(question)
        if record is None:
            prompt = question.prompt[:MAX_PROMPT_CHARS] if self._inner.learns_text else ""
            record = Record(quantiles_left(history, 0) if stage == 0 else np.empty(0, np.float32), prompt)
        self._pending.add(question, record, Told(question.generated_tokens, raw, corrected, told), answer)
        return answer

    def _places(self, model: str, tenant: str, stage: int) -> Array:
        places = Z_LEVELS
        for whose in dict.fromkeys((EVERYONE, tenant)):
            group = self._groups.get((model, whose, stage))
            if group is not None:
                places = group.places(places)
        return places

    def _aside(self, model: str, tenant: str) -> bool:
        for whose in (tenant, EVERYONE):
            contest = self._contests.get((model, whose))
            if contest is not None and contest.decided:
                return contest.aside
        return False

    # -- learning

    def _learn(self, one: Observed, record: Record) -> None:
        for told in record.told:
            left = one.output_tokens - told.generated
            if left <= 0:
                continue
            truth = math.log(left)
            stage = int(told.generated > 0)
            z, z_told = place_of(told.raw, truth), place_of(told.told, truth)
            self._score(one, stage, z, z_told)
            if stage == 0 and one.ended and self._history is not self._inner:
                self._compare(one, pinball(told.corrected, truth), pinball(record.history, truth))

    def _learn_late(self, one: Observed) -> None:
        """An outcome whose record is gone: the place in the law that was told, as far as it was this predictor's."""
        law = one.predicted
        if law is None or law.source != self._inner.name or one.output_tokens <= law.generated_tokens:
            return
        stage = int(law.generated_tokens > 0)
        truth = math.log(one.output_tokens - law.generated_tokens)
        z_told = place_of(quantiles_left(law, law.generated_tokens), truth)
        # Told laws are corrected ones: the correction says which place of the raw law this was.
        z = float(at_z(self._places(one.model, one.tenant, stage)[None], np.array([z_told]))[0, 0])
        self._score(one, stage, z, z_told)

    def _score(self, one: Observed, stage: int, z: float, z_told: float) -> None:
        who = zlib.crc32(one.tenant.encode("utf-8", "surrogatepass"))
        for whose in dict.fromkeys((EVERYONE, one.tenant)):
            group = _touched(self._groups, (one.model, whose, stage), Group)
            group.add(z, ended=one.ended, who=who)
            if not (one.ended or one.cut):
                continue
            # A cut answer's interval ends at the cut: it holds unless it lay wholly below.
            drifted = group.watch(z_told, covered=z_told <= Z_90 and (one.cut or z_told >= -Z_90))
            if drifted:
                _log.warning("answers drift from predictions; intervals are widened", model=one.model, tenant=whose)

    def _compare(self, one: Observed, ours: float, other: float) -> None:
        for whose in dict.fromkeys((EVERYONE, one.tenant)):
            contest = _touched(self._contests, (one.model, whose), Contest)
            if contest.add(ours, other):
                said = "worse than history: put aside" if contest.aside else "better than history again: taken back"
                _log.warning(said, predictor=self._inner.name, model=one.model, tenant=whose)

    # -- over a restart

    def learned(self) -> Arrays:
        """Corrections, contests, and what `history` and the predictor learned, as named arrays."""
        about = {"predictor": self._inner.name, "fingerprint": self._inner.fingerprint}
        parts = {"calibration": kept_groups(about, self._groups, self._contests), "inner": self._inner.learned()}
        if self._history is not self._inner:
            parts["history"] = self._history.learned()
        return joined(parts)

    def relearn(self, arrays: Arrays) -> None:
        """Takes `learned` back; corrections of another predictor or other weights are left out.

        Raises:
            ValueError, KeyError, TypeError: arrays that are not that; nothing is taken then.
        """
        parts = parted(arrays)
        about = {"predictor": self._inner.name, "fingerprint": self._inner.fingerprint}
        restored = restored_groups(parts.get("calibration", {}), about)
        if self._history is not self._inner:
            self._history.relearn(parts.get("history", {}))
        if restored is not None:
            self._inner.relearn(parts.get("inner", {}))
            self._groups, self._contests = restored


def quantiles_left(law: LengthDistribution, generated: float) -> Array:
    """Quantiles at LEVELS of log tokens left, given that `generated` are out and as if never cut; [len(LEVELS)]."""
    if law.levels == LEVELS and law.generated_tokens == generated:
        return np.log(np.maximum(np.asarray(law.tokens, np.float64) - generated, 0.5)).astype(np.float32)
    uncut = replace(law, max_tokens=MAX_TOKENS)
    tokens = np.array([uncut.quantile(level, generated) for level in LEVELS])
    return increasing(np.log(np.maximum(tokens - generated, 0.5))[None])[0]


def _touched(kept: OrderedDict[_K, _V], key: _K, make: Callable[[], _V]) -> _V:
    found = kept.get(key)
    if found is None:
        found = kept[key] = make()
        if len(kept) > MAX_GROUPS:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return found
