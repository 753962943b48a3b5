# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""OVA appliances: archives by tar and by Python's tarfile, with disks by qemu-img in them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from typing import TYPE_CHECKING, Literal

import pytest

from explorer.core.errors import (
    CorruptImage,
    ImageError,
    MissingPart,
    SourceError,
    UnsupportedFeature,
)
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images.opening import CHAIN_LIMIT, Choices
from explorer.images.ova import DESCRIPTION_LIMIT, HEADER_LIMIT
from explorer.images.registry import open_image
from tests.images.checks import (
    check_damaged,
    check_described,
    check_image,
    check_refused_or_read,
)
from tests.images.content import convert, make_disk
from tests.trees import noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MIB = 1 << 20
OVF = "http://schemas.dmtf.org/ovf/envelope/1"


def description(
    files: Sequence[str],
    *,
    more_file: str = "",
    more_disk: str = "",
    namespace: str = OVF,
    prologue: str = "",
) -> bytes:
    """A machine with a disk for each file."""
    listed = "".join(
        f'<File ovf:id="file{number}" ovf:href="{name}" {more_file}/>'
        for number, name in enumerate(files, 1)
    )
    disks = "".join(
        f'<Disk ovf:diskId="vmdisk{number}" ovf:fileRef="file{number}" ovf:capacity="8" '
        f'ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html" {more_disk}/>'
        for number, _name in enumerate(files, 1)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{prologue}\n'
        f'<Envelope xmlns="{namespace}" xmlns:ovf="{namespace}">'
        f"<References>{listed}</References>"
        f"<DiskSection><Info>Disks</Info>{disks}"
        # A disk that is made empty, and what is no disk.
        '<Disk ovf:diskId="empty" ovf:capacity="1"/></DiskSection>'
        '<VirtualSystem ovf:id="machine"><File/></VirtualSystem></Envelope>'
    ).encode()


def archive(
    path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT
) -> Path:
    """An archive with these files."""
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def refused(path: Path, choices: Choices | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path, choices=choices)
    check_described(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A raw disk, and a streamed VMDK of it."""
    folder = tmp_path_factory.mktemp("disk")
    raw = make_disk(folder / "raw", 2 * MIB, 300_000)
    return raw, convert(raw, folder / "disk.vmdk", "vmdk", "subformat=streamOptimized")


@pytest.mark.proves("format", "ova", "disks read where they lie")
@pytest.mark.parametrize("kind", ["ustar", "gnu", "oldgnu", "pax", "posix"])
def test_archives_by_tar(
    kind: str, disk: tuple[Path, Path], tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    raw, vmdk = disk
    (tmp_path / "machine.ovf").write_bytes(description(["disk.vmdk"]))
    (tmp_path / "machine.mf").write_text("SHA256(disk.vmdk)= none\n")
    (tmp_path / "disk.vmdk").write_bytes(vmdk.read_bytes())
    path = tmp_path / "machine.ova"
    names = ("machine.ovf", "machine.mf", "disk.vmdk")
    run_tool("tar", "-C", tmp_path, f"--format={kind}", "-cf", path, *names)
    unchanged(path)
    with open_image(path) as image:
        assert image.format == "vmdk"
        facts = image.facts()
        assert facts["appliance"] == "machine.ovf"
        assert (facts["disk"], facts["disks"]) == ("disk.vmdk", ["disk.vmdk"])
        assert facts["manifest"] is True
        assert facts["type"] == "streamOptimized"
        check_image(image, raw)


@pytest.mark.proves("format", "ova", "disks read where they lie")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("vmdk", ("subformat=monolithicSparse",)),
        ("qcow2", ()),
        ("vpc", ("subformat=dynamic", "force_size=on")),
        ("vdi", ()),
        ("raw", ()),
    ],
)
def test_disks_of_other_formats_are_read_where_they_lie(
    kind: str, options: tuple[str, ...], disk: tuple[Path, Path], tmp_path: Path
) -> None:
    raw, _vmdk = disk
    inner = convert(raw, tmp_path / "inner", kind, *options).read_bytes()
    path = archive(tmp_path / "machine.ova", [("m.ovf", description(["d.img"])), ("d.img", inner)])
    with open_image(path) as image:
        check_image(image, raw)
        assert image.facts()["manifest"] is False
        extents = [e for e in image.extents(0, image.size) if e.kind is ExtentKind.DATA]
        assert extents
        # Inside the archive.
        assert min(extent.position for extent in extents) > 512


def test_the_extents_of_a_disk_are_members_too(disk: tuple[Path, Path], tmp_path: Path) -> None:
    raw, _vmdk = disk
    convert(raw, tmp_path / "disk.vmdk", "vmdk", "subformat=monolithicFlat")
    members = [(name, (tmp_path / name).read_bytes()) for name in ("disk.vmdk", "disk-flat.vmdk")]
    path = archive(tmp_path / "machine.ova", [("m.ovf", description(["disk.vmdk"])), *members])
    (tmp_path / "disk-flat.vmdk").unlink()
    with open_image(path) as image:
        check_image(image, raw)
    # Not from beside the archive.
    (tmp_path / "disk-flat.vmdk").write_bytes(raw.read_bytes())
    archive(path, [("m.ovf", description(["disk.vmdk"])), members[0]])
    assert isinstance(refused(path), MissingPart)


@pytest.mark.proves("format", "ova", "one of several disks")
def test_one_of_several_disks_is_chosen(tmp_path: Path) -> None:
    contents = {name: noise(4096, seed) for seed, name in enumerate(("a.img", "b c.img", "é.img"))}
    text = description(["a.img", "b%20c.img", "%C3%A9.img"])
    path = archive(tmp_path / "m.ova", [("m.ovf", text), *contents.items()])
    error = refused(path)
    assert isinstance(error, UnsupportedFeature)
    assert (error.code, error.params["known"]) == ("image.member-missing", "a.img, b c.img, é.img")
    wanted = {"b c.img": 1, "é.img": 2, "file1": 0, "vmdisk3": 2, "file2": 1}
    for member, number in wanted.items():
        with open_image(path, choices=Choices(member=member)) as image:
            assert image.read(0, 5000) == list(contents.values())[number]
            assert image.facts()["disks"] == ["a.img", "b%20c.img", "%C3%A9.img"]
    for member in ("d.img", "", "file4"):
        assert refused(path, Choices(member=member)).code == "image.member-missing"


def test_a_snapshot_in_a_disk_is_chosen(disk: tuple[Path, Path], tmp_path: Path) -> None:
    raw, _vmdk = disk
    inner = convert(raw, tmp_path / "inner", "qcow2")
    run_tool("qemu-img", "snapshot", "-c", "before", inner)
    run_tool("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", str(inner))
    members = [("m.ovf", description(["d.qcow2"])), ("d.qcow2", inner.read_bytes())]
    path = archive(tmp_path / "m.ova", members)
    with open_image(path) as image:
        assert image.read(0, 100) == b"\7" * 100
    with open_image(path, choices=Choices(snapshot="before")) as image:
        check_image(image, raw)
    assert refused(path, Choices(snapshot="none")).code == "image.snapshot-missing"


def test_an_appliance_within_itself_has_an_end(tmp_path: Path) -> None:
    inner = noise(512, 1)
    for _ in range(CHAIN_LIMIT - 1):
        inner = archive(
            tmp_path / "m.ova", [("m.ovf", description(["m.ova"])), ("m.ova", inner)]
        ).read_bytes()
    with open_image(tmp_path / "m.ova") as image:
        assert image.read(0, 600) == noise(512, 1)
    archive(tmp_path / "m.ova", [("m.ovf", description(["m.ova"])), ("m.ova", inner)])
    assert "behind one another" in describe(refused(tmp_path / "m.ova"))


@pytest.mark.proves("format", "ova", "compressed and chunked disks")
def test_compressed_disks(disk: tuple[Path, Path], tmp_path: Path) -> None:
    raw, _vmdk = disk
    text = description(["d.vmdk.gz"], more_file='ovf:compression="gzip"')
    inner = convert(raw, tmp_path / "d.vmdk", "vmdk").read_bytes()
    path = archive(tmp_path / "m.ova", [("m.ovf", text), ("d.vmdk.gz", gzip.compress(inner, 1))])
    with open_image(path) as image:
        check_image(image, raw)


@pytest.mark.proves("format", "ova", "compressed and chunked disks")
@pytest.mark.parametrize("size", [512, 100_000, 1 << 20])
def test_disks_in_chunks(size: int, disk: tuple[Path, Path], tmp_path: Path) -> None:
    raw, vmdk = disk
    content = vmdk.read_bytes()[: size * 2000] if size > 512 else raw.read_bytes()[: 40 * 512]
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    name = "d.vmdk" if size > 512 else "d.raw"
    text = description([name], more_file=f'ovf:chunkSize="{size}"')
    members = [(f"{name}.{number:09}", chunk) for number, chunk in enumerate(chunks)]
    path = archive(tmp_path / "m.ova", [("m.ovf", text), *members])
    with open_image(path) as image:
        if size > 512:
            check_image(image, raw)
        else:
            assert image.read(0, image.size) == content
            assert len(list(image.extents(0, image.size))) == len(chunks)


def test_a_disk_in_several_members(tmp_path: Path) -> None:
    members = [("m.ovf", description(["d.001"])), ("d.002", noise(700, 2)), ("d.001", b"first")]
    path = archive(tmp_path / "m.ova", members)
    (tmp_path / "d.003").write_bytes(b"x")
    with open_image(path) as image:
        assert image.facts()["parts"] == 2
        assert image.read(0, 1000) == b"first" + noise(700, 2)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(kind: int, tmp_path: Path) -> None:
    folder = "folder/" * 12
    name = folder + "d" * 90 + ".img"
    text = description([name])
    path = archive(tmp_path / "m.ova", [("./m.ovf", text), ("./" + name, noise(5000, 1))], kind)
    with open_image(path) as image:
        assert image.read(0, 5000) == noise(5000, 1)


@pytest.mark.proves("format", "ova", "members of more than 8 GiB")
@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_disk_of_more_than_8_gib(kind: Literal[1, 2], tmp_path: Path) -> None:
    size = (9 << 30) + 100
    path = tmp_path / "m.ova"
    archive(path, [("m.ovf", description(["d.img"]))], kind)
    member = tarfile.TarInfo("d.img")
    member.size = size
    with path.open("r+b") as file:
        file.seek(512 + -(-len(description(["d.img"])) // 512) * 512)
        file.write(member.tobuf(kind))
        start = file.tell()
        file.write(b"start")
        file.seek(start + size - 3)
        file.write(b"end")
        file.truncate(start + -(-size // 512) * 512)
        file.seek(0, 2)
        last = tarfile.TarInfo("m.mf")
        file.write(last.tobuf(kind) + bytes(1024))
    with open_image(path) as image:
        assert image.size == size
        assert image.facts()["manifest"] is True
        assert image.read(0, 6) == b"start\0"
        assert image.read(size - 4, 10) == b"\0end"


def test_records_before_the_first_member(tmp_path: Path) -> None:
    # As bsdtar writes them, and with others that do not matter; then an older version of OVF.
    path = tmp_path / "m.ova"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as tar:
        text = description(["d.img"], namespace="http://www.vmware.com/schema/ovf/1/envelope")
        for name, content in (("m.ovf", text), ("d.img", noise(5000, 1))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.pax_headers = {"LIBARCHIVE.creationtime": "1", "SCHILY.dev": "7"}
            tar.addfile(member, io.BytesIO(content))
        tar.addfile(tarfile.TarInfo("folder/"))
    with open_image(path) as image:
        assert image.read(0, 5000) == noise(5000, 1)
    # A long target of a link stands between a long name and its member.
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("m.ovf")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
        link = tarfile.TarInfo("l" * 120)
        link.type = tarfile.SYMTYPE
        link.linkname = "t" * 120
        tar.addfile(link)
        member = tarfile.TarInfo("d.img")
        member.size = 5000
        tar.addfile(member, io.BytesIO(noise(5000, 1)))
    with open_image(path) as image:
        assert image.read(0, 5000) == noise(5000, 1)


def test_a_recorded_size_is_of_the_next_member_only(tmp_path: Path) -> None:
    # A size in pax records does not move the headers that stand between them and their member.
    path = tmp_path / "m.ova"
    name = b"x" * 120
    first = archive(path, [("m.ovf", description(["d.img"]))]).read_bytes()
    first = first[: 512 + -(-len(description(["d.img"])) // 512) * 512]

    def header(kind: bytes, size: int, called: str = "d.img") -> bytes:
        member = tarfile.TarInfo(called)
        member.size = size
        member.type = kind
        return member.tobuf(tarfile.USTAR_FORMAT)

    record = b"18 path=decoy.img\n"
    size = b"13 size=5000\n"
    data = (
        first
        + header(b"x", len(record + size))
        + (record + size).ljust(512, b"\0")
        + header(b"L", len(name))
        + name.ljust(512, b"\0")
        + header(b"0", 0)
        + noise(5000, 1).ljust(5120, b"\0")
        + header(b"0", 512)
        + noise(512, 2)
        + bytes(1024)
    )
    path.write_bytes(data)
    with open_image(path) as image:
        assert image.read(0, 600) == noise(512, 2)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"no XML", "OVF description"),
        (b"", "OVF description"),
        (description(["d.img"])[:-1], "OVF description"),
        (description(["d.img"], prologue='<!DOCTYPE x [<!ENTITY a "b">]>'), "document type"),
        (description([]), "without disks"),
        (description(["d.img"], more_disk='ovf:parentRef="vmdisk9"'), "changes to another disk"),
        (b" " * (DESCRIPTION_LIMIT + 1), "a description of"),
    ],
    ids=["text", "empty", "cut", "doctype", "none", "parent", "large"],
)
def test_descriptions_that_cannot_be_are_refused(text: bytes, where: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "m.ova", [("m.ovf", text), ("d.img", noise(512, 1))])
    assert where in describe(refused(path))


def test_disks_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.ova"
    text = description(["d.img"])
    for name in ("http://example.org/d.img", "../d.img", "e.img", ""):
        archive(path, [("m.ovf", description([name]))])
        (tmp_path / "d.img").write_bytes(noise(512, 1))
        error = refused(path)
        assert isinstance(error, MissingPart)
        assert error.params["role"] == "disk"
    archive(path, [("m.ovf", text), ("d.img", b"")])
    with pytest.raises(SourceError) as caught:
        open_image(path)
    assert caught.value.code == "source.empty"
    with tarfile.open(path, "w") as tar:
        for name in ("m.ovf", "other.img"):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        link = tarfile.TarInfo("d.img")
        link.type = tarfile.LNKTYPE
        link.linkname = "other.img"
        tar.addfile(link)
    assert "not plain" in describe(refused(path))
    # Cut off after the disk, where nothing is missing, and in it.
    archive(path, [("m.ovf", text), ("d.img", noise(5000, 1))])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(noise(5000, 1)) + 5000])
    with open_image(path) as image:
        assert image.size == 5000
    path.write_bytes(whole[: whole.index(noise(5000, 1)) + 3000])
    error = refused(path)
    assert isinstance(error, CorruptImage)
    assert error.params["structure"] == "tar member"


@pytest.mark.parametrize("options", [("gnu",), ("posix",), ("posix", "--sparse-version=0.0")])
def test_sparse_members_are_refused(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "m.ovf").write_bytes(description(["d.img"]))
    with (tmp_path / "d.img").open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(4 * MIB)
        file.write(b"data")
    path = tmp_path / "m.ova"
    kind, *more = options
    formats = (f"--format={kind}", *more)
    run_tool("tar", "-C", tmp_path, *formats, "-S", "-cf", path, "m.ovf", "d.img")
    assert path.stat().st_size < MIB
    assert "not plain" in describe(refused(path))


def test_archives_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.ova"
    text = description(["d.img"])
    whole = archive(path, [("m.ovf", text), ("d.img", noise(512, 1))]).read_bytes()

    def changed(at: int, value: bytes, *, right_sum: bool = True) -> str:
        data = bytearray(whole)
        data[at : at + len(value)] = value
        if right_sum:
            data[148:156] = b" " * 8
            data[148:156] = b"%06o\0 " % sum(data[:512])
        path.write_bytes(data)
        return describe(refused(path))

    assert "checksum is wrong" in changed(0, b"M", right_sum=False)
    assert "is no number" in changed(124, b"9999999")
    assert "a member of" in changed(124, b"\x80" + bytes(3) + b"\xff" * 8)
    archive(path, [("m.ovf.txt", text)])
    with pytest.raises(ImageError) as caught:
        open_image(path, "ova")
    assert "no description" in describe(caught.value)
    archive(path, [("m.ovf", text), *((f"{n}", b"") for n in range(HEADER_LIMIT))])
    assert f"more than {HEADER_LIMIT} members" in describe(refused(path))


@pytest.mark.parametrize(
    ("records", "where"),
    [
        (b"5 a=b\n", "no record"),
        (b"7 a=b\n", "no record"),
        (b"6 ab\n\n", "no record"),
        (b"12 size=12x\n", "no number"),
        (b"x" * 2000, "no record"),
        (b"9" * 8 + b" a=b\n", "no record"),
    ],
)
def test_records_that_cannot_be_are_refused(records: bytes, where: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "m.ova", [("m.ovf", description(["d.img"]))])
    data = path.read_bytes()
    start = 512 + -(-len(description(["d.img"])) // 512) * 512
    member = tarfile.TarInfo("records")
    member.size = len(records)
    member.type = b"x"
    header = member.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(data[:start] + header + records + bytes(-len(records) % 512) + bytes(1024))
    assert where in describe(refused(path))
    member.size = 2 << 20
    path.write_bytes(data[:start] + member.tobuf(tarfile.USTAR_FORMAT) + bytes(3 << 20))
    assert "2097152 bytes of records" in describe(refused(path))


def test_other_archives_are_refused_by_their_name(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.tar", [("a.txt", b"x"), ("m.ovf", b"x")])
    assert "a tar archive" in describe(refused(path))
    # Records without an end.
    record = tarfile.TarInfo("m.ovf")
    record.type = b"x"
    data = bytearray(record.tobuf(tarfile.USTAR_FORMAT))
    data[124:136] = b"x" * 12
    path.write_bytes(bytes(data) + bytes(1024))
    assert "a tar archive" in describe(refused(path))


@pytest.mark.proves("format", "ova", "damage gives typed errors")
def test_damage_is_found(disk: tuple[Path, Path], tmp_path: Path) -> None:
    _raw, vmdk = disk
    text = description(["a.vmdk"])
    path = archive(
        tmp_path / "m.ova",
        [("m.ovf", text), ("a.vmdk", vmdk.read_bytes()[:70_000])],
        tarfile.GNU_FORMAT,
    )
    second = 512 + -(-len(text) // 512) * 512
    check_damaged(path, tmp_path, [(0, 512), (512, len(text)), (second, 512)])
    # The same with sums that are right.
    data = bytearray(path.read_bytes())
    for at in range(0, 512, 3):
        changed = bytearray(data)
        changed[second + at] ^= 0xFF
        changed[second + 148 : second + 156] = b" " * 8
        total = sum(changed[second : second + 512])
        changed[second + 148 : second + 156] = b"%06o\0 " % total
        path.write_bytes(changed)
        check_refused_or_read(path)


def test_numbers_that_are_stored_in_binary(tmp_path: Path) -> None:
    # Small ones too, as some writers do.
    path = tmp_path / "m.ova"
    text = description(["d.img"])
    data = bytearray(archive(path, [("m.ovf", text), ("d.img", noise(5000, 1))]).read_bytes())
    for start, size in ((0, len(text)), (512 + -(-len(text) // 512) * 512, 5000)):
        data[start + 124 : start + 136] = b"\x80" + bytes(3) + struct.pack(">Q", size)
        data[start + 148 : start + 156] = b" " * 8
        data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    path.write_bytes(data)
    with open_image(path) as image:
        assert image.read(0, 6000) == noise(5000, 1)
