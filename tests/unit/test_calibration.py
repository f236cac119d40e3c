"""Online calibration: coverage kept and found again, drift told, bad predictors put aside, state over a restart."""

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fairlead.config import PredictorConfig
from fairlead.lengths import LengthDistribution
from predictor_svc.calibration import CalibratedPredictor, quantiles_left
from predictor_svc.models.base import Saved
from predictor_svc.models.levels import Z_LEVELS
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.models.retrieval import RetrievalModel
from predictor_svc.online import correction, pending, state
from predictor_svc.online.correction import Group
from predictor_svc.predictors.base import Answer, Observed, Predictor, Question
from predictor_svc.predictors.history import HistoryPredictor
from predictor_svc.predictors.trained import RetrievalPredictor
from tests.unit.test_predictors_models import CARD, BagOfWords

SEED = 11
LAG = 40


class Reader(Predictor):
    """Believes that the number in a prompt is the log of the length, with a spread."""

    name: ClassVar[str] = "reader"

    def __init__(self, spread: float = 0.3) -> None:
        self.spread = spread

    @classmethod
    def open(cls, config: PredictorConfig) -> "Reader":
        del config
        return cls()

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        return [
            LengthDistribution.lognormal(math.exp(float(q.prompt)), self.spread, source=self.name)
            .given(q.generated_tokens)
            .truncated(q.max_tokens)
            for q in questions
        ]


World = Callable[[float, np.random.Generator], float]
"""From what a prompt says to the log of its answer's length."""


def as_said(said: float, random: np.random.Generator) -> float:
    return said + 0.3 * random.normal()


def longer_and_wilder(said: float, random: np.random.Generator) -> float:
    return 1.2 + 0.7 * said + 0.7 * random.standard_t(5)


def serve(
    predictor: CalibratedPredictor,
    world: World,
    count: int,
    *,
    tenant: str = "a",
    seed: int = SEED,
    max_tokens: int = 200_000,
    said: tuple[float, float] = (5.0, 0.8),
) -> np.ndarray:
    """Answers with outcomes that come back later; whether each told 90 % interval held, [count]."""
    random = np.random.default_rng(seed)
    back: deque[Observed] = deque()
    held = np.zeros(count, np.bool_)
    for i in range(count):
        number = float(random.normal(*said))
        whole = max(round(math.exp(min(world(number, random), 11.5))), 1)
        length = min(whole, max_tokens)
        (law,) = predictor.predict([Question("m", tenant, True, 20, max_tokens, str(number))])
        assert isinstance(law, LengthDistribution)
        held[i] = law.quantile(0.05) <= length <= law.quantile(0.95)
        back.append(Observed("m", tenant, True, 20, length, whole <= max_tokens, predicted=law, cut=whole > max_tokens))
        if len(back) > LAG:
            predictor.observe([back.popleft()])
    predictor.observe(list(back))
    return held


def test_intervals_cover_again_within_2000_outcomes_after_the_data_changed() -> None:
    predictor = CalibratedPredictor(Reader())
    before = serve(predictor, as_said, 1000)
    assert before[300:].mean() == pytest.approx(0.9, abs=0.03)
    after = serve(predictor, longer_and_wilder, 4000, seed=SEED + 100)
    assert after[:60].mean() < 0.7, "the change is one that hurts"
    assert 0.88 <= after[2000:].mean() <= 0.92
    assert predictor.standings()[0].drifts >= 1
    assert predictor.standings()[0].coverage_90 == pytest.approx(0.9, abs=0.03)


def test_a_sound_predictor_is_left_nearly_as_it_is() -> None:
    predictor = CalibratedPredictor(Reader())
    held = serve(predictor, as_said, 1500)
    assert held.mean() == pytest.approx(0.9, abs=0.02)
    (law,) = predictor.predict([Question("m", "a", True, 20, 10_000, "5.0")])
    raw = LengthDistribution.lognormal(math.exp(5), 0.3)
    np.testing.assert_allclose(quantiles_left(law, 0), quantiles_left(raw, 0), atol=0.12)
    assert predictor.standings()[0].drifts == 0


def test_cut_answers_are_no_lengths() -> None:
    predictor = CalibratedPredictor(Reader())
    held = serve(predictor, lambda said, random: as_said(said, random) + 0.6, 1200, max_tokens=300)
    assert held[400:].mean() > 0.87
    (law,) = predictor.predict([Question("m", "a", True, 20, 100_000, "5.5")])
    assert quantiles_left(law, 0)[6] == pytest.approx(6.1, abs=0.15), "the middle is found though most are cut there"


def test_drift_widens_for_a_while() -> None:
    group = Group()
    random = np.random.default_rng(SEED)
    for z in random.normal(size=600):
        group.add(float(z), ended=True)
        assert not group.watch(float(z), covered=abs(z) < correction.Z_90)
    calm = group.places(Z_LEVELS)
    found = 0
    for z in random.normal(2.5, 1, size=100):
        group.add(float(z), ended=True)
        found += group.watch(float(z), covered=abs(z) < correction.Z_90)
    assert found == group.drifts == 1
    assert group.drifting
    assert np.ptp(group.places(Z_LEVELS)) > 1.15 * np.ptp(calm)
    for z in random.normal(2.5, 1, size=600):
        group.add(float(z), ended=True)
    assert not group.drifting
    np.testing.assert_allclose(group.places(Z_LEVELS)[[1, 6, 11]], np.array([-1.645, 0, 1.645]) + 2.5, atol=0.3)


def test_a_tenant_whose_prompts_look_short_and_run_long_is_predicted_by_its_own_record() -> None:
    predictor = CalibratedPredictor(Reader())
    serve(predictor, as_said, 400, tenant="honest")
    serve(predictor, lambda said, random: as_said(said, random) + 3, 900, tenant="sly", said=(3.0, 0.3))
    asked = {
        tenant: predictor.predict([Question("m", tenant, True, 20, 100_000, "3.0")])[0] for tenant in ("honest", "sly")
    }
    middles = {tenant: float(quantiles_left(law, 0)[6]) for tenant, law in asked.items()}
    assert middles["sly"] == pytest.approx(6.0, abs=0.2)
    assert middles["honest"] == pytest.approx(3.0, abs=0.2)


def test_one_tenant_does_not_speak_for_all_however_much_it_sends() -> None:
    predictor = CalibratedPredictor(Reader())
    for tenant in ("b", "c", "d", "e"):
        serve(predictor, as_said, 40, tenant=tenant)
    serve(predictor, lambda said, random: as_said(said, random) + 3, 600, tenant="sly")
    (law,) = predictor.predict([Question("m", "newcomer", True, 20, 100_000, "5.0")])
    assert float(quantiles_left(law, 0)[6]) == pytest.approx(5.0, abs=0.4)


def test_a_predictor_worse_than_history_is_put_aside_and_taken_back() -> None:
    predictor = CalibratedPredictor(Reader())
    shuffled = np.random.default_rng(SEED)

    def unrelated(said: float, random: np.random.Generator) -> float:
        del said
        return 5 + 0.2 * random.normal()

    serve(predictor, unrelated, 500, said=(5.0, 1.5), seed=int(shuffled.integers(1000)))
    assert predictor.standings()[0].put_aside
    (law,) = predictor.predict([Question("m", "a", True, 20, 10_000, "9.0")])
    assert law.source == "history"
    assert law.quantile(0.5) == pytest.approx(math.exp(5), rel=0.1)
    serve(predictor, as_said, 1200, said=(5.0, 1.5))
    assert not predictor.standings()[0].put_aside
    (law,) = predictor.predict([Question("m", "a", True, 20, 100_000, "7.0")])
    assert law.source == "reader"


def test_later_questions_are_corrected_by_later_outcomes() -> None:
    predictor = CalibratedPredictor(Reader())
    random = np.random.default_rng(SEED)
    held: list[bool] = []
    for i in range(1000):
        number = float(random.normal(6, 0.3)) + i * 1e-9
        length = max(round(math.exp(number + 0.5 + 0.6 * random.normal())), 1)
        first, *_ = predictor.predict([Question("m", "a", True, 20, 100_000, str(number))])
        if length > 100:
            (later,) = predictor.predict([Question("m", "a", True, 20, 100_000, str(number), "text", 100)])
            held.append(later.quantile(0.05, 100) <= length <= later.quantile(0.95, 100))
            assert later.generated_tokens == 100 or i < 5
        predictor.observe([Observed("m", "a", True, 20, length, True, predicted=first)])
    assert np.mean(held[300:]) == pytest.approx(0.9, abs=0.04)


def test_history_by_itself_is_corrected_too() -> None:
    predictor = CalibratedPredictor(HistoryPredictor())
    held = serve(predictor, as_said, 800)
    assert held[200:].mean() == pytest.approx(0.9, abs=0.04)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor_svc.calibration.MAX_GROUPS", 10)
    monkeypatch.setattr(pending, "MAX_TOLD", 20)
    predictor = CalibratedPredictor(Reader())
    for i in range(50):
        question = Question("m", f"t{i}", True, 20, 100, str(i / 10))
        (law,) = predictor.predict([question])
        if i % 2:
            predictor.observe([Observed("m", f"t{i}", True, 20, 50, True, predicted=law)])
    assert len(predictor._pending) <= 20
    assert len(predictor._groups) <= 10
    assert len(predictor.standings()) <= 10


def test_nothing_is_kept_of_an_answer_that_has_ended() -> None:
    predictor = CalibratedPredictor(Reader())
    for i in range(30):
        first, later = (Question("m", "t", True, 20, 100, str(i / 10), generated_tokens=out) for out in (0, 50))
        (law,) = predictor.predict([first])
        predictor.predict([later])
        predictor.observe([Observed("m", "t", True, 20, 80, True, predicted=law)])
    assert len(predictor._pending) == 0


# -- text


def _retrieval(*, share_text: bool) -> RetrievalPredictor:
    random = np.random.default_rng(SEED)
    vectors = BagOfWords().embed([f"thing {i}" for i in range(80)], max_tokens=64)
    lengths = np.log(50) + 0.1 * random.normal(size=80).astype(np.float32)
    card = {**CARD, "reads_text": False, "text_pieces": 0}
    saved = Saved(RetrievalModel(vectors, lengths, Recalibration.none()), card, "")
    return RetrievalPredictor(BagOfWords(), saved, share_text=share_text)  # type: ignore[arg-type]


@pytest.mark.parametrize("share_text", [False, True])
def test_tenants_learn_from_each_others_text_only_where_it_is_allowed(share_text: bool) -> None:
    predictor = CalibratedPredictor(_retrieval(share_text=share_text))
    secret = "sing me the long song of our house"
    (law,) = predictor.predict([Question("m", "a", True, 9, 10_000, secret)])
    outcome = Observed("m", "a", True, 9, 900, True, predicted=law)
    for _ in range(60):
        (law,) = predictor.predict([Question("m", "a", True, 9, 10_000, secret)])
        predictor.observe([replace(outcome, predicted=law)])
    inner = predictor.inner
    own, other = inner.predict([Question("m", tenant, True, 9, 10_000, secret) for tenant in ("a", "b")])
    assert own.quantile(0.5) > 700
    assert (other.quantile(0.5) > 700) == share_text
    again = _retrieval(share_text=share_text)
    again.relearn(inner.learned())
    (kept,) = again.predict([Question("m", "a", True, 9, 10_000, secret)])
    assert kept.quantile(0.5) == pytest.approx(own.quantile(0.5), rel=0.05)
    assert secret.encode() not in b"".join(array.tobytes() for array in predictor.learned().values())


def test_no_prompt_is_kept_for_predictors_that_learn_from_none() -> None:
    predictor = CalibratedPredictor(Reader())
    predictor.predict([Question("m", "a", True, 20, 100, "5.0")])
    kept = [record.prompt for equal in predictor._pending._by_law.values() for record in equal]
    assert kept == [""]


# -- over a restart


@pytest.mark.parametrize("inner", [Reader, HistoryPredictor])
def test_what_was_learned_survives_a_restart(inner: type[Predictor], tmp_path: Path) -> None:
    predictor = CalibratedPredictor(inner())
    serve(predictor, longer_and_wilder, 300)
    serve(predictor, as_said, 60, tenant="b")
    state.write_state(tmp_path / "learned", predictor.learned())
    again = CalibratedPredictor(inner())
    again.relearn(state.read_state(tmp_path / "learned"))
    question = Question("m", "a", True, 20, 10_000, "5.0")
    before, after = predictor.predict([question])[0], again.predict([question])[0]
    np.testing.assert_allclose(after.tokens, before.tokens, rtol=0.03)
    assert [one.tenant for one in again.standings()] == [one.tenant for one in predictor.standings()]


def test_corrections_of_other_weights_are_left_and_lengths_are_kept(tmp_path: Path) -> None:
    class Other(Reader):
        name: ClassVar[str] = "other"

    predictor = CalibratedPredictor(Reader())
    serve(predictor, longer_and_wilder, 300)
    state.write_state(tmp_path / "learned", predictor.learned())
    again = CalibratedPredictor(Other())
    again.relearn(state.read_state(tmp_path / "learned"))
    assert not again.standings()
    question = Question("m", "a", True, 20, 10_000, "5.0")
    assert again.fallback(question).quantile(0.5) == pytest.approx(predictor.fallback(question).quantile(0.5), rel=0.1)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda content: content[: len(content) // 2], "damaged"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "damaged"),
        (lambda _: b"", "not a file of learned state"),
        (lambda _: b"\x80\x04cos\nsystem\n", "not a file of learned state"),
        (lambda content: content.replace(b"learned 1 ", b"learned 9 ", 1), "version 9"),
    ],
)
def test_a_damaged_file_is_refused(harm: Callable[[bytes], bytes], said: str, tmp_path: Path) -> None:
    file = tmp_path / "learned"
    state.write_state(file, CalibratedPredictor(Reader()).learned())
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(state.BadState, match=said):
        state.read_state(file)
    state.put_aside(file, said)
    assert state.read_state(file) == {}
    assert (tmp_path / "learned.refused").exists()


# -- real answers


@pytest.mark.skipif("FAIRLEAD_DATA" not in os.environ, reason="FAIRLEAD_DATA names no folder of recorded answers")
def test_real_answers_are_covered_again_after_another_set_took_their_place() -> None:
    from tests.unit.real_switch import coverage_after_switch

    found = coverage_after_switch(Path(os.environ["FAIRLEAD_DATA"]))
    assert 0.88 <= found.before <= 0.92
    assert found.at_once < 0.85
    assert 0.88 <= found.after <= 0.92
