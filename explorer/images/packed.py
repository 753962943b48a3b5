# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A compressed file read in place.

A compression gives runs: ranges of what is packed that can each be decoded from their start
(blocks, frames, what is between two seek points). To read somewhere means to decode the run from
its start to there. The decoder then stays where it is, for what is read next, and of long runs
what was decoded is put aside, so that no way is gone twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import IO, TYPE_CHECKING

import zstandard

from explorer.core.errors import CorruptImage
from explorer.images.access import access
from explorer.images.base import Fact, Image, Piece

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator
    from pathlib import Path

    from explorer.images.files import SourceFile
    from explorer.images.opening import Opening, TellProgress

PIECE = 512 * 1024
"""Bytes that are decoded and kept together."""
INPUT_SIZE = 128 * 1024
"""Bytes of a file that a decoder is given at once."""
DECODERS = 2
"""That are held open; one may need some 200 MiB for its window."""
RUNS_LIMIT = 1 << 22
"""Runs of a file that are kept in memory."""
LARGEST_SIZE = (1 << 63) - 4096

ASIDE_LIMIT = 16 << 30
"""Bytes of what is put aside, packed again; never more than half of what is free."""
ASIDE_PIECES = 1 << 20


class Input:
    """A range of a file, read in order."""

    def __init__(
        self, file: SourceFile, start: int, end: int, progress: TellProgress | None = None
    ) -> None:
        """From ``start`` to before ``end``; ``progress`` is told of each read."""
        self._file = file
        self._end = min(end, file.size)
        self._progress = progress
        self.position = start
        """Of what is read next."""
        self.latest = start
        """Of what was read last."""

    def read(self, length: int = INPUT_SIZE) -> bytes:
        """The next bytes; empty at the end."""
        self.latest = self.position
        data = self._file.read(self.position, max(0, min(length, self._end - self.position)))
        self.position += len(data)
        if self._progress is not None:
            self._progress(self.position, self._file.size)
        return data


class Stream(ABC):
    """The bytes of a run, decoded in order."""

    @abstractmethod
    def read(self, length: int) -> bytes:
        """Some of the next ``length`` bytes; empty at the end of the run.

        Raises :exc:`CorruptImage` when what is packed is damaged, :exc:`UnsupportedFeature` when
        decoding it takes too much memory.
        """


class Packing(ABC):
    """A compression: the runs of a file."""

    name: str
    """As in ``gzip``."""
    structure: str
    """What a run is called in messages."""
    whole_runs = True
    """Whether a stream ends where its run does, or goes on with the next run's bytes."""
    long_run = 8 << 20
    """Bytes of a run from which on it is worth it to put aside what was decoded."""

    def __init__(self, opening: Opening, starts: array[int], size: int) -> None:
        """``starts`` tell where in the disk of ``size`` bytes each run begins; none is empty."""
        self.starts = starts
        self.size = size
        self.progress = opening.choices.progress
        """Told of what is read to decode runs, until the image is open."""

    def tell(self, done: int, total: int) -> None:
        """Tell of progress."""
        if self.progress is not None:
            self.progress(done, total)

    @abstractmethod
    def open_run(self, number: int) -> Stream:
        """Begin to decode a run; raises as :meth:`Stream.read`."""

    @abstractmethod
    def position(self, number: int) -> int:
        """Where in the file a run begins, for messages."""

    def facts(self) -> dict[str, Fact]:
        """What is worth knowing of how the file is compressed."""
        return {}

    def longest(self) -> int:
        """Bytes of the longest run: as many are decoded, at the most, to read one."""
        ends = (*self.starts[1:], self.size)
        return max(end - start for start, end in zip(self.starts, ends, strict=True))

    def run_end(self, number: int) -> int:
        """Where in the disk a run ends."""
        return self.starts[number + 1] if number + 1 < len(self.starts) else self.size


class Aside:
    """Pieces put aside: packed again, lightly, in a file without a name."""

    def __init__(self, folder: Path | None) -> None:
        """With None for the folder, and where it cannot be written, nothing is kept."""
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._room = 0
        self._end = 0
        self._places: dict[int, tuple[int, int]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def put(self, number: int, piece: bytes) -> None:
        """Keep a piece, if there is room."""
        if self._folder is None or number in self._places or len(self._places) >= ASIDE_PIECES:
            return
        try:
            if self._file is None:
                self._file, room = access().open_scratch(self._folder)
                self._room = min(ASIDE_LIMIT, room)
            packed = zstandard.ZstdCompressor(level=-5).compress(piece)
            if self._end + len(packed) <= self._room:
                self._file.seek(self._end)
                self._file.write(packed)
                self._places[number] = self._end, len(packed)
                self._end += len(packed)
        except OSError:
            self._folder = None

    def get(self, number: int) -> bytes | None:
        """A piece that was kept."""
        place = self._places.get(number)
        if place is None or self._file is None:
            return None
        try:
            self._file.seek(place[0])
            packed = self._file.read(place[1])
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=PIECE)
        except (OSError, zstandard.ZstdError):
            return None

    def close(self) -> None:
        """Let go of all."""
        self._places.clear()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


@dataclass(slots=True)
class _Decoder:
    """A stream, and where it is."""

    run: int
    stream: Stream
    position: int
    """In the disk."""


class PackedImage(Image):
    """A disk in a compressed file."""

    def __init__(self, opening: Opening, packing: Packing, aside: Aside) -> None:
        """Of the opening's file; ``aside`` is closed by whoever made it."""
        super().__init__()
        self._opening = opening
        self._packing = packing
        self._aside = aside
        self.format = packing.name
        self._lock = Lock()
        self._decoders: list[_Decoder] = []
        """The one used last at the end."""
        self._latest = -1, b""

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._opening.path

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._packing.size

    def facts(self) -> dict[str, Fact]:
        """How the file is compressed."""
        return {
            "compressed with": self._packing.name,
            "compressed size": self._opening.file.size,
            **self._packing.facts(),
            "longest run": self._packing.longest(),
        }

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """All is to be decoded."""
        yield Piece(length, self, offset)

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from pieces that are kept, or decoded now."""
        cache = self._opening.cache
        done = 0
        while done < len(buffer):
            number, skipped = divmod(position + done, PIECE)
            length = min(PIECE - skipped, len(buffer) - done)
            try:
                piece = cache.get((self, number), partial(self._read_piece, number))
                part = piece[skipped : skipped + length]
            except CorruptImage:
                # The damage may be elsewhere in the piece.
                with self._lock:
                    part = self._decode(position + done, length)
            buffer[done : done + len(part)] = part
            done += len(part)

    def _read_piece(self, number: int) -> bytes:
        with self._lock:
            # Whoever waited for the lock may have waited for this very piece.
            if self._latest[0] == number:
                return self._latest[1]
            piece = self._aside.get(number)
            if piece is None:
                start = number * PIECE
                piece = self._decode(start, min(PIECE, self.size - start))
            self._latest = number, piece
            return piece

    def _decode(self, start: int, length: int) -> bytes:
        parts = []
        end = start + length
        while start < end:
            run = bisect_right(self._packing.starts, start) - 1
            decoder = self._decoder_at(run, start)
            data = self._take(decoder, min(end, self._packing.run_end(run)) - start)
            self._put_aside(run, start, data)
            parts.append(data)
            start += len(data)
        return b"".join(parts)

    def _decoder_at(self, run: int, position: int) -> _Decoder:
        """A decoder of a run that has come to a position."""
        near = [one for one in self._decoders if one.run == run and one.position <= position]
        if near:
            decoder = max(near, key=lambda one: one.position)
            self._decoders.remove(decoder)
        else:
            # Before another one takes its memory.
            del self._decoders[: 1 - DECODERS]
            start = self._packing.starts[run]
            decoder = _Decoder(run, self._packing.open_run(run), start)
        while decoder.position < position:
            start = decoder.position
            length = min(PIECE - start % PIECE, position - start)
            self._put_aside(run, start, self._take(decoder, length))
        return decoder

    def _take(self, decoder: _Decoder, length: int) -> bytes:
        """The next bytes of a decoder, which is kept unless its run is at an end."""
        if decoder in self._decoders:
            self._decoders.remove(decoder)
        parts = []
        missing = length
        while missing:
            part = decoder.stream.read(missing)
            if not part:
                raise self._wrong_length(decoder, "fewer")
            parts.append(part)
            missing -= len(part)
        decoder.position += length
        if decoder.position < self._packing.run_end(decoder.run):
            self._decoders.append(decoder)
        elif self._packing.whole_runs and decoder.stream.read(1):
            # This read is also what has a checksum at the end compared.
            raise self._wrong_length(decoder, "more")
        return b"".join(parts)

    def _wrong_length(self, decoder: _Decoder, word: str) -> Exception:
        run = decoder.run
        length = self._packing.run_end(run) - self._packing.starts[run]
        return self._opening.corrupt(
            self._packing.structure,
            self._packing.position(run),
            f"it holds {word} bytes than the {length} that were told",
        )

    def _put_aside(self, run: int, start: int, data: bytes) -> None:
        length = self._packing.run_end(run) - self._packing.starts[run]
        is_whole = start % PIECE == 0 and len(data) == min(PIECE, self.size - start)
        if length >= self._packing.long_run and is_whole:
            self._aside.put(start // PIECE, data)
