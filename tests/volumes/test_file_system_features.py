# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Features of file systems that have many.

Each is made, shown to be there by the file system's own tools, and read.
"""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import hashlib
import os
import re
import struct
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from explorer.core.entries import FileType
from explorer.core.errors import KernelError
from explorer.kernel import Kernel
from tests.makers import ScratchDisk, write_tree
from tests.trees import (
    assert_same,
    host_facts,
    make_empty,
    mount_facts,
    noise,
    run_tool,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.kernel import Mount
    from explorer.volumes import MountedVolume

    Mounted = Callable[[Path], MountedVolume]

pytestmark = pytest.mark.usefixtures("built")

MIB = 1 << 20
SECOND = 10**9


def proves(kind: str, feature: str) -> pytest.MarkDecorator:
    return pytest.mark.proves("file system", kind, feature)


def read_file(mount: Mount, path: bytes) -> bytes:
    with mount.open_file(path) as file:
        return file.read_at(0, file.size)


def names_in(mount: Mount, path: bytes) -> list[bytes]:
    with mount.open_directory(path) as directory:
        return [entry.name for entry in directory]


class Written:
    """A mounted file system that may be written to, by calls that only tests make."""

    def __init__(self, mount: Mount) -> None:
        self._kernel = mount.kernel
        self._library: Any = mount.kernel.binding.library
        self.top = mount.mount_point

    def call(self, name: str, *arguments: object) -> int:
        """A system call that must succeed."""
        result = getattr(self._library, f"lkl_sys_{name}")(self._kernel.pointer, *arguments)
        return self._kernel.check(result, name)

    @contextmanager
    def open(self, path: bytes, *, directory: bool = False) -> Iterator[int]:
        """A descriptor of a file, which may be new, or of a folder."""
        library = self._library
        flags = library.LKL_O_DIRECTORY if directory else library.LKL_O_RDWR | library.LKL_O_CREAT
        descriptor = self.call("openat", library.LKL_AT_FDCWD, self.top + path, flags, 0o644)
        yield descriptor
        self.call("close", descriptor)

    def write(self, path: bytes, content: bytes, offset: int = 0) -> None:
        """Write into a file."""
        with self.open(path) as file:
            while content:
                done = self.call("pwrite64", file, content, len(content), offset)
                content, offset = content[done:], offset + done

    def mkdir(self, path: bytes) -> None:
        """Make a folder."""
        self.call("mkdirat", self._library.LKL_AT_FDCWD, self.top + path, 0o755)

    def link(self, path: bytes, new: bytes) -> None:
        """Give a file one more name."""
        here = self._library.LKL_AT_FDCWD
        self.call("linkat", here, self.top + path, here, self.top + new, 0)

    def symlink(self, target: bytes, path: bytes) -> None:
        """Make a symbolic link."""
        self.call("symlinkat", target, self._library.LKL_AT_FDCWD, self.top + path)

    def set_time(self, path: bytes, moment_ns: int) -> None:
        """Set both times of a file."""
        times = self._kernel.binding.ffi.new("struct lkl_timespec[2]")
        for time in times:
            time.tv_sec, time.tv_nsec = divmod(moment_ns, SECOND)
        self.call("utimensat", self._library.LKL_AT_FDCWD, self.top + path, times, 0)

    def ioctl(self, descriptor: int, request: int, argument: bytearray | int) -> None:
        """Call with a buffer, or a number in its place."""
        ffi = self._kernel.binding.ffi
        if isinstance(argument, int):
            self.call("ioctl", descriptor, request, ffi.cast("void *", argument))
        else:
            self.call("ioctl", descriptor, request, ffi.from_buffer(argument))


@contextmanager
def writing(kind: str, image: Path, options: str = "") -> Iterator[Written]:
    """An image's file system, mounted to be written to."""
    with ExitStack() as stack:
        scratch = ScratchDisk(image)
        stack.callback(scratch.close)
        kernel = stack.enter_context(Kernel())
        disk = stack.enter_context(kernel.add_scratch_disk(scratch))
        yield Written(stack.enter_context(disk.mount(kind, options=options, read_only=False)))


# ---- ext2, ext3, ext4 --------------------------------------------------------------------------


def free_inodes(image: Path) -> int:
    found = re.search(r"Free inodes: +(\d+)", run_tool("dumpe2fs", "-h", image))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    ("kind", "options", "features"),
    [
        pytest.param(kind, options, features, id=f"{kind}-{name}", marks=proves(kind, name))
        for kind, name, options, features in (
            ("ext2", "blocks of 1 KiB, no extents", ("-b", "1024"), "filetype"),
            ("ext3", "journal, no extents", (), "has_journal"),
            ("ext4", "64bit", ("-O", "64bit"), "64bit extent"),
            ("ext4", "metadata_csum", ("-O", "metadata_csum,metadata_csum_seed"),
             "metadata_csum metadata_csum_seed"),
            ("ext4", "inline_data", ("-O", "inline_data", "-I", "256"), "inline_data"),
            ("ext4", "bigalloc", ("-O", "bigalloc", "-C", "16384"), "bigalloc"),
            ("ext4", "meta_bg", ("-O", "meta_bg,^resize_inode,^flex_bg"), "meta_bg"),
            ("ext4", "ea_inode", ("-O", "ea_inode"), "ea_inode"),
        )
    ],
)  # fmt: skip
def test_ext_by_mke2fs(
    kind: str,
    options: tuple[str, ...],
    features: str,
    modest_tree: Path,
    tmp_path: Path,
    mounted: Mounted,
) -> None:
    top = tmp_path / "top"
    run_tool("cp", "-a", modest_tree, top)
    os.setxattr(top / "hello.txt", "user.note", b"a value with \0 and \xff")
    image = make_empty(tmp_path / "image", 48 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", kind, *options, "-d", top, image)
    # As long as a block, so that it does not fit into one; debugfs reads no more of a file.
    large = {b"user.large": noise(1024, 1)} if features == "ea_inode" else {}
    for name, value in large.items():
        (tmp_path / "value").write_bytes(value)
        command = f"ea_set -f {tmp_path / 'value'} /folder {name.decode()}"
        before = free_inodes(image)
        run_tool("debugfs", "-w", "-R", command, image)
        assert free_inodes(image) == before - 1
    if not large:
        # debugfs forgets to count the blocks of an attribute.
        run_tool("e2fsck", "-f", "-n", image)
    shown = re.search(r"Filesystem features: +(.*)", run_tool("dumpe2fs", "-h", image))
    assert shown is not None
    assert set(features.split()) <= set(shown[1].split())
    found = without(mount_facts(mounted(image).mount), b"", b"lost+found")
    wanted = host_facts(top)
    wanted[b"folder"] = replace(wanted[b"folder"], xattrs=large)
    assert_same(found, without(wanted, b""))


@proves("ext4", "casefold")
def test_folders_that_ignore_case(modest_tree: Path, tmp_path: Path, mounted: Mounted) -> None:
    image = make_empty(tmp_path / "image", 48 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-O", "casefold", "-d", modest_tree, image)
    # EXT4_CASEFOLD_FL and EXT4_EXTENTS_FL
    run_tool("debugfs", "-w", "-R", "set_inode_field /folder flags 0x40080000", image)
    run_tool("e2fsck", "-f", "-n", image)
    mount = mounted(image).mount
    wanted = (modest_tree / "folder" / "large.bin").read_bytes()
    assert sorted(names_in(mount, b"/folder")) == sorted(
        os.fsencode(path.name) for path in (modest_tree / "folder").iterdir()
    )
    assert read_file(mount, b"/folder/large.bin") == wanted
    assert read_file(mount, b"/folder/LARGE.Bin") == wanted
    with pytest.raises(KernelError, match="ENOENT"):
        mount.stat(b"/FOLDER")


# include/uapi/linux/fscrypt.h
_ADD_KEY = 0xC0506617
_SET_POLICY = 0x800C6613
_AES_XTS, _AES_CTS, _PAD_32 = 1, 4, 3
_IDENTIFIER = 2
"""Of a key: what kind of name it has."""


@proves("ext4", "encrypt: names as stored, no content")
def test_encrypted_folders_without_the_key(tmp_path: Path, mounted: Mounted) -> None:
    encrypted_without_key("ext4", ("mke2fs", "-q", "-F", "-t", "ext4", "-O", "encrypt"),
                          tmp_path, mounted)  # fmt: skip


@proves("f2fs", "encrypt: names as stored, no content")
def test_encrypted_folders_of_f2fs_without_the_key(tmp_path: Path, mounted: Mounted) -> None:
    encrypted_without_key("f2fs", ("mkfs.f2fs", "-q", "-O", "encrypt"), tmp_path, mounted)


def encrypted_without_key(
    kind: str, tool: tuple[str, ...], tmp_path: Path, mounted: Mounted
) -> None:
    image = make_empty(tmp_path / "image", 64 * MIB)
    run_tool(tool[0], *tool[1:], image)
    content = noise(10_000, 1)
    with writing(kind, image) as target:
        target.mkdir(b"/secret")
        with target.open(b"/secret", directory=True) as folder:
            key = bytearray(80) + noise(64, 2)
            key[0:4], key[40:44] = _IDENTIFIER.to_bytes(4, "little"), (64).to_bytes(4, "little")
            target.ioctl(folder, _ADD_KEY, key)
            policy = bytearray([2, _AES_XTS, _AES_CTS, _PAD_32, 0, 0, 0, 0]) + key[8:24]
            target.ioctl(folder, _SET_POLICY, policy)
        target.write(b"/secret/name of a file", content)
        target.mkdir(b"/secret/folder")
        target.symlink(b"target of a link", b"/secret/link")
        target.write(b"/public", b"public\n")
    mount = mounted(image).mount
    assert read_file(mount, b"/public") == b"public\n"
    with mount.open_directory(b"/secret") as directory:
        entries = {entry.type: entry for entry in directory}
    assert entries.keys() == {FileType.FILE, FileType.DIRECTORY, FileType.LINK}
    stored = image.read_bytes()
    for entry in entries.values():
        # Linux' "no-key names": two hashes of 4 bytes, and what is stored.
        raw = base64.urlsafe_b64decode(entry.name + b"=" * (-len(entry.name) % 4))
        assert len(raw) == 8 + 32
        assert raw[8:] in stored
        assert mount.stat(b"/secret/" + entry.name).inode == entry.inode
    file = entries[FileType.FILE]
    assert file.size == len(content)
    with pytest.raises(KernelError, match="ENOKEY") as caught:
        mount.open_file(b"/secret/" + file.name)
    assert caught.value.code == "kernel.call"
    assert names_in(mount, b"/secret/" + entries[FileType.DIRECTORY].name) == []
    assert mount.read_link(b"/secret/" + entries[FileType.LINK].name) != b"target of a link"
    assert content not in stored


@proves("ext4", "huge directories: htree of three levels, large_dir")
def test_a_huge_directory(tmp_path: Path, mounted: Mounted) -> None:
    image = make_empty(tmp_path / "image", 96 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O",
             "large_dir,dir_index,^has_journal", image)  # fmt: skip
    names = many_names(60_000, 240)
    with writing("ext4", image) as target:
        target.write(b"/file", b"one of many\n")
        target.mkdir(b"/huge")
        for name in names:
            target.link(b"/file", b"/huge/" + name)
    run_tool("e2fsck", "-f", "-n", image)
    assert "Indirect levels: 2" in run_tool("debugfs", "-R", "htree_dump /huge", image)
    look_into_huge(mounted(image).mount, names)


def many_names(count: int, length: int) -> list[bytes]:
    return [
        hashlib.sha256(b"%d" % number).hexdigest().encode() + b"-" * (length - 70) + b"%d" % number
        for number in range(count)
    ]


def look_into_huge(mount: Mount, names: list[bytes]) -> None:
    assert sorted(names_in(mount, b"/huge")) == sorted(names)
    for name in names[:: len(names) // 50]:
        assert read_file(mount, b"/huge/" + name) == b"one of many\n"
    with pytest.raises(KernelError, match="ENOENT"):
        mount.stat(b"/huge/" + b"0" * 64)


# ---- XFS ---------------------------------------------------------------------------------------


@proves("xfs", "huge directories in blocks of 64 KiB")
def test_a_huge_directory_of_xfs(tmp_path: Path, mounted: Mounted) -> None:
    image = make_empty(tmp_path / "image", 320 * MIB)
    run_tool("mkfs.xfs", "-q", "-n", "size=65536", image)
    names = many_names(20_000, 150)
    with writing("xfs", image) as target:
        target.write(b"/file", b"one of many\n")
        target.mkdir(b"/huge")
        for name in names:
            target.link(b"/file", b"/huge/" + name)
    run_tool("xfs_repair", "-n", image)
    look_into_huge(mounted(image).mount, names)


# include/uapi/linux/fs.h: _IOW(0x94, 9, int)
_FICLONE = 0x40049409


@proves("xfs", "reflink")
def test_shared_extents(tmp_path: Path, mounted: Mounted) -> None:
    image = make_empty(tmp_path / "image", 320 * MIB)
    run_tool("mkfs.xfs", "-q", "-m", "reflink=1", image)
    content = noise(2_000_000, 1)
    with writing("xfs", image) as target:
        target.write(b"/original", content)
        with target.open(b"/original") as source, target.open(b"/copy") as copy:
            target.ioctl(copy, _FICLONE, source)
        target.write(b"/copy", b"changed", 1_000_000)
    run_tool("xfs_repair", "-n", image)
    shown = run_tool("xfs_db", "-r", "-c", "path /copy", "-c", "p v3.reflink", image)
    assert "v3.reflink = 1" in shown
    mount = mounted(image).mount
    assert read_file(mount, b"/original") == content
    assert read_file(mount, b"/copy") == content[:1_000_000] + b"changed" + content[1_000_007:]


MOMENTS = {
    b"/1901": -(2**31) * SECOND,
    b"/1969": -1 * SECOND + 5,
    b"/2038": 2**31 * SECOND + 123_456_789,
    b"/2100": 4_102_444_800 * SECOND + 1,
    b"/2486": 16_299_260_424 * SECOND,
}
"""The last is the end of what XFS has bits for."""


@proves("xfs", "bigtime: times from 1901 to 2486")
def test_times_beyond_2038(tmp_path: Path, mounted: Mounted) -> None:
    image = make_empty(tmp_path / "image", 320 * MIB)
    run_tool("mkfs.xfs", "-q", "-m", "bigtime=1", image)
    with writing("xfs", image) as target:
        for path, moment in MOMENTS.items():
            target.write(path, b"")
            target.set_time(path, moment)
    run_tool("xfs_repair", "-n", image)
    mount = mounted(image).mount
    for path, moment in MOMENTS.items():
        assert mount.stat(path).modify_ns == moment
    # The tool counts from 1901 in nanoseconds.
    shown = run_tool("xfs_db", "-r", "-c", "path /2486", "-c", "p v3.bigtime", image)
    assert "v3.bigtime = 1" in shown


# ---- Btrfs -------------------------------------------------------------------------------------


def compressible(top: Path) -> Path:
    """A tree with files that compress in different ways, holes and all."""
    top.mkdir()
    (top / "repeated").write_bytes(b"all the same " * 100_000)
    (top / "noise").write_bytes(noise(500_000, 1))
    (top / "mixed").write_bytes((noise(3000, 2) + bytes(5000)) * 60)
    (top / "tiny").write_bytes(b"tiny and tiny and tiny\n" * 20)
    with (top / "sparse").open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"behind a hole " * 20_000)
        file.truncate(8 * MIB)
    return top


def assert_contents(mount: Mount, top: Path) -> None:
    for path in top.iterdir():
        assert read_file(mount, os.fsencode(f"/{path.name}")) == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param(name, shown, id=name, marks=proves("btrfs", name))
        for name, shown in (("zlib", "1 (zlib)"), ("lzo", "2 (lzo)"), ("zstd", "3 (zstd)"))
    ],
)
def test_compressed_btrfs(name: str, shown: str, tmp_path: Path, mounted: Mounted) -> None:
    top = compressible(tmp_path / "top")
    image = make_empty(tmp_path / "image", 128 * MIB)
    run_tool("mkfs.btrfs", "-q", image)
    write_tree("btrfs", top, image, f"compress-force={name}", plain=True)
    run_tool("btrfs", "check", "--readonly", image)
    dump = run_tool("btrfs", "inspect-internal", "dump-tree", "-t", "5", image)
    # Files in the tree itself and in extents.
    assert dump.count(f"compression {shown}") > 5
    assert f"inline extent data size {(top / 'tiny').stat().st_size}" not in dump
    assert_contents(mounted(image).mount, top)
    (tmp_path / "restored").mkdir()
    run_tool("btrfs", "restore", image, tmp_path / "restored")
    for path in top.iterdir():
        assert (tmp_path / "restored" / path.name).read_bytes() == path.read_bytes()


# ---- F2FS --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(name, number, id=name, marks=proves("f2fs", f"compressed: {name}"))
        for name, number in (("lzo", 0), ("lz4", 1), ("zstd", 2), ("lzo-rle", 3))
    ],
)
def test_compressed_f2fs(name: str, number: int, tmp_path: Path, mounted: Mounted) -> None:
    top = compressible(tmp_path / "top")
    image = make_empty(tmp_path / "image", 128 * MIB)
    run_tool("mkfs.f2fs", "-q", "-O", "extra_attr,compression", image)
    options = f"compress_algorithm={name},compress_log_size=3,compress_extension=*"
    write_tree("f2fs", top, image, options, plain=True)
    run_tool("fsck.f2fs", "--dry-run", image)
    mount = mounted(image).mount
    assert_contents(mount, top)
    inode = mount.stat(b"/repeated").inode
    shown = run_tool("dump.f2fs", "-i", str(inode), image, text="N\n")
    assert re.search(rf"i_compress_algrithm +\t+\[0x *{number:x} : {number}\]", shown)
    saved = re.search(r"i_compr_blocks +\t+\[0x *[0-9a-f]+ : (\d+)\]", shown)
    assert saved is not None
    assert int(saved[1]) > 100


# ---- EROFS -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "feature"),
    [
        pytest.param(options, feature, id=name.split(",")[0], marks=proves("erofs", name))
        for name, options, feature in (
            ("not compressed", (), ""),
            ("lz4hc, clusters of 64 KiB", ("-zlz4hc,9", "-C65536"), "big_pcluster"),
            ("lz4, legacy indexes", ("-zlz4", "-Elegacy-compress"), ""),
            ("chunks", ("--chunksize=4096",), "chunked_file"),
        )
    ],
)
def test_erofs(
    options: tuple[str, ...], feature: str, modest_tree: Path, tmp_path: Path, mounted: Mounted
) -> None:
    image = tmp_path / "image"
    run_tool("mkfs.erofs", *options, "-Eforce-inode-extended", image, modest_tree)
    assert feature in run_tool("dump.erofs", "-s", image)
    found = without(mount_facts(mounted(image).mount), b"")
    assert_same(found, without(host_facts(modest_tree), b""))


# No mkfs here compresses in other ways than LZ4. So what it compressed is replaced: each cluster
# by the same bytes, compressed by another library, and the superblock and the file's header by
# ones that tell so. (fs/erofs/erofs_fs.h)

_EROFS_COMPRESSED = 1
"""Of an index entry's type: a cluster of 4 KiB begins."""


def micro_lzma(data: bytes) -> bytes:
    """LZMA without its header, as liblzma writes it for such small clusters."""
    name = ctypes.util.find_library("lzma")
    if name is None:
        pytest.skip("needs liblzma")
    library = ctypes.CDLL(name)
    options = ctypes.create_string_buffer(512)
    assert library.lzma_lzma_preset(options, 6) == 0
    source, target = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(4096)
    # lzma_stream: where input is, how much, how much was read; the same of output
    stream = (ctypes.c_uint64 * 32)()
    assert library.lzma_microlzma_encoder(stream, options) == 0
    stream[0], stream[1] = ctypes.addressof(source), len(data)
    stream[3], stream[4] = ctypes.addressof(target), 4096
    finish, stream_end = 3, 1
    assert library.lzma_code(stream, finish) == stream_end
    assert stream[2] == len(data)
    library.lzma_end(stream)
    return target.raw[: stream[5]]


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, 9, -15)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(data)


@pytest.mark.parametrize(
    ("number", "compress", "settings"),
    [
        pytest.param(number, compress, settings, id=name, marks=proves("erofs", name))
        for number, name, compress, settings in (
            (1, "lzma", micro_lzma, struct.pack("<IH8x", 8 << 20, 0)),
            (2, "deflate", raw_deflate, struct.pack("<B5x", 15)),
            (3, "zstd", zstd, struct.pack("<BB4x", 0, 10)),
        )
    ],
)
def test_other_compressions_of_erofs(
    number: int,
    compress: Callable[[bytes], bytes],
    settings: bytes,
    tmp_path: Path,
    mounted: Mounted,
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    lines = [b"line %d of many\n" % (line % 1000) for line in range(20_000)]
    content = b"".join(lines) + noise(10_000, 1)
    (top / "file").write_bytes(content)
    path = tmp_path / "image"
    run_tool("mkfs.erofs", "-zlz4", "-Elegacy-compress,force-inode-extended", path, top)
    image = bytearray(path.read_bytes())
    shown = run_tool("dump.erofs", "--path=/file", path)
    node = re.search(r"NID: (\d+)", shown)
    assert node is not None
    at = int.from_bytes(image[1024 + 40 : 1024 + 44], "little") * 4096 + int(node[1]) * 32
    (attributes,) = struct.unpack_from("<H", image, at + 2)
    header = at + 64 + (12 + 4 * (attributes - 1) if attributes else 0)
    header = -(-header // 8) * 8
    assert image[header + 6] == 0
    image[header + 6] = number
    index, clusters = header + 16, -(-len(content) // 4096)
    heads = []
    for cluster in range(clusters):
        kind, start, block = struct.unpack_from("<HHI", image, index + cluster * 8)
        if kind & 3 != 2:
            heads.append((kind & 3, cluster * 4096 + start, block))
    replaced = 0
    for (kind, start, block), following in zip(heads, [*heads[1:], None], strict=True):
        if kind == _EROFS_COMPRESSED:
            end = following[1] if following else len(content)
            packed = compress(content[start:end])
            assert packed[0]
            assert len(packed) <= 4096
            image[block * 4096 : (block + 1) * 4096] = packed.rjust(4096, b"\0")
            replaced += 1
    assert replaced > 2
    compatible, incompatible = (int.from_bytes(image[1024 + o :][:4], "little") for o in (8, 80))
    struct.pack_into("<I", image, 1024 + 8, compatible & ~1)
    struct.pack_into("<I", image, 1024 + 80, incompatible | 2)
    struct.pack_into("<H", image, 1024 + 84, 1 << number)
    # Settings follow the superblock, which is made as long as the first block has room for.
    place = 4096 - 32
    assert not any(image[place:4096])
    image[1024 + 13] = (place - 1024 - 128) // 16
    struct.pack_into(f"<H{len(settings)}s", image, place, len(settings), settings)
    path.write_bytes(image)
    assert read_file(mounted(path).mount, b"/file") == content
