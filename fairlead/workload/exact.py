"""Kinds of task with one right answer, or with a count that must be exact.

Every function draws one task and returns (prompt, answer).
"""

from __future__ import annotations

import random

from fairlead.workload.words import (
    ADJECTIVES,
    ANIMALS,
    CATEGORIES,
    COLOURS,
    FRUITS,
    PLACES,
    THINGS,
    VEGETABLES,
    ask,
    joined,
    lognormal_count,
    number,
)

Pair = tuple[str, str]


def sum_short(rng: random.Random) -> Pair:
    """A sum or difference of numbers up to twenty, answered in one short sentence."""
    a, b = rng.randint(1, 20), rng.randint(1, 20)
    if rng.random() < 0.3:
        a, b = max(a, b), min(a, b)
        sign, result, core = "-", a - b, f"subtract {b} from {a}"
    else:
        sign, result, core = "+", a + b, f"add {a} and {b}"
    question = f"{a} {sign} {b}"
    forms = (f"What is {question}?", f"{question} = ?", f"How much is {question}?", question, ask(rng, core))
    return rng.choice(forms), f"{question} = {result}."


def sum_steps(rng: random.Random) -> Pair:
    """A sum of two numbers of two or three digits, worked out digit by digit."""
    digits = rng.choice((2, 2, 3))
    a, b = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
    lines: list[str] = []
    carry = 0
    for place, name in zip(range(digits), ("Ones", "Tens", "Hundreds"), strict=False):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry
        lines.append(f"{name}: {x} + {y} + {carry} = {total}, write {total % 10}, carry {total // 10}.")
        carry = total // 10
    lines.append(f"So {a} + {b} = {a + b}.")
    cores = (f"add {a} and {b} step by step", f"work out {a} + {b} step by step", f"show how to add {a} and {b}")
    return ask(rng, rng.choice(cores)), "\n".join(lines)


def times_table(rng: random.Random) -> Pair:
    """The first rows of a multiplication table."""
    base, rows = rng.randint(2, 12), rng.randint(5, 15)
    cores = (
        f"write the times table of {base} up to {rows}",
        f"show the {base} times table with {rows} rows",
        f"multiply {base} by the numbers from 1 to {rows}",
    )
    return ask(rng, rng.choice(cores)), "\n".join(f"{row} x {base} = {row * base}" for row in range(1, rows + 1))


def count(rng: random.Random) -> Pair:
    """Counting up or down, by ones or in steps; between 4 and 90 numbers."""
    step = rng.choice((1, 1, 1, 1, 2, 5, 10))
    terms = lognormal_count(rng, 26, 0.6, 4, 90 if step == 1 else 40)
    first = rng.randint(1, 30) if step == 1 else step * rng.randint(0, 10)
    last = first + step * (terms - 1)
    numbers = list(range(first, last + 1, step))
    suffix = "" if step == 1 else f" in steps of {step}"
    if rng.random() < 0.25:
        numbers.reverse()
        verb = "count down"
    else:
        verb = "count"
    core = rng.choice(
        (f"{verb} from {numbers[0]} to {numbers[-1]}{suffix}",) * 2
        + (f"{verb}{suffix} from {numbers[0]} until you reach {numbers[-1]}",)
    )
    return ask(rng, core), ", ".join(map(str, numbers)) + "."


_LIST_FORMS = (
    "list {n} {what}", "name {n} {what}", "give me {n} {what}", "write a list of {n} {what}", "tell me {n} {what}",
    "make a list of {n} different {what}", "think of {n} {what}", "write down {n} {what}",
)  # fmt: skip
_VAGUE = (("a few", 4, 0.25, 3, 7), ("some", 10, 0.4, 4, 22), ("many", 22, 0.2, 14, 31))


def list_exact(rng: random.Random) -> Pair:
    """A numbered list of exactly N things of one category, N from 3 to 30."""
    what = rng.choice(tuple(CATEGORIES))
    size = lognormal_count(rng, 11, 0.6, 3, 30)
    return _list(rng, what, size, number(rng, size))


def list_vague(rng: random.Random) -> Pair:
    """A numbered list whose length the prompt only hints at ('a few', 'some', 'many')."""
    what = rng.choice(tuple(CATEGORIES))
    word, median, spread, low, high = rng.choice(_VAGUE)
    return _list(rng, what, lognormal_count(rng, median, spread, low, high), word)


def _list(rng: random.Random, what: str, size: int, wording: str) -> Pair:
    prompt = ask(rng, rng.choice(_LIST_FORMS).format(n=wording, what=what))
    items = rng.sample(CATEGORIES[what], size)
    return prompt, "\n".join(f"{index}. {item}" for index, item in enumerate(items, start=1))


_SENTENCE_VERBS = ("found", "saw", "took", "lost", "hid", "painted", "carried", "watched")
_SENTENCE_PLACES = ("in the", "near the", "behind the", "at the")


def plain_sentence(rng: random.Random) -> str:
    """A lower-case sentence of 5 to 14 words without punctuation, for rewriting."""
    words = f"the {rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)} {rng.choice(_SENTENCE_VERBS)} the {rng.choice(THINGS)}"
    if rng.random() < 0.5:
        words += f" {rng.choice(_SENTENCE_PLACES)} {rng.choice(PLACES)}"
    if rng.random() < 0.3:
        words += f" and the {rng.choice(COLOURS[:12])} {rng.choice(ANIMALS)} {rng.choice(('ran', 'slept', 'sang'))}"
    return words


def rewrite(rng: random.Random) -> Pair:
    """A sentence to be written in upper case, backwards, or with one word on each line."""
    text = plain_sentence(rng)
    words = text.split()
    manner = rng.choice(("upper", "reverse", "lines", "dashes"))
    if manner == "upper":
        cores, answer = ("write this in upper case", "turn this into capital letters"), text.upper()
    elif manner == "reverse":
        cores = ("write these words in reverse order", "reverse the order of the words")
        answer = " ".join(reversed(words))
    elif manner == "lines":
        cores = ("write each word on its own line", "put every word on a new line")
        answer = "\n".join(words)
    else:
        cores, answer = ("join these words with dashes", "put a dash between the words"), " - ".join(words)
    return ask(rng, rng.choice(cores), text), answer


def repeat(rng: random.Random) -> Pair:
    """A sentence repeated N times on numbered lines, N from 2 to 24."""
    text = plain_sentence(rng)
    times = lognormal_count(rng, 8, 0.6, 2, 24)
    forms = ("repeat this {n} times", "write this sentence {n} times", "say this {n} times")
    core = rng.choice(forms).format(n=number(rng, times))
    return ask(rng, core, text), "\n".join(f"{index}. {text}" for index in range(1, times + 1))


def shopping_table(rng: random.Random) -> Pair:
    """A table of N goods with an amount and a price each, N from 3 to 18."""
    rows = lognormal_count(rng, 7, 0.45, 3, 18)
    what = rng.choice(("fruits", "vegetables"))
    goods = rng.sample(FRUITS if what == "fruits" else VEGETABLES, rows)
    cores = (
        f"make a table of {number(rng, rows)} {what} with amount and price",
        f"write a shopping table for {number(rng, rows)} {what}",
        f"show a price table with {number(rng, rows)} {what}",
    )
    lines = ["| No | Item | Amount | Price |", "| --- | --- | --- | --- |"]
    for index, item in enumerate(goods, start=1):
        lines.append(f"| {index} | {item} | {rng.randint(1, 9)} | {rng.randint(1, 9)} euro |")
    return ask(rng, rng.choice(cores)), "\n".join(lines)


def squares_table(rng: random.Random) -> Pair:
    """A table of the squares of 1..N, N from 4 to 20."""
    rows = rng.randint(4, 20)
    cores = (f"make a table of the squares of 1 to {rows}", f"show the square numbers from 1 to {rows} in a table")
    body = "\n".join(f"| {n} | {n * n} |" for n in range(1, rows + 1))
    return ask(rng, rng.choice(cores)), f"| Number | Square |\n| --- | --- |\n{body}"


def pick(rng: random.Random) -> Pair:
    """Words of a given sentence sorted out: the first, the last or the number of words."""
    text = plain_sentence(rng)
    words = text.split()
    asked = rng.choice(("first", "last", "names"))
    if asked == "first":
        return ask(rng, "write only the first three words", text), " ".join(words[:3])
    if asked == "last":
        return ask(rng, "write only the last two words", text), " ".join(words[-2:])
    bought = rng.sample(FRUITS, rng.randint(2, 6))
    return ask(rng, "list the fruits in this text", f"I bought {joined(bought)}."), "\n".join(bought)
