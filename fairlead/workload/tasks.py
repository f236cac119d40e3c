"""The mix of tasks: what is drawn how often, and the seeded list of prompts a load is made of."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from fairlead.workload import everyday, exact, stories


@dataclass(frozen=True)
class Task:
    """One request of the built-in load, with the answer the demo model learns for it."""

    kind: str
    prompt: str
    answer: str


KINDS: dict[str, tuple[float, Callable[[random.Random], tuple[str, str]]]] = {
    # short: about 5 to 60 tokens of answer
    "sum_short": (4, exact.sum_short),
    "sum_steps": (5, exact.sum_steps),
    "rewrite": (6, exact.rewrite),
    "pick": (2, exact.pick),
    "greeting": (2, everyday.greeting),
    "unknown": (2, everyday.unknown),
    # middling: about 30 to 200 tokens, mostly set by a number in the prompt
    "count": (8, exact.count),
    "list_exact": (7, exact.list_exact),
    "list_vague": (4, exact.list_vague),
    "times_table": (4, exact.times_table),
    "squares_table": (3, exact.squares_table),
    "shopping_table": (5, exact.shopping_table),
    "repeat": (5, exact.repeat),
    "recipe": (6, everyday.recipe),
    "describe": (6, everyday.describe),
    # long: about 60 to 500 tokens, set by a size word in the prompt and by chance
    "list_notes": (6, everyday.list_notes),
    "plan": (7, everyday.plan),
    "letter": (11, everyday.letter),
    "dialogue": (11, stories.dialogue),
    "poem": (7, stories.poem),
    "story": (32, stories.story),
}
"""Kind -> (weight in the mix, function that draws a prompt and its answer)."""

_NAMES = tuple(KINDS)
_WEIGHTS = tuple(weight for weight, _ in KINDS.values())


def draw(rng: random.Random) -> Task:
    """One task, its kind drawn by the weights of `KINDS`."""
    kind = rng.choices(_NAMES, weights=_WEIGHTS)[0]
    prompt, answer = KINDS[kind][1](rng)
    return Task(kind, prompt, answer)


def prompts(seed: int, count: int) -> list[Task]:
    """`count` tasks of the mix; the same seed gives the same tasks, and a longer list begins with the shorter one."""
    rng = random.Random(seed)
    return [draw(rng) for _ in range(count)]
