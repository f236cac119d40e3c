"""What no well-behaved peer sends: random fields of every type, mutated bytes, hostile metadata; from a seed."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_INTS = (0, 1, 2, 7, 255, 65_536, 2**31 - 1)
_SIGNED = (-1, -(2**31))
_UNSIGNED_32 = (2**31, 2**32 - 1)
_WIDE = (2**32, 2**53 + 1, 2**63 - 1)
_DOUBLES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
_TEXTS = (
    "",
    " ",
    "a",
    "hello there",
    "\x00",
    "é中\U0001f600",
    "'; drop --",
    "../../etc/passwd",
    "%s%n",
    "\n\r\t",
    "NaN",
)
_F = FieldDescriptor
_DEEPEST = 4


class Hostile:
    """Makes messages and bytes.

    Args:
        rng: of everything.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message of this type with random fields, most of them extreme."""
        made: Any = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._rng.random() < 0.55:
                self._set(made, field, depth)
        return made

    def disturbed(self, message: Message) -> Message:
        """A sound message with one field, at any depth, made extreme."""
        made: Any = type(message)()
        made.CopyFrom(message)
        target = made
        while True:
            inner = [getattr(target, field.name) for field, _ in target.ListFields() if _is_one_message(field)]
            if not inner or self._rng.random() < 0.4:
                break
            target = self._rng.choice(inner)
        if target.DESCRIPTOR.fields:
            self._set(target, self._rng.choice(target.DESCRIPTOR.fields), 1)
        return made

    def mutated(self, data: bytes) -> bytes:
        """These bytes, damaged."""
        rng, out = self._rng, bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(out) + 1)
            match rng.randrange(6):
                case 0 if out:
                    out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
                case 1:
                    del out[at:]
                case 2:
                    out[at:at] = rng.randbytes(rng.choice((1, 2, 9, 100)))
                case 3:
                    out[at:at] = out[max(0, at - 16) : at]
                case 4 if out:
                    out[min(at, len(out) - 1)] = rng.choice((0, 0x7F, 0x80, 0xFF))
                case _:
                    del out[at : at + rng.choice((1, 4))]
        return bytes(out)

    def data(self, descriptor: Descriptor, sound: Message | None = None) -> bytes:
        """Bytes for a method that takes this type; `sound`: one that it would take."""
        rng, dice = self._rng, self._rng.random()
        if dice < 0.05:
            return rng.randbytes(rng.choice((0, 1, 5, 64, 1000)))
        if sound is None or dice < 0.3:
            message = self.message(descriptor)
        else:
            message = sound if dice < 0.45 else self.disturbed(sound)
        data = message.SerializeToString()
        return self.mutated(data) if rng.random() < 0.35 else data

    def metadata(self, key: str) -> tuple[tuple[str, str | bytes], ...]:
        """Metadata of a call: mostly with a sound key, for else nothing behind it is reached."""
        rng, dice = self._rng, self._rng.random()
        sound = ("authorization", f"Bearer {key}")
        if dice < 0.85:
            return (sound,)
        hostile: tuple[tuple[str, str | bytes], ...] = rng.choice(
            (
                (),
                (("authorization", ""),),
                (("authorization", "Bearer " + "x" * rng.choice((1, 2000))),),
                (("authorization", "Basic YTpi"),),
                (sound, sound),
                (("authorization-bin", rng.randbytes(30)), sound),
                (("traceparent", "00-zz-zz-zz"), ("tracestate", "=,=;" * 20), sound),
                (("traceparent", f"00-{rng.randbytes(16).hex()}-{rng.randbytes(8).hex()}-01"), sound),
                (sound, *((f"x-{number}", "y" * 50) for number in range(rng.choice((1, 60))))),
                (sound, ("x-long", "z" * rng.choice((100, 9000, 20_000)))),
                (("grpc-timeout-bin", b"\x00\xff"), sound),
            )
        )
        return hostile

    def _set(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.is_repeated:
            self._set_repeated(message, field, depth)
        elif field.type == _F.TYPE_MESSAGE:
            if depth < _DEEPEST:
                getattr(message, field.name).CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(message, field.name, self._scalar(field))

    def _set_repeated(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        values = getattr(message, field.name)
        if field.type == _F.TYPE_MESSAGE:
            if field.message_type.GetOptions().map_entry:
                return
            if depth < _DEEPEST:
                values.extend(self.message(field.message_type, depth + 1) for _ in range(self._rng.choice((0, 1, 3))))
            return
        values.extend(self._scalar(field) for _ in range(self._rng.choice((0, 1, 2, 5, 40))))

    def _scalar(self, field: FieldDescriptor) -> Any:
        rng = self._rng
        match field.cpp_type:
            case _F.CPPTYPE_DOUBLE:
                return rng.choice(_DOUBLES)
            case _F.CPPTYPE_FLOAT:
                return rng.choice(_DOUBLES[:5])
            case _F.CPPTYPE_BOOL:
                return rng.random() < 0.5
            case _F.CPPTYPE_ENUM:
                return rng.choice((0, 1, 2, 3, 77, -1, 2**31 - 1))
            case _F.CPPTYPE_UINT32:
                return rng.choice(_INTS + _UNSIGNED_32)
            case _F.CPPTYPE_UINT64:
                return rng.choice((*_INTS, *_UNSIGNED_32, *_WIDE, 2**64 - 1))
            case _F.CPPTYPE_INT32:
                return rng.choice(_INTS + _SIGNED)
            case _F.CPPTYPE_INT64:
                return rng.choice(_INTS + _SIGNED + _WIDE)
            case _ if field.type == _F.TYPE_BYTES:
                return rng.randbytes(rng.choice((0, 1, 32, 1000)))
            case _:
                text = rng.choice(_TEXTS)
                return text * rng.choice((1, 1, 1, 30, 400))


def _is_one_message(field: FieldDescriptor) -> bool:
    return field.type == _F.TYPE_MESSAGE and not field.is_repeated
