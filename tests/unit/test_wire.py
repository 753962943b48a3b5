# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol between window and engine: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
import typing
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.entries import Entry
from explorer.core.errors import ExplorerError, KernelError, RecordError, VolumeError
from explorer.core.names import show_text
from explorer.core.volume import KINDS, Volume
from explorer.wire import evidence, limits, messages, writing
from explorer.wire import fields as wire_fields
from explorer.wire.fields import check_answer, to_fields
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
from explorer.wire.messages import BULK, MESSAGES, PARTS, REPLIES, Message
from tests.unit.test_entries import NAMES, SAMPLE, entries, pack

INTEGERS = st.integers(-(2**63), 2**64 - 1)
SAFE_TEXTS = st.text().filter(lambda text: show_text(text) == text)
LINES = SAFE_TEXTS.filter(lambda text: "\n" not in text)
PATHS = st.lists(NAMES, max_size=4).map(lambda names: b"/" + b"/".join(names))
ERRORS = st.one_of(
    st.builds(VolumeError, SAFE_TEXTS, name=SAFE_TEXTS, n=INTEGERS, log=st.lists(SAFE_TEXTS)),
    st.builds(
        KernelError, errno=st.integers(1, 200), name=SAFE_TEXTS, call=SAFE_TEXTS, path=SAFE_TEXTS
    ),
)
VOLUMES = st.builds(
    Volume,
    number=st.integers(0, limits.VOLUME_LIMIT - 1),
    start=st.integers(0, 2**63 - 1),
    size=st.integers(0, 2**63 - 1),
    parent=st.integers(-1, limits.VOLUME_LIMIT - 1),
    kind=st.sampled_from(KINDS),
    note=SAFE_TEXTS,
    **dict.fromkeys(("content", "title", "label", "uuid", "name", "type"), LINES),
)

PLAIN: dict[object, st.SearchStrategy[object]] = {
    bytes: st.binary(max_size=300),
    str: st.text(),
    int: INTEGERS,
    bool: st.booleans(),
    Volume: VOLUMES,
    ExplorerError: ERRORS,
    Entry: entries(),
    limits.check_name: NAMES,
    limits.check_xattr_name: st.binary(min_size=1).map(lambda name: name.replace(b"\0", b"0")),
    limits.check_path: PATHS,
    limits.check_typed_path: st.binary().map(lambda path: b"/" + path.replace(b"\0", b".")),
    limits.check_host_path: st.binary(min_size=1).map(lambda path: path.replace(b"\0", b"/")),
    limits.check_target: st.binary().map(lambda path: path.replace(b"\0", b"/")),
    limits.check_line: LINES.map(lambda text: text[:255]),
}


def values(hint: object) -> st.SearchStrategy[object]:
    """Whatever a field of this type may hold."""
    if typing.get_origin(hint) is typing.Annotated:
        inner, *rules = typing.get_args(hint)
        for rule in rules:
            if isinstance(rule, limits.Between):
                return st.integers(rule.least, rule.most)
            if isinstance(rule, limits.OneOf):
                return st.sampled_from(sorted(rule.words))
        known = [PLAIN[rule] for rule in rules if rule in PLAIN]
        some: Any = known[0] if known else values(inner)
        for rule in rules:
            if isinstance(rule, limits.AtMost):
                some = some.map(itemgetter(slice(rule.most)))
        return some  # type: ignore[no-any-return]
    if typing.get_origin(hint) is tuple:
        return st.lists(values(typing.get_args(hint)[0]), max_size=5).map(tuple)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (inner,) = (part for part in typing.get_args(hint) if part is not type(None))
        return st.none() | values(inner)
    return PLAIN[hint]


def messages_of(kind: type[Message]) -> st.SearchStrategy[Any]:
    """Whatever messages of a class there may be."""
    if kind is messages.EntryRead:
        return st.builds(_entry_read, PATHS, entries())
    if kind is messages.XattrsRead:
        names: st.SearchStrategy[Any] = values(limits.XattrName)
        return st.dictionaries(names, st.binary(), max_size=4).map(messages.XattrsRead.of)
    if kind is messages.Entries:
        records = st.lists(entries().map(pack), max_size=3).map(b"".join)
        return st.builds(messages.Entries, records)
    if kind in WRITER:
        return WRITER[kind]
    if kind in EVIDENCE:
        return EVIDENCE[kind]
    hints = typing.get_type_hints(kind, include_extras=True)
    some = st.builds(kind, **{f.name: values(hints[f.name]) for f in dataclasses.fields(kind)})
    if kind in (messages.SourceOpened, messages.VolumesFound):
        return some.map(_with_numbers)
    if kind is messages.Pack:
        return some.map(_with_a_name_for_one)
    return some


def written(copied: int, damaged: int, skipped: dict[str, int], failed: int) -> writing.Written:
    """Accounts that add up, the sizes made of them."""
    seen = copied + damaged + failed + sum(skipped.values()) + copied
    numbers = (tuple(skipped), tuple(skipped.values()), failed, copied)
    ended = VolumeError("some.reason") if failed else None
    return writing.Written(
        *(seen, copied, damaged, *numbers, seen * 3, copied, damaged, failed, seen),
        *(ended is None, ended),
    )


SMALL = st.integers(0, 1 << 50)
WRITER: dict[type[Message], st.SearchStrategy[Any]] = {
    writing.Write: st.builds(
        writing.Write,
        sink=st.sampled_from(["tar", "zip", "content"]),
        destination=st.none() | st.binary(min_size=1).map(lambda path: path.replace(b"\0", b"/")),
        digests=st.sets(st.sampled_from(["md5", "sha256"])).map(tuple),
        manifest_form=st.sampled_from(["csv", "json"]),
        source=LINES,
        owner=st.booleans(),
        expected=SMALL,
    ),
    writing.EntriesFailed: st.lists(st.tuples(PATHS, ERRORS, st.booleans()), max_size=4).map(
        lambda items: writing.EntriesFailed(
            tuple(path for path, _error, _damaged in items),
            tuple(error for _path, error, _damaged in items),
            tuple(damaged for _path, _error, damaged in items),
        )
    ),
    writing.NamesMapped: st.dictionaries(PATHS, NAMES, max_size=4).map(
        lambda names: writing.NamesMapped(tuple(names), tuple(names.values()))
    ),
    writing.Written: st.builds(
        written, SMALL, SMALL, st.dictionaries(LINES, SMALL, max_size=4), SMALL
    ),
}


def _found(some: list[tuple[bytes, Entry]]) -> evidence.Found:
    """Entries with the names that their paths end in."""
    named = [(path, entry._replace(name=path.rpartition(b"/")[2])) for path, entry in some]
    return evidence.Found(
        tuple(path for path, _entry in named), tuple(entry for _path, entry in named)
    )


def _matches(path: bytes, some: list[tuple[int, int, str, list[bytes]]]) -> evidence.Matches:
    """As many of each as there are matches."""
    pieces = [piece for *_numbers, three in some for piece in three]
    return evidence.Matches(
        path,
        tuple(offset for offset, *_more in some),
        tuple(length for _offset, length, *_more in some),
        tuple(encoding for _offset, _length, encoding, _three in some),
        tuple(map(len, pieces)),
        b"".join(pieces),
    )


PIECES = st.lists(st.binary(max_size=evidence.CONTEXT_LIMIT), min_size=3, max_size=3)
NEEDLES = st.sampled_from(
    [
        {"text": "Größe", "encodings": ("utf-8", "utf-16-le")},
        {"literal": b"\0\xff"},
        {"pattern": b"a.b"},
    ]
)
EVIDENCE: dict[type[Message], st.SearchStrategy[Any]] = {
    evidence.HashSource: st.builds(
        evidence.HashSource,
        st.sets(st.sampled_from(["md5", "sha256"]), min_size=1).map(tuple),
        stored=st.booleans(),
        disk=st.booleans(),
        volume=st.none() | st.integers(0, limits.VOLUME_LIMIT - 1),
    ),
    evidence.SearchContents: st.builds(
        lambda needle, path, names: evidence.SearchContents(1, path, names=names, **needle),
        NEEDLES,
        PATHS,
        st.lists(st.binary(max_size=9), max_size=3).map(tuple),
    ),
    evidence.Found: st.lists(st.tuples(PATHS, entries()), max_size=4).map(_found),
    evidence.Matches: st.builds(
        _matches,
        PATHS,
        st.lists(st.tuples(SMALL, SMALL, st.sampled_from(["", "utf-8"]), PIECES), max_size=4),
    ),
}


def _entry_read(path: bytes, entry: Entry) -> messages.EntryRead:
    return messages.EntryRead(path, entry._replace(name=path.rpartition(b"/")[2]))


def _with_a_name_for_one(message: Any) -> Message:  # noqa: ANN401 - messages.Pack
    pack: messages.Pack = message
    return pack if len(pack.paths) == 1 else dataclasses.replace(pack, name=None)


def _with_numbers(message: Any) -> Message:  # noqa: ANN401 - of two classes
    """Each volume with another number."""
    volumes = tuple(
        dataclasses.replace(volume, number=number) for number, volume in enumerate(message.volumes)
    )
    result: Message = dataclasses.replace(message, volumes=volumes)
    return result


MESSAGE = st.one_of([messages_of(kind) for kind in MESSAGES.values()])
FRAMES = st.lists(st.tuples(st.integers(0, limits.REQUEST_LIMIT), MESSAGE), max_size=5)


def comparable(message: Message) -> tuple[type, dict[str, object]]:
    """A message with its errors as data: exceptions compare by identity."""
    values: dict[str, object] = {}
    for field in dataclasses.fields(message):
        if not field.init:
            continue
        value = getattr(message, field.name)
        values[field.name] = _plain(value)
    return type(message), values


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.to_wire() if isinstance(value, ExplorerError) else value


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
        (frame_of(messages.Cancel, {"target": 1 << 64}), "not between"),
        (frame_of(messages.Cancel, {"target": 0}), "not between"),
        (frame_of(messages.Cancel, {"target": 1}, b"x"), "a payload where none belongs"),
        (frame_of(messages.Entries, {"payload": "x"}), "a payload where none belongs"),
        (
            frame_of(
                messages.OpenSource, {**to_json(messages.OpenSource((b"a",))), "paths": ["\u0100"]}
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


@given(FRAMES, st.binary(max_size=200), st.data())
def test_what_is_cut_or_mixed_gives_a_typed_error_or_messages(
    frames: list[tuple[int, Message]], garbage: bytes, data: st.DataObject
) -> None:
    stream = join(frames)
    cut = data.draw(st.integers(0, len(stream)))
    again = data.draw(st.integers(0, len(stream)))
    reader = FrameReader()
    with contextlib.suppress(RecordError):
        for piece in (stream[:cut], garbage, stream[again:]):
            reader.feed(piece)
            assert all(isinstance(frame, Frame) for frame in reader)
            assert reader.waiting <= len(stream) + len(garbage) + len(stream)


@given(
    st.recursive(st.none() | st.booleans() | INTEGERS | st.floats() | st.text(), st.lists),
    st.data(),
)
def test_any_json_as_any_field_is_refused_or_right(value: object, data: st.DataObject) -> None:
    message = data.draw(MESSAGE)
    fields = to_json(message)
    payload = getattr(message, "payload", b"")
    if fields:
        place: Any = fields
        key: Any = data.draw(st.sampled_from(sorted(fields)))
        # Somewhere within, as often as at the top.
        while isinstance(place[key], (list, dict)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            keys = range(len(place)) if isinstance(place, list) else sorted(place)
            key = data.draw(st.sampled_from(keys))
        place[key] = value
    reader = FrameReader()
    reader.feed(frame_of(type(message), fields, payload))
    with contextlib.suppress(RecordError):
        frame = reader.next_frame()
        assert frame is not None
        # What is believed can be sent on.
        encode(1, frame.message)


LONG = b"x" * (limits.PATH_LIMIT + 1)
VOLUME = Volume(1, 0, 0, "", "", "", "", mountable=False)


@pytest.mark.parametrize(
    "message",
    [
        *(
            messages.ListDirectory(0, path)
            for path in (b"", b"a", b"//", b"/a/", b"/./a", b"/a\0b")
        ),
        *(messages.ReadEntry(0, path) for path in (b"/..", b"/a/../b", b"/" + LONG)),
        messages.Resolve(0, b"relative"),
        messages.Resolve(0, b"/a\0"),
        messages.OpenVolume(-1),
        messages.OpenVolume(limits.VOLUME_LIMIT),
        messages.ReadLinks(0, b"/", (b"a/b",)),
        messages.ReadLinks(0, b"/", (b"",)),
        messages.ReadLinks(0, b"/", (b"x",) * (messages.LINKS_LIMIT + 1)),
        messages.ReadRange(0, b"/a", -1, 1),
        messages.ReadRange(0, b"/a", 1 << 63, 1),
        messages.ReadRange(0, b"/a", 0, messages.RANGE_LIMIT + 1),
        messages.ReadLog(-1),
        messages.OpenSource((b"a\0",)),
        messages.OpenSource((b"a",), view="another"),
        messages.OpenSource((b"a",), passphrases=(b"x",) * 65),
        messages.Cancel(0),
        messages.Ready("1\n"),
        messages.Ready("x" * 256),
        messages.VolumesFound((VOLUME, VOLUME)),
        messages.VolumesFound((dataclasses.replace(VOLUME, number=limits.VOLUME_LIMIT),)),
        messages.VolumesFound((dataclasses.replace(VOLUME, size=1 << 63),)),
        messages.VolumesFound((dataclasses.replace(VOLUME, label="x" * (limits.TEXT_LIMIT + 1)),)),
        messages.XattrsRead((b"user.a",), (), b""),
        messages.XattrsRead((b"user.a",), (1,), b""),
        messages.XattrsRead((b"user.a", b"user.b"), (2, 1), b"x"),
        messages.XattrsRead((b"",), (0,), b""),
        messages.EntryRead(b"/a", SAMPLE._replace(name=b"b")),
        messages.EntryRead(b"/a", SAMPLE._replace(name=b"a", mode=1 << 16)),
        messages.EntryRead(b"/a", SAMPLE._replace(name=b"a", error=1)),
        messages.EntryRead(b"/a", SAMPLE._replace(name=b"a", modify_ns=1 << 100)),
        messages.Failed(ExplorerError("x", text="x" * (limits.TEXT_LIMIT + 1))),
        messages.Failed(ExplorerError("x", **{f"p{number}": 1 for number in range(65)})),
        messages.Counters(-1, 0, 0, 0, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_no_end_sends_or_takes_what_breaks_a_limit(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordError):
        encode(1, message)
    # An end that checks nothing sends it all the same.
    with monkeypatch.context() as patch:
        for name in ("_check_whole", "_fields_of"):
            patch.setattr(wire_fields, name, UNCHECKED[name])
        stream = b"".join(encode(1, message))
    reader = FrameReader()
    reader.feed(stream)
    with pytest.raises(RecordError):
        reader.next_frame()


UNCHECKED = {
    "_check_whole": lambda _message: None,
    "_fields_of": lambda kind: {
        name: one._replace(check=lambda _value: None)
        for name, one in wire_fields._fields(kind).items()
    },
}


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (messages.ReadRange(0, b"/a", 0, 5), messages.RangeRead(b"123456")),
        (messages.ReadLinks(0, b"/", (b"a", b"b")), messages.LinksRead((b"x",))),
        (messages.ReadEntry(0, b"/a"), messages.EntryRead(b"/b", SAMPLE._replace(name=b"b"))),
        (messages.ReadLog(10), messages.LogRead(10, b"x")),
        (messages.ListDirectory(0, b"/"), messages.Entries(b"x" * 160)),
        (messages.ListDirectory(0, b"/"), messages.Entries(pack(SAMPLE))),
        (
            messages.ListDirectory(0, b"/"),
            messages.Entries(pack(SAMPLE._replace(name=b"..", depth=0))),
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_an_answer_must_be_one_to_what_was_asked(request_: Message, answer: Message) -> None:
    with pytest.raises(RecordError):
        check_answer(request_, answer)


def test_an_answer_to_what_was_asked_is_taken() -> None:
    entry = SAMPLE._replace(depth=0)
    entries_read = messages.Entries(pack(entry) * 2)
    check_answer(messages.ListDirectory(0, b"/"), entries_read)
    assert entries_read.entries == (entry, entry)
    check_answer(messages.ReadRange(0, b"/a", 0, 5), messages.RangeRead(b"12345"))
    check_answer(messages.ReadLinks(0, b"/", (b"a",)), messages.LinksRead((None,)))


def test_texts_of_errors_and_volumes_are_made_safe_to_show() -> None:
    reader = FrameReader()
    error = VolumeError("volume.missing", wanted="a\x1b[31m\u202e", log=["\x07"])
    volume = dataclasses.replace(VOLUME, label="\x1b]0;")
    for message in (messages.Failed(error), messages.VolumesFound((volume,))):
        reader.feed(b"".join(encode(1, message)))
    failed, found = (frame.message for frame in reader)
    assert isinstance(failed, messages.Failed)
    assert failed.error.params == {"wanted": "a\\x1b[31m\\u202e", "log": ["\\x07"]}
    assert isinstance(found, messages.VolumesFound)
    assert found.volumes[0].label == "\\x1b]0;"


def test_a_reader_keeps_no_more_than_it_has_not_given() -> None:
    frame = b"".join(encode(1, messages.LogRead(1 << 17, bytes(1 << 16))))
    reader = FrameReader()
    reader.feed(frame)
    for _ in range(200):
        # One more than is taken, so that it never waits for bytes.
        reader.feed(frame)
        assert reader.next_frame() is not None
        assert reader.waiting == len(frame)
        assert len(reader._buffer) <= 4 * len(frame)


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
        encode(1, messages.OpenSource((b"x" * limits.PATH_LIMIT,) * 17))


def test_every_message_has_one_number() -> None:
    assert len(set(MESSAGES.values())) == len(MESSAGES)
    assert all(0 < number < 256 for number in MESSAGES)


def test_every_request_is_answered_by_what_exists() -> None:
    kinds = set(MESSAGES.values())
    assert set(REPLIES) <= kinds
    assert set(REPLIES.values()) <= kinds
    assert set(PARTS) <= set(REPLIES)
    assert set(REPLIES) >= BULK
