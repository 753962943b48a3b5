# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames: what one message looks like in a pipe.

A header of fixed size, the message's fields as JSON, and raw bytes: names and numbers stay
legible in a trace, bulk bytes are never converted. Both lengths have a limit that sender and
receiver check, so a damaged length cannot make the other end wait or allocate without end.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import RecordError
from explorer.wire.fields import from_fields, to_fields
from explorer.wire.messages import MESSAGES, Message

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL_VERSION = 4
"""Changed with every change of a message; the two ends must agree."""

MAGIC = b"LX"
HEADER = Struct("<2sBBIII")
"""Magic, version, number of the message's class, request, bytes of fields, bytes of payload."""

FIELDS_LIMIT = 1 << 20
PAYLOAD_LIMIT = 4 << 20

_NUMBERS = {kind: number for number, kind in MESSAGES.items()}


class Frame(NamedTuple):
    """One message and the request it belongs to; request 0 is the connection itself."""

    request: int
    message: Message


def encode(request: int, message: Message) -> tuple[bytes, bytes]:
    """A frame as its two pieces: header with fields, and payload.

    Raises :exc:`RecordError` when a length breaks its limit.
    """
    fields, payload = to_fields(message)
    if len(fields) > FIELDS_LIMIT or len(payload) > PAYLOAD_LIMIT:
        raise RecordError("record.frame", reason=f"{type(message).__name__} is too long")
    number = _NUMBERS[type(message)]
    head = HEADER.pack(MAGIC, PROTOCOL_VERSION, number, request, len(fields), len(payload))
    return head + fields, payload


class FrameReader:
    """Takes bytes as they come and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._offset = 0

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes of the pipe."""
        if self._offset > len(self._buffer) // 2:
            # Half at a time: moving the rest after every frame would be quadratic.
            self._compact()
        self._buffer += piece

    @property
    def waiting(self) -> int:
        """Bytes that have been fed and belong to frames not yet given."""
        return len(self._buffer) - self._offset

    def next_frame(self) -> Frame | None:
        """The next frame, or None until more bytes come.

        Raises :exc:`RecordError` when the bytes are no frame; the pipe is of no use then.
        """
        start = self._offset
        available = len(self._buffer) - start
        if available < HEADER.size:
            return None
        magic, version, number, request, fields_size, payload_size = HEADER.unpack_from(
            self._buffer, start
        )
        if magic != MAGIC:
            raise RecordError("record.frame", reason="no frame begins there")
        if version != PROTOCOL_VERSION:
            raise RecordError("record.frame", reason=f"protocol version {version}")
        if fields_size > FIELDS_LIMIT or payload_size > PAYLOAD_LIMIT:
            raise RecordError("record.frame", reason="a length beyond its limit")
        kind = MESSAGES.get(number)
        if kind is None:
            raise RecordError("record.frame", reason=f"message number {number}")
        if available < HEADER.size + fields_size + payload_size:
            return None
        fields_at = start + HEADER.size
        payload_at = fields_at + fields_size
        self._offset = payload_at + payload_size
        view = memoryview(self._buffer)
        try:
            fields = bytes(view[fields_at:payload_at])
            payload = bytes(view[payload_at : self._offset])
        finally:
            view.release()
        return Frame(request, from_fields(kind, fields, payload))

    def __iter__(self) -> Iterator[Frame]:
        """The frames that are whole."""
        while (frame := self.next_frame()) is not None:
            yield frame

    def _compact(self) -> None:
        del self._buffer[: self._offset]
        self._offset = 0
