# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image's reader that has been taken over would try; run in a really confined process.

``python -m tests.engine.acts NAME SETTINGS`` does one of the acts below; the last line of its
output tells how the confined process ended, the one before what the act returned, both as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cffi

from explorer.core.errors import ExplorerError
from explorer.images.access import access
from explorer.images.files import HostFile
from explorer.keeper import keeper
from explorer.keeper.keeper import Bounds, keep
from explorer.keeper.rules import Rules, Wanted
from explorer.keeper.wishes import (
    HEADER,
    AskState,
    ListNames,
    LoadRecord,
    NameSources,
    OpenNamed,
    OpenSource,
    encode,
)
from explorer.kernel import Kernel
from explorer.kernel.binding import hold_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.keeper.asking import Asker
    from explorer.native.confine import Confinement

_ffi = cffi.FFI()
_ffi.cdef("long syscall(long number, ...); extern int errno;")
_libc: Any = _ffi.dlopen(None)

# asm/unistd.h; those from 424 on are the same for all processors.
_X86 = platform.machine() == "x86_64"
NUMBERS = {
    "accept": (43, 202),
    "add_key": (248, 217),
    "bind": (49, 200),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "close": (3, 57),
    "close_range": (436, 436),
    "connect": (42, 203),
    "dup3": (292, 24),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "fcntl": (72, 25),
    "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "linkat": (265, 37),
    "listen": (50, 201),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "mmap": (9, 222),
    "mount": (165, 40),
    "mprotect": (10, 226),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "newfstatat": (262, 79),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat": (257, 56),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "pkey_mprotect": (329, 288),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "readlinkat": (267, 78),
    "remap_file_pages": (216, 234),
    "renameat2": (316, 276),
    "rt_sigqueueinfo": (129, 138),
    "sched_setaffinity": (203, 122),
    "seccomp": (317, 277),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "setrlimit": (160, 164),
    "setuid": (105, 146),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "splice": (275, 76),
    "statx": (332, 291),
    "symlinkat": (266, 36),
    "tgkill": (234, 131),
    "timer_create": (222, 107),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "unlinkat": (263, 35),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "utimensat": (280, 88),
    "vhangup": (153, 58),
}
_AT_FDCWD = -100
_READ, _WRITE, _EXECUTE = 1, 2, 4
_SHARED, _PRIVATE, _ANONYMOUS = 1, 2, 0x20
_THREAD = 0x00010000 | 0x00000800 | 0x00000400 | 0x00000200 | 0x00000100 | 0x00040000


def call(name: str, *arguments: int | bytes) -> str | int:
    """A system call's result, or its errno's name."""
    number = NUMBERS[name][0 if _X86 else 1]
    given = [
        _ffi.from_buffer(one) if isinstance(one, bytes) else _ffi.cast("long", one)
        for one in arguments
    ]
    result = int(_libc.syscall(_ffi.cast("long", number), *given))
    return errno.errorcode[_ffi.errno] if result == -1 else result


class Act:
    """One of the functions below as what is done in a confined process."""

    def __init__(self, act: Callable[[Asker, Confinement], Any]) -> None:
        self._act = act

    def prepare(self) -> int:
        """The kernel image is held, as for any work."""
        return hold_image()

    def run(self, asker: Asker, confinement: Confinement) -> int:
        """Tells what the act returns."""
        print(json.dumps(self._act(asker, confinement)), flush=True)
        return 0

    def fail(self, failure: ExplorerError) -> int:
        """No act fails so."""
        raise failure


# ---- System calls


def calls(_asker: Asker, _confinement: Confinement) -> dict[str, str | int]:
    """All that is forbidden, by what it would be good for."""
    parent, own, image = os.getppid(), os.getpid(), hold_image()
    page = call("mmap", 0, 65536, _READ | _WRITE, _PRIVATE | _ANONYMOUS, -1, 0)
    assert isinstance(page, int)
    passwd = b"/etc/passwd\0"
    there = access().open_source(SOURCE[0], (), None)[0].descriptor()
    assert there is not None
    buffer = b"\0" * 4096
    return {
        # Files by their names.
        "open a file": call("openat", _AT_FDCWD, passwd, os.O_RDONLY, 0),
        "open a file to write": call("openat", _AT_FDCWD, b"/tmp/x\0", os.O_WRONLY | os.O_CREAT, 0),
        "open its own memory": call("openat", _AT_FDCWD, b"/proc/self/mem\0", os.O_RDWR, 0),
        "open the parent's memory": call(
            "openat", _AT_FDCWD, b"/proc/%d/mem\0" % parent, os.O_RDONLY, 0
        ),
        "open anew what it has": call(
            "openat", _AT_FDCWD, b"/proc/self/fd/%d\0" % there, os.O_RDWR, 0
        ),
        "open a terminal": call("openat", _AT_FDCWD, b"/dev/tty\0", os.O_RDWR, 0),
        "open a folder": call("openat", _AT_FDCWD, b"/\0", os.O_DIRECTORY, 0),
        "open, newer": call("openat2", _AT_FDCWD, passwd, buffer, 24),
        "open a path only": call("openat", _AT_FDCWD, passwd, os.O_PATH, 0),
        "open by handle": call("open_by_handle_at", _AT_FDCWD, buffer, 0),
        "handle of a name": call("name_to_handle_at", _AT_FDCWD, passwd, buffer, buffer, 0),
        "open a tree": call("open_tree", _AT_FDCWD, passwd, 0),
        "look at a name": call("newfstatat", _AT_FDCWD, passwd, buffer, 0),
        "look at a name as at none": call("newfstatat", _AT_FDCWD, passwd, buffer, 0x1000),
        "look at a name, newer": call("statx", _AT_FDCWD, passwd, 0, 0xFFF, buffer),
        "read a link": call("readlinkat", _AT_FDCWD, b"/proc/self/exe\0", buffer, 4096),
        "make a folder": call("mkdirat", _AT_FDCWD, b"/tmp/x\0", 0o755),
        "make a node": call("mknodat", _AT_FDCWD, b"/tmp/x\0", 0o644, 0),
        "remove": call("unlinkat", _AT_FDCWD, b"/tmp/x\0", 0),
        "rename": call("renameat2", _AT_FDCWD, b"/tmp/x\0", _AT_FDCWD, b"/tmp/y\0", 0),
        "link": call("linkat", _AT_FDCWD, passwd, _AT_FDCWD, b"/tmp/x\0", 0),
        "link by text": call("symlinkat", passwd, _AT_FDCWD, b"/tmp/x\0"),
        "cut": call("truncate", SOURCE[0] + b"\0", 0),
        "set times": call("utimensat", _AT_FDCWD, SOURCE[0] + b"\0", 0, 0),
        "change the root": call("chroot", b"/tmp\0"),
        "mount": call("mount", b"none\0", b"/tmp\0", b"tmpfs\0", 0, 0),
        "change roots": call("pivot_root", b"/\0", b"/\0"),
        "watch files": call("inotify_init1", 0),
        "watch all files": call("fanotify_init", 0, 0),
        "a file in memory": call("memfd_create", b"x\0", 0),
        "a secret file": call("memfd_secret", 0),
        # The source itself.
        "write to the source": write_to(there),
        "write to the source at a place": write_at(there),
        # A network.
        "a socket of the internet": call("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
        "a socket of the host": call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        "a socket of the kernel": call("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "a pair of sockets": call("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, buffer),
        "connect": call("connect", 0, buffer, 16),
        "bind": call("bind", 0, buffer, 16),
        "listen": call("listen", 0, 1),
        # Processes.
        "execute": call("execve", b"/bin/true\0", 0, 0),
        "execute what is open": call("execveat", there, b"\0", 0, 0, 0x1000),
        "fork": call("clone", signal.SIGCHLD, 0, 0, 0, 0),
        "a thread in new rooms": call("clone", _THREAD | 0x10000000, 0, 0, 0, 0),
        "a process that shares memory": call("clone", 0x100 | signal.SIGCHLD, 0, 0, 0, 0),
        "fork, newer": call("clone3", buffer, 88),
        "leave its rooms": call("unshare", 0x10000000),
        "enter others": call("setns", 0, 0),
        "see whether the parent is there": call("kill", parent, 0),
        "end the parent": call("kill", parent, signal.SIGTERM),
        "end the parent's thread": call("tgkill", parent, parent, signal.SIGKILL),
        "end some thread": call("tkill", parent, signal.SIGKILL),
        "end all": call("kill", -1, signal.SIGKILL),
        "end its group": call("kill", 0, signal.SIGKILL),
        "end itself by another call": call("kill", own, 0),
        "signal with a value": call("rt_sigqueueinfo", parent, signal.SIGTERM, buffer),
        "name the parent": call("pidfd_open", parent, 0),
        "signal by a name": call("pidfd_send_signal", 0, signal.SIGTERM, 0, 0),
        "take a descriptor": call("pidfd_getfd", 0, 0, 0),
        "trace the parent": call("ptrace", 16, parent, 0, 0),
        "be traced": call("ptrace", 0, 0, 0, 0),
        "read the parent's memory": call("process_vm_readv", parent, buffer, 1, buffer, 1, 0),
        "write the parent's memory": call("process_vm_writev", parent, buffer, 1, buffer, 1, 0),
        "advise the parent's memory": call("process_madvise", 0, buffer, 1, 4, 0),
        "compare": call("kcmp", parent, own, 0, 0, 0),
        # Rights and limits.
        "raise a limit": call("prlimit64", 0, 9, b"\xff" * 16, 0),
        "raise a limit, older": call("setrlimit", 9, b"\xff" * 16),
        "another's limit": call("prlimit64", parent, 9, 0, buffer),
        "another user": call("setuid", 0),
        "rights of root": call("capset", buffer, buffer),
        "another filter": call("seccomp", 1, 0, buffer),
        "live without its parent": call("prctl", 1, 0, 0, 0, 0),
        "be looked into": call("prctl", 0x59616D61, -1, 0, 0, 0),
        "have core files": call("prctl", 4, 1, 0, 0, 0),
        "go before others": call("setpriority", 0, 0, -20),
        "choose its processor": call("sched_setaffinity", parent, 8, buffer),
        "another machine": call("personality", 0x0400000),
        # Executable memory.
        "memory to write and execute": call(
            "mmap", 0, 4096, _READ | _WRITE | _EXECUTE, _PRIVATE | _ANONYMOUS, -1, 0
        ),
        "memory to execute": call("mmap", 0, 4096, _READ | _EXECUTE, _PRIVATE | _ANONYMOUS, -1, 0),
        "execute what was written": call("mprotect", page, 4096, _READ | _EXECUTE),
        "execute what was written, by key": call("pkey_mprotect", page, 4096, _EXECUTE, -1),
        "execute the source": call("mmap", 0, 4096, _READ | _EXECUTE, _PRIVATE, there, 0),
        "write to the kernel image": call(
            "mmap", 0, 4096, _READ | _WRITE | _EXECUTE, _PRIVATE, image, 0
        ),
        "put the source in its place": call("dup3", there, image, 0),
        "close it": call("close", image),
        "close all": call("close_range", 3, 1000, 0),
        "map anew": call("remap_file_pages", page, 4096, _EXECUTE, 0, 0),
        # What the kernel has besides.
        "type for the user": call("ioctl", 2, 0x5412, b"x\0"),
        "take the terminal": call("ioctl", 2, 0x540E, 1),
        "paste for the user": call("ioctl", 2, 0x541C, b"\x03\0"),
        "signals from a file": call("fcntl", there, 8, parent),
        "a lock on the source": call("fcntl", there, 6, buffer),
        "a lease on the source": call("fcntl", there, 1024, 1),
        "io_uring": call("io_uring_setup", 1, buffer),
        "bpf": call("bpf", 0, buffer, 64),
        "perf": call("perf_event_open", buffer, 0, -1, -1, 0),
        "keys": call("keyctl", 0, -3, 0),
        "a key": call("add_key", b"user\0", b"x\0", b"x", 1, -3),
        "faults": call("userfaultfd", 0),
        "shared memory": call("shmget", 0, 4096, 0o1600),
        "a queue": call("mq_open", b"x\0", os.O_CREAT, 0o600, 0),
        "a timer": call("timer_create", 0, 0, buffer),
        "between pipes": call("splice", 0, 0, 1, 0, 1, 0),
        "hang up": call("vhangup"),
    }


def write_to(descriptor: int) -> str:
    """What comes of writing to a descriptor."""
    try:
        os.write(descriptor, b"x")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "written"


def write_at(descriptor: int) -> str:
    """The same, by position."""
    try:
        os.pwrite(descriptor, b"x", 0)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "written"


def opens(_asker: Asker, confinement: Confinement) -> list[Any]:
    """Whether it can open a file and make a socket of the internet reach a port."""
    reached: str | int = call("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    if isinstance(reached, int):
        address = b"\2\0" + (1).to_bytes(2, "big") + bytes((127, 0, 0, 1)) + bytes(8)
        reached = call("connect", reached, address, 16)
    return [
        list(confinement.missing),
        call("openat", _AT_FDCWD, b"/etc/passwd\0", os.O_RDONLY, 0),
        call("kill", os.getppid(), 0),
        reached,
    ]


def boots(_asker: Asker, _confinement: Confinement) -> list[Any]:
    """Two kernels, one after another beside the first, and what is in none of their memory."""
    releases = []
    with Kernel() as first, Kernel() as second:
        releases = [first.release, second.release]
        wait_for_look()
    return releases


def wait_for_look() -> None:
    """Lets the test look at this process."""
    print(os.getpid(), flush=True)
    time.sleep(2)


# ---- Memory


def fills_own(_asker: Asker, _confinement: Confinement) -> str:
    """Memory of its own, until there is no more."""
    try:
        bytearray(8 << 30)
    except MemoryError:
        return "no more"
    return "all of it"


def fills_shared(_asker: Asker, _confinement: Confinement) -> str:
    """Memory that is shared with nobody, which counts as none of its own."""
    import mmap

    with mmap.mmap(-1, 1 << 30) as memory:
        for place in range(0, len(memory), 4096):
            memory[place] = 1
        time.sleep(20)
    return "all of it"


def crashes(_asker: Asker, _confinement: Confinement) -> str:
    """A fault of the processor."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    _ffi.cast("int *", 8)[0] = 1
    return "went on"


def waits(_asker: Asker, _confinement: Confinement) -> str:
    """For its end."""
    print(os.getpid(), flush=True)
    time.sleep(600)
    return "was forgotten"


# ---- Wishes


def asked_for(work: Callable[[], Any]) -> str:
    """What came of a wish."""
    try:
        found = work()
    except ExplorerError as error:
        return error.code
    return str(found) if isinstance(found, (str, int)) else type(found).__name__


def asks_for_files(_asker: Asker, _confinement: Confinement) -> dict[str, str]:
    """Files in and around the folder of the source."""
    file, folder, _name = access().open_source(SOURCE[0], (), None)
    assert isinstance(file, HostFile)
    names = json.loads(sys.argv[2]).get("names", [])
    found = {
        name: asked_for(lambda name=name: folder.open(os.fsencode(name), "part", "owner")[0].size)  # type: ignore[misc]
        for name in names
    }
    found["names"] = asked_for(lambda: " ".join(sorted(map(os.fsdecode, folder.names()))))
    found["another source"] = asked_for(lambda: access().open_source(b"/etc/passwd", (), None))
    return found


def looks_at_installation(asker: Asker, _confinement: Confinement) -> dict[str, Any]:
    """Modules and paths of the program's own, and of others."""
    import colorsys

    return {
        "of its own": Path(colorsys.__file__ or "").name,
        "state": asker.ask_state(os.fsencode(colorsys.__file__ or "")).size > 0,
        "no such": bool(asker.find_module("explorer.nothing").payload),
        "another's": asker.ask_state(b"/etc/passwd").mode,
        "by a way around": asker.ask_state(
            os.fsencode(os.path.dirname(os.__file__)) + b"/../../../../../../etc/passwd"
        ).mode,
    }


def imports(_asker: Asker, _confinement: Confinement) -> list[str]:
    """All modules of the rooms that read images, and what they import only when it is needed."""
    from importlib import import_module

    for name in json.loads(sys.argv[2])["names"]:
        import_module(name)
    from argon2.low_level import Type, hash_secret_raw
    from Crypto.Cipher import AES, CAST
    from Crypto.Protocol.KDF import PBKDF2

    import_module("zstandard").ZstdDecompressor()
    key = hash_secret_raw(b"x" * 8, b"y" * 16, 1, 64, 4, 32, Type.ID)
    AES.new(key, AES.MODE_ECB).decrypt(bytes(16))
    CAST.new(key[:16], CAST.MODE_ECB).decrypt(bytes(8))
    hashes = [import_module(f"Crypto.Hash.{name}") for name in HASHES]
    for one in hashes:
        PBKDF2("x", bytes(16), 16, 2, hmac_hash_module=one)
    return sorted(sys.modules)


HASHES = ("MD5", "SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "RIPEMD160")


def sends(data: bytes) -> Callable[[Asker, Confinement], str]:
    """Bytes to the keeper that are no wish of a process in order."""

    def send(asker: Asker, _confinement: Confinement) -> str:
        asker._way.sendall(data)
        time.sleep(20)
        return "went on"

    return send


def names_sources_again(asker: Asker, _confinement: Confinement) -> str:
    """After the first file of an image came in."""
    access().name_sources(list(SOURCE), [])
    access().open_source(SOURCE[0], (), None)
    return asked_for(lambda: asker.ask(NameSources((b"/etc/passwd",), (b"/",))))


def floods(asker: Asker, _confinement: Confinement) -> str:
    """More wishes than any program has."""
    for number in range(20_000):
        asker.find_module(f"no_such_module_{number}")
    return "went on"


def hands_over(asker: Asker, _confinement: Confinement) -> str:
    """Descriptors that nobody asked for, until the keeper would have no more."""
    source = access().open_source(SOURCE[0], (), None)[0].descriptor()
    assert source is not None
    wish = encode(AskState(b"/"))
    for _ in range(2000):
        socket.send_fds(asker._way, [wish], [source] * 50)
        asker._way.recv(4096)
    return "all taken"


def leaves_keeper(asker: Asker, _confinement: Confinement) -> str:
    """It goes on without."""
    asker._way.close()
    time.sleep(600)
    return "went on"


SENT = {
    "noise": b"\xff" * 64,
    "no number": HEADER.pack(200, 2, 0) + b"{}",
    "too long": HEADER.pack(1, 1 << 31, 0),
    "a payload": HEADER.pack(1, 2, 1 << 30) + b"{}",
    "no fields": HEADER.pack(2, 4, 0) + b"null",
    "an answer": HEADER.pack(12, 2, 0) + b"{}",
    "other fields": HEADER.pack(2, 18, 0) + b'{"path":"/","x":1}'[:18],
    "a source of no number": encode(OpenSource(7)),
    "a folder of no number": encode(ListNames(3, False)),
    "a file in no folder": encode(OpenNamed(3, b"x", "", "")),
    "a record of no file": encode(LoadRecord(9, "gzip points 1")),
}
ACTS: dict[str, Callable[[Asker, Confinement], Any]] = {
    act.__name__: act
    for act in (
        *(calls, opens, boots, imports, fills_own, fills_shared, crashes, waits, asks_for_files),
        *(looks_at_installation, names_sources_again, floods, hands_over, leaves_keeper),
    )
} | {name: sends(data) for name, data in SENT.items()}
SOURCE: tuple[bytes, ...] = ()


def main() -> None:
    """Does the act that the arguments name."""
    global SOURCE
    settings = json.loads(sys.argv[2])
    SOURCE = tuple(map(os.fsencode, settings.get("sources", [])))
    allowed = tuple(map(os.fsencode, settings.get("allowed", [])))
    keeper.END_SECONDS = 1.0
    wanted = Wanted(paths=SOURCE, allowed=allowed) if settings.get("named", True) else None
    bounds = Bounds(
        memory=settings.get("memory", 0), without=frozenset(settings.get("without", []))
    )
    ending = keep(Act(ACTS[sys.argv[1]]), Rules(wanted), SOURCE, bounds)
    print(json.dumps(asdict(ending)), flush=True)


if __name__ == "__main__":
    main()
