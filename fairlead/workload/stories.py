"""Kinds of task answered in free prose whose length the prompt suggests but does not fix: stories, talks, poems.

Every function draws one task and returns (prompt, answer).
"""

from __future__ import annotations

import random

from fairlead.workload.words import (
    ADJECTIVES,
    ANIMALS,
    JOBS,
    NAMES,
    PLACES,
    THINGS,
    TOPICS,
    article,
    ask,
    capital,
    lognormal_count,
    number,
)

Pair = tuple[str, str]

STORY_SIZES: dict[str, tuple[float, float, int, int]] = {
    "very short": (4, 0.25, 2, 8),
    "short": (8, 0.3, 4, 15),
    "medium": (20, 0.3, 9, 34),
    "long": (40, 0.17, 24, 52),
}
"""Size word -> sentences of a story: median, spread, least, most."""

_OPENINGS = (
    "Once there was {ax} who lived near the {place}.",
    "Long ago, {ax} lived in a {adj} house by the {place}.",
    "There was once {ax} who loved the {place}.",
    "In a {adj} {place} lived {ax}.",
)  # fmt: skip
_MEETINGS = (
    "One day the {x} met {ay}.",
    "One morning {ay} came to the {place}.",
    "Then {ay} knocked on the door.",
    "In the {place} the {x} saw {ay}.",
)  # fmt: skip
_EVENTS = (
    "They walked to the {place} together.",
    "The {x} found {athing} under a tree.",
    "The {y} wanted to see the {place}.",
    "The {x} was {adj}, but the {y} was {adj2}.",
    "They looked for {athing} all day.",
    "The {y} told the {x} a {adj} story.",
    "It began to rain, so they hid in the {place}.",
    "The {x} gave the {thing} to the {y}.",
    "At night they slept in the {place}.",
    "The {y} lost the {thing} in the {place}.",
    "The {x} laughed and began to sing.",
    "A {adj} {animal} showed them the way.",
    "They shared some bread and a cup of tea.",
    "The {y} heard a strange sound in the {place}.",
    "The {x} opened the door with {athing}.",
    "They asked a {adj} {job} for help.",
    "The {job} gave them {athing}.",
    "The next day they went back to the {place}.",
    "The {y} said that the {thing} was magic.",
    "The {x} did not believe it at first.",
    "Soon the sun came out again.",
    "They saw a {animal} with {athing}.",
    "The {x} and the {y} crossed the {place}.",
    "The {y} was afraid of the {animal}.",
    "The {x} told the {animal} to go home.",
    "After that they were very tired.",
    "They built a small house near the {place}.",
    "The {y} wrote a letter to the {job}.",
    "In the {place} they found another {thing}.",
    "The {animal} took the {thing} and ran away.",
    "The {x} ran after the {animal}.",
    "Nobody knew where the {thing} was.",
    "The {y} had a {adj} idea.",
    "They waited for a long time.",
    "The moon was bright over the {place}.",
    "At last they found the {thing} again.",
)  # fmt: skip
_ENDINGS = (
    "In the end the {x} and the {y} became good friends.",
    "And so the {x} and the {y} went home happy.",
    "From that day on, the {x} and the {y} lived in the {place}.",
    "In the end they kept the {thing} and lived well.",
)  # fmt: skip
_STORY_FORMS = (
    "write {size}story about {ax} and {ay}", "tell me {size}story about {ax} and {ay}",
    "tell {size}story with {ax} and {ay}", "make up {size}story about {ax} and {ay}",
    "write {size}tale of {ax} and {ay}", "write {size}story about {ax} who meets {ay}",
)  # fmt: skip


class Scene:
    """The fixed cast of a text and fresh small words for every sentence of it."""

    def __init__(self, rng: random.Random, first: str, second: str) -> None:
        self._rng = rng
        self._cast = {"x": first, "y": second, "ax": article(first), "ay": article(second)}

    def fill(self, template: str) -> str:
        """The template as a sentence that begins with a capital letter."""
        rng = self._rng
        thing, (adj, adj2) = rng.choice(THINGS), rng.sample(ADJECTIVES, 2)
        if "{adj}" in template and rng.random() < 0.5:
            adj, adj2 = adj2, adj
        text = capital(template).format(
            **self._cast, thing=thing, athing=article(thing), adj=adj, adj2=adj2, place=rng.choice(PLACES),
            animal=rng.choice(ANIMALS), job=rng.choice(JOBS),
        )  # fmt: skip
        for vowel in "aeiou":
            text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
        return text


def _spread(rng: random.Random, bank: tuple[str, ...], count: int) -> list[str]:
    """`count` templates of the bank, none twice before all were used once."""
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += rng.sample(bank, min(len(bank), count - len(chosen)))
    return chosen


def story(rng: random.Random) -> Pair:
    """A story of 2 to 52 sentences about two characters; a size word or a number of sentences sets the length."""
    first, second = rng.sample(ANIMALS + JOBS, 2)
    style = rng.random()
    if style < 0.75:
        size = rng.choices(tuple(STORY_SIZES), weights=(1, 4, 5, 6))[0]
        wording, sentences = article(size) + " ", lognormal_count(rng, *STORY_SIZES[size])
    elif style < 0.85:
        wording, sentences = "a ", lognormal_count(rng, 20, 0.5, 4, 48)
    else:
        wording, sentences = "a ", lognormal_count(rng, 12, 0.6, 3, 40)
    core = rng.choice(_STORY_FORMS).format(size=wording, ax=article(first), ay=article(second))
    if style >= 0.85:
        core += f" in {number(rng, sentences)} sentences"
    scene = Scene(rng, first, second)
    middle = [rng.choice(_MEETINGS), *_spread(rng, _EVENTS, max(0, sentences - 3))] if sentences > 2 else []
    lines = [scene.fill(line) for line in (rng.choice(_OPENINGS), *middle, rng.choice(_ENDINGS))]
    paragraphs = [" ".join(lines[start : start + 6]) for start in range(0, len(lines), 6)]
    return ask(rng, core), "\n\n".join(paragraphs)


TALK_SIZES: dict[str, tuple[float, float, int, int]] = {
    "short": (6, 0.3, 3, 12),
    "": (16, 0.45, 5, 36),
    "long": (34, 0.17, 20, 44),
}
"""Size word -> turns of a dialogue: median, spread, least, most."""
_SAYINGS = (
    "Good morning! How are you today?", "I am fine, thank you.", "Did you see the {thing} in the {place}?",
    "No, I was in the {place}.", "I think the {animal} took it.", "That would be {adj}.", "Shall we go to the {place}?",
    "Yes, let us go now.", "I am too {adj} for that.", "What do you want to do with the {thing}?",
    "I want to give it to the {job}.", "Be careful, the {animal} is {adj}.", "I am not afraid of the {animal}.",
    "You are very {adj}.", "Can you help me with the {thing}?", "Of course I can help you.",
    "The {job} told me about the {place}.", "I do not believe the {job}.", "Let me think about it.",
    "I have never seen {athing} like that.", "Where did you find it?", "It was under a tree in the {place}.",
)  # fmt: skip


def dialogue(rng: random.Random) -> Pair:
    """A talk between two people, one line for each turn."""
    one, two = rng.sample(NAMES, 2)
    size = rng.choice(tuple(TALK_SIZES))
    turns = lognormal_count(rng, *TALK_SIZES[size])
    noun = rng.choice(("dialogue", "conversation", "talk"))
    form = rng.choice(
        ("write a {s}{n} between {a} and {b}", "let {a} and {b} have a {s}{n}", "make up a {s}{n} of {a} and {b}")
    )
    core = form.format(s=f"{size} " if size else "", n=noun, a=one, b=two)
    if not size and rng.random() < 0.5:
        core += f" with {turns} lines"
    scene = Scene(rng, one, two)
    sayings = [*_spread(rng, _SAYINGS, turns - 1), rng.choice(("Goodbye, see you soon!", "Good night, my friend."))]
    lines = [f"{(one, two)[turn % 2]}: {scene.fill(saying)}" for turn, saying in enumerate(sayings)]
    return ask(rng, core), "\n".join(lines)


_VERSES = (
    "{Topic} is calm and clear", "I walk alone beside the {place}", "the {animal} sleeps beside the {thing}",
    "my heart is {adj} and light", "{Topic} is always near", "a {adj} {animal} sings to me",
    "I dream of {topic} at night", "the {place} is {adj} today", "no {thing} is as fine as this",
    "oh {topic}, stay with me", "the {job} looks up and smiles", "so slowly goes the day",
    "I hear {topic} in every sound", "and all the world is {adj}",
)  # fmt: skip
_POEM_SIZES: dict[str, tuple[float, float, int, int]] = {
    "short": (5, 0.3, 3, 10),
    "": (12, 0.4, 4, 28),
    "long": (36, 0.2, 20, 52),
}


def poem(rng: random.Random) -> Pair:
    """A poem of 3 to 52 lines about a topic, in verses of four lines."""
    topic = rng.choice(TOPICS)
    size = rng.choice(tuple(_POEM_SIZES))
    lines = lognormal_count(rng, *_POEM_SIZES[size])
    core = rng.choice(("write a {s}poem about {t}", "make up a {s}poem about {t}", "give me a {s}poem on {t}"))
    core = core.format(s=f"{size} " if size else "", t=topic)
    if not size and rng.random() < 0.5:
        core += f" with {number(rng, lines)} lines"
    scene = Scene(rng, "friend", "night")
    verses = [
        scene.fill(line.replace("{topic}", topic).replace("{Topic}", topic)) for line in _spread(rng, _VERSES, lines)
    ]
    stanzas = ["\n".join(verses[start : start + 4]) for start in range(0, lines, 4)]
    return ask(rng, core), "\n\n".join(stanzas)
