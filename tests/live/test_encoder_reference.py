"""Our quantised encoder beside the library whose model it is (slow to import, so not among the fast tests)."""

import numpy as np
import pytest

from fairlead.config import PredictorConfig
from predictor_svc.encoder.session import Encoder
from predictor_svc.encoder.weights import find_encoder


def test_the_quantised_encoder_agrees_with_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    name = PredictorConfig().encoder
    texts = ["hello there", "Write a list of twelve fruits, each with one short sentence.", "用中文写一个故事", "x"]
    reference = SentenceTransformer(str(find_encoder(name).folder), device="cpu").encode(texts)
    ours = Encoder.open(name).embed(texts, max_tokens=128)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-3)
    assert (ours * reference).sum(axis=1).min() > 0.95
