"""Keeps what a serving predictor learns in a file: taken back at the start, written now and then and at the end."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from fairlead.telemetry import get_logger
from predictor_svc.batching import Batcher
from predictor_svc.online.state import BadState, put_aside, read_state, write_state

EVERY_S = 30.0
FILE = "learned"
_log = get_logger("keeper")


class Keeper:
    """One file in a folder.

    Args:
        folder: made if it is not there; one for each predictor process.
        batcher: whose predictor learns.
    """

    def __init__(self, folder: Path, batcher: Batcher) -> None:
        self._path = folder / FILE
        self._batcher = batcher
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Takes back what was kept; what can't be used is put aside, and serving goes on."""
        try:
            arrays = await asyncio.to_thread(read_state, self._path)
            if arrays:
                await self._batcher.run(lambda: self._batcher.predictor.relearn(arrays))
        except BadState as error:
            await asyncio.to_thread(put_aside, self._path, str(error))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            await asyncio.to_thread(put_aside, self._path, f"damaged: {error!s}")
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes once more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self._write()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._write()

    async def _write(self) -> None:
        try:
            arrays = await self._batcher.run(self._batcher.predictor.learned)
            if arrays:
                await asyncio.to_thread(write_state, self._path, arrays)
        except OSError as error:
            _log.warning("what was learned can't be written", path=str(self._path), error=error.strerror)
