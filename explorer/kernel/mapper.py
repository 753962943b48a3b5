# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's device mapper: block devices made of ranges of others.

The requests and structures are those of ``include/uapi/linux/dm-ioctl.h``; what the parameters of
a target mean is told in ``Documentation/admin-guide/device-mapper``.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.closing import Closing
from explorer.core.errors import KernelError
from explorer.kernel.calls import c_path
from explorer.kernel.devices import LAST_MESSAGES, BlockDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    import cffi

    from explorer.kernel.kernel import Kernel

    CData = cffi.FFI.CData

SECTOR = 512

_CONTROL = b"/dev/mapper/control"
_NAME_LENGTH = 128
_KIND_LENGTH = 16

# struct dm_ioctl: version, data_size, data_start, target_count, open_count, flags, event_nr,
# padding, dev, name, uuid, and padding to 312 bytes.
_HEAD = Struct(f"=3I I I I i I I I Q {_NAME_LENGTH}s 129s 7s")
_VERSION = (4, 0, 0)
# struct dm_target_spec: sector_start, length, status, next, target_type
_TARGET = Struct(f"=Q Q i I {_KIND_LENGTH}s")
# struct dm_target_msg: sector, then the message
_MESSAGE = Struct("=Q")

_READ_ONLY = 1 << 0
_STATUS_TABLE = 1 << 4
# Key material is wiped from the kernel's copy of the request.
_SECURE_DATA = 1 << 15
_BUFFER_FULL = 1 << 8

# _IOWR(0xfd, command, struct dm_ioctl)
_CREATE, _REMOVE, _SUSPEND, _LOAD, _STATUS, _SEND = (
    0xC000_0000 | _HEAD.size << 16 | 0xFD00 | command for command in (3, 4, 6, 9, 12, 14)
)

_ROOM = 16384


class Target(NamedTuple):
    """A range of a mapped device, and what it is made of."""

    start: int
    """Sectors of 512 bytes from the start of the mapped device."""
    length: int
    """Sectors."""
    kind: str
    """As ``linear`` or ``crypt``."""
    parameters: bytes
    """As the target's constructor takes them; devices as ``/dev/vda1`` or ``major:minor``."""


class MappedDevice(Closing, BlockDevice):
    """A device of the mapper. A context manager that removes it."""

    def __init__(self, kernel: Kernel, name: bytes, minor: int) -> None:
        """Used by :func:`map_device`."""
        super().__init__(kernel, b"/dev/dm-%d" % minor)
        self._name = name
        self._closed = False
        self._below: MappedDevice | None = None

    @property
    def name(self) -> bytes:
        """Its name in the mapper, as in ``/dev/mapper``."""
        return self._name

    def send(self, message: bytes, sector: int = 0) -> None:
        """Send a message to the target at a sector."""
        with _Control(self._kernel) as control:
            control.run(_SEND, self._name, _MESSAGE.pack(sector) + message + b"\0")

    def status(self) -> list[Target]:
        """What each target says of itself: ``parameters`` are its status line."""
        return self._targets(0)

    def table(self) -> list[Target]:
        """The targets as they were loaded."""
        return self._targets(_STATUS_TABLE)

    def _targets(self, flags: int) -> list[Target]:
        with _Control(self._kernel) as control:
            count, data = control.run(_STATUS, self._name, flags=flags)
        targets = []
        at = 0
        for _ in range(count):
            start, length, _status, following, kind = _TARGET.unpack_from(data, at)
            begin = at + _TARGET.size
            text = data[begin : data.index(b"\0", begin)]
            targets.append(Target(start, length, kind.split(b"\0")[0].decode("ascii"), text))
            at = following
        return targets

    def own(self, below: MappedDevice) -> None:
        """Remove together with this one another that it is on."""
        self._below = below

    def close(self) -> None:
        """Remove it; nothing may use it. A second call does nothing, nor one in an ended kernel."""
        if not self._closed and self._kernel.state == "running":
            with _Control(self._kernel) as control:
                control.run(_REMOVE, self._name)
        self._closed = True
        if self._below is not None:
            self._below.close()


class _Control(Closing):
    """The mapper's control node, open."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._descriptor = BlockDevice(kernel, _CONTROL).open()
        self.device = 0
        """The number of the device that the last request was about, as ``new_encode_dev()``."""

    def run(
        self, command: int, name: bytes, data: bytes = b"", *, flags: int = 0, targets: int = 0
    ) -> tuple[int, bytes]:
        """Run a request; the number of targets, and the data, that it gave back."""
        kernel = self._kernel
        ffi, library = kernel.binding.ffi, kernel.binding.library
        room = max(_ROOM, len(data))
        while True:
            size = _HEAD.size + room
            request = ffi.new("char[]", size)
            head = _HEAD.pack(
                *_VERSION, size, _HEAD.size, targets, 0, flags, 0, 0, 0, c_path(name), b"", b""
            )
            view = memoryview(ffi.buffer(request))
            view[: _HEAD.size] = head
            view[_HEAD.size : _HEAD.size + len(data)] = data
            result = library.lkl_sys_ioctl(kernel.pointer, self._descriptor, command, request)
            answer = bytes(view)
            # Keys pass through here.
            view[:] = bytes(size)
            kernel.check(result, "device mapper", name)
            fields = _HEAD.unpack_from(answer)
            if fields[7] & _BUFFER_FULL:
                room *= 4
                continue
            self.device = fields[10]
            return fields[5], answer[fields[4] : fields[3]]

    def close(self) -> None:
        """Close it."""
        self._kernel.close_descriptor(self._descriptor)


def _pack(targets: Sequence[Target]) -> bytes:
    packed = bytearray()
    for target in targets:
        text = c_path(target.parameters) + b"\0"
        following = -(-(_TARGET.size + len(text)) // 8) * 8
        kind = target.kind.encode("ascii")
        if len(kind) >= _KIND_LENGTH:
            raise ValueError(f"no target has a name as long as {target.kind}")
        packed += _TARGET.pack(target.start, target.length, 0, following, kind)
        packed += text.ljust(following - _TARGET.size, b"\0")
    return bytes(packed)


def map_device(
    kernel: Kernel, name: bytes, targets: Sequence[Target], *, read_only: bool = True
) -> MappedDevice:
    """Make a device of targets that follow one another from its first sector.

    ``name`` is to be one that the kernel has not yet, of at most 127 bytes without a slash. Raises
    :exc:`KernelError`, with what the target said in its log, when a target refuses; or what a
    disk's own reader raised, for some targets read what they are made of.
    """
    if len(name) >= _NAME_LENGTH:
        raise ValueError(f"a name of {len(name)} bytes")
    packed = _pack(targets)
    position = kernel.read_log()[1]
    flags = _SECURE_DATA | (_READ_ONLY if read_only else 0)
    with _Control(kernel) as control:
        control.run(_CREATE, name, flags=flags)
        # The minor number, encoded as by new_encode_dev() in include/linux/kdev_t.h.
        device = control.device
        mapped = MappedDevice(kernel, name, (device & 0xFF) | ((device >> 12) & ~0xFF))
        try:
            control.run(_LOAD, name, packed, flags=flags, targets=len(targets))
            # "Resume": with a new table loaded, that table takes effect.
            control.run(_SUSPEND, name, flags=flags)
        except BaseException as error:
            if isinstance(error, KernelError) and error.code == "kernel.call":
                error.log[:] = kernel.messages_since(position)[-LAST_MESSAGES:]
            with suppress(KernelError):
                mapped.close()
            raise
    return mapped
