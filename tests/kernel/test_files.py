# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories and files: by handle, by path, and out to the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from explorer.core.entries import FileType, iter_entries
from explorer.core.errors import ExportError, KernelError, RecordError
from explorer.kernel.files import decode_xattrs
from tests.trees import noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.kernel import Mount
    from explorer.volumes import MountedVolume


@pytest.fixture
def mount(image_of: Callable[[str], Path], mounted: Callable[[Path], MountedVolume]) -> Mount:
    """The tree, as ext4 with all its facts."""
    return mounted(image_of("ext4-written")).mount


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.name


# ---- Paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/", FileType.DIRECTORY),
        (b"", FileType.DIRECTORY),
        (b"folder", FileType.DIRECTORY),
        (b"/folder/", FileType.DIRECTORY),
        (b"//folder//deeper", FileType.DIRECTORY),
        (b"/../../..", FileType.DIRECTORY),
        (b"/absolute", FileType.LINK),
        (b"/absolute/deepest/small", FileType.FILE),
        (b"/folder/up/folder/up/one byte", FileType.FILE),
        (b"/latin caf\xe9 \xff", FileType.FILE),
        (b"/line\nbreak", FileType.FILE),
    ],
)
def test_a_path_is_resolved_inside(mount: Mount, path: bytes, kind: FileType) -> None:
    assert mount.stat(path).type == kind


def test_a_link_is_followed_when_asked(mount: Mount) -> None:
    assert mount.stat(b"/to a file", follow=True).size == 3 * 2**20 + 17
    assert mount.resolve(b"/to a file") == b"//folder/large"
    assert mount.read_link(b"/to a file") == b"folder/large"
    assert mount.read_link(b"/broken") == b"no\xffwhere\n"


def test_what_is_not_there_is_named(mount: Mount) -> None:
    assert error_of(lambda: mount.stat(b"/missing")) == "ENOENT"
    assert error_of(lambda: mount.stat(b"/block/below")) == "ENOTDIR"
    assert error_of(lambda: mount.stat(b"/loop", follow=True)) == "ELOOP"
    assert error_of(lambda: mount.resolve(b"/loop")) == "ELOOP"
    assert error_of(lambda: mount.resolve(b"/broken")) == "ENOENT"
    assert error_of(lambda: mount.open_directory(b"/block")) == "ENOTDIR"
    assert error_of(lambda: mount.open_file(b"/folder")) == "EISDIR"
    assert error_of(lambda: mount.open_file(b"/fifo")) == "EINVAL"
    assert error_of(lambda: mount.read_link(b"/block")) in ("EINVAL", "ENOENT")
    assert error_of(lambda: mount.stat(b"x" * 300)) == "ENAMETOOLONG"


def test_a_nul_never_cuts_a_path(mount: Mount) -> None:
    with pytest.raises(ValueError, match="NUL"):
        mount.stat(b"/block\0/etc")
    with mount.open_directory() as root, pytest.raises(ValueError, match="NUL"):
        root.open_file(b"block\0")


def test_a_link_leads_nowhere_outside(mount: Mount) -> None:
    # /proc is the kernel's own; the file system has none.
    assert error_of(lambda: mount.stat(b"/../proc")) == "ENOENT"
    assert error_of(lambda: mount.stat(b"/folder/up/../../proc")) == "ENOENT"


# ---- Directories -------------------------------------------------------------------------------


def test_a_directory_is_read_in_batches(mount: Mount, tree: Path) -> None:
    wanted = set(os.listdir(os.fsencode(tree))) | {b"lost+found"}
    with mount.open_directory() as root:
        names = [entry.name for entry in root]
        assert sorted(names) == sorted(wanted)
        assert root.read_entries() == b""
        root.rewind()
        again = []
        while batch := root.read_entries(65536):
            again += [entry.name for entry in iter_entries(batch)]
        assert sorted(again) == sorted(wanted)


def test_a_name_is_never_a_path(mount: Mount) -> None:
    with mount.open_directory() as root:
        with root.open_file(b"block") as file:
            assert file.size == 4096
        assert error_of(lambda: root.open_file(b"to a file")) == "ELOOP"
        assert error_of(lambda: root.open_file(b"folder")) == "EISDIR"


def test_a_walk_numbers_what_it_meets(mount: Mount) -> None:
    with mount.open_directory(b"/folder") as folder, folder.walk() as walk:
        met = {entry.name: entry for entry in walk}
    assert met[b"deeper"].depth == 1
    assert met[b"deeper"].directory == 0
    assert met[b"deepest"].directory == met[b"deeper"].number
    assert met[b"small"].depth == 3


def test_a_walk_has_a_bound(mount: Mount) -> None:
    with mount.open_directory(b"/folder") as folder, folder.walk(max_depth=1) as walk:
        errors = [entry for entry in walk if entry.error]
    assert len(errors) == 1
    assert not errors[0].name


# ---- Attributes --------------------------------------------------------------------------------


def test_attributes(mount: Mount) -> None:
    assert mount.read_xattrs(b"/one byte") == {
        b"user.note": b"a value with \0 and \xff",
        b"user.empty": b"",
    }
    assert mount.read_xattrs(b"/folder/") == {b"user.folder": b"x" * 300}
    assert mount.read_xattrs(b"/broken") == {}
    assert mount.read_xattrs(b"/") == {}


@pytest.mark.parametrize(
    "records",
    [b"\1", b"\0\0\0\0\0\0\0\0", b"\xff\0\0\0\0\0\0\0a", b"\1\0\0\0\xff\xff\xff\xffa"],
)
def test_damaged_attributes_are_refused(records: bytes) -> None:
    with pytest.raises(RecordError):
        decode_xattrs(records)


# ---- Files -------------------------------------------------------------------------------------


def test_a_file_is_read_anywhere(mount: Mount) -> None:
    content = noise(3 * 2**20 + 17, 2)
    with mount.open_file(b"/folder/large") as file:
        assert file.size == len(content)
        for offset, length in ((0, 10), (4095, 2), (len(content) - 5, 100), (len(content), 1)):
            assert file.read_at(offset, length) == content[offset : offset + length]
        buffer = bytearray(100)
        assert file.read_into(5, memoryview(buffer)[:50]) == 50
        assert buffer == content[5:55] + bytes(50)


def test_a_file_goes_to_a_descriptor(mount: Mount, tmp_path: Path) -> None:
    content = noise(3 * 2**20 + 17, 2)
    seen: list[int] = []

    def progress(count: int) -> bool:
        seen.append(count)
        return False

    with mount.open_file(b"/folder/large") as file, (tmp_path / "copy").open("wb") as copy:
        assert file.copy_to_fd(copy.fileno(), progress=progress) == len(content)
        assert file.copy_to_fd(copy.fileno(), offset=10, length=5) == 5
    assert (tmp_path / "copy").read_bytes() == content + content[10:15]
    assert seen == sorted(seen)


def test_holes_stay_holes(mount: Mount, tmp_path: Path) -> None:
    with mount.open_file(b"/sparse") as file, (tmp_path / "copy").open("wb") as copy:
        assert file.copy_to_fd(copy.fileno(), sparse=True) == 64 * 2**20
    info = (tmp_path / "copy").stat()
    assert info.st_size == 64 * 2**20
    assert info.st_blocks * 512 < 2**20


def test_a_copy_can_be_cancelled_and_a_bug_comes_back(mount: Mount, tmp_path: Path) -> None:
    with mount.open_file(b"/folder/large") as file, (tmp_path / "copy").open("wb") as copy:
        with pytest.raises(ExportError) as caught:
            file.copy_to_fd(copy.fileno(), progress=lambda _count: True)
        assert caught.value.code == "export.cancelled"
        with pytest.raises(ZeroDivisionError):
            file.copy_to_fd(copy.fileno(), progress=lambda _count: 1 // 0 == 0)


def test_an_error_of_the_host_is_the_hosts(mount: Mount) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with mount.open_file(b"/folder/large") as file, pytest.raises(BrokenPipeError):
        file.copy_to_fd(writer)
    os.close(writer)
