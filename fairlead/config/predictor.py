"""Settings of the predictor."""

from __future__ import annotations

from pathlib import Path

from fairlead.config.base import Count, Positive, Section


class PredictorConfig(Section):
    """The predictor: text in, length distribution out."""

    listen: str = "127.0.0.1:7601"
    """host:port for the scheduler; no key is asked for."""
    predictor: str = "encoder"
    """Which one: a name of docs/predictors.md, or an installed plug-in's."""
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hugging Face id or folder; the packaged weights serve where the hub is not reached."""
    head: Path | None = None
    """Folder of a trained head (`fairlead predictor train`); null: the one shipped for the demo model."""
    max_batch: Count = 32
    """Questions that are answered in one batch."""
    max_queued: Count = 4096
    """Questions that may wait; more are refused, and those requests go on without a prediction."""
    threads: Count = 1
    """CPU threads of the encoder and the model."""
    answer_within_ms: Positive = 250.0
    """A question that waits longer is answered from the history of lengths at once."""
    calibrate: bool = True
    """Correct intervals from outcomes while serving, and put a predictor aside that is worse than `history`."""
    state_dir: Path | None = None
    """Folder that keeps what is learned while serving over a restart, one for each process; null: nothing is kept."""
    share_text: bool = False
    """Let `retrieval` answer a tenant from prompts of others; false: only from its own and what it was trained on."""
