"""Plain values as an array of bytes, so that everything that is learned is named arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(value: Any) -> NDArray[np.uint8]:
    """As JSON."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def unpacked(array: NDArray[Any]) -> Any:
    """From `packed`; raises ValueError for what is no JSON."""
    try:
        return json.loads(np.asarray(array, np.uint8).tobytes())
    except RecursionError:
        raise ValueError("nested too deeply") from None
