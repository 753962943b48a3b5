# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends trees to a writer; the loop over entries and bytes is in C."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from explorer.core.closing import Closing
from explorer.core.errors import ExplorerError, ExportError
from explorer.kernel.binding import Callbacks, LklPack, LklPackProgress
from explorer.kernel.calls import Kept, c_path

if TYPE_CHECKING:
    import cffi

    from explorer.kernel.files import Directory
    from explorer.kernel.kernel import Kernel

    CData = cffi.FFI.CData

_EIO = 5

Step = Callable[[int, int], None]
"""Given entries and bytes sent so far, now and then; what it raises ends the sending."""
ReadStreams = Callable[[int], Iterable[tuple[bytes, Iterable[bytes]]]]
"""Given an inode, its named streams: each a name and pieces of content."""


class DiskRange(NamedTuple):
    """Where on a disk of the kernel a volume lies."""

    disk: int
    """The disk's number."""
    start: int
    """Bytes."""
    size: int
    """Bytes."""


class Packer(Closing):
    """Sends entries through a socket; used by one thread, cancelled from any."""

    def __init__(
        self,
        kernel: Kernel,
        socket: int,
        *,
        holes: bool = False,
        follow: int | None = None,
        every_link: bool = False,
        plan: bool = False,
        place: DiskRange | None = None,
        step: Step | None = None,
        streams: ReadStreams | None = None,
    ) -> None:
        """Begin on a blocking stream socket of the host's, which stays the caller's.

        ``holes`` leaves out no file for blocks that cannot be read; ``follow`` sends what links to
        files lead to, below the directory of that descriptor; ``every_link`` sends content with
        each hard link; ``plan`` sends no content at all. ``place`` is given where a file's blocks,
        as FIEMAP tells them, are the volume's.
        """
        self._kernel = kernel
        self._kept = Kept()
        self._step = step
        self._streams = streams
        library = kernel.binding.library
        request = kernel.binding.new(LklPack)
        request.flags = (
            library.LKL_PACK_XATTRS
            | (library.LKL_PACK_HOLES if holes else 0)
            | (library.LKL_PACK_FOLLOW if follow is not None else 0)
            | (library.LKL_PACK_EVERY_LINK if every_link else 0)
            | (library.LKL_PACK_PLAN if plan else 0)
        )
        request.socket = socket
        request.root = -1 if follow is None else follow
        request.disk, request.start, request.size = place or (-1, 0, 0)
        # They live as long as this object: the packer calls them.
        self._callbacks = Callbacks(kernel.binding, self._kept)
        request.opaque = self._callbacks.opaque
        if step is not None:
            request.progress = self._callbacks.add("packed", self._on_progress)
        if streams is not None:
            request.extra = self._callbacks.add("extra", self._on_extra)
        pointer = kernel.binding.ffi.new("struct lkl_packer **")
        self._packer: CData = kernel.binding.ffi.NULL
        self._check(library.lkl_pack_open(kernel.pointer, request, pointer))
        self._packer = pointer[0]

    def _on_progress(self, now: LklPackProgress) -> int:
        assert self._step is not None
        self._step(now.entries, now.bytes)
        return 0

    def _on_extra(self, packer: CData, stat: Any) -> int:  # noqa: ANN401 - struct lkl_stat
        assert self._streams is not None
        library = self._kernel.binding.library
        try:
            for name, pieces in self._streams(stat.inode):
                result = library.lkl_pack_stream(packer, c_path(name))
                for piece in pieces if not result else ():
                    result = library.lkl_pack_stream_bytes(packer, piece, len(piece))
                    if result:
                        break
                if result:
                    return result
        except ExplorerError:
            # A stream that cannot be read costs its file that stream, and is told so.
            return -_EIO
        return 0

    def _check(self, result: int, path: bytes = b"") -> None:
        self._kept.raise_kept()
        if self._kernel.is_cancelled(result):
            raise ExportError("export.cancelled")
        self._kernel.check(result, "pack", path)

    def send(self, directory: Directory, name: bytes, target: bytes) -> None:
        """Send an entry of a directory, or itself for an empty name, with all that is below.

        ``target`` is what it is called at the destination; empty for the contents of a directory.
        Raises :exc:`ExportError` (``export.cancelled``) when cancelled or the writer has gone,
        :exc:`KernelError` when the kernel has ended, and what ``step`` raised. What cannot be read
        is told to the writer.
        """
        self._check(
            self._kernel.binding.library.lkl_pack_entry(
                self._packer, directory.descriptor, c_path(name), c_path(target)
            ),
            directory.path.rstrip(b"/") + b"/" + name,
        )

    def finish(self) -> None:
        """Tell the writer that nothing follows; raises as :meth:`send`."""
        self._check(self._kernel.binding.library.lkl_pack_finish(self._packer, 0))

    @property
    def entries(self) -> int:
        """Sent so far, or refused; used by the thread that sends."""
        progress = self._kernel.binding.new(LklPackProgress)
        self._kernel.binding.library.lkl_pack_progress(self._packer, progress)
        return progress.entries

    @property
    def waiting(self) -> bool:
        """Whether it waits for the writer, and for nothing else; from any thread."""
        return bool(self._packer and self._kernel.binding.library.lkl_pack_waiting(self._packer))

    def cancel(self) -> None:
        """End what goes on, from any thread, before :meth:`close`."""
        if self._packer:
            self._kernel.binding.library.lkl_pack_cancel(self._packer)

    def close(self) -> None:
        """Free it; a second call does nothing."""
        if self._packer:
            packer, self._packer = self._packer, self._kernel.binding.ffi.NULL
            self._kernel.binding.library.lkl_pack_close(packer)
