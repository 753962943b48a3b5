# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's MD driver: arrays of block devices, by the attributes it has in sysfs.

The kernel is told what an array is made of, and is not let read its superblocks: so it has none to
write, no bitmap and no journal either, and never has a reason to bring members in step. The
attributes and their units are told in ``Documentation/admin-guide/md.rst``.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.closing import Closing
from explorer.core.errors import KernelError
from explorer.kernel.devices import LAST_MESSAGES, BlockDevice
from explorer.kernel.mapper import Target, map_device
from explorer.kernel.system import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explorer.kernel.kernel import Kernel

_SECTOR = 512
_NEW_ARRAY = b"/sys/module/md_mod/parameters/new_array"


class RaidShape(NamedTuple):
    """How an array spreads its bytes over members."""

    level: str
    """As ``raid5``."""
    disks: int
    """Members of a whole array."""
    chunk: int
    """Bytes; 0 where the level has none."""
    layout: int
    """A number that each level understands in its own way."""


class RaidReshape(NamedTuple):
    """An array on its way from one shape to another."""

    position: int
    """Sectors of the array: before here (or, backwards, from here on) it has the new shape."""
    shape: RaidShape
    """The new one."""
    backwards: bool


class RaidMember(NamedTuple):
    """A device, and its place in an array."""

    device: BlockDevice
    role: int
    """From 0; several members have one role only when all but one are replacements."""
    offset: int
    """Sectors of 512 bytes before its data."""
    size: int
    """Sectors of data, of which an odd last one is not used."""
    new_offset: int
    """In a reshape, ``offset`` in the new shape."""
    recovered: int | None = None
    """Sectors that were brought in step before that was interrupted; None: all."""
    replacement: bool = False
    """Whether it is to take the place of another with the same role."""
    bad_blocks: tuple[tuple[int, int], ...] = ()
    """Ranges of the device that do not hold what they should: first sector and number."""


class RaidDevice(Closing, BlockDevice):
    """A running array. A context manager that stops it."""

    def __init__(self, kernel: Kernel, path: bytes, parts: ExitStack) -> None:
        """Used by :func:`run_array`; ``parts`` takes apart what it is made of."""
        super().__init__(kernel, path)
        self._parts = parts

    def close(self) -> None:
        """Stop it; nothing may use it. A second call does nothing, nor one in an ended kernel."""
        self._parts.close()


def run_array(
    kernel: Kernel,
    shape: RaidShape,
    component: int,
    members: Sequence[RaidMember],
    *,
    reshape: RaidReshape | None = None,
    in_step: int | None = None,
    read_only: bool = True,
) -> RaidDevice:
    """Run an array of members; roles without one are missing.

    ``component`` is how many sectors of each member are used, 0 where each is used whole.
    ``in_step`` is how many of these are known to agree among the members, None for all. An array
    in a reshape, or with bad blocks, is read-only in any case; another one takes writes, but does
    not put itself in order. Raises :exc:`KernelError`, with what the driver said in its log.
    """
    with ExitStack() as parts:
        if reshape is None:
            path = _run(kernel, parts, shape, component, members, in_step, read_only=read_only)
        else:
            path = _map_reshape(kernel, parts, shape, component, members, in_step, reshape)
        return RaidDevice(kernel, path, parts.pop_all())


class _Attributes:
    """Those of an array that is being made."""

    def __init__(self, kernel: Kernel, number: int) -> None:
        self._kernel = kernel
        self._folder = b"/sys/block/md%d/md/" % number
        self.path = b"/dev/md%d" % number

    def set(self, attribute: bytes, value: str | int) -> None:
        write_text(self._kernel, self._folder + attribute, f"{value}\n")

    def stop(self) -> None:
        if self._kernel.state == "running":
            self.set(b"array_state", "clear")


def _run(
    kernel: Kernel,
    parts: ExitStack,
    shape: RaidShape,
    component: int,
    members: Sequence[RaidMember],
    in_step: int | None,
    *,
    read_only: bool,
) -> bytes:
    """Run an array of one shape; the path of its node. ``parts`` will stop it."""
    position = kernel.read_log()[1]
    array = _add_array(kernel)
    parts.callback(array.stop)
    listed = any(member.bad_blocks for member in members)
    try:
        # Only metadata of somebody else's may tell of bad blocks.
        array.set(b"metadata_version", "external:listed" if listed else "none")
        array.set(b"level", shape.level)
        array.set(b"chunk_size", shape.chunk)
        array.set(b"layout", shape.layout)
        array.set(b"raid_disks", shape.disks)
        if component:
            array.set(b"component_size", component // 2)
        for member in members:
            _add_member(kernel, array, member)
        array.set(b"resync_start", "none" if in_step is None else in_step)
        if read_only or listed:
            array.set(b"array_state", "readonly")
        else:
            array.set(b"array_state", "read-auto")
            if shape.level != "raid0":
                # From the first write on it would bring members in step.
                array.set(b"sync_action", "frozen")
    except KernelError as error:
        if error.code == "kernel.call":
            error.log[:] = kernel.messages_since(position)[-LAST_MESSAGES:]
        raise
    return array.path


def _add_array(kernel: Kernel) -> _Attributes:
    for number in count():
        try:
            write_text(kernel, _NEW_ARRAY, f"md{number}\n")
        except KernelError as error:
            if error.name != "EEXIST":
                raise
        else:
            return _Attributes(kernel, number)
    raise AssertionError


def _add_member(kernel: Kernel, array: _Attributes, member: RaidMember) -> None:
    path = member.device.path
    descriptor = member.device.open()
    try:
        node = kernel.stat_descriptor(descriptor, path)
    finally:
        kernel.close_descriptor(descriptor)
    array.set(b"new_dev", f"{node.special_major}:{node.special_minor}")
    folder = b"dev-" + _name(member.device) + b"/"
    array.set(folder + b"offset", member.offset)
    array.set(folder + b"size", member.size // 2)
    array.set(folder + b"slot", member.role)
    if member.recovered is not None:
        array.set(folder + b"recovery_start", member.recovered)
    if member.replacement:
        array.set(folder + b"state", "replacement")
    if member.bad_blocks:
        array.set(folder + b"state", "external_bbl")
        for first, length in member.bad_blocks:
            array.set(folder + b"bad_blocks", f"{first} {length}")


def _name(device: BlockDevice) -> bytes:
    return device.path.rpartition(b"/")[2]


def _map_reshape(
    kernel: Kernel,
    parts: ExitStack,
    shape: RaidShape,
    component: int,
    members: Sequence[RaidMember],
    in_step: int | None,
    reshape: RaidReshape,
) -> bytes:
    """Run two arrays on the same members, each of one shape, and map the part that each has.

    The driver's own way has no end: what it reads where the shapes meet waits for the reshape to
    go on. Nothing that is needed was written over, for the reshape itself could go on from here.
    """
    first_name = _name(members[0].device) if members else b""
    paths = []
    for name, now in ((b"old", shape), (b"new", reshape.shape)):
        changed = []
        for member in members:
            if member.role >= now.disks:
                continue
            # A device can be in one array only.
            path, length = member.device.path, member.device.size() // _SECTOR
            twin_name = b"reshape-%b-%b" % (name, _name(member.device))
            twin = map_device(kernel, twin_name, [Target(0, length, "linear", path + b" 0")])
            changed.append(member._replace(device=parts.enter_context(twin)))
            if now is reshape.shape:
                changed[-1] = changed[-1]._replace(offset=member.new_offset)
            elif member.recovered is not None:
                # What is not in step has but its part of the new shape.
                changed[-1] = changed[-1]._replace(recovered=0)
        paths.append(_run(kernel, parts, now, component, changed, in_step, read_only=True))
    size = min(BlockDevice(kernel, path).size() for path in paths) // _SECTOR
    position = min(reshape.position, size)
    before, after = paths if reshape.backwards else reversed(paths)
    targets = [
        Target(start, end - start, "linear", b"%b %d" % (path, start))
        for path, start, end in ((before, 0, position), (after, position, size))
        if end > start
    ]
    return parts.enter_context(map_device(kernel, b"reshape-" + first_name, targets)).path
