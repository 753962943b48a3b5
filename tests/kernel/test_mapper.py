# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's device mapper, through the binding."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.errors import KernelError, SourceError
from explorer.core.messages import describe
from explorer.kernel.mapper import SECTOR, Target, map_device
from tests.kernel.test_kernel import Memory, panic
from tests.makers import ScratchDisk
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from explorer.kernel import BlockDevice, Kernel

MIB = 1 << 20
CONTENT = noise(4 * MIB, 40)


@pytest.fixture
def disk(kernel: Kernel) -> Iterator[BlockDevice]:
    """A disk that refuses writes."""
    with kernel.add_disk(Memory(CONTENT)) as added:
        yield added.device()


def sectors(first: int, count: int) -> bytes:
    """What stands in the disk's sectors."""
    return CONTENT[first * SECTOR : (first + count) * SECTOR]


def write(device: BlockDevice, offset: int, content: bytes) -> str:
    """Write to a device of the kernel; the name of what went wrong."""
    kernel = device.kernel
    library: Any = kernel.binding.library
    descriptor = library.lkl_sys_openat(
        kernel.pointer, library.LKL_AT_FDCWD, device.path, library.LKL_O_WRONLY, 0
    )
    try:
        for result in (
            library.lkl_sys_pwrite64(kernel.pointer, descriptor, content, len(content), offset),
            library.lkl_sys_fsync(kernel.pointer, descriptor),
        ):
            if result < 0:
                return kernel.make_error(-result, "write").name
        return ""
    finally:
        library.lkl_sys_close(kernel.pointer, descriptor)


def test_a_linear_device_has_the_bytes_of_its_table(kernel: Kernel, disk: BlockDevice) -> None:
    targets = [
        Target(0, 100, "linear", disk.path + b" 50"),
        Target(100, 8, "zero", b""),
        Target(108, 3, "linear", disk.path + b" 8189"),
    ]
    with map_device(kernel, b"a line", targets) as mapped:
        assert mapped.name == b"a line"
        assert mapped.path.startswith(b"/dev/dm-")
        assert mapped.size() == 111 * SECTOR
        wanted = sectors(50, 100) + bytes(8 * SECTOR) + sectors(8189, 3)
        assert mapped.read(0, MIB) == wanted
        assert mapped.read(99 * SECTOR - 1, SECTOR) == wanted[99 * SECTOR - 1 :][:SECTOR]


def test_a_striped_device_takes_turns(kernel: Kernel, disk: BlockDevice) -> None:
    table = b"3 16 %b 0 %b 1000 %b 5000" % ((disk.path,) * 3)
    with map_device(kernel, b"stripes", [Target(0, 3 * 64, "striped", table)]) as mapped:
        wanted = b"".join(
            sectors(start + row * 16, 16) for row in range(4) for start in (0, 1000, 5000)
        )
        assert mapped.read(0, MIB) == wanted


def test_devices_stand_on_one_another(kernel: Kernel, disk: BlockDevice) -> None:
    with (
        map_device(kernel, b"lower", [Target(0, 1000, "linear", disk.path + b" 7")]) as lower,
        map_device(kernel, b"upper", [Target(0, 10, "linear", lower.path + b" 3")]) as upper,
    ):
        assert upper.read(0, MIB) == sectors(10, 10)
        with pytest.raises(KernelError) as caught:
            lower.close()
        assert caught.value.name == "EBUSY"
        assert upper.read(0, MIB) == sectors(10, 10)


def test_status_and_table_are_told(kernel: Kernel, disk: BlockDevice) -> None:
    path = disk.path
    targets = [
        Target(0, 16, "linear", path + b" 5"),
        Target(16, 8, "zero", b""),
        Target(24, 32, "striped", b"2 16 %b 0 %b 100" % (path, path)),
    ]
    with map_device(kernel, b"told", targets) as mapped:
        descriptor = disk.open()
        node = kernel.stat_descriptor(descriptor, path)
        kernel.close_descriptor(descriptor)
        number = b"%d:%d" % (node.special_major, node.special_minor)
        told = [one._replace(parameters=one.parameters.replace(path, number)) for one in targets]
        assert mapped.table() == told
        status = mapped.status()
        assert [one[:3] for one in status] == [one[:3] for one in targets]
        assert [one.parameters for one in status[:2]] == [b"", b""]
        assert status[2].parameters == b"2 %b %b 1 AA" % (number, number)


def test_thousands_of_targets(kernel: Kernel, disk: BlockDevice) -> None:
    # Some hundred KiB of table: more than a request has room for at first, both ways.
    count = 4000
    targets = [
        Target(index, 1, "linear", b"%b %d" % (disk.path, count - 1 - index))
        for index in range(count)
    ]
    begin = time.monotonic()
    with map_device(kernel, b"many", targets) as mapped:
        wanted = b"".join(sectors(count - 1 - index, 1) for index in range(count))
        assert mapped.read(0, 4 * MIB) == wanted
        table = mapped.table()
        assert len(mapped.status()) == count
    assert [one[:3] for one in table] == [one[:3] for one in targets]
    assert [one.parameters.rpartition(b" ")[2] for one in table] == [
        b"%d" % (count - 1 - index) for index in range(count)
    ]
    assert time.monotonic() - begin < 10


def test_hundreds_of_devices(kernel: Kernel) -> None:
    # Beyond 255 the minor number stands in two places of a device's number.
    with ExitStack() as stack:
        devices = [
            stack.enter_context(
                map_device(kernel, b"zero-%d" % size, [Target(0, size, "zero", b"")])
            )
            for size in range(1, 301)
        ]
        assert len({device.path for device in devices}) == 300
        assert [device.size() for device in devices] == [size * SECTOR for size in range(1, 301)]


# ---- Writing -----------------------------------------------------------------------------------


def test_a_read_only_device_takes_no_writes(kernel: Kernel) -> None:
    with kernel.add_disk(Memory(CONTENT), overlay_limit=MIB) as added:
        targets = [Target(0, 1000, "linear", added.device().path + b" 0")]
        with map_device(kernel, b"reader", targets) as mapped:
            assert write(mapped, 0, b"x" * 4096) == "EPERM"
        assert added.statistics().write_requests == 0
        with map_device(kernel, b"writer", targets, read_only=False) as mapped:
            assert write(mapped, 4096, b"x" * 4096) == ""
            assert mapped.read(4095, 4098) == CONTENT[4095:4096] + b"x" * 4096 + CONTENT[8192:8193]
        assert added.statistics().overlay_bytes > 0
    with kernel.add_disk(Memory(CONTENT)) as again:
        assert again.device().read(4096, 4096) == CONTENT[4096:8192]


def test_no_mapping_makes_a_disk_writable(kernel: Kernel) -> None:
    with kernel.add_disk(Memory(CONTENT)) as added:
        targets = [Target(0, 1000, "linear", added.device().path + b" 0")]
        with map_device(kernel, b"writer", targets, read_only=False) as mapped:
            assert write(mapped, 0, b"x" * 4096) == "EIO"
        assert added.statistics().overlay_bytes == 0
        assert added.device().read(0, 4096) == CONTENT[:4096]


def test_a_file_system_is_mounted_through_a_mapping(kernel: Kernel, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "file").write_bytes(noise(100_000, 41))
    image = make_empty(tmp_path / "image", 8 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    # In two halves, in the other order, with something between.
    content = image.read_bytes()
    half = len(content) // 2
    memory = Memory(content[half:] + bytes(MIB) + content[:half])
    with kernel.add_disk(memory) as added:
        path = added.device().path
        targets = [
            Target(0, half // SECTOR, "linear", b"%b %d" % (path, (half + MIB) // SECTOR)),
            Target(half // SECTOR, half // SECTOR, "linear", path + b" 0"),
        ]
        with map_device(kernel, b"halves", targets) as mapped:
            with mapped.mount("ext4", options="noload") as mount:
                with mount.open_file(b"/file") as file:
                    assert file.read_at(0, MIB) == noise(100_000, 41)
                with pytest.raises(KernelError) as caught:
                    mapped.close()
                assert caught.value.name == "EBUSY"
            mapped.close()
            mapped.close()


def test_a_message_reaches_its_target(kernel: Kernel, tmp_path: Path) -> None:
    # A thin volume is made by messages; thin_dump is another reader of what they did.
    metadata, data = (make_empty(tmp_path / name, 2 * MIB) for name in ("metadata", "data"))
    with ExitStack() as stack:
        paths = []
        for image in (metadata, data):
            scratch = ScratchDisk(image)
            stack.callback(scratch.close)
            paths.append(stack.enter_context(kernel.add_scratch_disk(scratch)).device().path)
        pool = stack.enter_context(
            map_device(
                kernel,
                b"pool",
                [Target(0, 2 * MIB // SECTOR, "thin-pool", b"%b %b 128 0" % tuple(paths))],
                read_only=False,
            )
        )
        pool.send(b"create_thin 7")
        with pytest.raises(KernelError) as caught:
            pool.send(b"create_thin 7")
        assert caught.value.name == "EEXIST"
        thin = stack.enter_context(
            map_device(
                kernel, b"thin", [Target(0, 1024, "thin", pool.path + b" 7")], read_only=False
            )
        )
        assert thin.read(0, MIB) == bytes(512 * 1024)
        assert write(thin, 65536, b"y" * 65536) == ""
        assert thin.status()[0].parameters == b"128 255"
    dump = run_tool("thin_dump", metadata)
    assert 'dev_id="7" mapped_blocks="1"' in dump
    assert 'origin_block="1"' in dump
    assert data.read_bytes().count(b"y" * 65536) == 1


# ---- What goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "name", "said"),
    [
        ([Target(0, 100, "linear", b"%b 8191")], "EINVAL", "too small"),
        ([Target(0, 100, "linear", b"%b")], "EINVAL", "Invalid argument count"),
        ([Target(0, 100, "linear", b"%b -1")], "EINVAL", "Invalid device sector"),
        ([Target(0, 100, "linear", b"/dev/nowhere 0")], "ENOENT", "lookup failed"),
        ([Target(0, 0, "zero", b"")], "EINVAL", "zero-length target"),
        ([Target(0, 100, "no such target", b"")], "EINVAL", "unknown target type"),
        ([Target(0, 8, "zero", b""), Target(9, 8, "zero", b"")], "EINVAL", "Gap in table"),
        ([Target(0, 8, "zero", b""), Target(4, 8, "zero", b"")], "EINVAL", "Gap in table"),
        ([Target(0, 24, "striped", b"3 16 %b 0 %b 8 %b 16")], "EINVAL", "not divisible"),
        ([], "EINVAL", "no targets"),
    ],
    ids=lambda value: str(value).replace(" ", "-") if isinstance(value, str) else None,
)
def test_a_refusal_says_why_and_leaves_nothing(
    kernel: Kernel, disk: BlockDevice, targets: list[Target], name: str, said: str
) -> None:
    given = [one._replace(parameters=one.parameters.replace(b"%b", disk.path)) for one in targets]
    for _ in range(2):
        # The second time would find the name taken, had the first left something.
        with pytest.raises(KernelError) as caught:
            map_device(kernel, b"refused", given)
        assert caught.value.name == name
        assert any(said in line for line in caught.value.log), caught.value.log
        assert caught.value.call == "device mapper"
        assert "refused" in describe(caught.value)


def test_a_name_is_taken_once(kernel: Kernel) -> None:
    targets = [Target(0, 8, "zero", b"")]
    with map_device(kernel, b"name", targets) as first:
        with pytest.raises(KernelError) as caught:
            map_device(kernel, b"name", targets)
        assert caught.value.name == "EBUSY"
        assert first.read(0, 5) == bytes(5)
    with map_device(kernel, b"name", targets) as second:
        assert second.size() == 8 * SECTOR


def test_names_that_cannot_be(kernel: Kernel) -> None:
    targets = [Target(0, 8, "zero", b"")]
    with map_device(kernel, b"n" * 127, targets) as longest:
        assert longest.size() == 8 * SECTOR
    with pytest.raises(ValueError, match="128 bytes"):
        map_device(kernel, b"n" * 128, targets)
    with pytest.raises(ValueError, match="NUL"):
        map_device(kernel, b"a\0b", targets)
    with pytest.raises(ValueError, match="as long as"):
        map_device(kernel, b"kind", [Target(0, 8, "k" * 16, b"")])
    with pytest.raises(ValueError, match="NUL"):
        map_device(kernel, b"parameters", [Target(0, 8, "zero", b"\0")])
    for name in (b"a/b", b""):
        with pytest.raises(KernelError) as caught:
            map_device(kernel, name, targets)
        assert caught.value.name in ("EINVAL", "ENXIO")


def test_the_exception_of_a_disk_comes_back(kernel: Kernel) -> None:
    memory = Memory(CONTENT)
    with kernel.add_disk(memory) as added:
        path = added.device().path
        linear = [Target(0, 1000, "linear", path + b" 0")]
        with map_device(kernel, b"failing", linear) as mapped:
            memory.failure = SourceError("source.changed", path="disk.img")
            with pytest.raises(SourceError) as caught:
                mapped.read(0, 4096)
            assert caught.value is memory.failure
            # A target that reads as it is made: its exceptions stand on the failing disk.
            with map_device(kernel, b"origin", [Target(0, 1000, "zero", b"")]) as origin:
                snapshot = [Target(0, 1000, "snapshot", b"%b %b P 8" % (origin.path, path))]
                for _ in range(2):
                    with pytest.raises(SourceError) as caught:
                        map_device(kernel, b"snapshot", snapshot)
                    assert caught.value is memory.failure
            memory.failure = None
            assert mapped.read(0, 4096) == CONTENT[:4096]


def test_an_error_is_not_hidden_by_what_is_still_in_use(kernel: Kernel) -> None:
    lower = map_device(kernel, b"lower", [Target(0, 8, "zero", b"")])
    targets = [Target(0, 8, "linear", lower.path + b" 0")]
    with map_device(kernel, b"upper", targets), pytest.raises(ZeroDivisionError), lower:
        raise ZeroDivisionError
    lower.close()


def test_nothing_is_to_be_closed_in_a_dead_kernel(kernel: Kernel) -> None:
    with map_device(kernel, b"dead", [Target(0, 8, "zero", b"")]) as mapped:
        panic(kernel)
        with pytest.raises(KernelError) as caught:
            mapped.read(0, 1)
        assert caught.value.code == "kernel.ended"
        with pytest.raises(KernelError) as caught:
            map_device(kernel, b"late", [Target(0, 8, "zero", b"")])
        assert caught.value.code == "kernel.ended"
    mapped.close()
