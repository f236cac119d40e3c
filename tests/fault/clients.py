"""Clients in a virtual world: the real client library, with habits; each remembers every token that it got."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Any

from fairlead.client import (
    Accepted,
    AsyncClient,
    DeadlineExceeded,
    Delta,
    FairleadError,
    Finished,
    NotFound,
    Outcome,
    Overloaded,
    Retry,
    Unavailable,
)
from worker_svc.engines import simulated_text as words

HABITS = ("reads", "reads", "reads", "reads", "reads", "cancels", "leaves", "dawdles", "reads twice", "is robbed")
MEDIAN_TOKENS = 24
PATIENT = {"attempts": 500, "first_delay_s": 0.05, "max_delay_s": 1.0, "reattach_attempts": 500}


@dataclass(frozen=True)
class Wish:
    """What the requests of a crowd have in common; the rest of each is random."""

    tenant: str
    service_class: str
    max_tokens: int


@dataclass
class Asked:
    """One request and what became of it.

    Attributes:
        habit: of its client, one of `HABITS`.
        options: as given to the client.
        ids: tokens received, in order.
        accepted, finished, error: what the client library gave.
        ended_by_us: the client cancelled it or left.
        wrong: what broke I2 or I8.
    """

    request_id: str
    tenant: str
    prompt: str
    habit: str
    options: dict[str, Any]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    accepted: Accepted | None = None
    finished: Finished | None = None
    error: FairleadError | None = None
    ended_by_us: bool = False
    wrong: str = ""
    done: bool = False

    def answer_id(self, index: int) -> int:
        """Token `index` of the answer that the engine gives."""
        key = words.answer_key(words.tokenize(self.prompt), self.options.get("seed") or 0)
        return words.answer_token(key, index)

    def whole_tokens(self) -> int:
        """Length of the answer when nothing ends it early."""
        options = self.options
        key = words.answer_key(words.tokenize(self.prompt), options.get("seed") or 0)
        natural = words.answer_length(key, MEDIAN_TOKENS)
        most: int = options["max_tokens"]
        return most if options.get("ignore_eos") else min(most, max(natural, options.get("min_tokens") or 0, 1))

    @property
    def continuable(self) -> bool:
        """Whether the design promises that it survives a lost worker in mid-answer."""
        return "seed" not in self.options and "presence_penalty" not in self.options


class Clients:
    """Makes requests and follows them.

    Args:
        address: of the scheduler.
        rng: of everything that they do.
    """

    def __init__(self, address: str, rng: random.Random) -> None:
        self.asked: list[Asked] = []
        self._rng = rng
        self._clients = {
            name: AsyncClient(
                address, f"{name}-key", retry=Retry(seed=rng.randrange(2**32), **PATIENT),
                clock=asyncio.get_running_loop().time,
            )
            for name in ("alice", "bob")
        }  # fmt: skip

    def make(self, wish: Wish | None = None) -> Asked:
        """A request of a random kind, but for what is wished."""
        rng = self._rng
        tenant = rng.choice(("alice", "bob"))
        options: dict[str, Any] = {
            "max_tokens": rng.choice((1, 5, 20, 40, 60)),
            "service_class": rng.choice(("ls", "be")),
            "return_token_ids": True,
            "resume_grace_ms": rng.choice((0, 1000, 60_000, 60_000, 60_000)),
        }
        kinds = {"ignore_eos": True, "min_tokens": 4, "seed": 7, "presence_penalty": 0.5}
        for name, value in kinds.items():
            if rng.random() < 0.12:
                options[name] = value
        if wish is not None:
            tenant = wish.tenant
            options |= {"service_class": wish.service_class, "max_tokens": wish.max_tokens}
        options["max_tokens"] = max(options["max_tokens"], options.get("min_tokens", 1))
        if rng.random() < 0.15:
            options["timeout_s"] = rng.uniform(0.1, 6.0)
        index = len(self.asked)
        lengths = (1, 3, 10, 40, 150) if wish is None else (1, 3)
        prompt = " ".join(rng.choice(words.WORDS) for _ in range(rng.choice(lengths)))
        asked = Asked(f"r{index}", tenant, prompt, rng.choice(HABITS), options)
        options["request_id"] = asked.request_id
        self.asked.append(asked)
        return asked

    async def follow(self, asked: Asked) -> None:
        """Asks and reads to the end, in the habit of this client."""
        stop_after = self._rng.randint(0, 12)
        try:
            if asked.habit == "reads twice":
                second = asyncio.create_task(self._second(asked))
                try:
                    await self._read(asked, stop_after)
                finally:
                    second.cancel()
            else:
                await self._read(asked, stop_after)
        except FairleadError as error:
            asked.error = error
        asked.done = True

    async def _read(self, asked: Asked, stop_after: int) -> None:
        client, rng = self._clients[asked.tenant], self._rng
        async with contextlib.aclosing(client.generate(asked.prompt, **asked.options)) as events:
            async for event in events:
                if isinstance(event, Accepted):
                    asked.accepted = event
                elif isinstance(event, Delta):
                    self._take(asked, event)
                else:
                    asked.finished = event
                    return
                if len(asked.ids) < stop_after:
                    continue
                if asked.habit == "leaves":
                    asked.ended_by_us = True
                    return
                if asked.habit == "cancels" and not asked.ended_by_us:
                    asked.ended_by_us = True
                    with contextlib.suppress(FairleadError):
                        await client.cancel(asked.request_id)
                if asked.habit == "dawdles":
                    await asyncio.sleep(rng.uniform(0.0, 1.5))
                if asked.habit == "is robbed":
                    await self._rob(asked)

    def _take(self, asked: Asked, delta: Delta) -> None:
        """I2: the tokens are 0, 1, 2 ... and they are the answer's."""
        if delta.first_token != len(asked.ids):
            asked.wrong = f"I2: token {delta.first_token} came after {len(asked.ids)}"
        asked.ids.extend(delta.token_ids)
        asked.text += delta.text
        for index in range(delta.first_token, len(asked.ids)):
            if asked.ids[index] != asked.answer_id(index):
                asked.wrong = f"I2: token {index} is {asked.ids[index]}, not {asked.answer_id(index)}"

    async def _second(self, asked: Asked) -> None:
        """Reads the same request from its first token on, on a second stream; a break of it is no matter."""
        await asyncio.sleep(self._rng.uniform(0.0, 1.0))
        count = 0
        with contextlib.suppress(FairleadError):
            async for event in self._clients[asked.tenant].attach(asked.request_id):
                if isinstance(event, Delta):
                    if event.first_token != count:
                        asked.wrong = f"I2: a second stream had token {event.first_token} after {count}"
                    count += event.token_count

    async def _rob(self, asked: Asked) -> None:
        """I8: with a stolen id another tenant neither reads nor cancels."""
        thief = self._clients["bob" if asked.tenant == "alice" else "alice"]
        for steal in (lambda: thief.cancel(asked.request_id), lambda: anext(thief.attach(asked.request_id))):
            try:
                await steal()
            except NotFound:
                continue
            except FairleadError:
                continue  # the scheduler could not be asked
            asked.wrong = "I8: another tenant reached it"


def what_is_wrong(asked: Asked, *, operator_ends: bool, reader_may_lag: bool) -> str:  # noqa: PLR0912 - one case each
    """Why this request's end breaks what was promised; empty where it does not.

    Args:
        asked: that has ended.
        operator_ends: a drain with a time limit was among the faults.
        reader_may_lag: a link to a client was among them.
    """
    if asked.wrong:
        return asked.wrong
    if asked.error is not None:
        return _wrong_error(asked, asked.error)
    if asked.finished is None:
        return "" if asked.ended_by_us else "I1: it has no outcome"
    outcome = asked.finished.outcome
    if asked.finished.usage.output_tokens != len(asked.ids):
        return f"I2: {asked.finished.usage.output_tokens} tokens are counted, {len(asked.ids)} came"
    match outcome:
        case Outcome.STOP | Outcome.LENGTH:
            whole = asked.whole_tokens()
            if len(asked.ids) != whole:
                return f"I2: {len(asked.ids)} of {whole} tokens came, outcome {outcome.value}"
            if asked.text != words.detokenize(asked.ids):
                return "I2: the text is not that of the tokens"
            return ""
        case Outcome.CANCELLED_BY_CLIENT:
            fine = asked.ended_by_us or asked.options["resume_grace_ms"] < 60_000
        case Outcome.EXPIRED:
            fine = "timeout_s" in asked.options
        case Outcome.CANCELLED_BY_OPERATOR:
            fine = operator_ends
        case Outcome.SLOW_READER:
            fine = asked.habit in ("dawdles", "reads twice", "is robbed") or reader_may_lag
        case Outcome.FAILED_WORKER_LOST:
            fine = not asked.continuable and bool(asked.ids)
        case _:
            fine = False
    return "" if fine else f"it ended {outcome.value}: {asked.finished.detail}"


def _wrong_error(asked: Asked, error: FairleadError) -> str:
    if isinstance(error, DeadlineExceeded):
        return "" if "timeout_s" in asked.options else "a deadline passed that was not set"
    if asked.accepted is None:
        refused = isinstance(error, Overloaded) or error.reason in ("NO_WORKERS", "NO_TOKENIZER", "DRAINING")
        refused |= isinstance(error, Unavailable) and "timeout_s" in asked.options
        return "" if refused else f"it was refused with {error.code.name}: {error}"
    if asked.options.get("timeout_s") is not None:
        return ""  # its deadline may pass while it is being asked for again
    return f"after acceptance came {type(error).__name__}: {error}"
