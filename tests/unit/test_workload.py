"""The built-in load: seeded, correct, of the promised sizes, and varied."""

from __future__ import annotations

import random
import re
import statistics
from collections import Counter
from itertools import pairwise

import pytest

from fairlead.workload import exact, stories, words
from fairlead.workload.tasks import KINDS, Task, draw, prompts

MANY = 4000


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return prompts(11, MANY)


def of_kind(tasks: list[Task], kind: str) -> list[Task]:
    found = [task for task in tasks if task.kind == kind]
    assert found, f"no task of kind {kind} among {len(tasks)}"
    return found


def test_same_seed_gives_same_tasks_and_other_seed_others() -> None:
    assert prompts(5, 200) == prompts(5, 200)
    assert prompts(5, 200) != prompts(6, 200)


def test_longer_list_begins_with_the_shorter_one() -> None:
    assert prompts(5, 200)[:50] == prompts(5, 50)


def test_draw_takes_all_chance_from_the_given_generator() -> None:
    random.seed(1)
    first = [draw(random.Random(9)) for _ in range(3)]
    random.seed(2)
    assert first == [draw(random.Random(9)) for _ in range(3)]


def test_kinds_come_as_often_as_their_weights_say(tasks: list[Task]) -> None:
    drawn = Counter(task.kind for task in tasks)
    total = sum(weight for weight, _ in KINDS.values())
    for kind, (weight, _) in KINDS.items():
        expected = MANY * weight / total
        assert drawn[kind] == pytest.approx(expected, abs=5 * expected**0.5)


def test_short_sums_are_right(tasks: list[Task]) -> None:
    for task in of_kind(tasks, "sum_short"):
        match = re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+)\.", task.answer)
        assert match, task.answer
        a, sign, b, result = match.groups()
        assert int(result) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        assert Counter(re.findall(r"\d+", task.prompt)) == Counter((a, b))


def test_sums_in_steps_carry_rightly(tasks: list[Task]) -> None:
    for task in of_kind(tasks, "sum_steps"):
        *steps, last = task.answer.splitlines()
        a, b = map(int, re.findall(r"\d+", task.prompt))
        assert last == f"So {a} + {b} = {a + b}."
        written = ""
        carry = 0
        for line in steps:
            x, y, carried, total, digit, carry_out = map(int, re.findall(r"\d+", line))
            assert (carried, total) == (carry, x + y + carried)
            assert divmod(total, 10) == (carry_out, digit)
            written, carry = f"{digit}{written}", carry_out
        assert int(f"{carry}{written}") == a + b


def test_counting_goes_from_the_first_to_the_last_number_in_even_steps(tasks: list[Task]) -> None:
    for task in of_kind(tasks, "count"):
        numbers = [int(part) for part in task.answer.rstrip(".").split(", ")]
        asked = [int(part) for part in re.findall(r"\d+", re.sub(r"steps of \d+", "", task.prompt))]
        step = re.search(r"steps of (\d+)", task.prompt)
        assert [numbers[0], numbers[-1]] == asked
        gaps = {later - earlier for earlier, later in pairwise(numbers)}
        size = int(step[1]) if step else 1
        assert gaps == ({-size} if "down" in task.prompt else {size})


def test_lists_have_exactly_n_different_members(tasks: list[Task]) -> None:
    for task in of_kind(tasks, "list_exact"):
        lines = task.answer.splitlines()
        size = next(
            int(word) if word.isdecimal() else words.NUMBER_WORDS.index(word)
            for word in re.findall(r"\w+", task.prompt)
            if word.isdecimal() or word in words.NUMBER_WORDS
        )
        entries = [line.split(". ", 1) for line in lines]
        assert [int(index) for index, _ in entries] == list(range(1, size + 1))
        members = {item for _, item in entries}
        assert len(members) == size
        assert any(what in task.prompt and members <= set(bank) for what, bank in words.CATEGORIES.items())


def test_banks_can_fill_the_longest_list() -> None:
    for what, bank in words.CATEGORIES.items():
        assert len(set(bank)) == len(bank) >= 32, what


def test_tables_of_products_are_right(tasks: list[Task]) -> None:
    for task in of_kind(tasks, "times_table"):
        for line in task.answer.splitlines():
            row, base, product = map(int, re.findall(r"\d+", line))
            assert row * base == product


def test_rewriting_keeps_the_words(tasks: list[Task]) -> None:
    for task in of_kind(tasks, "rewrite"):
        text = re.split(r"[:?\n] ?", task.prompt, maxsplit=1)[1]
        assert Counter(re.findall(r"\w+", task.answer.lower())) == Counter(text.split())


def test_repeating_repeats_the_sentence_as_often_as_asked() -> None:
    rng = random.Random(4)
    for _ in range(200):
        prompt, answer = exact.repeat(rng)
        bodies = {line.split(". ", 1)[1] for line in answer.splitlines()}
        assert len(bodies) == 1
        assert prompt.endswith(bodies.pop())


def sentences(answer: str) -> int:
    return len(re.findall(r"[.!?](?:\s|$)", answer))


def test_stories_keep_to_a_given_number_of_sentences() -> None:
    rng = random.Random(4)
    checked = 0
    for _ in range(600):
        prompt, answer = stories.story(rng)
        asked = re.search(r"in (\w+) sentences", prompt)
        if asked:
            wanted = int(asked[1]) if asked[1].isdecimal() else words.NUMBER_WORDS.index(asked[1])
            assert sentences(answer) == wanted
            checked += 1
    assert checked > 40


def test_size_words_set_the_length_of_stories_but_leave_it_open() -> None:
    rng = random.Random(4)
    sizes: dict[str, list[int]] = {"short": [], "medium": [], "long": []}
    for _ in range(1500):
        prompt, answer = stories.story(rng)
        found = re.search(r"a (short|medium|long) ", prompt)
        if found:
            sizes[found[1]].append(sentences(answer))
    means = [statistics.fmean(lengths) for lengths in sizes.values()]
    assert means[0] * 1.5 < means[1] < means[2] / 1.5
    assert all(len(set(lengths)) >= 5 for lengths in sizes.values())


def test_prompts_are_distinct_and_worded_in_many_ways(tasks: list[Task]) -> None:
    assert len({task.prompt for task in tasks}) > 0.85 * MANY
    assert len({task.prompt.split()[0] for task in tasks}) > 30


def test_lengths_are_spread_wide_about_a_sane_mean(tasks: list[Task]) -> None:
    sizes = sorted(len(re.findall(r"\w+|[^\w\s]", task.answer)) for task in tasks)
    assert 80 < statistics.fmean(sizes) < 180
    assert sizes[MANY // 10] < 25
    assert sizes[MANY * 9 // 10] > 200
    assert sizes[-1] < 600


def test_texts_are_finished_english(tasks: list[Task]) -> None:
    for task in tasks:
        for text in (task.prompt, task.answer):
            assert text == text.strip() != ""
            assert not re.search(r"[{}]|\b[Aa] [aeiou]", text), text
