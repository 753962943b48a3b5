# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies and archives, entry by entry, beside what readers of others' make of the same images.

These are e2fsprogs' ``debugfs``, btrfs-progs' ``btrfs restore``, and GNU tar reading what the
host's own kernel mounts. Each is compared in all that it keeps.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import struct
import subprocess
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from explorer.api.source import Source
from explorer.core.entries import FileType
from explorer.core.errors import VolumeError
from tests import makers
from tests.trees import ROOT as IS_ROOT
from tests.trees import assert_same, find_tool, host_facts, make_tree, run_tool, sha256, without
from tests.volumes.truth import real_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.trees import Facts
    from tests.volumes.truth import RealImage

pytestmark = [
    pytest.mark.usefixtures("built"),
    pytest.mark.skipif(not IS_ROOT, reason="needs the right to keep owners, and to mount"),
]

SECOND = 10**9
EPOCH = 1 << 32
SPECIAL = {
    FileType.FIFO,
    FileType.CHARACTER_DEVICE,
    FileType.BLOCK_DEVICE,
    FileType.SOCKET,
}
KINDS = ("ext4", "ext4-written", "xfs", "btrfs", "btrfs-written")


def acl(*entries: tuple[int, int, int]) -> bytes:
    """As Linux stores it: ``posix_acl_xattr.h``."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
ACCESS = acl((1, 6, NOBODY), (2, 4, 1234), (4, 4, NOBODY), (8, 5, 77), (16, 5, NOBODY),
             (32, 0, NOBODY))  # fmt: skip
DEFAULT = acl((1, 7, NOBODY), (4, 5, NOBODY), (32, 0, NOBODY))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""To bind to low ports: VFS_CAP_REVISION_2, effective."""


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with all that a copy keeps, and attributes that the kernel gives a meaning."""
    top = tmp_path_factory.mktemp("rich") / "top"
    top.mkdir()
    make_tree(top)
    many = top / "many"
    many.mkdir()
    for number in range(300):
        # The folder's index has more than one block.
        (many / f"{number}-{'x' * (number % 90)}").write_bytes(b"%d" % number * (number * 7))
    (top / "acl").write_bytes(b"for some\n")
    os.setxattr(top / "acl", "system.posix_acl_access", ACCESS)
    os.setxattr(many, "system.posix_acl_default", DEFAULT)
    (top / "capable").write_bytes(b"#!/bin/sh\n")
    os.setxattr(top / "capable", "security.capability", CAPABILITY)
    os.setxattr(top / "capable", "trusted.note", bytes(range(256)))
    for name in ("many", "acl", "capable", ""):
        os.utime(top / name, ns=(SECOND * 10**9, SECOND * 10**9 + 7))
    return top


@pytest.fixture(scope="module")
def image_of_rich(
    built: None, rich: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Path]]:
    """Images of the tree by kind, each made once; they must stay what they are."""
    folder = tmp_path_factory.mktemp("images")
    made: dict[str, tuple[Path, str]] = {}

    def image(kind: str) -> Path:
        if kind not in made:
            path = makers.MAKERS[kind](rich, folder / f"{kind}.img")
            made[kind] = path, sha256(path)
        return made[kind][0]

    yield image
    for path, digest in made.values():
        assert sha256(path) == digest, path


def copy(image: Path, to: Path, view: str = "auto") -> dict[bytes, Facts]:
    """All of an image, whole; the root itself is left out."""
    to.mkdir()
    with Source(image, view=view) as source:
        copied = source.volume().copy(["/"], to, special=True)
    assert copied.whole, (copied.lost, copied.failures[:5])
    return without(host_facts(to), b"")


def without_special(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    return {path: one for path, one in facts.items() if one.type not in SPECIAL}


@pytest.mark.parametrize("kind", ["ext4-written", "xfs", "btrfs-written"])
def test_the_tree_that_was_written(
    kind: str, image_of_rich: Callable[[str], Path], rich: Path, tmp_path: Path
) -> None:
    ours = without(copy(image_of_rich(kind), tmp_path / "ours"), b"lost+found")
    # XFS shows an ACL a second time, as it stores it.
    ours = {
        path: replace(
            one,
            xattrs={
                name: value
                for name, value in one.xattrs.items()
                if not name.startswith(b"trusted.SGI_ACL_")
            },
        )
        for path, one in ours.items()
    }
    assert_same(ours, without(host_facts(rich), b""))


# ---- debugfs -----------------------------------------------------------------------------------


def rdump(image: Path, to: Path) -> dict[bytes, Facts]:
    """What debugfs gives out: neither special files, nor links as links, nor attributes."""
    to.mkdir()
    said = run_tool("debugfs", "-R", f"rdump / {to}", image)
    # Its first line is its version.
    assert not [line for line in said.splitlines()[1:] if not re.match("debugfs ", line)], said
    return without(host_facts(to), b"")


def as_rdump(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """What of a copy debugfs keeps: 9 bits of modes, 32 of times, and of links where they point."""
    return {
        path: replace(
            one,
            links=0,
            xattrs={},
            modify_ns=one.modify_ns // SECOND % EPOCH,
            mode=one.mode & 0o777,
        )
        if one.type != FileType.LINK
        else replace(one, links=0, xattrs={}, modify_ns=0, uid=0, gid=0)
        for path, one in without_special(facts).items()
    }


@pytest.mark.parametrize("kind", ["ext4", "ext4-written"])
def test_debugfs_rdump(kind: str, image_of_rich: Callable[[str], Path], tmp_path: Path) -> None:
    image = image_of_rich(kind)
    ours = copy(image, tmp_path / "ours")
    assert_same(as_rdump(ours), as_rdump(rdump(image, tmp_path / "theirs")))


TYPES = {
    "FIFO": FileType.FIFO,
    "character special": FileType.CHARACTER_DEVICE,
    "block special": FileType.BLOCK_DEVICE,
    "socket": FileType.SOCKET,
    "regular": FileType.FILE,
    "directory": FileType.DIRECTORY,
    "symlink": FileType.LINK,
}


def test_what_debugfs_says_of_single_entries(
    image_of_rich: Callable[[str], Path], tmp_path: Path
) -> None:
    image = image_of_rich("ext4-written")
    ours = copy(image, tmp_path / "ours")
    for name in ("device", "disk", "fifo", "socket", "block", "sparse", "acl", "many", "broken"):
        said = run_tool("debugfs", "-R", f"stat /{name}", image)
        one = ours[name.encode()]
        head = re.search(r"Type: ([\w ]+?) +Mode: +(\d+) ", said)
        assert head is not None, said
        assert (TYPES[head[1]], int(head[2], 8)) == (one.type, one.mode)
        owner = re.search(r"User: +(-?\d+) +Group: +(-?\d+)", said)
        assert owner is not None, said
        # It shows large numbers as negative ones.
        assert (int(owner[1]) % EPOCH, int(owner[2]) % EPOCH) == (one.uid, one.gid)
        moment = re.search(r"mtime: 0x(\w{8}):(\w{8})", said)
        assert moment is not None, said
        extra = int(moment[2], 16)
        low = int(moment[1], 16)
        whole = (low - (1 << 32) if low >> 31 else low) + ((extra & 3) << 32)
        assert whole * SECOND + (extra >> 2) == one.modify_ns
        links = re.search(r"Links: (\d+)", said)
        assert links is not None, said
        assert one.type == FileType.DIRECTORY or int(links[1]) == one.links
        if one.type in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE):
            device = re.search(r"Device major/minor number: (\d+):(\d+)", said)
            assert device is not None, said
            assert f"{int(device[1])}:{int(device[2])}" == one.content
    value = tmp_path / "value"
    for name, attribute in (("one byte", "user.note"), ("capable", "trusted.note")):
        run_tool("debugfs", "-R", f'ea_get -f {value} "/{name}" {attribute}', image)
        assert value.read_bytes() == ours[name.encode()].xattrs[attribute.encode()]


# ---- btrfs restore -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["btrfs", "btrfs-written"])
def test_btrfs_restore(kind: str, image_of_rich: Callable[[str], Path], tmp_path: Path) -> None:
    image = image_of_rich(kind)
    ours = without_special(copy(image, tmp_path / "ours"))
    assert_same(as_restored(ours), as_restored(restore(image, tmp_path / "theirs")))


def restore(image: Path, to: Path) -> dict[bytes, Facts]:
    """What btrfs-progs gives out; no special files, and each name as a file of its own."""
    to.mkdir()
    run_tool("btrfs", "restore", "-s", "-m", "-S", "-x", image, to)
    return without(host_facts(to), b"")


def as_restored(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """What of a copy it keeps: of links no times, of folders no attributes."""
    return {
        path: replace(
            one,
            links=0,
            modify_ns=0 if one.type == FileType.LINK else one.modify_ns,
            xattrs={} if one.type == FileType.DIRECTORY else one.xattrs,
        )
        for path, one in facts.items()
    }


# ---- The host's kernel, and GNU tar ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """All that an archive tells of an entry."""

    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    modify_ns: int
    target: str
    """Of a symbolic link."""
    device: tuple[int, int]
    xattrs: Mapping[str, str]
    content: str
    links: frozenset[str]
    """All names of the same file, if there is more than one."""


def members(archive: Path) -> dict[str, Member]:
    """By path; whatever comes first of a file's names, all of them are told alike."""
    found: dict[str, Member] = {}
    names: dict[str, set[str]] = {}
    firsts: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for info in tar:
            name = "/".join(part for part in info.name.split("/") if part not in ("", "."))
            if info.islnk():
                first = "/".join(part for part in info.linkname.split("/") if part != ".")
                firsts[name] = first
                names.setdefault(first, {first}).add(name)
                continue
            found[name] = _member(tar, info)
    for name, first in firsts.items():
        found[name] = found[first]
    for together in names.values():
        for name in together:
            found[name] = replace(found[name], links=frozenset(together))
    return found


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    content = ""
    if info.isreg():
        file = tar.extractfile(info)
        assert file is not None
        content = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    xattrs = {
        key: _plain(key, value)
        for key, value in info.pax_headers.items()
        if key.startswith(("SCHILY.xattr.", "SCHILY.acl.", "RHT.security."))
    }
    if xattrs.get("SCHILY.acl.access", "").count(",") == 2:
        # Of what has only a default one, GNU tar tells the mode once more.
        del xattrs["SCHILY.acl.access"]
    return Member(
        info.type,
        stat.S_IMODE(info.mode),
        info.uid,
        info.gid,
        info.size if info.isreg() else 0,
        int(Decimal(info.pax_headers.get("mtime", str(info.mtime))) * SECOND),
        info.linkname,
        (info.devmajor, info.devminor) if info.isdev() and not info.isfifo() else (0, 0),
        xattrs,
        content,
        frozenset(),
    )


def _plain(key: str, value: str) -> str:
    """An ACL's text in one form: with names or numbers, lines or commas, long words or short."""
    if not key.startswith("SCHILY.acl."):
        return value
    entries = []
    for line in re.split("[,\n]", value.strip()):
        word, who, bits, *_ = line.partition("#")[0].strip().split(":")
        entries.append(f"{word[0]}:{who}:{bits}")
    return ",".join(sorted(entries))


@contextmanager
def host_mount(image: Path, kind: str, folder: Path) -> Iterator[Path]:
    """A copy of an image, mounted by the host's kernel, which keeps its hands off it."""
    options = {
        "ext4": "ro,loop,noload",
        "xfs": "ro,loop,norecovery,nouuid",
        "btrfs": "ro,loop,rescue=nologreplay",
    }
    theirs = folder / "theirs.img"
    shutil.copyfile(image, theirs)
    place = folder / "mounted"
    place.mkdir()
    name = kind.partition("-")[0]
    done = subprocess.run(
        [find_tool("mount"), "-t", name, "-o", options[name], theirs, place],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"the host mounts no {name}: {done.stderr.decode(errors='replace')}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_tar_of_the_host_s_mount(
    kind: str, image_of_rich: Callable[[str], Path], tmp_path: Path
) -> None:
    image = image_of_rich(kind)
    theirs = tmp_path / "theirs.tar"
    with host_mount(image, kind, tmp_path) as place:
        sockets = {b"socket"}
        wanted = without(host_facts(place), b"")
        # Its sockets are no business of an archive.
        subprocess.run(
            ["tar", "-c", "--format=pax", "--xattrs", "--acls", "--sparse", "--numeric-owner",
             "-f", theirs, "-C", place, "."],
            check=True,
            capture_output=True,
        )  # fmt: skip
    with Source(image) as source:
        archived = source.volume().archive(["/"], tmp_path / "ours.tar", conflicts="overwrite")
    assert archived.lost is None
    assert [failure.path.lstrip(b"/") for failure in archived.failures] == []
    assert archived.written.skipped == (len(sockets),)
    ours, others = members(tmp_path / "ours.tar"), members(theirs)
    ours.pop("", None)
    others.pop("", None)
    assert sorted(ours) == sorted(others)
    different = [
        f"{name!r} {field}: {getattr(ours[name], field)!r} instead of {getattr(other, field)!r}"
        for name, other in others.items()
        for field in Member.__slots__
        if getattr(ours[name], field) != getattr(other, field)
    ]
    assert not different, "\n".join(different[:40])
    # And the copy into a folder is what the host sees on its mount.
    assert_same(copy(image, tmp_path / "ours"), wanted)


# ---- Real images -------------------------------------------------------------------------------


ENTRIES_MOST = 5000
"""More of them are of no other kinds, and take long."""

CHECK_SECONDS = 10.0
"""Some of them hang checkers, too."""


def is_clean(image: Path, *command: str) -> bool:
    """Whether the file system's own checker finds nothing."""
    argv = [find_tool(command[0]), *command[1:], str(image)]
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def of_real(facts: Mapping[bytes, Facts]) -> dict[bytes, tuple[int, int, str]]:
    """What is in it: type, size and content."""
    return {
        path: (one.type, one.size, one.content)
        for path, one in without_special(facts).items()
        if path != b"lost+found"
    }


def compare_real(
    images: list[RealImage],
    check: tuple[str, ...],
    reader: Callable[[Path, Path], dict[bytes, Facts]],
    folder: Path,
) -> tuple[int, int]:
    """Compare what is clean, and holds files; returns how many images and entries those were."""
    compared = entries = 0
    for number, real in enumerate(images):
        image = folder / f"image{number}"
        real.unpack(image)
        if is_clean(image, *check):
            try:
                theirs = of_real(reader(image, folder / f"theirs{number}"))
            except AssertionError:
                # It refuses some that its checker takes; what it gave until then is no measure.
                theirs = {}
            if 0 < len(theirs) < ENTRIES_MOST:
                same = compare_one(image, folder / f"ours{number}", theirs, real.name)
                entries += same
                compared += bool(same)
        image.unlink()
        for place in ("ours", "theirs"):
            shutil.rmtree(folder / f"{place}{number}", ignore_errors=True)
    return compared, entries


def compare_one(
    image: Path, to: Path, theirs: Mapping[bytes, tuple[int, int, str]], name: str
) -> int:
    """Hold a copy to what another reader gave; returns how many entries are the same.

    None are where the kernel refuses the volume. Attributes that the checker lets pass may be too
    bad for the kernel: that has to be told.
    """
    before = sha256(image)
    to.mkdir()
    with Source(image, view="stored") as source:
        volume = source.volume()
        try:
            volume.mount()
        except VolumeError:
            return 0
        copied = volume.copy(["/"], to, special=True)
    assert copied.lost is None, name
    told = {failure.path[1:] for failure in copied.failures if not failure.damaged}
    ours = of_real(without(host_facts(to), b""))
    wanted = {path: one for path, one in theirs.items() if path not in told}
    assert ours == wanted, name
    assert sha256(image) == before
    return len(wanted)


def real(*folders: str) -> list[RealImage]:
    found = [one for one in real_images() if one.file.parent.name in folders]
    if not found:
        pytest.skip("needs ../shared/images")
    return found


@pytest.mark.slow
def test_real_ext_images(tmp_path: Path) -> None:
    images = [one for one in real("e2fsprogs", "blkid") if "ext" in one.name or "e2fs" in one.name]
    # Of short files within inodes, debugfs gives out what stands behind their end, too.
    images = [one for one in images if not re.search(r"tar\.|orig\.|d_inline_dump", one.name)]
    compared, entries = compare_real(images, ("e2fsck", "-f", "-n"), rdump, tmp_path)
    print(f"{compared} images with {entries} entries")
    assert compared >= 3


@pytest.mark.slow
def test_real_btrfs_images(tmp_path: Path) -> None:
    # Old and new forms of references, compression, and what other tools have left.
    some = re.compile("btrfs-progs/0(20|22|25|40|55|60)-|blkid/btrfs")
    images = [one for one in real("btrfs-progs", "blkid") if some.match(one.name)]
    check = ("btrfs", "check", "--readonly")
    compared, entries = compare_real(images, check, restore, tmp_path)
    print(f"{compared} images with {entries} entries")
    assert compared >= 1
