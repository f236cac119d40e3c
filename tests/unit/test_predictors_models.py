"""Trained models by themselves: quantile arithmetic against brute force, calibration, trees, files, smoothing."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.ensemble import ExtraTreesRegressor

from fairlead.config import ConfigError, PredictorConfig
from fairlead.lengths import LengthDistribution
from predictor_svc.models.base import load_model, save_model
from predictor_svc.models.forest import bin_quantiles
from predictor_svc.models.levels import LEVELS, Z_LEVELS, at_z, central, given_out, increasing, z_of
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.models.retrieval import RetrievalModel
from predictor_svc.models.trees import Trees
from predictor_svc.predictors.base import Question, open_predictor
from predictor_svc.predictors.trained import (
    KINDS,
    EnsemblePredictor,
    ForestPredictor,
    RankPredictor,
    RetrievalPredictor,
)
from predictor_svc.smoothing import Smoother, pooled
from predictor_svc.training.dataset import Row
from predictor_svc.training.examples import Examples, make_examples
from predictor_svc.training.fit_ensemble import TreeSettings, fit_ensemble, fit_forest
from predictor_svc.training.fit_rank import fit_rank, fit_retrieval
from predictor_svc.training.fit_trees import bin_edges, boost, grow_forest
from predictor_svc.training.folds import fold_of
from tests.unit.test_training import made_up

CARD = {
    "encoder": "none",
    "encoder_sha256": "0" * 64,
    "prompt_pieces": 64,
    "text_pieces": 8,
    "reads_text": True,
}


class BagOfWords:
    """Vectors that need no weights: hashed words, of length 1."""

    width = 48
    sha256 = "0" * 64

    def embed(self, texts: Sequence[str], *, max_tokens: int, side: str = "start") -> np.ndarray:
        vectors = np.full((len(texts), self.width), 0.01, np.float32)
        for row, text in enumerate(texts):
            words = text.split()
            for word in words[:max_tokens] if side == "start" else words[-max_tokens:]:
                vectors[row, zlib.crc32(word.encode()) % self.width] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def examples() -> Examples:
    rows = [
        Row(str(one["prompt"]), 7, int(str(one["response_tokens"])), str(one["response"])) for one in made_up(400, 4)
    ]
    return make_examples(rows, BagOfWords(), seed=0, reads_text=True, text_pieces=8, at=(50, 100))  # type: ignore[arg-type]


# -- quantile arithmetic


@settings(max_examples=40, deadline=None)
@given(st.floats(1, 7), st.floats(0.1, 1.2), st.floats(0, 3))
def test_quantiles_given_tokens_out_are_those_of_the_lengths_beyond(mean: float, sigma: float, ahead: float) -> None:
    whole = (mean + sigma * Z_LEVELS)[None].astype(np.float32)
    out = np.float32(max(np.exp(mean + (ahead - 1.5) * sigma), 1))
    left = given_out(whole, np.array([out]))[0]
    drawn = np.exp(mean + sigma * np.random.default_rng(1).normal(size=400_000))
    beyond = drawn[drawn > out] - out
    if len(beyond) < 4000:
        return
    for level in (0.1, 0.5, 0.9):
        brute = np.log(max(np.quantile(beyond, level), 0.5))
        assert left[LEVELS.index(level)] == pytest.approx(brute, abs=0.12)
    assert (np.diff(left) > 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 12), min_size=len(LEVELS), max_size=len(LEVELS)), st.floats(-4, 4))
def test_a_place_and_its_quantile_are_inverse(values: list[float], z: float) -> None:
    law = increasing(np.array([values], np.float32))
    quantile = at_z(law, np.array([z]))[:, 0]
    assert z_of(law, quantile)[0] == pytest.approx(z, abs=0.05)


def test_bins_give_the_quantiles_of_what_fell_in_them() -> None:
    drawn = np.random.default_rng(3).normal(4, 0.7, 50_000).astype(np.float32)
    edges = bin_edges(drawn)
    shares = np.histogram(drawn, edges)[0][None].astype(np.float32)
    np.testing.assert_allclose(bin_quantiles(shares, edges)[0], np.quantile(drawn, LEVELS), atol=0.1)


def test_recalibrated_intervals_cover_what_they_say() -> None:
    random = np.random.default_rng(7)
    location = random.normal(4, 1, 6000)
    truth = (location + random.standard_t(4, 6000) * 0.5).astype(np.float32)
    too_sure = (location[:, None] + 0.2 * Z_LEVELS).astype(np.float32)
    generated = random.choice([0.0, 50.0], 6000).astype(np.float32)
    fitted = Recalibration.fitted(too_sure[:3000], truth[:3000], generated[:3000])
    law = fitted.applied(too_sure[3000:], generated[3000:])
    low, high = at_z(law, np.array([-1.645, 1.645])).T
    assert ((truth[3000:] >= low) & (truth[3000:] <= high)).mean() == pytest.approx(0.9, abs=0.02)
    raw_low, raw_high = at_z(too_sure[3000:], np.array([-1.645, 1.645])).T
    assert ((truth[3000:] >= raw_low) & (truth[3000:] <= raw_high)).mean() < 0.6


# -- trees as arrays


def test_trees_as_arrays_say_what_scikit_learn_says() -> None:
    random = np.random.default_rng(0)
    columns = random.normal(size=(600, 5)).astype(np.float32)
    target = (columns[:, 0] * 2 + np.abs(columns[:, 1]) + random.normal(0, 0.1, 600)).astype(np.float32)
    boosted, start = boost(columns, target, 30, 0)
    said = start + boosted.mean(columns)[:, 0] * 30
    assert np.corrcoef(said, target)[0, 1] > 0.97
    edges = bin_edges(target)
    forest = grow_forest(columns, target, edges, 10, 3)
    reference = ExtraTreesRegressor(10, min_samples_leaf=8, max_features=0.4, max_depth=24, random_state=3)
    reference.fit(columns, target)
    leaves = reference.apply(columns)
    ours = forest.leaves(columns)
    for tree in range(10):
        assert len(np.unique(ours[:, tree])) == len(np.unique(leaves[:, tree]))
    np.testing.assert_allclose(
        central(bin_quantiles(forest.mean(columns), edges)), reference.predict(columns), atol=0.3
    )


@pytest.mark.parametrize("harm", ["circle", "outside", "column", "leaf"])
def test_trees_that_lead_nowhere_are_refused(harm: str) -> None:
    tensors = {
        "roots": np.array([0], np.int32),
        "feature": np.array([0, -1, -1], np.int16),
        "threshold": np.zeros(3, np.float32),
        "left": np.array([1, 0, 1], np.int32),
        "right": np.array([2, 0, 0], np.int32),
        "values": np.zeros((2, 1), np.float32),
    }
    assert Trees.from_tensors(tensors, 1).depth == 1
    if harm == "circle":
        tensors["left"] = np.array([0, 0, 1], np.int32)
    elif harm == "outside":
        tensors["right"] = np.array([9, 0, 0], np.int32)
    elif harm == "column":
        tensors["feature"] = np.array([7, -1, -1], np.int16)
    else:
        tensors["left"] = np.array([1, 5, 1], np.int32)
    with pytest.raises(ValueError, match="leads nowhere"):
        Trees.from_tensors(tensors, 1)


# -- models and their files


@pytest.fixture(scope="module")
def models(examples: Examples) -> dict[str, object]:
    quick = TreeSettings(shares=3, trees=6, rounds=30)
    return {
        "ensemble": fit_ensemble(examples, quick),
        "forest": fit_forest(examples, quick),
        "rank": fit_rank(examples, 0),
        "retrieval": fit_retrieval(examples, 0),
    }


@pytest.mark.parametrize("kind", ["ensemble", "forest", "rank", "retrieval"])
def test_a_saved_model_says_the_same(kind: str, models: dict, examples: Examples, tmp_path: Path) -> None:  # type: ignore[type-arg]
    save_model(models[kind], tmp_path, CARD)
    again = load_model(tmp_path, KINDS)
    before, after = models[kind].quantiles(examples.inputs), again.model.quantiles(examples.inputs)
    assert (np.diff(after, axis=1) > 0).all()
    np.testing.assert_allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("kind", ["ensemble", "forest", "rank"])
def test_models_learn_numbers_and_narrow_with_the_text(kind: str, models: dict, examples: Examples) -> None:  # type: ignore[type-arg]
    law = models[kind].quantiles(examples.inputs)
    first = examples.first
    assert np.corrcoef(central(law)[first], np.log(examples.left[first]))[0, 1] > 0.85


def test_what_text_says_narrows_the_default(models: dict, examples: Examples) -> None:  # type: ignore[type-arg]
    rows = np.flatnonzero(examples.inputs.generated == 100)
    before = models["ensemble"].quantiles(examples.take(np.flatnonzero(examples.first)).inputs)
    answer = (np.cumsum(examples.first) - 1)[rows]
    later = models["ensemble"].quantiles(examples.take(rows).inputs)
    whole = given_out(before[answer], examples.inputs.generated[rows])
    truth = np.log(examples.left[rows])
    assert np.abs(later[:, 6] - truth).mean() < np.abs(whole[:, 6] - truth).mean()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda tensors: {**tensors, "edges": tensors["edges"][:1]}, "edges"),
        (lambda tensors: {**tensors, "edges": np.full_like(tensors["edges"], np.nan)}, "not finite"),
        (lambda tensors: {key: value for key, value in tensors.items() if key != "blend"}, "blend"),
        (lambda tensors: {**tensors, "location.alpha": np.zeros(3, np.float32)}, "alpha"),
        (lambda tensors: {**tensors, "forest.bins": tensors["forest.bins"][1:]}, "do not fit together"),
        (lambda tensors: {**tensors, "forest.bins": tensors["forest.bins"] * 0 + 200}, "do not fit together"),
        (lambda tensors: {**tensors, "forest.right": tensors["forest.right"] * 0 + 10**6}, "leads nowhere"),
    ],
)
def test_hostile_tensors_are_refused(harm, said: str, models: dict, tmp_path: Path) -> None:  # type: ignore[no-untyped-def, type-arg]
    sha256 = save_model(models["ensemble"], tmp_path, CARD)
    file = tmp_path / "model.safetensors"
    file.write_bytes(save(harm(load(file.read_bytes()))))
    with pytest.raises(ConfigError, match="its card says otherwise"):
        load_model(tmp_path, KINDS)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["sha256"] == sha256
    import hashlib

    card["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=said):
        load_model(tmp_path, KINDS)


CODE = "def f(x):\n    return {k: [v for v in x if v] for k in (1, 2)}\n```python\nprint((((\n"
HOSTILE = (
    "", "\n", "a" * 1_000_000, "word " * 200_000, "用中文写一个故事。" * 300, "اكتب قصة", "🙂" * 5000, CODE * 500,
    "\x00\ufffd", "((((" * 9000, "9" * 10_000, "1. 2. 3. " * 3000,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["ensemble", "forest", "rank", "retrieval"])
def test_hostile_prompts_and_texts_get_sound_laws(kind: str, models: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    save_model(models[kind], tmp_path, CARD)
    served = {one.name: one for one in (EnsemblePredictor, ForestPredictor, RankPredictor, RetrievalPredictor)}[kind]
    predictor = served(BagOfWords(), load_model(tmp_path, KINDS))  # type: ignore[arg-type]
    questions = [Question("m", "t", True, 9, 512, prompt) for prompt in HOSTILE]
    questions += [Question("m", "t", True, 9, 512, "Name 3 birds.", text, 50) for text in HOSTILE]
    questions += [Question("m", "t", True, 9, 1, "Name 3 birds.")]
    for question, law in zip(questions, predictor.predict(questions), strict=True):
        assert isinstance(law, LengthDistribution)
        assert law.generated_tokens == question.generated_tokens
        assert 1 <= law.mean_remaining(question.generated_tokens) <= question.max_tokens - question.generated_tokens


def test_a_folder_of_another_kind_or_none_is_named(models: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    save_model(models["retrieval"], tmp_path, CARD)
    with pytest.raises(ConfigError, match="holds a 'retrieval' model, expected ensemble"):
        open_predictor(PredictorConfig(predictor="ensemble", head=tmp_path))
    with pytest.raises(ConfigError, match="fairlead predictor train DATA --predictor forest"):
        open_predictor(PredictorConfig(predictor="forest"))
    for name, content in (("card.json", "{"), ("card.json", "[" * 100_000), ("card.json", '{"format": "pickle"}')):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=r"not JSON|format 'pickle'"):
            load_model(tmp_path, KINDS)


def test_retrieval_learns_what_it_is_told(examples: Examples) -> None:
    model = fit_retrieval(examples, 0)
    assert isinstance(model, RetrievalModel)
    vector = BagOfWords().embed(["sing me a song of nine verses"], max_tokens=64)
    inputs = examples.take(np.array([0])).inputs
    asked = type(inputs)(vector, inputs.text, inputs.facts, inputs.progress, inputs.generated)
    before = float(model.quantiles(asked)[0, 6])
    after = model.quantiles_with(asked, np.repeat(vector, 40, axis=0), np.full(40, np.log(900), np.float32))
    assert float(after[0, 6]) == pytest.approx(np.log(900), abs=0.4)
    assert before < np.log(400)


def test_grouped_folds_hold_out_whole_clusters(examples: Examples) -> None:
    for split in ("random", "grouped"):
        fold = fold_of(examples, 4, split, 0)  # type: ignore[arg-type]
        assert set(fold.tolist()) == {0, 1, 2, 3}
        for group in np.unique(examples.group):
            assert len(np.unique(fold[examples.group == group])) == 1
    with pytest.raises(ValueError, match="too few"):
        fold_of(examples.take(np.array([0, 1])), 5, "random", 0)


# -- smoothing


def _law(middle: float, spread: float) -> np.ndarray:
    return (middle + spread * Z_LEVELS)[None].astype(np.float32)


def test_pooled_laws_lie_between_and_grow_no_surer() -> None:
    both = pooled(_law(4.0, 0.5), _law(5.0, 0.5), 0.75)[0]
    # Of two normal laws of one spread the geometric pool is the normal law at the weighted middle.
    np.testing.assert_allclose(both, _law(4.75, 0.5)[0], atol=0.08)
    same = pooled(_law(4.0, 0.5), _law(4.0, 0.5), 0.75)[0]
    np.testing.assert_allclose(same, _law(4.0, 0.5)[0], atol=0.06)


def test_successive_answers_churn_less_and_strangers_are_kept_apart() -> None:
    def asked(text: str, tokens: int) -> Question:
        return Question("m", "t", True, 5, 4096, "prompt", text, tokens)

    smoother = Smoother()
    random = np.random.default_rng(5)
    said: list[float] = []
    raw: list[float] = []
    for tokens in range(50, 500, 50):
        left = np.log(600 - tokens) + random.normal(0, 0.3)
        law = _law(float(left), 0.4)
        raw.append(float(np.exp(law[0, 6]) + tokens))
        text = "x" * (tokens * 4)
        said.append(float(np.exp(smoother.smoothed([b"k"], [asked(text, tokens)], law)[0, 6]) + tokens))
    assert np.abs(np.diff(said)).mean() < 0.9 * np.abs(np.diff(raw)).mean()
    stranger = _law(2.0, 0.4)
    np.testing.assert_allclose(smoother.smoothed([b"k"], [asked("another text" * 400, 600)], stranger), stranger)
    np.testing.assert_allclose(smoother.smoothed([b"j"], [asked("x" * 4000, 600)], stranger), stranger)
