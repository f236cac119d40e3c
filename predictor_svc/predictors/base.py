"""What a predictor is: a batch of questions in, one length distribution each out; outcomes in, something learned.

A new predictor is one class with this interface and one entry point in the group `fairlead.predictors`. It is called
from one thread only, never from two at a time, so it needs no locks; it keeps text only within bounds and logs none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray

from fairlead.config import ConfigError, PredictorConfig
from fairlead.lengths import LengthDistribution

ENTRY_POINTS = "fairlead.predictors"


@dataclass(frozen=True)
class Question:
    """How long will this answer be?

    Attributes:
        model: served model's name.
        tenant: who asks; a tenant's text is never used for another's answer.
        latency_sensitive: its class.
        prompt_tokens: tokens of the prompt.
        max_tokens: where the answer is cut, >= 1.
        prompt: the prompt's text, possibly empty.
        generated_text: the answer so far.
        generated_tokens: tokens of it; 0 at the first question.
        length_hint_tokens: the true length, where an operator told it.
    """

    model: str
    tenant: str
    latency_sensitive: bool
    prompt_tokens: int
    max_tokens: int
    prompt: str = ""
    generated_text: str = ""
    generated_tokens: int = 0
    length_hint_tokens: int | None = None


@dataclass(frozen=True)
class Observed:
    """How long an answer was.

    Attributes:
        output_tokens: its tokens, >= 1.
        ended: it ended by itself; False: it was cut or cancelled, so its length is "at least" this.
        prompt: its text where the observer gives it; "" where text is not kept.
        predicted: the first law that was told for it.
        cut: it ran to its `max_tokens`.
    """

    model: str
    tenant: str
    latency_sensitive: bool
    prompt_tokens: int
    output_tokens: int
    ended: bool
    prompt: str = ""
    predicted: LengthDistribution | None = None
    cut: bool = False


@dataclass(frozen=True)
class CannotPredict:
    """The answer to a question that a predictor cannot deal with, e.g. no hint for the oracle."""

    detail: str


Answer: TypeAlias = LengthDistribution | CannotPredict
Arrays: TypeAlias = Mapping[str, NDArray[Any]]


class Predictor(ABC):
    """Turns questions into length distributions."""

    name: ClassVar[str]

    calibrated: ClassVar[bool] = True
    """Whether its intervals are corrected from outcomes while it serves."""

    learns_text: ClassVar[bool] = False
    """Whether it learns from the prompts of outcomes; else no prompt is kept for it."""

    @classmethod
    @abstractmethod
    def open(cls, config: PredictorConfig) -> Predictor:
        """Loads what it needs; may take seconds.

        Raises:
            ConfigError: what the configuration names is missing, damaged or does not fit; the message says which.
        """

    @property
    def fingerprint(self) -> str:
        """Hash of what was loaded; "" where nothing was."""
        return ""

    @abstractmethod
    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer for each question, in order, each cut at its question's `max_tokens`."""

    def observe(self, observed: Sequence[Observed]) -> int:
        """Learns from real lengths; returns how many were learned from."""
        del observed
        return 0

    def learned(self) -> Arrays:
        """What it learned while serving, for a restart: named arrays of plain numbers."""
        return {}

    def relearn(self, arrays: Arrays) -> None:
        """Takes back what `learned` gave; empty: nothing was kept.

        Raises:
            ValueError, KeyError, TypeError: arrays that are not that; nothing is taken then.
        """
        del arrays


def open_predictor(config: PredictorConfig) -> Predictor:
    """Opens the predictor that the configuration names.

    Raises:
        ConfigError: no such predictor is installed, or it cannot be opened.
    """
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if config.predictor not in installed:
        names = ", ".join(sorted(installed)) or "none"
        raise ConfigError(f"predictor.predictor: {config.predictor!r} is not installed; installed: {names}")
    try:
        kind: type[Predictor] = installed[config.predictor].load()
    except ImportError as error:
        raise ConfigError(
            f"predictor.predictor: {config.predictor!r} needs {error.name or error}; "
            "install the extra: pip install 'fairlead[predictor]'"
        ) from None
    return kind.open(config)
