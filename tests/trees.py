# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees to make images of, and their comparison with what comes out of the images."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from explorer.core.entries import FileType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from explorer.kernel import Mount

ROOT = os.geteuid() == 0
"""Whether owners and device nodes can be made."""

LONGEST_NAME = "n" * 255

_MIB = 1 << 20
_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Facts:
    """All of an entry that a copy keeps."""

    type: int
    mode: int
    uid: int
    gid: int
    links: int
    size: int
    """Of files and links; 0 for the others, where each file system has its own idea."""
    modify_ns: int
    content: str
    """SHA-256 of a file, target of a link, numbers of a device."""
    xattrs: Mapping[bytes, bytes]


# ---- Making ------------------------------------------------------------------------------------


def noise(size: int, seed: int) -> bytes:
    """Bytes that no compression makes shorter, the same each time."""
    return random.Random(seed).randbytes(size)


def make_tree(top: Path, *, owners: bool = ROOT) -> None:
    """Fill a folder with all that a file system may be asked to keep."""
    root = os.fsencode(top)
    folder = root + b"/folder"
    os.makedirs(folder + b"/deeper/deepest")
    os.makedirs(root + b"/empty folder")
    files = {
        b"empty": b"",
        b"one byte": b"1",
        b"block": noise(4096, 1),
        b"folder/large": noise(3 * _MIB + 17, 2),
        b"folder/repeated": b"all the same " * 100_000,
        b"folder/deeper/deepest/small": b"small\n",
        "Größe 日本語 😀".encode(): b"unicode\n",
        b"latin caf\xe9 \xff": b"not UTF-8\n",
        b"line\nbreak": b"newline\n",
        b"escape \x1b[31m \x07": b"control\n",
        "turned \u202etxt.exe".encode(): b"bidi\n",
        b"back\\slash": b"backslash\n",
        b"-rf": b"a dash\n",
        LONGEST_NAME.encode(): b"longest name\n",
    }
    for name, content in files.items():
        with open(root + b"/" + name, "wb") as file:
            file.write(content)
    with open(root + b"/sparse", "wb") as file:
        file.write(b"begin")
        file.seek(8 * _MIB)
        file.write(noise(4096, 3))
        file.truncate(64 * _MIB)
    os.link(root + b"/block", folder + b"/second name")
    os.link(root + b"/block", folder + b"/deeper/third name")
    os.symlink(b"folder/large", root + b"/to a file")
    os.symlink(b"..", folder + b"/up")
    os.symlink(b"/folder/deeper", root + b"/absolute")
    os.symlink(b"no\xffwhere\n", root + b"/broken")
    os.symlink(b"t" * 1000, root + b"/long target")
    os.symlink(b"loop", root + b"/loop")
    os.mkfifo(root + b"/fifo")
    os.setxattr(root + b"/one byte", b"user.note", b"a value with \0 and \xff")
    os.setxattr(root + b"/one byte", b"user.empty", b"")
    os.setxattr(folder, b"user.folder", b"x" * 300)
    os.chmod(root + b"/one byte", 0o600)
    os.chmod(root + b"/block", 0o4755)
    os.chmod(folder + b"/repeated", 0o2444)
    os.chmod(root + b"/empty folder", 0o1777)
    os.chmod(folder + b"/deeper", 0o700)
    if owners:
        os.mknod(root + b"/device", stat.S_IFCHR | 0o640, os.makedev(4, 67))
        os.mknod(root + b"/disk", stat.S_IFBLK | 0o660, os.makedev(8, 17))
        os.mknod(root + b"/socket", stat.S_IFSOCK | 0o755)
        os.chown(root + b"/one byte", 1234, 5678)
        os.chown(folder + b"/deeper", 65534, 70000)
        os.lchown(root + b"/broken", 4_000_000_000, 1)
    _set_times(root)


def make_modest_tree(top: Path, *, owners: bool = ROOT) -> None:
    """Fill a folder with what most file systems know: short names, small numbers, even seconds."""
    (top / "folder" / "deeper").mkdir(parents=True)
    (top / "empty-folder").mkdir()
    (top / "hello.txt").write_text("hello\n")
    (top / "empty").touch()
    (top / "folder" / "large.bin").write_bytes(noise(1_000_017, 1))
    (top / "folder" / "repeated.txt").write_bytes(b"all the same " * 30_000)
    (top / "folder" / "deeper" / "leaf").write_text("leaf\n")
    (top / "Größe-Ä").write_text("unicode\n")
    (top / "MiXed.Case.and.longer").write_text("case\n")
    for number in range(120):
        (top / "folder" / "deeper" / f"number{number:03}").write_text(f"{number}\n")
    os.link(top / "hello.txt", top / "folder" / "second")
    (top / "link").symlink_to("folder/large.bin")
    (top / "folder" / "up").symlink_to("../hello.txt")
    os.mkfifo(top / "fifo")
    if owners:
        os.mknod(top / "device", stat.S_IFCHR | 0o640, os.makedev(4, 67))
        os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(8, 17))
        os.chown(top / "hello.txt", 12, 34)
        os.chown(top / "folder", 1000, 100)
    (top / "hello.txt").chmod(0o640)
    (top / "empty").chmod(0o4755)
    (top / "folder" / "deeper").chmod(0o2751)
    (top / "empty-folder").chmod(0o500)
    moment = 1_500_000_000
    for path in sorted(top.rglob("*"), reverse=True):
        moment += 86_400
        os.utime(path, ns=(moment * _SECOND, moment * _SECOND), follow_symlinks=False)


def _set_times(root: bytes) -> None:
    moments = [
        1_700_000_000 * _SECOND + 123_456_789,
        1_234_567_890 * _SECOND + 1,
        1 * _SECOND,
        2_200_000_000 * _SECOND + 999_999_999,
        -86_400 * _SECOND,
    ]
    names = [root]
    for folder, folders, files in os.walk(root):
        names += [os.path.join(folder, name) for name in folders + files]
    # From the deepest up: an entry's change is its folder's, too.
    for number, name in enumerate(sorted(names, key=lambda path: path.count(b"/"), reverse=True)):
        moment = moments[number % len(moments)]
        os.utime(name, ns=(moment, moment), follow_symlinks=False)


# ---- Looking -----------------------------------------------------------------------------------


def host_facts(top: Path) -> dict[bytes, Facts]:
    """What the host knows of a tree; the folder itself is ``b""``."""
    root = os.fsencode(top)
    found = {b"": _host_facts(root)}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[path[len(root) + 1 :]] = _host_facts(path)
    return found


def _host_facts(path: bytes) -> Facts:
    info = os.lstat(path)
    content = ""
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(info.st_mode):
        content = os.readlink(path).hex()
    elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        content = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    names = os.listxattr(path, follow_symlinks=False)
    return Facts(
        type=info.st_mode >> 12,
        mode=info.st_mode & 0o7777,
        uid=info.st_uid,
        gid=info.st_gid,
        links=info.st_nlink if not stat.S_ISDIR(info.st_mode) else 0,
        size=info.st_size if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode) else 0,
        modify_ns=info.st_mtime_ns,
        content=content,
        xattrs={
            os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names
        },
    )


def mount_facts(mount: Mount, start: bytes = b"/") -> dict[bytes, Facts]:
    """What our kernel knows of a tree, by walk, reads and attributes."""
    paths = {0: start.rstrip(b"/")}
    found = {}
    entries = [(start, mount.stat(start))]
    with mount.open_directory(start) as directory, directory.walk() as walk:
        for entry in walk:
            assert entry.name, f"{paths[entry.number]!r}: {entry.error}"
            assert not entry.error, entry
            path = paths[entry.directory] + b"/" + entry.name
            if entry.number:
                paths[entry.number] = path
            entries.append((path, entry))
    for path, entry in entries:
        content = ""
        if entry.is_file:
            content = _hash(mount, path)
        elif entry.type == FileType.LINK:
            content = mount.read_link(path).hex()
        elif entry.type in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE):
            content = f"{entry.special_major}:{entry.special_minor}"
        assert entry.modify_ns is not None
        found[path[len(start.rstrip(b"/")) + 1 :]] = Facts(
            type=entry.type,
            mode=entry.mode & 0o7777,
            uid=entry.uid,
            gid=entry.gid,
            links=0 if entry.is_directory else entry.links,
            size=entry.size if entry.is_file or entry.type == FileType.LINK else 0,
            modify_ns=entry.modify_ns,
            content=content,
            xattrs=mount.read_xattrs(path),
        )
    return found


def _hash(mount: Mount, path: bytes) -> str:
    with mount.open_file(path) as file:
        return file.sha256().hex()


# ---- Comparing ---------------------------------------------------------------------------------


def whole_seconds(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """For file systems, or tools that make them, without fractions of a second."""
    return {
        path: replace(one, modify_ns=one.modify_ns // _SECOND * _SECOND)
        for path, one in facts.items()
    }


def without(facts: Mapping[bytes, Facts], *paths: bytes) -> dict[bytes, Facts]:
    """Without some entries, such as ``lost+found``."""
    return {path: one for path, one in facts.items() if path not in paths}


def assert_same(found: Mapping[bytes, Facts], wanted: Mapping[bytes, Facts]) -> None:
    """Fail with the entries that differ, and in what."""
    differences = []
    for path in sorted({*found, *wanted}):
        ours, theirs = found.get(path), wanted.get(path)
        if ours is None or theirs is None:
            differences.append(f"{path!r}: only {'wanted' if ours is None else 'found'}")
        elif ours != theirs:
            differences += [
                f"{path!r} {name}: {getattr(ours, name)!r} instead of {getattr(theirs, name)!r}"
                for name in Facts.__slots__
                if getattr(ours, name) != getattr(theirs, name)
            ]
    assert not differences, f"{len(differences)} differences:\n" + "\n".join(differences[:40])


# ---- Tools -------------------------------------------------------------------------------------


def find_tool(name: str) -> str:
    """The path of a tool that makes or checks images; skips the test where it is missing."""
    # Debian keeps these tools out of an ordinary user's PATH.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def run_tool(name: str, *arguments: str | Path, text: str | None = None) -> str:
    """Run a tool that must succeed; returns what it printed."""
    done = subprocess.run(
        [find_tool(name), *arguments],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    assert done.returncode == 0, f"{name} {arguments}: {done.returncode}\n{done.stdout}"
    return done.stdout


def read_by_grub(image: Path, path: str) -> bytes:
    """A file's content by GRUB's own reader of its file system."""
    tool = find_tool("grub-fstest")
    done = subprocess.run([tool, image, "cat", f"(loop0){path}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_empty(path: Path, size: int) -> Path:
    """A file that is one hole."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
