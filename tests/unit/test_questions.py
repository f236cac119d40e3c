"""When the predictor is asked: not before the first token of an LS request that has its place, at once otherwise."""

from __future__ import annotations

import asyncio

import pytest

from scheduler_svc import questions
from scheduler_svc.answer import Answer
from scheduler_svc.questions import Questions
from scheduler_svc.requests import Book, Request
from tests.unit.test_answers import make_request


@pytest.fixture
def book() -> Book:
    return Book(9, 1)


class Asked(list[tuple[str, int, str]]):
    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    def ask(self, request: Request, generated_tokens: int) -> None:
        self.append((request.accepted.request_id, generated_tokens, request.prompt_text))
        self.came.set()


async def test_an_ls_request_that_is_placed_is_asked_about_after_its_first_token_and_once(book: Book) -> None:
    asked = Asked()
    of, request = Questions(book.live, asked.ask), make_request(book, "r", Answer())
    of.put(request, 0, placed=True)
    await asyncio.sleep(0)
    assert asked == []
    for _ in range(3):
        of.token_came(request)
    await asyncio.sleep(0)
    assert asked == [("r", 0, "p")]


async def test_nobody_else_waits(book: Book) -> None:
    asked = Asked()
    of = Questions(book.live, asked.ask)
    waiting, batch, later = (make_request(book, name, Answer()) for name in ("waiting", "batch", "later"))
    batch.latency_sensitive = False
    later.answer.append([1] * 50, "x")
    of.put(waiting, 0, placed=False)
    of.put(batch, 0, placed=True)
    of.put(later, 50, placed=True)
    assert [name for name, *_ in asked] == ["waiting", "batch", "later"]


async def test_who_gets_no_token_is_asked_about_all_the_same(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "AT_LATEST_S", 0.0)
    asked = Asked()
    of, request = Questions(book.live, asked.ask), make_request(book, "r", Answer())
    of.put(request, 0, placed=True)
    async with asyncio.timeout(10):
        await asked.came.wait()


async def test_who_has_ended_is_not_asked_about(book: Book) -> None:
    asked = Asked()
    of, request = Questions(book.live, asked.ask), make_request(book, "r", Answer())
    of.put(request, 0, placed=True)
    of.token_came(request)
    book.ended(request)
    await asyncio.sleep(0)
    assert asked == []


async def test_the_text_of_a_prompt_of_ids_is_fetched_before_the_question(book: Book) -> None:
    asked, may_come = Asked(), asyncio.Event()
    of, request = Questions(book.live, asked.ask), make_request(book, "r", Answer())

    async def fetch() -> str:
        await may_come.wait()
        return "fetched"

    request.fetch_text = fetch
    of.put(request, 0, placed=False)
    await asyncio.sleep(0)
    assert asked == []
    may_come.set()
    async with asyncio.timeout(10):
        await asked.came.wait()
    assert asked == [("r", 0, "fetched")]
