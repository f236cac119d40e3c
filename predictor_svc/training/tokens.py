"""A model's tokens in recorded answers: how many there are, and what was written after so many of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from predictor_svc.training.dataset import DataError


class Tokens:
    """A tokenizer, as the model had it.

    Args:
        tokenizer: of the library `tokenizers`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def loaded(cls, path: Path) -> Tokens:
        """From a tokenizer.json; raises DataError."""
        from tokenizers import Tokenizer  # noqa: PLC0415  (an extra of its own)

        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the tokenizers library raises plain Exception
            raise DataError(f"--tokenizer {path}: {error}") from None

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._encoded(text).ids)

    def ends(self, text: str) -> list[int]:
        """Where each token ends, in characters."""
        return [end for _, end in self._encoded(text).offsets]

    def _encoded(self, text: str) -> Any:
        return self._tokenizer.encode(text, add_special_tokens=False)


def so_far(response: str, tokens: int, out: int, ends: list[int] | None) -> str:
    """The text at `out` of `tokens` tokens; without `ends` they are taken to share its characters evenly."""
    if not ends:
        return response[: len(response) * out // tokens]
    return response[: ends[min(out, len(ends)) - 1]] if out else ""
