# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's MD driver: arrays of block devices, by the attributes it has in sysfs.

The kernel is told what an array is made of, and is not let read its superblocks: so it has none to
write, no bitmap and no journal either, and never has a reason to bring members in step. The
attributes and their units are told in ``Documentation/admin-guide/md.rst``.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import KernelError
from explorer.kernel.devices import LAST_MESSAGES, BlockDevice
from explorer.kernel.system import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from explorer.kernel.kernel import Kernel

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
    """The new one; of the same level."""
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
    """The same as ``offset``, but for a member in a reshape."""
    recovered: int | None = None
    """Sectors that were brought in step before that was interrupted; None: all."""
    replacement: bool = False
    """Whether it is to take the place of another with the same role."""
    bad_blocks: tuple[tuple[int, int], ...] = ()
    """Ranges of the device that do not hold what they should: first sector and number."""


class RaidDevice(BlockDevice):
    """A running array. A context manager that stops it."""

    def __init__(self, kernel: Kernel, number: int) -> None:
        """Used by :func:`run_array`."""
        super().__init__(kernel, b"/dev/md%d" % number)
        self._attributes = b"/sys/block/md%d/md/" % number
        self._closed = False

    def set(self, attribute: bytes, value: str | int) -> None:
        """Set an attribute of the array."""
        write_text(self._kernel, self._attributes + attribute, f"{value}\n")

    def close(self) -> None:
        """Stop it; nothing may use it. A second call does nothing, nor one in an ended kernel."""
        if not self._closed and self._kernel.state == "running":
            self.set(b"array_state", "clear")
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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
    position = kernel.read_log()[1]
    array = _add_array(kernel)
    try:
        listed = any(member.bad_blocks for member in members)
        # Only metadata of somebody else's may tell of bad blocks.
        array.set(b"metadata_version", "external:listed" if listed else "none")
        array.set(b"level", shape.level)
        array.set(b"chunk_size", shape.chunk)
        array.set(b"layout", shape.layout)
        # Members may have roles that only one of two shapes knows.
        array.set(b"raid_disks", max(shape.disks, reshape.shape.disks if reshape else 0))
        if component:
            array.set(b"component_size", component // 2)
        for member in members:
            _add_member(kernel, array, member)
        if reshape is not None:
            _set_reshape(array, shape, reshape, members)
        array.set(b"resync_start", "none" if in_step is None else in_step)
        if read_only or listed or reshape is not None:
            array.set(b"array_state", "readonly")
        else:
            array.set(b"array_state", "read-auto")
            if shape.level != "raid0":
                # From the first write on it would bring members in step.
                array.set(b"sync_action", "frozen")
    except KernelError as error:
        if error.code == "kernel.call":
            error.log[:] = kernel.messages_since(position)[-LAST_MESSAGES:]
            array.close()
        raise
    return array


def _add_array(kernel: Kernel) -> RaidDevice:
    for number in count():
        try:
            write_text(kernel, _NEW_ARRAY, f"md{number}\n")
        except KernelError as error:
            if error.name != "EEXIST":
                raise
        else:
            return RaidDevice(kernel, number)
    raise AssertionError


def _add_member(kernel: Kernel, array: RaidDevice, member: RaidMember) -> None:
    path = member.device.path
    descriptor = member.device.open()
    try:
        node = kernel.stat_descriptor(descriptor, path)
    finally:
        kernel.close_descriptor(descriptor)
    array.set(b"new_dev", f"{node.special_major}:{node.special_minor}")
    folder = b"dev-" + path.rpartition(b"/")[2] + b"/"
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


def _set_reshape(
    array: RaidDevice, shape: RaidShape, reshape: RaidReshape, members: Sequence[RaidMember]
) -> None:
    array.set(b"raid_disks", shape.disks)
    array.set(b"reshape_position", reshape.position)
    # From here on these set the new shape only.
    array.set(b"raid_disks", reshape.shape.disks)
    array.set(b"chunk_size", reshape.shape.chunk)
    array.set(b"layout", reshape.shape.layout)
    if reshape.shape.disks == shape.disks and reshape.backwards:
        array.set(b"reshape_direction", "backwards")
    for member in members:
        if member.new_offset != member.offset:
            folder = b"dev-" + member.device.path.rpartition(b"/")[2] + b"/"
            array.set(folder + b"new_offset", member.new_offset)
