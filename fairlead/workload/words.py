"""Word banks and wording helpers shared by every kind of task.

The banks are kept small on purpose: a model of two million parameters has to learn every word in them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

ANIMALS = (
    "cat", "dog", "fox", "bear", "wolf", "horse", "cow", "goat", "sheep", "pig", "duck", "hen", "owl", "crow",
    "swan", "eagle", "frog", "toad", "snake", "turtle", "rabbit", "hare", "mouse", "rat", "beaver", "otter", "seal",
    "whale", "shark", "crab", "lion", "tiger", "zebra", "camel", "monkey", "panda", "deer", "moose", "donkey", "bee",
)  # fmt: skip
FRUITS = (
    "apple", "pear", "plum", "peach", "cherry", "lemon", "lime", "orange", "banana", "mango", "grape", "melon", "fig",
    "date", "kiwi", "papaya", "guava", "apricot", "coconut", "olive", "quince", "pineapple", "blueberry", "raspberry",
    "strawberry", "blackberry", "grapefruit", "nectarine", "pomegranate", "lychee", "currant", "cranberry",
)  # fmt: skip
VEGETABLES = (
    "carrot", "potato", "onion", "tomato", "pea", "bean", "leek", "cabbage", "spinach", "pumpkin", "radish", "turnip",
    "beet", "celery", "pepper", "garlic", "lettuce", "kale", "broccoli", "corn", "cucumber", "fennel", "squash",
    "cauliflower", "mushroom", "asparagus", "artichoke", "parsnip", "chard", "okra", "eggplant", "endive",
)  # fmt: skip
COLOURS = (
    "red", "blue", "green", "yellow", "white", "black", "brown", "grey", "pink", "purple", "gold", "silver",
    "violet", "beige", "navy", "teal", "ivory", "scarlet", "amber", "bronze", "cream", "coral", "indigo", "khaki",
    "lilac", "maroon", "mint", "mustard", "olive", "rust", "tan", "turquoise",
)  # fmt: skip
TOOLS = (
    "hammer", "saw", "drill", "rope", "ladder", "brush", "spade", "rake", "knife", "shovel", "axe", "chisel", "file",
    "wrench", "pliers", "level", "ruler", "nail", "screw", "bolt", "clamp", "torch", "bucket", "tape", "glue",
    "scissors", "needle", "broom", "mop", "sponge", "hose", "lamp",
)  # fmt: skip
CITIES = (
    "Paris", "London", "Rome", "Berlin", "Madrid", "Oslo", "Lisbon", "Vienna", "Prague", "Dublin", "Athens", "Cairo",
    "Tokyo", "Delhi", "Lima", "Boston", "Chicago", "Toronto", "Sydney", "Nairobi", "Lagos", "Seoul", "Hanoi",
    "Bangkok", "Helsinki", "Warsaw", "Brussels", "Geneva", "Milan", "Naples", "Porto", "Seville",
)  # fmt: skip
JOBS = (
    "farmer", "baker", "sailor", "teacher", "doctor", "nurse", "painter", "singer", "dancer", "writer", "pilot",
    "driver", "cook", "carpenter", "gardener", "fisher", "tailor", "miller", "guard", "judge", "king", "queen",
    "knight", "wizard", "robot", "captain", "postman", "librarian", "clown", "chemist", "plumber", "mason",
)  # fmt: skip
SPORTS = (
    "football", "tennis", "golf", "hockey", "rugby", "cricket", "running", "swimming", "rowing", "sailing", "skiing",
    "skating", "boxing", "judo", "karate", "fencing", "archery", "climbing", "cycling", "surfing", "diving",
    "basketball", "volleyball", "baseball", "badminton", "squash", "curling", "wrestling", "bowling", "polo",
    "triathlon", "darts",
)  # fmt: skip
NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jack", "Kate", "Leo", "Mia", "Noah",
    "Olga", "Paul", "Rosa", "Sam", "Tom", "Vera",
)  # fmt: skip
PLACES = (
    "forest", "garden", "village", "harbour", "market", "castle", "river", "lake", "park", "cave", "desert",
    "meadow", "valley", "barn", "orchard", "school", "library", "kitchen", "tower", "mill",
)  # fmt: skip
THINGS = (
    "key", "map", "book", "coin", "lamp", "box", "ring", "bell", "letter", "clock", "drum", "boat", "kite", "cup",
    "basket", "hat", "mirror", "stone", "feather", "candle",
)  # fmt: skip
ADJECTIVES = (
    "old", "young", "small", "big", "brave", "quiet", "clever", "happy", "tired", "gentle", "proud", "shy", "kind",
    "lazy", "quick", "strange", "lonely", "curious", "golden", "hungry",
)  # fmt: skip
RELATIVES = ("aunt", "uncle", "mother", "father", "sister", "brother", "cousin", "friend", "neighbour", "teacher")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TOPICS = (
    "the sea", "the moon", "the rain", "the winter", "the summer", "the night", "the wind", "the snow", "the sun",
    "the stars", "the garden", "the river", "the city", "the forest", "music", "friendship",
)  # fmt: skip

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animals": ANIMALS,
    "fruits": FRUITS,
    "vegetables": VEGETABLES,
    "colours": COLOURS,
    "tools": TOOLS,
    "cities": CITIES,
    "jobs": JOBS,
    "sports": SPORTS,
}
"""Plural name of a category -> the members a list may hold (32 or more each, so lists of 30 are possible)."""

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip


def article(noun: str) -> str:
    """The noun with 'a' or 'an' in front."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(text: str) -> str:
    """The text with its first letter in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def number(rng: random.Random, value: int) -> str:
    """A number as digits, or now and then as a word when it is twelve or less."""
    if 0 < value < len(NUMBER_WORDS) and rng.random() < 0.3:
        return NUMBER_WORDS[value]
    return str(value)


def joined(words: Sequence[str]) -> str:
    """Words as English lists them: 'a', 'a and b', 'a, b and c'."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


_STATEMENTS = (
    "{core}.", "{core}.", "{core}.", "{core}", "Please {low}.", "Please {low}.", "{core}, please.", "Now {low}.",
    "I want you to {low}.", "I would like you to {low}.", "Hello! {core}.", "Hi, {low}.", "{core}. Thank you!",
    "{low}", "Help me: {low}.", "My task for you: {low}.",
)  # fmt: skip
_QUESTIONS = ("Can you {low}?", "Could you {low}?", "Could you please {low}?", "Would you {low} for me?")
_LEADS = ("{core}: {tail}", "{core}: {tail}", "Please {low}: {tail}", "Can you {low}? {tail}", "{core}.\n{tail}")


def ask(rng: random.Random, core: str, tail: str = "") -> str:
    """One of many wordings of a request.

    `core` is an imperative without a full stop ('list 3 cats'); `tail` is text to work on, set apart from it.
    """
    if tail:
        return rng.choice(_LEADS).format(core=capital(core), low=core, tail=tail)
    form = rng.choice(_QUESTIONS if rng.random() < 0.25 else _STATEMENTS)
    return form.format(core=capital(core), low=core)


def lognormal_count(rng: random.Random, median: float, spread: float, low: int, high: int) -> int:
    """A whole number drawn log-normally about `median`, kept within `low`..`high`."""
    return min(high, max(low, round(rng.lognormvariate(0.0, spread) * median)))
