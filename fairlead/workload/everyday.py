"""Kinds of task from everyday life: letters, plans, recipes, descriptions, greetings, and things not known.

Every function draws one task and returns (prompt, answer).
"""

from __future__ import annotations

import random

from fairlead.workload.stories import Scene
from fairlead.workload.words import (
    ANIMALS,
    CATEGORIES,
    CITIES,
    DAYS,
    FRUITS,
    JOBS,
    NAMES,
    PLACES,
    RELATIVES,
    SPORTS,
    THINGS,
    TOPICS,
    VEGETABLES,
    ask,
    capital,
    lognormal_count,
    number,
)

Pair = tuple[str, str]

_LETTER_SIZES: dict[str, tuple[float, float, int, int]] = {
    "short": (6, 0.3, 2, 12),
    "": (16, 0.4, 5, 34),
    "long": (36, 0.17, 20, 48),
}
_LETTER_LINES = (
    "I think of {topic} every day.", "Yesterday I went to the {place}.", "The weather here is mild and dry.",
    "I found {athing} in the {place} and thought of you.", "Do you still have the {thing}?",
    "We talked about {topic} for a long time.", "A {adj} {animal} lives in our {place} now.",
    "The {job} next door sends you greetings.", "I hope that you are well.", "Please tell me more about {topic}.",
    "Next week I want to visit the {place}.", "My work with the {job} is going well.",
    "I bought {athing} at the market.", "The children are tall and happy.", "In the evening I read about {topic}.",
    "I miss our walks to the {place}.", "Can you send me the {thing}?", "The {animal} ate my breakfast this morning.",
    "I am learning to cook.", "When will you come to see us?",
)  # fmt: skip


def letter(rng: random.Random) -> Pair:
    """A letter to a relative about a topic; a size word sets the length."""
    relative, topic, sender = rng.choice(RELATIVES), rng.choice(TOPICS), rng.choice(NAMES)
    size = rng.choice(tuple(_LETTER_SIZES))
    count = lognormal_count(rng, *_LETTER_SIZES[size])
    form = rng.choice(("write a {s}{n} to my {r} about {t}", "help me write a {s}{n} about {t} to my {r}"))
    core = form.format(s=f"{size} " if size else "", n=rng.choice(("letter", "note", "message")), r=relative, t=topic)
    signed = rng.random() < 0.5
    if signed:
        core += f" from {sender}"
    scene = Scene(rng, relative, sender)
    chosen = rng.sample(_LETTER_LINES, min(count, len(_LETTER_LINES)))
    chosen += rng.choices(_LETTER_LINES, k=count - len(chosen))
    body = " ".join(scene.fill(line.replace("{topic}", topic)) for line in chosen)
    return ask(rng, core), f"Dear {relative},\n\n{body}\n\nYours,\n{sender if signed else 'Me'}"


_ACTIVITIES = (
    "clean the kitchen", "read a book", "call a friend", "go to the market", "water the garden", "write a letter",
    "cook some soup", "visit the library", "take a long walk", "paint a picture", "wash the clothes", "play the drum",
    "meet the neighbours", "bake bread", "fix the ladder", "rest at home", "watch a film", "learn new words",
)  # fmt: skip


def plan(rng: random.Random) -> Pair:
    """A plan for a week or for some days with a sport in it; 'detailed' plans have three entries a day."""
    sport = rng.choice(SPORTS)
    days = 7 if rng.random() < 0.6 else rng.randint(2, 6)
    span = "my week" if days == 7 else f"the next {number(rng, days)} days"
    style = rng.choice(("simple ", "", "detailed "))
    core = rng.choice(("make a {s}plan for {d} with {x}", "write a {s}plan for {d} with some {x}"))
    lines: list[str] = []
    for day in range(days):
        name = DAYS[day] if days == 7 else f"Day {day + 1}"
        entries = [*rng.sample(_ACTIVITIES, 2), f"do some {sport}" if rng.random() < 0.6 else "take a nap"]
        rng.shuffle(entries)
        if style == "detailed ":
            parts = zip(("Morning", "Afternoon", "Evening"), entries, strict=True)
            lines.append(f"{name}\n" + "\n".join(f"- {part}: {entry}" for part, entry in parts))
        else:
            kept = 1 if style == "simple " else rng.randint(2, 3)
            lines.append(f"{name}: {', then '.join(entries[:kept])}")
    return ask(rng, core.format(s=style, d=span, x=sport)), "\n".join(lines)


_STEPS = (
    "Wash the {item}.", "Cut the {item} into small pieces.", "Heat some oil in a pan.", "Add a little salt.",
    "Add one cup of water.", "Stir slowly for {n} minutes.", "Cook it for {n} minutes.", "Add the {other}.",
    "Taste it and add some pepper.", "Let it rest for {n} minutes.", "Put the {item} in a big pot.",
    "Mix the {item} with the {other}.", "Cover the pot.", "Add two spoons of sugar.", "Cut the {other} in half.",
    "Turn down the heat.",
)  # fmt: skip


def recipe(rng: random.Random) -> Pair:
    """A recipe in numbered steps, with their number given or left open."""
    item, other = rng.sample(VEGETABLES + FRUITS, 2)
    dish = f"{item} {rng.choice(('soup', 'cake', 'salad', 'pie'))}"
    asked = rng.choice(("quick ", "", "exact"))
    steps = lognormal_count(rng, 5 if asked == "quick " else 11, 0.3, 3, 17)
    form = rng.choice(("give me a {s}recipe for {d}", "write a {s}recipe for {d}", "tell me a {s}way to make {d}"))
    core = form.format(s="" if asked == "exact" else asked, d=dish)
    if asked == "exact":
        core += f" in {number(rng, steps)} steps"
    chosen = [*rng.sample(_STEPS, steps - 1), "Serve the {dish} and enjoy."]
    lines = [
        f"{index}. " + line.format(item=item, other=other, dish=dish, n=rng.choice((2, 5, 8, 10, 15, 20)))
        for index, line in enumerate(chosen, start=1)
    ]
    return ask(rng, core), "\n".join(lines)


_NOTES: dict[str, tuple[str, ...]] = {
    "animals": ("it sleeps near the {place}", "children like it", "it is often {adj}", "you can see it in the {place}",
                "it can be {adj} and {adj2}", "it is afraid of the {job}"),
    "fruits": ("it tastes good with bread", "it grows in the {place}", "you can make a pie with it", "it is sweet",
               "you can buy it at the market", "it is good for breakfast"),
    "tools": ("every {job} needs it", "keep it in {athing}", "it is useful in the {place}", "use it with care",
              "you can lend it to the {job}", "it lasts for many years"),
    "jobs": ("you work in the {place}", "you have to be {adj}", "you meet many people", "you start early",
             "you often use {athing}", "you learn it in two years"),
    "cities": ("the {place} is famous", "people there are {adj}", "the food is very good", "you can stay for two days",
               "the old {place} is nice", "it is busy in the summer"),
}  # fmt: skip


def list_notes(rng: random.Random) -> Pair:
    """A numbered list of N things with a few words about each, N from 3 to 30."""
    what = rng.choice(tuple(_NOTES))
    size = lognormal_count(rng, 11, 0.55, 3, 30)
    forms = (
        "list {n} {w} and say something about each", "name {n} {w} with a note for each",
        "give me {n} {w} and one fact about each", "describe {n} {w}",
    )  # fmt: skip
    core = rng.choice(forms).format(n=number(rng, size), w=what)
    scene = Scene(rng, "friend", "guest")
    lines: list[str] = []
    for index, item in enumerate(rng.sample(CATEGORIES[what], size), start=1):
        note = scene.fill(rng.choice(_NOTES[what]))
        lines.append(f"{index}. {item}: {note[0].lower()}{note[1:]}")
    return ask(rng, core), "\n".join(lines)


_ABOUT = (
    "It is often seen near the {place}.", "Most of them are {adj} and {adj2}.", "It likes to rest in the {place}.",
    "Children learn about it in school.", "It can be {adj} in the winter.", "Many people think that it is {adj}.",
    "In old stories it talks to the {job}.", "It eats in the morning and in the evening.",
    "A young {x} stays close to its mother.", "It does not like the {animal}.", "You can watch it from far away.",
    "It is a good subject for a painter.", "The {job} knows a lot about it.", "It moves slowly when it is tired.",
)  # fmt: skip


def describe(rng: random.Random) -> Pair:
    """A few sentences about an animal; 'briefly' and 'in detail' set the length."""
    animal = rng.choice(ANIMALS)
    manner = rng.choice((" briefly", "", " in detail"))
    median = {" briefly": 2.0, "": 6.0, " in detail": 12.0}[manner]
    form = rng.choice(("describe the {x}{m}", "tell me about the {x}{m}", "explain what a {x} is{m}"))
    scene = Scene(rng, animal, animal)
    lines = rng.sample(_ABOUT, lognormal_count(rng, median, 0.3, 1, 14))
    answer = " ".join(scene.fill(line) for line in ("The {x} is an animal.", *lines))
    core = (
        form.format(x=animal, m=manner)
        .replace("a owl", "an owl")
        .replace("a eagle", "an eagle")
        .replace("a otter", "an otter")
    )
    return ask(rng, core), answer


def greeting(rng: random.Random) -> Pair:
    """Small talk with the model itself."""
    prompts = ("Hello", "Hi!", "Hello, how are you?", "Good morning", "Hey there", "Who are you?", "What can you do?",
               "What are you?", "Help", "How can you help me?", "Thanks!", "Thank you.", "test")  # fmt: skip
    answers = (
        "Hello! I am a small demo model. Ask me for a list, a sum or a story.",
        "Hi! I can write stories, letters, lists, plans, tables and poems.",
        "I am a small demo model. I can count, add, list things and tell stories. What would you like?",
        "Hello! How can I help you?",
    )
    return rng.choice(prompts), rng.choice(answers)


_UNKNOWN = (
    "What is the capital of {city}?", "Who is the president?", "Write a program in Python that sorts a {thing}.",
    "Why is the sky blue?", "How far is it from {city} to {city2}?", "What happened in the year {year}?",
    "Who wrote the book about the {job}?", "How does a computer work?", "Say {thing} in French.",
    "What is the weather in {city} today?", "When was {name} born?", "Explain quantum physics.",
    "How much does a {thing} cost?", "What is the meaning of life?", "Where is {city}?", "Is {name} old?",
    "Solve x + {year} = {year}.", "Summarize the news from {city}.",
    "How do I fix my {thing}?",
)  # fmt: skip


def unknown(rng: random.Random) -> Pair:
    """A question outside what the model knows, and a plain answer that says so."""
    city, city2 = rng.sample(CITIES, 2)
    name = rng.choice(NAMES)
    prompt = rng.choice(_UNKNOWN).format(
        city=city, city2=city2, name=name, thing=rng.choice(THINGS), job=rng.choice(JOBS),
        place=rng.choice(PLACES), year=rng.randint(1000, 2030),
    )  # fmt: skip
    answers = (
        "I am only a small demo model and I do not know that.",
        "I do not know. Try asking me for a story, a list or a sum.",
        "Sorry, I can not answer that. I can count, add, list things and write stories.",
    )
    return capital(prompt), rng.choice(answers)
