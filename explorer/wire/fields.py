# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A message's fields as JSON, and back with every type checked.

Bytes travel as text of one character per byte, so that a name keeps every byte. A field that is
missing, of another type, or that nobody knows is an error: both ends have the same version.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from explorer.core.entries import Entry
from explorer.core.errors import ExplorerError, RecordError, error_from_wire
from explorer.core.volume import Volume, volume_from_wire

INTEGER_LIMIT = 1 << 64
PAYLOAD = "payload"
"""A message's field of this name is not JSON: it travels as raw bytes behind the others."""

Decoder = Callable[[object], Any]
T = TypeVar("T")


def to_fields(message: object) -> tuple[bytes, bytes]:
    """The fields of a message as JSON, and its payload (empty when it has none)."""
    data = {
        field.name: _encode(getattr(message, field.name))
        for field in fields(typing.cast("Any", message))
        if field.name != PAYLOAD
    }
    payload: bytes = getattr(message, PAYLOAD, b"")
    return json.dumps(data, separators=(",", ":")).encode("ascii"), payload


def from_fields(kind: type[T], data: bytes, payload: bytes) -> T:
    """The message of class ``kind``; raises :exc:`RecordError` when the fields are not its own."""
    decoders = dict(_decoders(typing.cast("Hashable", kind)))
    raw = {PAYLOAD: payload} if decoders.pop(PAYLOAD, None) else {}
    try:
        values = json.loads(data)
        if payload and not raw:
            raise ValueError("a payload where none belongs")
        return kind(**_decode_fields(decoders, values), **raw)
    except (ValueError, RecursionError) as wrong:
        raise RecordError("record.message", message=kind.__name__, reason=str(wrong)) from None


def _encode(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, (ExplorerError, Volume)):
        return value.to_wire()
    return value


def _decode_fields(decoders: dict[str, Decoder], values: object) -> dict[str, Any]:
    if not isinstance(values, dict) or values.keys() != decoders.keys():
        raise ValueError("not its fields")
    return {name: decode(values[name]) for name, decode in decoders.items()}


@cache
def _decoders(kind: Hashable) -> dict[str, Decoder]:
    assert isinstance(kind, type)
    assert is_dataclass(kind)
    hints = typing.get_type_hints(kind)
    return {field.name: _decoder(hints[field.name]) for field in fields(kind)}


def _decoder(hint: object) -> Decoder:
    """How a value for a field annotated with ``hint`` is checked; TypeError if there is no way."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (_decoder(part) for part in typing.get_args(hint) if part is not type(None))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item, ellipsis = typing.get_args(hint)
        assert ellipsis is Ellipsis
        decode = _decoder(item)
        return lambda value: tuple(decode(one) for one in _checked(value, list))
    if hint is bytes:
        # latin-1 refuses what is no byte with a ValueError.
        return lambda value: str(_checked(value, str)).encode("latin-1")
    if hint is int:
        return _integer
    if hint in (str, bool):
        return lambda value: _checked(value, hint)
    if hint is Entry:
        kinds = [_decoder(kind) for kind in typing.get_type_hints(Entry).values()]
        return lambda value: Entry._make(
            decode(one) for decode, one in zip(kinds, _checked(value, list), strict=True)
        )
    if hint is Volume:
        return volume_from_wire
    if hint is ExplorerError:
        return error_from_wire
    raise TypeError(f"no way to carry {hint}")


def _checked(value: object, kind: type[T]) -> T:
    # Not isinstance: a bool is an int to it.
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _integer(value: object) -> int:
    number = _checked(value, int)
    if not -INTEGER_LIMIT < number < INTEGER_LIMIT:
        raise ValueError("a number beyond 64 bits")
    return number
