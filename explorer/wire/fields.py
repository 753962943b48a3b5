# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A message's fields as JSON, and back, with every type and limit checked at both ends.

Bytes travel as text of one character per byte, so that a name keeps every byte. A field that is
missing, of another type, beyond its limit, or that nobody knows is an error: both ends have the
same version. Texts of errors and volumes are made safe to show on arrival.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar

from explorer.core.entries import TYPE_NAMES, Entry
from explorer.core.errors import ExplorerError, RecordError, error_from_wire
from explorer.core.names import is_entry_name, show_text
from explorer.core.volume import Volume, volume_from_wire
from explorer.wire.limits import (
    COUNT_LIMIT,
    DEFAULTS,
    NAME_LIMIT,
    SIZE_LIMIT,
    TEXT_LIMIT,
    VOLUME_LIMIT,
)

INTEGER_LIMIT = 1 << 64
TIME_LIMIT = SIZE_LIMIT * 1_000_000_000
"""Nanoseconds: file systems count seconds in up to 64 bits."""
PARAMS_LIMIT = 64
PAYLOAD = "payload"
"""A message's field of this name is not JSON: it travels as raw bytes behind the others."""

Rule = Callable[[Any], None]
"""Raises :exc:`ValueError` for a value that may not be."""
Decoder = Callable[[object], Any]
T = TypeVar("T")


class _Field(NamedTuple):
    """How one field travels."""

    decode: Decoder
    """Its value from JSON; by type alone."""
    check: Rule


def to_fields(message: object) -> tuple[bytes, bytes]:
    """The fields of a message as JSON, and its payload (empty when it has none).

    Raises :exc:`RecordError` when the other end would refuse it.
    """
    kind = type(message)
    data: dict[str, object] = {}
    try:
        for name, one in _fields_of(kind).items():
            value = getattr(message, name)
            one.check(value)
            if name != PAYLOAD:
                data[name] = _encode(value)
        _check_whole(message)
    except ValueError as wrong:
        raise _wrong(kind, wrong) from None
    payload: bytes = getattr(message, PAYLOAD, b"")
    return json.dumps(data, separators=(",", ":")).encode("ascii"), payload


def from_fields(kind: type[T], data: bytes, payload: bytes) -> T:
    """The message of class ``kind``; raises :exc:`RecordError` when the fields are not its own."""
    known = _fields_of(kind)
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError("not its fields")
        if PAYLOAD in values or (payload and PAYLOAD not in known):
            raise ValueError("a payload where none belongs")
        if PAYLOAD in known:
            values[PAYLOAD] = payload
        if values.keys() != known.keys():
            raise ValueError("not its fields")
        decoded = {name: one.decode(values[name]) for name, one in known.items()}
        for name, one in known.items():
            one.check(decoded[name])
        message = kind(**decoded)
        _check_whole(message)
    except (ValueError, RecursionError) as wrong:
        raise _wrong(kind, wrong) from None
    return message


def check_answer(request: object, answer: object) -> None:
    """Checks an answer against what was asked; raises :exc:`RecordError` if it cannot be its."""
    check = getattr(answer, "check_answer", None)
    if check is not None:
        try:
            check(request)
        except ValueError as wrong:
            raise _wrong(type(answer), wrong) from None


def _check_whole(message: object) -> None:
    """What must hold between the fields."""
    check = getattr(message, "check", None)
    if check is not None:
        check()


def _wrong(kind: type, reason: BaseException) -> RecordError:
    return RecordError("record.message", message=kind.__name__, reason=str(reason))


def _encode(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if isinstance(value, (ExplorerError, Volume)):
        return value.to_wire()
    return value


def _fields_of(kind: type) -> dict[str, _Field]:
    return _fields(typing.cast("Hashable", kind))


@cache
def _fields(kind: Hashable) -> dict[str, _Field]:
    assert isinstance(kind, type)
    assert is_dataclass(kind)
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {field.name: _field(hints[field.name]) for field in fields(kind) if field.init}
    if PAYLOAD in found:
        # Its limit is the frame's.
        found[PAYLOAD] = _Field(lambda value: _typed(value, bytes), _nothing)
    return found


def _field(hint: object) -> _Field:
    """How a value for a field annotated with ``hint`` travels; TypeError if there is no way."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *rules = typing.get_args(hint)
        return _with_rules(_field(inner), rules)
    if origin in (types.UnionType, typing.Union):
        (one,) = (_field(part) for part in typing.get_args(hint) if part is not type(None))
        return _Field(
            lambda value: None if value is None else one.decode(value),
            lambda value: None if value is None else one.check(value),
        )
    if origin is tuple:
        item, ellipsis = typing.get_args(hint)
        assert ellipsis is Ellipsis
        return _tuple_field(_field(item))
    found = _PLAIN.get(hint)
    if found is None:
        raise TypeError(f"no way to carry {hint}")
    return found


def _with_rules(inner: _Field, rules: list[Rule]) -> _Field:
    def check(value: Any) -> None:  # noqa: ANN401 - of the field's type
        for rule in rules:
            rule(value)
        inner.check(value)

    return _Field(inner.decode, check)


def _tuple_field(item: _Field) -> _Field:
    default = DEFAULTS[tuple]

    def decode(value: object) -> tuple[Any, ...]:
        items = _typed(value, list)
        default(items)
        return tuple(map(item.decode, items))

    def check(value: tuple[Any, ...]) -> None:
        default(value)
        for one in value:
            item.check(one)

    return _Field(decode, check)


def _typed(value: object, kind: type[T]) -> T:
    # Not isinstance: a bool is an int to it.
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _nothing(_value: object) -> None:
    """No rule."""


# ---- Plain values


def _decode_bytes(value: object) -> bytes:
    # latin-1 refuses what is no byte with a ValueError.
    return _typed(value, str).encode("latin-1")


def _check_bytes(value: bytes) -> None:
    DEFAULTS[bytes](value)


def _check_integer(value: int) -> None:
    if not -INTEGER_LIMIT < value < INTEGER_LIMIT:
        raise ValueError("a number beyond 64 bits")


# ---- An entry

# Bits of the numbers after the error, in order; then come four times.
_WIDTHS = (32, 64, 64, 32, 16, 32, 32, 32, 32, 64, 64, 64, 64, 32, 32, 32, 32)


def _decode_entry(value: object) -> Entry:
    name, *numbers = _typed(value, list)
    if len(numbers) != len(Entry._fields) - 1:
        raise ValueError("not the fields of an entry")
    for number in numbers[:-4]:
        _typed(number, int)
    for time in numbers[-4:]:
        # None where the file system keeps no such time.
        _typed(0 if time is None else time, int)
    return Entry(_decode_bytes(name), *numbers)


def _check_entry(entry: Entry) -> None:
    if entry.name and (len(entry.name) > NAME_LIMIT or not is_entry_name(entry.name)):
        raise ValueError("a name that cannot be")
    if entry.type not in TYPE_NAMES or not -(1 << 31) <= entry.error <= 0:
        raise ValueError("a wrong type or error")
    numbers, times = entry[3:-4], entry[-4:]
    if any(number < 0 or number >> bits for number, bits in zip(numbers, _WIDTHS, strict=True)):
        raise ValueError("a number that has no place in an entry")
    if any(time is not None and not -TIME_LIMIT <= time < TIME_LIMIT for time in times):
        raise ValueError("a time beyond 64 bits")


# ---- A volume


def _decode_volume(value: object) -> Volume:
    volume = volume_from_wire(value)
    texts: dict[str, Any] = {name: show_text(getattr(volume, name)) for name in _VOLUME_TEXTS}
    # A note may have several lines.
    lines = {name: text.replace("\n", "\\n") for name, text in texts.items() if name != "note"}
    return replace(volume, **(texts | lines))


def _check_volume(volume: Volume) -> None:
    if max(volume.number, volume.parent) >= VOLUME_LIMIT:
        raise ValueError("a volume's number beyond its limit")
    if max(volume.start, volume.size) >= SIZE_LIMIT:
        raise ValueError("a volume's size beyond its limit")
    if max(len(getattr(volume, name)) for name in _VOLUME_TEXTS) > TEXT_LIMIT:
        raise ValueError("a volume's text beyond its limit")


_VOLUME_TEXTS = [field.name for field in fields(Volume) if field.type in ("str", str)]


# ---- An error


def _decode_error(value: object) -> ExplorerError:
    return error_from_wire(_safe(value))


def _safe(value: object) -> object:
    """JSON with every text safe to show."""
    if isinstance(value, str):
        return show_text(value)
    if isinstance(value, list):
        return [_safe(item) for item in value]
    if isinstance(value, dict):
        return {show_text(name): _safe(item) for name, item in value.items()}
    return value


def _check_error(error: ExplorerError) -> None:
    if len(error.params) > PARAMS_LIMIT:
        raise ValueError("more parameters than an error has")
    for value in error.params.values():
        if isinstance(value, list):
            if sum(map(len, value)) + len(value) > COUNT_LIMIT:
                raise ValueError("an error's list beyond its limit")
        elif isinstance(value, str) and len(value) > TEXT_LIMIT:
            raise ValueError("an error's text beyond its limit")
        elif type(value) is int:
            _check_integer(value)


_PLAIN: dict[object, _Field] = {
    bytes: _Field(_decode_bytes, _check_bytes),
    str: _Field(lambda value: _typed(value, str), DEFAULTS[str]),
    bool: _Field(lambda value: _typed(value, bool), _nothing),
    int: _Field(lambda value: _typed(value, int), _check_integer),
    Entry: _Field(_decode_entry, _check_entry),
    Volume: _Field(_decode_volume, _check_volume),
    ExplorerError: _Field(_decode_error, _check_error),
}
