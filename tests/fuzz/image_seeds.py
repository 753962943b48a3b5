# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Small whole images of each format, by the tools and writers that its tests have.

Their disks hold little, for each byte of them is one that may be changed in vain.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import struct
import tarfile
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import zstandard

from explorer.images.crc32c import crc32c
from explorer.images.opening import Choices
from tests.fuzz.seed import Seed, Sum
from tests.images import (
    test_compressed,
    test_dmg,
    test_ewf,
    test_ova,
    test_parallels,
    test_qcow1,
    test_qcow2,
    test_simg,
    test_vdi,
    test_vhd,
    test_vhdx,
    test_vmdk,
)
from tests.images.content import convert
from tests.images.encrypted import PASSPHRASE, create_encrypted, fill_encrypted
from tests.trees import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20
SECTOR = 512


def text(number: int) -> bytes:
    """A few bytes that are not like others."""
    return b"content %d\n" % number


def disk(size: int, step: int) -> bytes:
    """A disk with a few bytes at every step."""
    return b"".join(
        text(start).ljust(min(step, size - start), b"\0") for start in range(0, size, step)
    )


def raw_file(folder: Path, size: int, step: int) -> Path:
    """The same as a file."""
    path = folder / f"raw-{size}-{step}"
    path.write_bytes(disk(size, step))
    return path


# ---- Checksums


def little(function: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    """A sum of 32 bits, its lowest byte first."""
    return lambda raw: (function(raw) & 0xFFFFFFFF).to_bytes(4, "little")


ADLER = little(zlib.adler32)
CRC = little(zlib.crc32)
CASTAGNOLI = little(crc32c)


def vhd_sum(raw: bytes) -> bytes:
    """The complement of the sum of all bytes."""
    return test_vhd.checksum(raw).to_bytes(4, "big")


# ---- QEMU's


def qcow2(folder: Path) -> Iterator[Seed]:
    """Of every kind."""

    def write(unit: int) -> list[str]:
        commands = [f"write -c -P 3 {7 * unit} {unit}"]
        commands += [f"write -P {number} {number * 3 * unit + 512} 512" for number in range(1, 5)]
        return [*commands, f"write -z {2 * unit} {unit}", f"write -z -u {4 * unit} {unit}"]

    for number, (unit, options) in enumerate(
        (
            (512, ("compat=0.10",)),
            (4 * KIB, ("compat=1.1",)),
            (16 * KIB, ("extended_l2=on",)),
            (16 * KIB, ("extended_l2=on", "compression_type=zstd")),
        )
    ):
        others = {b"base": disk(15 * unit, 2 * unit)} if number < 2 else {}
        for name, content in others.items():
            (folder / name.decode()).write_bytes(content)
        backing = {"backing": "base", "kind": "raw"} if others else {}
        options = (f"cluster_size={unit}", *options)
        path = folder / f"{number}.qcow2"
        test_qcow2.create(path, 20 * unit + SECTOR, *options, **backing)
        test_qcow2.edit(path, *write(unit))
        yield Seed(path.read_bytes(), others=others)
        if number == 1:
            for snapshot in ("one", "two"):
                run_tool("qemu-img", "snapshot", "-c", snapshot, str(path))
                test_qcow2.edit(path, f"write -P 9 {6 * unit} 512")
            content = path.read_bytes()
            yield Seed(content, others=others)
            yield Seed(content, others=others, choices=Choices(snapshot="one"))
    path = test_qcow2.create(
        folder / "beside.qcow2", 64 * KIB, f"data_file={folder / 'data'}", "cluster_size=4k"
    )
    test_qcow2.edit(path, "write -P 7 4k 512")
    yield Seed(path.read_bytes(), others={b"data": (folder / "data").read_bytes()})
    yield from encrypted(folder)


def encrypted(folder: Path) -> Iterator[Seed]:
    """QCOW2 encrypted in both ways; what takes long is left as it is."""
    choices = Choices(ask_passphrase=lambda _what: PASSPHRASE.encode())
    raw = raw_file(folder, 8 * KIB, 4 * KIB)

    def make(method: str) -> Path:
        options = f"cluster_size=4k,encrypt.format={method},encrypt.key-secret=secret"
        more = ",encrypt.iter-time=10" if method == "luks" else ""
        return create_encrypted(folder / method, "qcow2", 8 * KIB, options + more)

    driver = "qcow2,encrypt.format=aes"
    path = fill_encrypted(raw, make("aes"), driver, "encrypt.key-secret")
    yield Seed(path.read_bytes(), choices=choices)
    path = test_qcow2.with_header(make("luks"), folder / "quick", "--key-size=256")
    start = test_qcow2.luks_place(path)
    content = bytearray(test_qcow2.fill_luks(raw, path).read_bytes())
    # Of the eight keys' stripes, the first is used.
    first, last = start + 4096 + 32 * 4000, start + 4096 + 8 * 252 * KIB
    content[first:last] = bytes(last - first)
    # Iterations, and what a passphrase unlocks.
    kept = [(start + 164, start + 168)]
    kept += [(start + 212 + 48 * number, start + 216 + 48 * number) for number in range(8)]
    kept.append((start + 4096, first))
    yield Seed(bytes(content), choices=choices, kept=kept)


def qcow(folder: Path) -> Iterator[Seed]:
    """Plain, compressed, and with a backing image."""
    others = {b"base": disk(40 * KIB, 8 * KIB)}
    (folder / "base").write_bytes(others[b"base"])
    path = test_qcow1.create(folder / "plain.qcow", 64 * KIB, backing="base")
    test_qcow1.edit(path, "write -P 7 4k 512", "write -P 8 20k 512")
    yield Seed(path.read_bytes(), others=others)
    path = test_qcow1.create(folder / "packed.qcow", 64 * KIB)
    test_qcow1.edit(path, "write -c -P 7 4k 4k", "write -c -P 8 24k 4k", "write -P 9 32k 512")
    yield Seed(path.read_bytes())
    path = create_encrypted(
        folder / "aes.qcow", "qcow", 8 * KIB, "encrypt.format=aes,encrypt.key-secret=secret"
    )
    raw = raw_file(folder, 8 * KIB, 4 * KIB)
    fill_encrypted(raw, path, "qcow,encrypt.format=aes", "encrypt.key-secret")
    yield Seed(path.read_bytes(), choices=Choices(ask_passphrase=lambda _what: PASSPHRASE.encode()))


# ---- Virtual machines'


def vdi(folder: Path) -> Iterator[Seed]:
    """Dynamic, fixed, and with a parent."""
    blocks: dict[int, bytes | int] = {0: text(0), 2: text(2), 3: test_vdi.ZERO}
    base = test_vdi.Vdi(5 * MIB, blocks)
    path = base.write(folder / "base.vdi")
    parent = path.read_bytes()
    yield Seed(parent)
    yield Seed(replace(base, size=MIB, type=2, blocks={0: text(9)}).write(path).read_bytes())
    child = replace(base, type=4, blocks={2: text(7)}, ids=(3, 4, 1, 2)).write(path).read_bytes()
    yield Seed(child, b"child.vdi", others={b"base.vdi": parent})


def vhd(folder: Path) -> Iterator[Seed]:
    """Dynamic, fixed, and with a parent."""
    full = b"\xff" * 4
    base = test_vhd.Vhd(
        7 * test_vhd.BLOCK, {0: (full, text(0)), 3: (b"\xa5\0\1\0", text(3))}, id=0x77
    )
    child = replace(
        base,
        type=4,
        blocks={3: (b"\x0f\0\0\0", text(1))},
        id=0x88,
        parent=0x77,
        parent_name="base.vhd",
        locators=((b"W2ru", test_vhd.utf16(".\\base.vhd")),),
    )
    parent = base.write(folder / "base.vhd").read_bytes()

    def sums(content: bytes) -> list[Sum]:
        end = len(content) - 512
        return [Sum(end, end + 512, end + 64, 4, vhd_sum), Sum(0, 512, 64, 4, vhd_sum),
                Sum(512, 1536, 512 + 36, 4, vhd_sum)]  # fmt: skip

    yield Seed(parent, sums=sums(parent))
    content = child.write(folder / "child.vhd").read_bytes()
    yield Seed(content, b"child.vhd", others={b"base.vhd": parent}, sums=sums(content))
    fixed = disk(8 * KIB, KIB) + replace(base, size=8 * KIB, type=2).footer()
    yield Seed(fixed, sums=sums(fixed)[:1])


def vhdx(folder: Path) -> Iterator[Seed]:
    """Dynamic, with a parent, and with a log."""
    headers = [
        Sum(at, at + size, at + 4, 4, CASTAGNOLI)
        for at, size in (
            (64 * KIB, 4096), (128 * KIB, 4096), (192 * KIB, 64 * KIB), (256 * KIB, 64 * KIB)
        )
    ]  # fmt: skip
    base = test_vhdx.Vhdx(
        4 * MIB, {0: text(0), 2: test_vhdx.ZERO}, data_guid=test_vhdx.raw_guid(test_vhdx.BASE_GUID)
    )
    path = folder / "base.vhdx"
    parent = base.write(path).read_bytes()
    yield Seed(parent, sums=headers)
    child = replace(
        base,
        blocks={0: test_vhdx.UNDEFINED},
        partial={2: text(2)},
        bitmaps={0: b"\xff" * 40},
        parent={"parent_linkage": test_vhdx.BASE_GUID, "relative_path": ".\\base.vhdx"},
        data_guid=b"another version.",
    )
    yield Seed(
        child.write(path).read_bytes(), b"child.vhdx", others={b"base.vhdx": parent}, sums=headers
    )
    sector = (b"a sector of log ".ljust(200, b"\0") + bytes(4096))[:4096]
    log = test_vhdx.entry(5, [(4 * MIB, sector), (4 * MIB + 8192, 4096)], last=5 * MIB)
    content = replace(base, log_guid=test_vhdx.LOG_GUID, log=log).write(path).read_bytes()
    entry = Sum(MIB, MIB + len(log), MIB + 4, 4, CASTAGNOLI)
    yield Seed(content, sums=[*headers, entry])


def vmdk(folder: Path) -> Iterator[Seed]:
    """Sparse, streamed, of ESX, and a descriptor beside its extents."""
    path = folder / "disk.vmdk"

    def grains(size: int, *numbers: int) -> dict[int, bytes]:
        return {number: text(number).ljust(size, b"\0") for number in numbers}

    sparse = test_vmdk.Sparse(100 * 128, {**grains(64 * KIB, 0, 7), 9: 1})
    yield Seed(sparse.write(path).read_bytes())
    stream = replace(test_vmdk.stream(path), grains={**grains(32 * SECTOR, 0, 3)})
    yield Seed(stream.write(path).read_bytes())
    yield Seed(replace(stream, footer=False).write(path).read_bytes())
    yield Seed(test_vmdk.Cowd(9000, grains(SECTOR, 0, 4100)).write(path).read_bytes())
    extents = {
        b"disk-s001.vmdk": sparse.write(path).read_bytes(),
        b"disk-flat.vmdk": disk(64 * KIB, 4096),
        b"base.vmdk": sparse.write(path).read_bytes(),
    }
    lines = ('RW 12800 SPARSE "disk-s001.vmdk"', 'RW 64 FLAT "disk-flat.vmdk" 3', "RW 10 ZERO")
    yield Seed(test_vmdk.descriptor(*lines), b"disk.vmdk", others=extents)
    embedded = test_vmdk.descriptor(
        'RW 12800 SPARSE "child.vmdk"',
        kind="monolithicSparse",
        parent_id="12345678",
        more=('parentFileNameHint="base.vmdk"',),
    )
    child = replace(sparse, descriptor=embedded, grains={**grains(64 * KIB, 2)}).write(path)
    yield Seed(child.read_bytes(), b"child.vmdk", others=extents)


def parallels(folder: Path) -> Iterator[Seed]:
    """Both magics, an extension, and a bundle."""
    cluster = test_parallels.CLUSTER
    path = folder / "disk.hds"
    extension = test_parallels.extension(
        test_parallels.feature(test_parallels.DIRTY_BITMAP, 1, bytes(33)),
        test_parallels.feature(0x1234, 2, b"unknown"),
        test_parallels.feature(0, 0),
    )
    image = test_parallels.Hds(9 * cluster, {0: text(0), 5: text(5)}, extension=extension)
    content = image.write(path).read_bytes()
    at = len(content) - cluster
    sums = [Sum(at + 24, at + cluster, at + 8, 16, lambda raw: hashlib.md5(raw).digest())]
    yield Seed(content, sums=sums)
    yield Seed(replace(image, magic=b"WithoutFreeSpace", extension=None).write(path).read_bytes())
    descriptor, _disk, _before = test_parallels.bundle(folder)
    files = ("base.hdd", "first.hds", "top.hds")
    others = {name.encode(): (folder / name).read_bytes() for name in files}
    yield Seed(descriptor.write(folder).read_bytes(), b"DiskDescriptor.xml", others=others)


# ---- Apple's, Android's, appliances, evidence


def dmg(folder: Path) -> Iterator[Seed]:
    """Runs of all kinds, tables in both places."""
    path = folder / "disk.dmg"
    piece = disk(2 * SECTOR, 300)
    kinds = (test_dmg.ADC, test_dmg.ZLIB, test_dmg.BZIP2, test_dmg.XZ, test_dmg.RAW)
    runs = [test_dmg.Run(kind, piece) for kind in kinds]
    runs += [test_dmg.Run(test_dmg.ZERO, bytes(SECTOR)), test_dmg.Run(test_dmg.COMMENT, b"")]
    image = test_dmg.Dmg([runs, [test_dmg.Run(test_dmg.IGNORED, bytes(SECTOR)), runs[1]]])
    yield Seed(image.write(path).read_bytes())
    yield Seed(replace(image, fork=True, trailer_first=True).write(path).read_bytes())


def simg(folder: Path) -> Iterator[Seed]:
    """All kinds of chunks."""
    chunk = test_simg.Chunk
    chunks = [
        chunk(test_simg.RAW, 1, text(1).ljust(4096, b"\0")),
        chunk(test_simg.CRC32, 0, b"\1\2\3\4"),
        chunk(test_simg.FILL, 20, b"\xde\xad\xbe\xef"),
        chunk(test_simg.IGNORED, 7),
        chunk(test_simg.RAW, 2, text(2).ljust(8192, b"\0")),
    ]
    yield Seed(test_simg.Simg(chunks).write(folder / "system.img").read_bytes())


def tar_sum(raw: bytes) -> bytes:
    """Of a header whose own field counts as blanks."""
    return b"%06o\0 " % (sum(raw) + 8 * ord(" "))


def ova(folder: Path) -> Iterator[Seed]:
    """A machine with a disk, and with two, in archives of all kinds."""
    path = folder / "machine.ova"
    stream = test_vmdk.stream(folder / "disk.vmdk")
    stream = replace(stream, grains={0: text(0).ljust(32 * SECTOR, b"\0")})
    inner = stream.write(folder / "disk.vmdk").read_bytes()
    for kind, names in (
        (tarfile.USTAR_FORMAT, ["disk.vmdk"]),
        (tarfile.PAX_FORMAT, ["Größe.vmdk", "disk.vmdk"]),
        (tarfile.GNU_FORMAT, ["disk.vmdk", "d" * 101 + ".vmdk"]),
    ):
        members = [("machine.ovf", test_ova.description(names)), *((one, inner) for one in names)]
        content = test_ova.archive(path, members, kind).read_bytes()
        heads = [
            at for at in range(0, len(content), SECTOR) if content[at + 257 :].startswith(b"ustar")
        ]
        sums = [Sum(at, at + SECTOR, at + 148, 8, tar_sum) for at in heads]
        yield Seed(content, sums=sums, choices=Choices(member="disk.vmdk"))


def ewf(folder: Path) -> Iterator[Seed]:
    """A set of two segments, of which each is changed; and one with all that may be in it."""
    chunk = 16 * SECTOR
    chunks = [text(number).ljust(chunk, b"\0") for number in range(6)]
    packed = [
        zlib.compress(one) if number % 2 else test_ewf.stored(one)
        for number, one in enumerate(chunks)
    ]
    names = "c\tn\ta\te\tt\tav\tov\tm\tu\tp"
    header = f"3\nmain\n{names}\none\t2\ta\te\tt\t7\tLinux\t1142163845\tsome\tx\n\nsrce\n0\t1\n"
    first = test_ewf.Segment()
    first.add("header2", test_ewf.header2(header))
    first.volume(6 * 16, per_chunk=16, identifier=bytes(range(16)))
    first.chunks(packed[:3], 0b010)
    second = test_ewf.Segment(2)
    second.volume(6 * 16, kind="data", per_chunk=16, identifier=bytes(range(16)))
    second.chunks(packed[3:], 0b101, base=0)
    second.add("digest", test_ewf.checksummed(b"m" * 16 + b"s" * 20 + bytes(40)))
    second.add("hash", test_ewf.checksummed(b"m" * 16 + bytes(16)))
    second.add("error2", test_ewf.error_section([(10, 1), (40, 30)]))
    session = test_ewf.checksummed(struct.pack("<I28x", 2))
    session += test_ewf.checksummed(struct.pack("<II24xII24x", 0, 16, 1, 5000))
    second.add("session", session)
    first.add("next")
    second.add("done")
    files = {b"disk.E01": bytes(first.data), b"disk.E02": bytes(second.data)}
    for segment, name in ((first, b"disk.E01"), (second, b"disk.E02")):
        sums = list(ewf_sums(bytes(segment.data)))
        yield Seed(files[name], name, b"disk.E01", files, sums)


def ewf_sums(content: bytes) -> Iterator[Sum]:
    """The checksums of all sections of a segment."""
    at = 13
    while True:
        kind, following = struct.unpack_from("<16sQ", content, at)
        kind = kind.rstrip(b"\0")
        start = at + 76
        yield Sum(at, at + 72, at + 72, 4, ADLER)
        end = following if following > at else start
        if kind in (b"volume", b"data", b"digest", b"hash"):
            yield Sum(start, end - 4, end - 4, 4, ADLER)
        head = {b"table": 20, b"table2": 20, b"error2": 516, b"session": 32}.get(kind)
        if head is not None:
            yield Sum(start, start + head, start + head, 4, ADLER)
            yield Sum(start + head + 4, end - 4, end - 4, 4, ADLER)
        if following <= at:
            return
        at = following


# ---- Compressed


def gzipped(folder: Path) -> Iterator[Seed]:
    """A member, several, BGZF; and images inside, which are recognised."""
    content = disk(8 * KIB, 500)
    yield Seed(gzip.compress(content, mtime=0))
    yield Seed(gzip.compress(content[:3000], mtime=0) + gzip.compress(content[3000:], mtime=0))
    member = test_compressed.bgzf_member
    yield Seed(member(content[:3000]) + member(content[3000:]) + member(b""))
    raw = raw_file(folder, 64 * KIB, 8 * KIB)
    for number, kind in enumerate(("qcow2", "vmdk")):
        image = convert(raw, folder / f"{number}.{kind}", kind)
        yield Seed(gzip.compress(image.read_bytes(), mtime=0))


def xz_sums(content: bytes) -> list[Sum]:
    """Of the header, the index and the footer (.xz format, sections 2.1.1, 2.1.2, 4)."""
    end = len(content)
    index = end - 12 - 4 * (int.from_bytes(content[end - 8 : end - 4], "little") + 1)
    return [
        Sum(6, 8, 8, 4, CRC),
        Sum(index, end - 16, end - 16, 4, CRC),
        Sum(end - 8, end - 2, end - 12, 4, CRC),
    ]


def xz(folder: Path) -> Iterator[Seed]:
    """A stream, and several blocks."""
    content = disk(8 * KIB, 500)
    one = lzma.compress(content)
    yield Seed(one, sums=xz_sums(one))
    raw = folder / "raw"
    raw.write_bytes(content)
    path = folder / "raw.xz"
    script = 'xz -k -c --block-size=3000 "$IN" > "$OUT"'
    blocks = test_compressed.shell(script, raw, path).read_bytes()
    yield Seed(blocks, sums=xz_sums(blocks))
    yield Seed(one + bytes(8) + blocks)


def zstd(folder: Path) -> Iterator[Seed]:
    """A frame, several, and with a table of them."""
    content = disk(8 * KIB, 500)
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    yield Seed(compressor.compress(content))
    plain = zstandard.ZstdCompressor(write_content_size=False)
    frames = [plain.compress(content[at : at + 3000]) for at in range(0, len(content), 3000)]
    sizes = [min(3000, len(content) - at) for at in range(0, len(content), 3000)]
    table = list(zip(map(len, frames), sizes, strict=True))
    yield Seed(b"".join(frames))
    yield Seed(b"".join(frames) + test_compressed.seek_table(table))
    skipped = struct.pack("<II", 0x184D2A53, 5) + b"skip!"
    yield Seed(skipped + compressor.compress(content) + skipped)


def bzip2(folder: Path) -> Iterator[Seed]:
    """A stream, and several."""
    content = disk(8 * KIB, 500)
    yield Seed(bz2.compress(content))
    yield Seed(bz2.compress(content[:3000], 1) + bz2.compress(b"") + bz2.compress(content[3000:]))


MAKERS: dict[str, Callable[[Path], Iterator[Seed]]] = {
    "qcow": qcow,
    "qcow2": qcow2,
    "vdi": vdi,
    "vhd": vhd,
    "vhdx": vhdx,
    "vmdk": vmdk,
    "parallels": parallels,
    "dmg": dmg,
    "simg": simg,
    "ova": ova,
    "ewf": ewf,
    "gzip": gzipped,
    "xz": xz,
    "zstd": zstd,
    "bzip2": bzip2,
}
"""By the format's name."""
