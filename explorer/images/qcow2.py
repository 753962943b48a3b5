# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The QCOW2 format, versions 2 and 3.

Source: docs/interop/qcow2.txt of QEMU; its sections are named below. Limits that it leaves to the
reader are those of QEMU.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import Encrypted, UnsupportedFeature
from explorer.core.names import show_name
from explorer.images.base import file_pieces
from explorer.images.opening import find_choice
from explorer.images.qcow import (
    MAGIC,
    NEVER,
    Crypt,
    Layout,
    QcowImage,
    Run,
    Source,
    open_backing,
    unlock_aes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.core.errors import CorruptImage
    from explorer.images.base import Fact, Image, Piece
    from explorer.images.ciphers import Decrypt
    from explorer.images.files import SourceFile
    from explorer.images.opening import Opening

# ---- Header --------------------------------------------------------------------------------------

# Section "Header": magic, version, backing name's offset and size, cluster bits, size, encryption;
# entries and offset of the L1 table; offset and clusters of the refcount table; number and offset
# of the snapshots.
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
# Of version 3: features (incompatible, compatible, autoclear), refcount order, header's length.
_HEADER_3 = struct.Struct(">QQQII")

_DIRTY = 1 << 0
_CORRUPT = 1 << 1
_DATA_FILE = 1 << 2
_COMPRESSION = 1 << 3
_EXTENDED_L2 = 1 << 4
_KNOWN = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2
_RAW_DATA_FILE = 1 << 1
"""Of the autoclear features; the others are incompatible ones."""

_COMPRESSIONS = ("zlib", "zstd")
_AES, _LUKS = 1, 2

_LARGEST_L1 = 32 << 20
_SUBCLUSTERS = 32


@dataclass(frozen=True, slots=True)
class _Header:
    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    size: int
    encryption: int
    l1_count: int
    l1_offset: int
    snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = _HEADER.size
    compression: int = 0

    @property
    def cluster(self) -> int:
        """Bytes."""
        return 1 << self.cluster_bits

    @property
    def entry(self) -> int:
        """Bytes of an entry of an L2 table."""
        return 16 if self.incompatible & _EXTENDED_L2 else 8


def _read_header(opening: Opening) -> _Header:
    magic, version, *fields = _HEADER.unpack(opening.read_exactly(0, _HEADER.size, "header"))
    if magic != MAGIC:
        raise opening.corrupt("header", 0, "its magic number is wrong")
    if version not in (2, 3):
        raise opening.unsupported(f"QCOW version {version}")
    backing_offset, backing_length, cluster_bits, size, encryption, l1_count, l1_offset = fields[:7]
    snapshots, snapshots_offset = fields[9:]
    if not 9 <= cluster_bits <= 21:
        raise opening.corrupt("header", 20, f"clusters of 2^{cluster_bits} bytes")
    header = _Header(
        version,
        backing_offset,
        backing_length,
        cluster_bits,
        size,
        encryption,
        l1_count,
        l1_offset,
        snapshots,
        snapshots_offset,
        *(_read_more(opening, 1 << cluster_bits) if version == 3 else ()),
    )
    if backing_offset > header.cluster:
        raise opening.corrupt("header", 8, "the backing image's name is not in the first cluster")
    if header.refcount_order > 6:
        raise opening.corrupt("header", 96, f"reference counts of 2^{header.refcount_order} bits")
    _check_table(opening, header, l1_offset, l1_count, "L1 table")
    return header


def _read_more(opening: Opening, cluster: int) -> tuple[int, int, int, int, int]:
    """What version 3 has besides: both kinds of features, refcount order, length, compression."""
    raw = opening.read_exactly(_HEADER.size, _HEADER_3.size, "header")
    incompatible, _compatible, autoclear, refcount_order, length = _HEADER_3.unpack(raw)
    if not _HEADER.size + _HEADER_3.size <= length <= cluster:
        raise opening.corrupt("header", 100, f"its length is {length}")
    # "Additional fields": one that the header is too short for is 0.
    compression = opening.read_exactly(104, 1, "header")[0] if length > 104 else 0
    return incompatible, autoclear, refcount_order, length, compression


def _check_table(
    opening: Opening, header: _Header, offset: int, count: int, structure: str
) -> None:
    if count * 8 > _LARGEST_L1:
        raise opening.corrupt(structure, offset, f"it has {count} entries")
    if offset % header.cluster:
        raise opening.corrupt(structure, offset, "it does not begin with a cluster")
    if offset + count * 8 > opening.file.size:
        raise opening.corrupt(structure, offset, f"its {count} entries are not in the file")


def _check_features(opening: Opening, header: _Header, extensions: dict[int, _Extension]) -> None:
    unknown = header.incompatible & ~_KNOWN
    if unknown:
        names = _feature_names(extensions)
        raise opening.unsupported(
            ", ".join(
                names.get(bit, f"incompatible feature {bit}")
                for bit in range(64)
                if unknown >> bit & 1
            )
        )
    if header.compression >= len(_COMPRESSIONS):
        raise opening.unsupported(f"compression type {header.compression}")
    if bool(header.compression) != bool(header.incompatible & _COMPRESSION):
        raise opening.corrupt("header", 104, "compression type and its feature disagree")
    if header.entry == 16 and header.cluster < 512 * _SUBCLUSTERS:
        raise opening.corrupt("header", 20, f"subclusters in clusters of {header.cluster} bytes")
    if header.autoclear & _RAW_DATA_FILE:
        if not header.incompatible & _DATA_FILE:
            raise opening.corrupt("header", 88, "a raw data file, but no data file")
        if header.backing_offset:
            raise opening.corrupt("header", 88, "a raw data file, and a backing image")


# ---- Header extensions ---------------------------------------------------------------------------

_BACKING_FORMAT = 0xE2792ACA
_FEATURE_NAMES = 0x6803F857
_ENCRYPTION = 0x0537BE77
_DATA_FILE_NAME = 0x44415441


class _Extension(NamedTuple):
    position: int
    data: bytes


def _read_extensions(opening: Opening, header: _Header) -> dict[int, _Extension]:
    """Sections "Header extensions" and following: by their type."""
    end = header.backing_offset or header.cluster
    area = opening.file.read(header.length, max(0, end - header.length))
    extensions: dict[int, _Extension] = {}
    at = 0
    while at + 8 <= len(area):
        kind, length = struct.unpack_from(">II", area, at)
        if kind == 0:
            break
        at += 8
        if length > len(area) - at:
            raise opening.corrupt(
                "header extension", header.length + at - 8, f"its length is {length}"
            )
        extensions[kind] = _Extension(header.length + at, area[at : at + length])
        at += -(-length // 8) * 8
    return extensions


def _feature_names(extensions: dict[int, _Extension]) -> dict[int, str]:
    """Section "Feature name table": of the incompatible ones, by their bits."""
    names = {}
    table = extensions.get(_FEATURE_NAMES)
    for kind, bit, name in struct.iter_unpack(">BB46s", _whole(table.data, 48) if table else b""):
        text = show_name(name.partition(b"\0")[0])
        if kind == 0 and text:
            names[bit] = text
    return names


def _whole(data: bytes, size: int) -> bytes:
    return data[: len(data) // size * size]


# ---- Snapshots -----------------------------------------------------------------------------------

_SNAPSHOT_LIMIT = 65536
_LARGEST_SNAPSHOT_TABLE = 64 << 20
_LARGEST_EXTRA_DATA = 1024

# L1 table's offset and entries, lengths of ID and name, seconds, nanoseconds, the guest's clock,
# bytes of its state (32 bits), length of the extra data.
_SNAPSHOT = struct.Struct(">QIHHIIQII")


class _Snapshot(NamedTuple):
    id: bytes
    name: bytes
    seconds: int
    """Since 1970."""
    size: int
    """Bytes of the disk."""
    state: int
    """Bytes of the virtual machine's state that is kept with it."""
    l1_offset: int
    l1_count: int

    def describe(self) -> str:
        """A line for people."""
        taken = datetime.fromtimestamp(self.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
        state = f", {self.state} bytes of machine state" if self.state else ""
        names = f"{show_name(self.id)}: {show_name(self.name)}"
        return f"{names} ({taken} UTC, disk of {self.size} bytes{state})"


def _read_snapshots(opening: Opening, header: _Header) -> list[_Snapshot]:
    """Section "Snapshots": the snapshot table."""
    start = header.snapshots_offset
    if header.snapshots > _SNAPSHOT_LIMIT:
        raise opening.corrupt("header", 60, f"{header.snapshots} snapshots")
    if header.snapshots and start % header.cluster:
        raise opening.corrupt("snapshot table", start, "it does not begin with a cluster")
    snapshots = []
    at = start
    for _ in range(header.snapshots):
        found, end = _read_snapshot(opening, header, at)
        if end - start > _LARGEST_SNAPSHOT_TABLE:
            raise opening.corrupt("snapshot table", start, f"it has {end - start} bytes and more")
        snapshots.append(found)
        at = -(-end // 8) * 8
    return snapshots


def _read_snapshot(opening: Opening, header: _Header, at: int) -> tuple[_Snapshot, int]:
    """A snapshot, and where its entry ends."""
    raw = opening.read_exactly(at, _SNAPSHOT.size, "snapshot table")
    l1_offset, l1_count, *lengths, seconds, _, _, state, extra_length = _SNAPSHOT.unpack(raw)
    if extra_length > _LARGEST_EXTRA_DATA:
        raise opening.corrupt("snapshot table", at + 36, f"extra data of {extra_length} bytes")
    at += _SNAPSHOT.size
    rest = opening.read_exactly(at, extra_length + sum(lengths), "snapshot table")
    extra, names = rest[:extra_length], rest[extra_length:]
    size = header.size
    if len(extra) >= 8:
        (state,) = struct.unpack_from(">Q", extra)
    if len(extra) >= 16:
        (size,) = struct.unpack_from(">Q", extra, 8)
    found = _Snapshot(
        id=names[: lengths[0]],
        name=names[lengths[0] :],
        seconds=seconds,
        size=size,
        state=state,
        l1_offset=l1_offset,
        l1_count=l1_count,
    )
    return found, at + len(rest)


def _choose_snapshot(
    opening: Opening, header: _Header, snapshots: list[_Snapshot]
) -> _Snapshot | None:
    wanted = opening.choices.snapshot
    if wanted is None:
        return None
    # As QEMU does: the number first, then the name.
    for names in ([found.id for found in snapshots], [found.name for found in snapshots]):
        place = find_choice(wanted, names)
        if place is not None:
            chosen = snapshots[place]
            _check_table(
                opening, header, chosen.l1_offset, chosen.l1_count, "L1 table of the snapshot"
            )
            return chosen
    raise UnsupportedFeature(
        "image.snapshot-missing",
        path=opening.path,
        wanted=wanted,
        known=", ".join(f"{show_name(found.id)} ({show_name(found.name)})" for found in snapshots)
        or "none",
    )


# ---- Encryption ----------------------------------------------------------------------------------


class _HeaderArea(NamedTuple):
    """The part of an image that its LUKS header stands in, as a device of its own."""

    opening: Opening
    start: int
    length: int

    def read_exactly(self, offset: int, length: int, structure: str) -> bytes:
        if offset + length > self.length:
            raise self.corrupt(
                structure, offset, f"{length} bytes are not in a header of {self.length}"
            )
        return self.opening.read_exactly(self.start + offset, length, structure)

    def corrupt(self, structure: str, offset: int, reason: str) -> CorruptImage:
        return self.opening.corrupt(structure, self.start + offset, reason)

    def unsupported(self, feature: str) -> UnsupportedFeature:
        return self.opening.unsupported(feature)


def _read_encryption(
    opening: Opening, header: _Header, extensions: dict[int, _Extension]
) -> Crypt | None:
    """Section "Data encryption"; asks for nothing yet."""
    if (header.encryption == _LUKS) != (_ENCRYPTION in extensions):
        raise opening.corrupt("header", 32, "encryption method and encryption header disagree")
    if header.encryption == 0:
        return None
    if header.encryption == _AES:
        return Crypt("AES-128-CBC", lambda: unlock_aes(opening), by_place=False)
    if header.encryption == _LUKS:
        return _read_luks(opening, header, extensions[_ENCRYPTION])
    raise opening.unsupported(f"encryption method {header.encryption}")


def _read_luks(opening: Opening, header: _Header, extension: _Extension) -> Crypt:
    """Section "Full disk encryption header pointer"."""
    # Imported where it is needed: it brings what listing an image can do without.
    from explorer.images.ciphers import find_cipher
    from explorer.images.luks import check_hash, open_luks1, read_luks1

    if len(extension.data) != 16:
        raise opening.corrupt(
            "encryption header pointer", extension.position, f"it has {len(extension.data)} bytes"
        )
    start, length = struct.unpack(">QQ", extension.data)
    if start % header.cluster:
        raise opening.corrupt("encryption header", start, "it does not begin with a cluster")
    area = _HeaderArea(opening, start, length)
    luks = read_luks1(area)
    check_hash(area, luks.hash)

    def find(spec: str, key: bytes) -> Decrypt:
        decrypt = find_cipher(spec, key)
        if decrypt is None:
            raise opening.unsupported(f"the cipher {spec} with a key of {8 * len(key)} bits")
        return decrypt

    def unlock() -> Decrypt:
        key = open_luks1(
            area,
            luks,
            opening.ask_passphrase(opening.path),
            lambda spec, key, sector, data: find(spec, key)(sector, data),
        )
        if key is None:
            raise Encrypted("image.passphrase-wrong", path=opening.path)
        return find(luks.cipher, key)

    find(luks.cipher, bytes(luks.key_size))
    return Crypt(f"LUKS, {luks.cipher}, {8 * luks.key_size} bits", unlock, by_place=True)


# ---- Clusters ------------------------------------------------------------------------------------

_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_ZERO = 1 << 0
_OFFSET = (1 << 56) - (1 << 9)
"""Bits of an entry that are an offset in the file."""

_BITS = (1 << _SUBCLUSTERS) - 1

# RFC 8878, section 3.1.1.1.2: every decoder shall know windows of this size; QEMU's are no larger
# than a cluster.
_ZSTD_WINDOW = 8 << 20


class Qcow2Image(QcowImage):
    """An image's present state, or one of its snapshots."""

    format = "qcow2"

    def __init__(
        self,
        opening: Opening,
        header: _Header,
        layout: Layout,
        facts: dict[str, Fact],
        *,
        data: SourceFile,
        parent: Image | None,
        crypt: Crypt | None,
    ) -> None:
        """Of what :func:`open_qcow2` has read and checked."""
        super().__init__(opening, layout, data=data, parent=parent, crypt=crypt)
        self._header = header
        self._facts = facts
        self._has_data_file = bool(header.incompatible & _DATA_FILE)

    def facts(self) -> dict[str, Fact]:
        """What the header and its tables tell."""
        return dict(self._facts)

    def _l2_position(self, entry: int, index: int, /) -> int:
        position = entry & _OFFSET
        if position % self._layout.cluster:
            raise self._opening.corrupt(
                "L1 table",
                self._layout.l1_position + 8 * index,
                f"an L2 table at {position}, which is not the start of a cluster",
            )
        return position

    def _read_entry(self, entry: int, position: int, offset: int, /) -> tuple[Source, int, int]:
        # Section "Cluster mapping": "L2 table entry".
        place = entry & _OFFSET
        if entry & _COMPRESSED:
            self._check_compressed(position)
            return Source.COMPRESSED, entry, NEVER
        if entry & _ZERO:
            if self._header.version < 3:
                raise self._opening.corrupt("L2 table", position, "zeros in version 2")
            if place:
                self._check_place(place, position, offset)
            return Source.ZEROS, 0, self._layout.cluster if place else 0
        if self._is_stored(entry):
            self._check_place(place, position, offset)
            return Source.STORED, place, self._layout.cluster
        return Source.PARENT, 0, 0

    def _scan(self, entries: memoryview, position: int, offset: int) -> Iterator[Run]:
        """The runs of a part of an L2 table."""
        if self._layout.entry == 16:
            return self._scan_extended(entries, position, offset)
        return super()._scan(entries, position, offset)

    def _scan_extended(self, entries: memoryview, position: int, offset: int) -> Iterator[Run]:
        """Section "Extended L2 Entries": besides, two bits for each of 32 subclusters."""
        cluster = self._layout.cluster
        source, length, place = Source.ZEROS, 0, 0
        expected = step = same = 0
        for index in range(0, len(entries), 2):
            entry, bitmap = entries[index], entries[index + 1]
            if entry == expected and bitmap == same and length:
                length += cluster
                expected += step
                continue
            if length:
                yield Run(source, length, place)
            length = 0
            at = position + 8 * index
            if entry & _COMPRESSED:
                self._check_compressed(at)
                yield Run(Source.COMPRESSED, cluster, entry)
                continue
            place = entry & _OFFSET
            stored = self._is_stored(entry)
            if stored:
                self._check_place(place, at, offset + cluster * index // 2)
            allocated, zeros = bitmap & _BITS, bitmap >> _SUBCLUSTERS
            if allocated & (zeros if stored else _BITS):
                raise self._opening.corrupt(
                    "L2 table", at + 8, "subclusters that are stored, and are not"
                )
            if allocated in (0, _BITS) and zeros in (0, _BITS):
                source = _subcluster_source(allocated, zeros)
                length = cluster
                same = bitmap
                step = cluster if stored else 0
                expected = entry + step
            else:
                yield from _subclusters(allocated, zeros, place, cluster // _SUBCLUSTERS)
        if length:
            yield Run(source, length, place)

    def _is_stored(self, entry: int) -> bool:
        # In a data file a cluster may be at 0.
        return bool(entry & _OFFSET or (self._has_data_file and entry & _COPIED))

    def _check_place(self, place: int, position: int, offset: int) -> None:
        if place % self._layout.cluster:
            raise self._opening.corrupt(
                "L2 table", position, f"a cluster at {place}, where none begins"
            )
        if self._has_data_file and place != offset:
            raise self._opening.corrupt(
                "L2 table", position, f"cluster {offset} of the disk at {place} of the data file"
            )

    def _check_compressed(self, position: int) -> None:
        if self._has_data_file:
            raise self._opening.corrupt(
                "L2 table", position, "a compressed cluster beside a data file"
            )

    def _decompress(self, place: int) -> bytes:
        """Section "Cluster mapping": "Compressed Clusters Descriptor"."""
        bits = 62 - (self._header.cluster_bits - 8)
        start = place & ((1 << bits) - 1)
        sectors = ((place & (_COMPRESSED - 1)) >> bits) + 1
        # The last sector may be beyond the end of the file, when what is needed is not.
        stored = self._opening.file.read(start, sectors * 512 - start % 512)
        if _COMPRESSIONS[self._header.compression] == "zlib":
            return self._inflate("compressed cluster", start, stored)
        return self._decompress_zstd(start, stored)

    def _decompress_zstd(self, start: int, stored: bytes) -> bytes:
        # Imported where it is needed: few images have it.
        from zstandard import ZstdDecompressor, ZstdError

        size = self._layout.cluster
        decompressor = ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        try:
            with decompressor.stream_reader(BytesIO(stored), read_across_frames=True) as reader:
                cluster = reader.read(size)
        except ZstdError as failure:
            raise self._opening.corrupt("compressed cluster", start, str(failure)) from None
        if len(cluster) != size:
            raise self._opening.corrupt("compressed cluster", start, "it ends too early")
        return cluster


def _subcluster_source(allocated: int, zeros: int) -> Source:
    if zeros:
        return Source.ZEROS
    return Source.STORED if allocated else Source.PARENT


def _subclusters(allocated: int, zeros: int, place: int, size: int) -> Iterator[Run]:
    """The runs of a cluster whose subclusters, of ``size`` bytes, differ."""
    number = 0
    while number < _SUBCLUSTERS:
        # The lowest bit that differs from the first one.
        stored, zero = allocated >> number, zeros >> number
        other = (stored ^ -(stored & 1)) | (zero ^ -(zero & 1))
        count = min((other & -other).bit_length() - 1, _SUBCLUSTERS - number)
        if not other:
            count = _SUBCLUSTERS - number
        yield Run(_subcluster_source(stored & 1, zero & 1), count * size, place + number * size)
        number += count


class RawDataImage(Qcow2Image):
    """An image whose data file is the disk as it is, whatever the tables tell.

    Section "Header": "Raw external data bit".
    """

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The data file, but for its holes."""
        present = max(0, min(length, self._data.size - offset))
        yield from file_pieces(self._data, offset, present)
        if present < length:
            raise self._opening.corrupt("data file", self._data.size, "it ends before the disk")


# ---- Opening -------------------------------------------------------------------------------------


def open_qcow2(opening: Opening) -> Image:
    """Open an image with all that it names, in its present state or that of a snapshot.

    Asks for no passphrase: that is done at the first read of what is encrypted.
    """
    header = _read_header(opening)
    extensions = _read_extensions(opening, header)
    _check_features(opening, header, extensions)
    snapshots = _read_snapshots(opening, header)
    chosen = _choose_snapshot(opening, header, snapshots)
    layout = _lay_out(opening, header, chosen)
    crypt = _read_encryption(opening, header, extensions)

    facts: dict[str, Fact] = {"version": header.version, "cluster size": header.cluster}
    facts["compression"] = _COMPRESSIONS[header.compression]
    facts["refcount bits"] = 1 << header.refcount_order
    facts["subclusters"] = layout.entry == 16
    facts["dirty"] = bool(header.incompatible & _DIRTY)
    facts["corrupt"] = bool(header.incompatible & _CORRUPT)
    if crypt is not None:
        facts["encryption"] = crypt.title
    parent: Image | None = None
    if header.backing_offset and header.backing_length:
        format_name = _backing_format(opening, extensions)
        name, parent = open_backing(
            opening, header.backing_offset, header.backing_length, format_name
        )
        facts["backing image"] = show_name(name)
        facts["backing format"] = parent.format
    data = opening.file
    if header.incompatible & _DATA_FILE:
        named = extensions.get(_DATA_FILE_NAME)
        data = opening.open_file([named.data] if named else [], "data file")
        facts["data file"] = data.path
        facts["raw data file"] = bool(header.autoclear & _RAW_DATA_FILE)
    facts["snapshots"] = [snapshot.describe() for snapshot in snapshots]
    if chosen is not None:
        facts["opened snapshot"] = chosen.describe()

    raw = header.autoclear & _RAW_DATA_FILE and crypt is None
    return (RawDataImage if raw else Qcow2Image)(
        opening, header, layout, facts, data=data, parent=parent, crypt=crypt
    )


def _lay_out(opening: Opening, header: _Header, snapshot: _Snapshot | None) -> Layout:
    layout = Layout(
        size=header.size if snapshot is None else snapshot.size,
        cluster=header.cluster,
        entry=header.entry,
        table=header.cluster,
        l1_position=header.l1_offset if snapshot is None else snapshot.l1_offset,
        l1_count=header.l1_count if snapshot is None else snapshot.l1_count,
    )
    covered = layout.l1_count * (layout.table // layout.entry * layout.cluster)
    if snapshot is None and layout.size > covered:
        raise opening.corrupt("header", 36, f"too few entries of its L1 table ({layout.l1_count})")
    # What a snapshot's table does not reach was not there yet.
    if layout.size >= 1 << 63:
        raise opening.corrupt("snapshot table", header.snapshots_offset, "a disk of 8 EiB or more")
    return layout


# QEMU's names of its drivers, where they are not ours.
_FORMATS = {"vpc": "vhd", "file": "raw", "host_device": "raw"}


def _backing_format(opening: Opening, extensions: dict[int, _Extension]) -> str | None:
    from explorer.images.registry import format_names

    extension = extensions.get(_BACKING_FORMAT)
    if extension is None or not extension.data:
        return None
    named = show_name(extension.data)
    format_name = _FORMATS.get(named, named)
    if format_name not in format_names():
        raise opening.unsupported(f"a backing image of format {named}")
    return format_name
