"""The figures of the overhead comparison, from what a client process tells."""

from __future__ import annotations

from itertools import islice

import pytest

from bench.overhead.figures import RAMP_S, figures, medians
from bench.overhead.plan import ANSWER_TOKENS, PROMPT_TOKENS, asks


def answer(sent_s: float, at_s: list[float], counts: list[int]) -> dict[str, object]:
    return {"sent_s": sent_s, "wanted": sum(counts), "at_s": at_s, "counts": counts}


def test_tokens_count_only_while_all_senders_are_busy() -> None:
    seconds = RAMP_S + 2
    early = answer(0.0, [RAMP_S - 0.1, RAMP_S + 0.5], [3, 5])
    late = answer(RAMP_S + 0.25, [RAMP_S + 0.5, RAMP_S + 1.5, seconds + 1], [1, 8, 10])
    found = figures([early, late], seconds, {"engine": 0.27}, 0.5)
    assert found.tokens_per_s == pytest.approx((5 + 1 + 8) / 2)
    assert found.requests == 1, "the ramp's requests have no TTFT that counts"
    assert found.ttft_ms_p50 == pytest.approx(250)
    assert found.tpot_ms_p50 == pytest.approx((seconds + 1 - RAMP_S - 0.5) * 1e3 / 18)
    assert found.cpu_s_per_1000_tokens == {"engine": pytest.approx(10.0)}


def test_an_answer_of_another_length_is_no_measurement() -> None:
    short = {"sent_s": 0.0, "wanted": 3, "at_s": [0.1], "counts": [2]}
    with pytest.raises(ValueError, match="length that was asked for"):
        figures([short], 5.0, {}, 0.0)


def test_medians_are_taken_figure_by_figure() -> None:
    runs = [
        figures([answer(1.0, [1.0 + wait, 2.0 + wait], [1, tokens])], 6.0, {"engine": 1.0}, 0.0)
        for wait, tokens in ((0.01, 30), (0.03, 10), (0.02, 20))
    ]
    found = medians(runs)
    assert found.ttft_ms_p50 == pytest.approx(20)
    assert found.tokens_per_s == pytest.approx(21 / 5)
    assert found.requests == 3


def test_the_same_seed_asks_the_same_and_variants_share_no_prefix() -> None:
    first, again, other = (list(islice(asks(7, 1600, variant), 20)) for variant in (0, 0, 1))
    assert first == again
    for one, two in zip(first, other, strict=True):
        assert one.token_ids[0] != two.token_ids[0]
        assert one.token_ids[1:] == two.token_ids[1:]
        assert one.answer_tokens == two.answer_tokens
        assert PROMPT_TOKENS[0] <= len(one.token_ids) - 1 <= PROMPT_TOKENS[1]
        assert ANSWER_TOKENS[0] <= one.answer_tokens <= ANSWER_TOKENS[1]
