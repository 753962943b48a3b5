# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol between window and engine: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.entries import Entry
from explorer.core.errors import ExplorerError, KernelError, RecordError, VolumeError
from explorer.core.volume import Volume
from explorer.wire import messages
from explorer.wire.fields import to_fields
from explorer.wire.frames import (
    FIELDS_LIMIT,
    HEADER,
    MAGIC,
    PAYLOAD_LIMIT,
    PROTOCOL_VERSION,
    Frame,
    FrameReader,
    encode,
)
from explorer.wire.messages import MESSAGES, Message

INTEGERS = st.integers(-(2**63), 2**64 - 1)
ENTRIES = st.builds(
    Entry,
    st.binary(max_size=255),
    *(INTEGERS for _ in Entry._fields[1:-4]),
    *(st.none() | INTEGERS for _ in range(4)),
)
VOLUMES = st.builds(Volume, number=st.integers(0, 200), start=st.integers(0), size=st.integers(0))
ERRORS = st.one_of(
    st.builds(VolumeError, st.text(), name=st.text(), count=INTEGERS, log=st.lists(st.text())),
    st.builds(KernelError, errno=st.integers(1, 200), name=st.text(), call=st.text()),
)

st.register_type_strategy(Entry, ENTRIES)
st.register_type_strategy(Volume, VOLUMES)
st.register_type_strategy(ExplorerError, ERRORS)
st.register_type_strategy(int, INTEGERS)

MESSAGE = st.one_of([st.from_type(kind) for kind in MESSAGES.values()])
FRAMES = st.lists(st.tuples(st.integers(0, 2**32 - 1), MESSAGE), max_size=5)


def comparable(message: Message) -> tuple[type, dict[str, object]]:
    """A message with its errors as data: exceptions compare by identity."""
    values: dict[str, object] = {}
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        values[field.name] = value.to_wire() if isinstance(value, ExplorerError) else value
    return type(message), values


def join(frames: list[tuple[int, Message]]) -> bytes:
    return b"".join(b"".join(encode(request, message)) for request, message in frames)


@given(FRAMES, st.integers(1, 200))
def test_every_message_comes_out_as_it_went_in(
    frames: list[tuple[int, Message]], step: int
) -> None:
    stream = join(frames)
    reader = FrameReader()
    got: list[Frame] = []
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        got.extend(reader)
    assert [(frame.request, comparable(frame.message)) for frame in got] == [
        (request, comparable(message)) for request, message in frames
    ]


@given(FRAMES, st.data())
def test_damaged_bytes_give_a_typed_error_or_a_message(
    frames: list[tuple[int, Message]], data: st.DataObject
) -> None:
    stream = bytearray(join(frames))
    for _ in range(data.draw(st.integers(1, 4))):
        if stream:
            stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    reader = FrameReader()
    reader.feed(stream)
    # Any other exception fails the test.
    with contextlib.suppress(RecordError):
        assert all(isinstance(frame, Frame) for frame in reader)


def to_json(message: Message) -> dict[str, object]:
    fields: dict[str, object] = json.loads(to_fields(message)[0])
    return fields


def frame_of(message: type[Message], fields: object, payload: bytes = b"") -> bytes:
    text = json.dumps(fields).encode()
    number = next(number for number, kind in MESSAGES.items() if kind is message)
    return HEADER.pack(MAGIC, PROTOCOL_VERSION, number, 1, len(text), len(payload)) + text + payload


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no frame begins there"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION + 1, 1, 0, 0, 0), "protocol version"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, 200, 0, 0, 0), "message number 200"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, 1, 0, FIELDS_LIMIT + 1, 0), "beyond its limit"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, 1, 0, 2, PAYLOAD_LIMIT + 1), "beyond its limit"),
        (HEADER.pack(MAGIC, PROTOCOL_VERSION, 1, 0, 2, 0) + b"{]", "Expecting"),
        (frame_of(messages.Cancel, {}), "not its fields"),
        (frame_of(messages.Cancel, {"target": 1, "more": 1}), "not its fields"),
        (frame_of(messages.Cancel, {"target": True}), "a bool where a int belongs"),
        (frame_of(messages.Cancel, {"target": 1 << 64}), "beyond 64 bits"),
        (frame_of(messages.Cancel, {"target": 1}, b"x"), "a payload where none belongs"),
        (frame_of(messages.Entries, {"payload": "x"}), "not its fields"),
        (
            frame_of(
                messages.OpenSource, {**to_json(messages.OpenSource((b"",))), "paths": ["\u0100"]}
            ),
            "latin-1",
        ),
        (frame_of(messages.LinksRead, {"targets": ["a", 1]}), "a int where a str belongs"),
    ],
)
def test_what_breaks_the_protocol_is_refused(stream: bytes, reason: str) -> None:
    reader = FrameReader()
    reader.feed(stream)
    with pytest.raises(RecordError) as caught:
        reader.next_frame()
    assert reason in str(caught.value)


def test_nesting_without_end_is_refused() -> None:
    deep = b"[" * FIELDS_LIMIT
    reader = FrameReader()
    reader.feed(HEADER.pack(MAGIC, PROTOCOL_VERSION, 1, 0, len(deep), 0) + deep)
    with pytest.raises(RecordError):
        reader.next_frame()


def test_a_sender_keeps_the_limits_too() -> None:
    encode(1, messages.Entries(bytes(PAYLOAD_LIMIT)))
    with pytest.raises(RecordError):
        encode(1, messages.Entries(bytes(PAYLOAD_LIMIT + 1)))
    with pytest.raises(RecordError):
        encode(1, messages.OpenSource((bytes(FIELDS_LIMIT),)))


def test_every_message_has_one_number() -> None:
    assert len(set(MESSAGES.values())) == len(MESSAGES)
    assert all(0 < number < 256 for number in MESSAGES)
