"""An answer can be read from any token, at any pace: no gap, no repeat; and ended ones are kept in bounds."""

from __future__ import annotations

import asyncio
from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.answer import MAX_DELTA_TOKENS, Answer
from scheduler_svc.requests import Book, Request, tokens_agree
from scheduler_svc.rounds import Rounds
from scheduler_svc.streams import ClientStream

MESSAGES = st.lists(st.tuples(st.integers(0, 5), st.text("ab", max_size=4)), max_size=12)


def read_all(answer: Answer, from_token: int) -> tuple[list[int], str]:
    """Everything from this token on, as one reader takes it."""
    ids: list[int] = []
    text, token, piece = "", from_token, answer.piece_at(from_token)
    delta = inference_pb2.Delta(first_token=9, text="of another", token_ids=[9])
    while answer.follows(piece):
        piece = answer.fill(delta, token, piece, with_ids=True)
        assert delta.first_token == token
        assert delta.token_count == len(delta.token_ids) > 0
        token += delta.token_count
        ids += delta.token_ids
        text += delta.text
    return ids, text


@given(MESSAGES, st.integers(0, 3), st.booleans())
def test_what_was_sent_and_what_follows_make_the_whole_wherever_a_reader_stopped(
    messages: list[tuple[int, str]], received: int, sealed: bool
) -> None:
    answer = Answer(range(received))
    whole = ""
    stops: list[tuple[int, str]] = [(received, "")]
    for count, text in messages:
        answer.append(range(len(answer), len(answer) + count), text)
        whole += text
        if count:
            stops.append((len(answer), whole))
    if sealed:
        answer.seal()
    assert answer.text() == whole
    for held, held_text in stops:
        ids, text = read_all(answer, held)
        assert ids == list(range(held, len(answer)))
        assert held_text + text + answer.tail() == whole
    for token in range(received, len(answer) + 1):
        assert read_all(answer, token)[0] == list(range(token, len(answer)))


def test_a_long_answer_is_sent_in_deltas_that_fit_a_message() -> None:
    answer = Answer()
    for _ in range(5000):
        answer.append([7] * 7, "xyz")
    token, piece, sizes = 0, 0, list[int]()
    while answer.follows(piece):
        delta = inference_pb2.Delta()
        piece = answer.fill(delta, token, piece, with_ids=False)
        sizes.append(delta.token_count)
        token += delta.token_count
    assert sum(sizes) == 35_000
    assert max(sizes) <= MAX_DELTA_TOKENS


def make_request(book: Book, name: str, answer: Answer) -> Request:
    accepted = inference_pb2.Accepted(request_id=name, tenant="t")
    request = Request(
        handle=book.next_handle(), accepted=accepted, digest=b"", latency_sensitive=True, prompt_ids=array("I", [1]),
        prompt_text="p", sampling=types_pb2.SamplingParams(), slo=types_pb2.Slo(), arrived_ms=0.0, expires_ms=1e9,
        resume_grace_ms=0, return_token_ids=True, length_hint=None, answer=answer,
    )  # fmt: skip
    book.add(request)
    return request


async def test_tokens_that_come_while_a_write_is_in_flight_join_the_next_delta() -> None:
    request = make_request(Book(9, 1), "r", Answer())
    stream = ClientStream(request, 0, Rounds())
    joined = inference_pb2.Delta()
    request.answer.append([1], "a")
    assert await stream.next(joined)
    assert joined.text == "a"
    for text in "bcd":  # the reader of the first delta is still busy with it
        request.answer.append([2], text)
        stream.tokens_came()
    assert len(stream.request.answer) - stream.taken == 3
    assert await stream.next(joined)
    assert (joined.first_token, joined.token_count, joined.text) == (1, 3, "bcd")
    assert len(stream.request.answer) - stream.taken == 0


async def test_the_tail_comes_last_and_only_then_the_stream_ends() -> None:
    request = make_request(Book(9, 1), "r", Answer())
    stream = ClientStream(request, 0, Rounds())
    request.answer.append([1], "a")
    request.answer.append([], "late")
    reading = asyncio.create_task(_texts(stream))
    await asyncio.sleep(0)
    request.finished = inference_pb2.Finished()
    stream.wake()
    assert await reading == [(0, 1, "a"), (1, 0, "late")]


async def _texts(stream: ClientStream) -> list[tuple[int, int, str]]:
    found, delta = list[tuple[int, int, str]](), inference_pb2.Delta()
    while await stream.next(delta):
        found.append((delta.first_token, delta.token_count, delta.text))
    return found


async def test_history_that_a_late_reader_asked_for_is_no_lag() -> None:
    request = make_request(Book(9, 1), "r", Answer())
    request.answer.append(range(100_000), "x")
    stream = ClientStream(request, 0, Rounds())
    assert len(stream.request.answer) - stream.taken == 0
    request.answer.append([1, 2], "y")
    assert len(stream.request.answer) - stream.taken == 2


def test_ended_requests_are_kept_until_the_bound_those_asked_for_last_longest() -> None:
    book = Book(2, 1)
    requests = [make_request(book, f"r{index}", Answer()) for index in range(3)]
    for request in requests[:2]:
        book.ended(request)
    assert book.find(("t", "r0")) is requests[0]
    book.ended(requests[2])
    assert [book.find(("t", f"r{index}")) is not None for index in range(3)] == [True, False, True]
    assert book.live == {}
    assert requests[0].prompt_text == ""


def test_handles_of_different_epochs_differ_and_wrap_without_zero() -> None:
    first, second = Book(1, 1), Book(1, 2)
    assert [first.next_handle(), first.next_handle()] == [(1 << 20) + 1, (1 << 20) + 2]
    assert second.next_handle() == (2 << 20) + 1
    last = Book(1, 0xFFF)
    handles = [last.next_handle() for _ in range((1 << 20) + 3)]
    assert min(handles) > 0
    assert max(handles) < 2**32
    assert all(before != after for before, after in pairwise(handles))


def test_tokens_received_before_must_be_how_the_answer_begins() -> None:
    answer = Answer([5, 6, 7])
    told = [tokens_agree(answer, tokens) for tokens in ([], [5, 6], [5, 7], [5, 6, 7, 8])]
    assert told == [True, True, False, False]
