# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Life and death of kernels, and their disks."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.errors import KernelError, SourceError
from explorer.core.extents import Extent, ExtentKind
from explorer.core.messages import describe
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20


class Memory:
    """A disk in memory that can be told to fail."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.failure: Exception | None = None
        self.size = len(content)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Read, or fail."""
        if self.failure is not None:
            raise self.failure
        assert offset + len(buffer) <= self.size
        buffer[:] = self.content[offset : offset + len(buffer)]

    def plain_file(self) -> None:
        """None: every read comes through Python."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """All of it must be read."""
        yield Extent(offset, length, ExtentKind.ENCODED)


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An ext4 image with a few files."""
    folder = tmp_path_factory.mktemp("ext4")
    top = folder / "top"
    top.mkdir()
    for number in range(20):
        (top / f"file {number}").write_bytes(noise(100_000, number))
    image = make_empty(folder / "image", 16 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    return image.read_bytes()


def panic(kernel: Kernel) -> None:
    """Let a kernel crash, as its administrator may."""
    library: Any = kernel.binding.library
    descriptor = library.lkl_sys_openat(
        kernel.pointer, library.LKL_AT_FDCWD, b"/proc/sysrq-trigger", library.LKL_O_WRONLY, 0
    )
    assert descriptor >= 0
    library.lkl_sys_write(kernel.pointer, descriptor, b"c", 1)


def test_a_kernel_boots_and_tells_of_itself(built: None) -> None:
    kernel = Kernel()
    assert kernel.state == "loaded"
    assert kernel.boot_ns == 0
    with kernel:
        assert kernel.state == "running"
        assert kernel.boot_ns > 0
        assert kernel.release.startswith("6.12")
        assert kernel.release in kernel.log()
    assert kernel.state == "closed"
    with pytest.raises(ValueError, match="closed"):
        kernel.read_log()
    kernel.close()


def test_several_kernels_live_side_by_side(built: None, ext4: bytes) -> None:
    with Kernel() as first, Kernel() as second, second.add_disk(Memory(ext4)) as disk:
        assert first.state == second.state == "running"
        first.close()
        with disk.mount("ext4") as mount:
            assert mount.stat(b"/file 1").size == 100_000


def test_a_disk_of_callbacks_reads_the_same_as_a_file(
    kernel: Kernel, ext4: bytes, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    path = tmp_path / "image"
    path.write_bytes(ext4)
    with open_image(unchanged(path), "raw") as image:
        contents = []
        for source in (Memory(ext4), image):
            with kernel.add_disk(source) as disk, disk.mount("ext4") as mount:
                with mount.open_file(b"/file 7") as file:
                    contents.append(file.read_at(0, 1 << 20))
                assert disk.statistics().read_bytes > 100_000
    assert contents == [noise(100_000, 7)] * 2


def test_the_exception_of_a_callback_comes_back(kernel: Kernel, ext4: bytes) -> None:
    memory = Memory(ext4)
    with kernel.add_disk(memory) as disk, disk.mount("ext4") as mount:
        with mount.open_file(b"/file 3") as file:
            memory.failure = SourceError("source.changed", path="disk.img")
            with pytest.raises(SourceError) as caught:
                file.read_at(0, 100_000)
            assert caught.value is memory.failure
            assert isinstance(caught.value.__cause__, KernelError)
            memory.failure = None
            assert file.read_at(0, 1 << 20) == noise(100_000, 3)
        assert disk.statistics().read_errors > 0


def test_even_a_bug_in_a_callback_comes_back(kernel: Kernel, ext4: bytes) -> None:
    memory = Memory(ext4)
    memory.failure = ZeroDivisionError("a bug")
    with kernel.add_disk(memory) as disk, pytest.raises(ZeroDivisionError, match="a bug"):
        disk.mount("ext4")


def test_a_disk_in_use_is_not_removed(kernel: Kernel, ext4: bytes) -> None:
    disk = kernel.add_disk(Memory(ext4))
    with disk.mount("ext4"), pytest.raises(KernelError) as caught:
        disk.close()
    assert caught.value.name == "EBUSY"
    disk.close()


def test_partitions_are_those_of_the_table(kernel: Kernel, tmp_path: Path) -> None:
    path = make_empty(tmp_path / "disk", 64 * MIB)
    # More than fit into one device number range of the kernel's driver.
    rows = "".join(f"start={2048 * (n + 1)}, size=2048\n" for n in range(24))
    run_tool("sfdisk", "-q", path, text=f"label: gpt\n{rows}")
    with open_image(path, "raw") as image, kernel.add_disk(image) as disk:
        found = [(one.number, one.start, one.size) for one in disk.partitions()]
    assert found == [(n + 1, (n + 1) * MIB, MIB) for n in range(24)]


def test_a_write_goes_nowhere_but_into_the_overlay(
    kernel: Kernel, ext4: bytes, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    path = tmp_path / "image"
    path.write_bytes(ext4)
    library: Any = kernel.binding.library
    with open_image(unchanged(path), "raw") as image:
        with kernel.add_disk(image) as disk, pytest.raises(KernelError):
            disk.mount("ext4", read_only=False)
        with kernel.add_disk(image, overlay_limit=8 * MIB) as disk:
            with disk.mount("ext4", read_only=False) as mount:
                target = mount.mount_point + b"/new"
                assert not library.lkl_sys_mkdirat(
                    kernel.pointer, library.LKL_AT_FDCWD, target, 0o755
                )
                assert mount.stat(b"/new").is_directory
            assert disk.statistics().overlay_bytes > 0


def test_many_threads_read_at_once(kernel: Kernel, ext4: bytes) -> None:
    wrong: list[str] = []
    with kernel.add_disk(Memory(ext4)) as disk, disk.mount("ext4") as mount:

        def read(seed: int) -> None:
            for turn in range(20):
                number = (seed + turn) % 20
                with mount.open_file(f"/file {number}".encode()) as file:
                    if file.read_at(0, 1 << 20) != noise(100_000, number):
                        wrong.append(f"file {number}")

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_dead_kernel_says_so(built: None, ext4: bytes) -> None:
    with Kernel() as kernel:
        disk = kernel.add_disk(Memory(ext4))
        mount = disk.mount("ext4")
        file = mount.open_file(b"/file 1")
        panic(kernel)
        assert kernel.state == "panicked"
        with pytest.raises(KernelError) as caught:
            file.read_at(0, 10)
        assert caught.value.code == "kernel.ended"
        assert caught.value.errno == 5
        assert "panicked" in describe(caught.value)
        assert any("sysrq" in line for line in kernel.log().splitlines())
        # Closing what is dead does nothing, in any order.
        file.close()
        disk.close()
        mount.close()
    with Kernel() as another:
        assert another.state == "running"


def test_a_refused_mount_brings_what_the_kernel_said(kernel: Kernel) -> None:
    with kernel.add_disk(Memory(bytes(MIB))) as disk, pytest.raises(KernelError) as caught:
        disk.mount("ext4")
    assert caught.value.call == "mount"
    assert any("EXT4-fs" in line for line in caught.value.log)


def test_a_lost_kernel_leaks_nothing(built: None) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with Kernel():
            pass
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert threading.active_count() == 1
