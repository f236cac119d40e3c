"""Which laws were told for answers that have not ended: an outcome carries the law that was told and finds the rest.

An outcome names no question: the law itself, tenant and model are what it is found by. That needs no field on the wire,
and an asker can only ever reach what it was told itself. Equal laws are matched in the order in which they were told.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np

from fairlead.lengths import LengthDistribution
from predictor_svc.models.levels import Array
from predictor_svc.predictors.base import Observed, Question

MAX_TOLD = 16_384
MAX_EQUAL = 64
MAX_LATER = 4
"""Later predictions of one answer that are scored."""

APART = 1.5
"""A later prediction is scored where the answer has grown by this factor: nearer ones say the same."""

MAX_PROMPT_CHARS = 4096
"""Of a prompt that is kept for predictors that learn from text; the encoder reads no more."""


@dataclass(frozen=True, slots=True)
class Told:
    """One prediction.

    Attributes:
        generated: tokens that were out.
        raw: quantiles of log tokens left as the predictor gave them, [len(LEVELS)].
        corrected: the same after correction.
        told: those of the law that was told: `corrected`, or those of `history`.
    """

    generated: int
    raw: Array
    corrected: Array
    told: Array


@dataclass(slots=True)
class Record:
    """What was told for one answer.

    Attributes:
        told: the predictions that are scored, by tokens out.
        history: quantiles of log tokens by `history` when first asked, [len(LEVELS)].
        prompt: its text, "" where no predictor learns from it.
        keys: under which it is kept: of its prompt, and of each law.
    """

    history: Array
    prompt: str
    told: list[Told] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set[bytes])


class Pending:
    """Records by the laws that were told, within a bound; the oldest go first."""

    def __init__(self) -> None:
        self._by_law: OrderedDict[bytes, deque[Record]] = OrderedDict()
        self._by_prompt: OrderedDict[bytes, Record] = OrderedDict()

    def __len__(self) -> int:
        return max(len(self._by_law), len(self._by_prompt))

    def continued(self, question: Question) -> Record | None:
        """The record of the answer that a later question is about; None where it is not known."""
        return self._by_prompt.get(_prompt_key(question)) if question.generated_tokens else None

    def add(self, question: Question, record: Record, told: Told, law: LengthDistribution) -> None:
        """A law was told."""
        last = record.told[-1].generated if record.told else -1
        if not record.told or (told.generated >= max(last, 20) * APART and len(record.told) <= MAX_LATER):
            record.told.append(told)
        key = _law_key(question.model, question.tenant, law)
        equal = self._by_law.setdefault(key, deque(maxlen=MAX_EQUAL))
        equal.append(record)
        self._by_law.move_to_end(key)
        prompt = _prompt_key(question)
        self._by_prompt[prompt] = record
        self._by_prompt.move_to_end(prompt)
        record.keys |= {key, prompt}
        for kept in (self._by_law, self._by_prompt):
            if len(kept) > MAX_TOLD:
                kept.popitem(last=False)

    def ended(self, observed: Observed) -> Record | None:
        """The record of an answer that ended, once; None where it is not known (a restart, another replica)."""
        if observed.predicted is None:
            return None
        equal = self._by_law.get(_law_key(observed.model, observed.tenant, observed.predicted))
        if not equal:
            return None
        record = equal[0]
        self._forget(record)
        return record

    def _forget(self, record: Record) -> None:
        """It is kept no longer: what has ended takes no memory, however few others come."""
        for key in record.keys:
            if self._by_prompt.get(key) is record:
                del self._by_prompt[key]
            equal = self._by_law.get(key)
            if equal is None:
                continue
            left = deque((other for other in equal if other is not record), MAX_EQUAL)
            if left:
                self._by_law[key] = left
            else:
                del self._by_law[key]


def _law_key(model: str, tenant: str, law: LengthDistribution) -> bytes:
    return _digest(f"{model}\0{tenant}\0{law.source}\0", np.asarray(law.tokens, np.float64).tobytes())


def _prompt_key(question: Question) -> bytes:
    return _digest(f"{question.model}\0{question.tenant}\0{question.prompt_tokens}\0{question.prompt}", b"")


def _digest(text: str, data: bytes) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass") + data, digest_size=16).digest()
