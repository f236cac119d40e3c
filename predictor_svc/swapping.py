"""Replaces the model of a serving predictor without a pause: when its folder changes, or at SIGUSR1.

The new folder is read, checked and asked one question while the old model goes on answering; only then is the one put
in the place of the other. A folder that is refused changes nothing and is told once.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TypeAlias

from fairlead.config import ConfigError, PredictorConfig
from fairlead.telemetry import get_logger
from predictor_svc.predictors.base import Predictor, Question, open_predictor
from predictor_svc.service import PredictorHost

EVERY_S = 2.0
_Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
_TRIAL = Question("", "", True, 8, 512, "Say how long this answer will be.")
_log = get_logger("swapping")


class ModelWatch:
    """Watches `predictor.head`.

    Args:
        config: names predictor and folder.
        host: serves; starts with the model of that folder.
        every_s: between two looks at the folder; a change is taken up when two looks see the same.
    """

    def __init__(self, config: PredictorConfig, host: PredictorHost, every_s: float = EVERY_S) -> None:
        self._config = config
        self._host = host
        self._every_s = every_s
        self._serving = signature(config.head)
        self._loading = asyncio.Lock()
        self._task = asyncio.create_task(self._run())

    async def load(self) -> str:
        """Puts the model that lies in the folder now in the place of the serving one; "" or why it is refused."""
        async with self._loading:
            self._serving = await asyncio.to_thread(signature, self._config.head)
            try:
                predictor = await asyncio.to_thread(opened_and_tried, self._config)
            except ConfigError as error:
                _log.warning("the new model is refused, the old one goes on", why=str(error))
                return str(error)
            await self._host.replace(predictor)
            return ""

    async def stop(self) -> None:
        """Looks no more."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        if self._config.head is None:
            return
        before = self._serving
        while True:
            await asyncio.sleep(self._every_s)
            now = await asyncio.to_thread(signature, self._config.head)
            if now == before and now != self._serving:
                await self.load()
            before = now


def signature(folder: Path | None) -> _Signature:
    """What changes when a file of the folder does: names, sizes, times and inodes; empty where it can't be read."""
    if folder is None:
        return ()
    try:
        files = sorted(path for path in folder.resolve().iterdir() if path.is_file())
        found = [(path.name, path.stat()) for path in files[:64]]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found)


def opened_and_tried(config: PredictorConfig) -> Predictor:
    """The predictor that the configuration names, after it has answered a question.

    Raises:
        ConfigError: it can't be opened, or breaks when asked.
    """
    predictor = open_predictor(config)
    try:
        predictor.predict([_TRIAL])
    except Exception as error:
        raise ConfigError(f"predictor.head: {config.head}: the model breaks when asked: {error!r}") from None
    return predictor
