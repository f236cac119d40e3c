"""What predictions made of held-out answers come to in a scheduler: they are handed to whoever can simulate one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fairlead.lengths import LengthDistribution
from predictor_svc.models.levels import Array
from predictor_svc.predictors.base import Question
from predictor_svc.predictors.reading import distribution_of
from predictor_svc.training.examples import Examples

Said: TypeAlias = Sequence[tuple[int, LengthDistribution]]
"""What was said of one answer: (tokens out, the law of its whole length), in order."""

Worth: TypeAlias = Callable[
    [Sequence[tuple[int, int]], Mapping[str, Sequence[Said]], Callable[[int, int], None]], list[dict[str, Any]]
]
"""(prompt and output tokens of each answer, what each predictor said of it, progress) to rows of figures."""


def answers_of(examples: Examples) -> list[tuple[int, int]]:
    """Prompt and output tokens of each answer."""
    first = np.flatnonzero(examples.first).tolist()
    facts, left = examples.inputs.facts, examples.left
    return [(round(float(np.expm1(facts[row].numeric[0]))), int(left[row])) for row in first]


def said_of(laws: Array, examples: Examples, name: str) -> list[Said]:
    """What a predictor said of each answer.

    Args:
        laws: quantiles of log tokens left, [n, len(LEVELS)].
        examples: n; every answer's first question comes just before its later ones.
        name: of the predictor.
    """
    longest = float((examples.left + examples.inputs.generated).max())
    most = 1 << max(math.ceil(math.log2(longest)), 1)
    left = np.exp(np.clip(laws, -5, math.log(most)).astype(np.float64))
    said: list[list[tuple[int, LengthDistribution]]] = []
    for row, generated in enumerate(examples.inputs.generated.astype(int).tolist()):
        if generated == 0:
            said.append([])
        question = Question("", "", True, 1, most, generated_tokens=generated)
        said[-1].append((generated, distribution_of(left[row], question, name)))
    return list[Said](said)


def worth_rows(
    worth: Worth, laws: Mapping[str, Array], examples: Examples, told: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """The figures of all predictors on these answers."""
    said = {name: said_of(law, examples, name) for name, law in laws.items()}
    return worth(answers_of(examples), said, told)
