"""Length distributions on the wire: what a peer sends is checked before anything is reckoned with it."""

from __future__ import annotations

from fairlead.lengths import DEFAULT_TAIL_INDEX, MAX_TOKENS, LengthDistribution
from fairlead.v1 import types_pb2

MAX_SOURCE_CHARS = 64


def to_wire(distribution: LengthDistribution) -> types_pb2.LengthDistribution:
    """As a message. `max_tokens` stays behind: the asker knows it and gives it to `from_wire`."""
    return types_pb2.LengthDistribution(
        levels=distribution.levels,
        tokens=distribution.tokens,
        tail_index=distribution.tail_index,
        generated_tokens=int(distribution.generated_tokens),
        source=distribution.source,
    )


def from_wire(message: types_pb2.LengthDistribution, max_tokens: float = MAX_TOKENS) -> LengthDistribution:
    """From a message, cut at `max_tokens` (tokens of the whole answer).

    Raises:
        ValueError: too many knots, NaN, levels or tokens that do not increase, or a length beyond what is reckoned
            with; the message names the field.
    """
    if len(message.source) > MAX_SOURCE_CHARS:
        raise ValueError(f"source: {len(message.source)} characters, at most {MAX_SOURCE_CHARS}")
    return LengthDistribution(
        tuple(message.levels),
        tuple(message.tokens),
        message.tail_index if message.HasField("tail_index") else DEFAULT_TAIL_INDEX,
        min(float(max_tokens), MAX_TOKENS),
        float(message.generated_tokens),
        message.source,
    )
