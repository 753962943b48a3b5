# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares a source with the digests that are known of it.

These stand in the image itself (E01), in files beside it (``disk.img.sha256``, ``SHA256SUMS``), or
come from the user. What each of them is a digest of is found out by comparing: ``disk.E01.md5`` may
mean the file or the disk in it, and the answer tells which.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import MissingPart, SourceError
from explorer.core.names import show_name
from explorer.evidence.hashing import Hashed, quiet, source_hash, stored_files
from explorer.native.digests import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from explorer.evidence.hashing import TellProgress
    from explorer.images.base import Image
    from explorer.images.files import Folder

SIZE_LIMIT = 16 << 20
"""Bytes of a list of digests; what is beyond is not looked at."""

LENGTHS = {16: "md5", 20: "sha1", 32: "sha256", 64: "blake2b"}
"""The algorithm that the bytes of a digest stand for, where nothing else tells."""

# What lists of digests are called, and what that tells of the algorithm.
_WORDS = {
    "md5": ("md5", "md5sum"),
    "sha1": ("sha1", "sha1sum"),
    "sha256": ("sha256", "sha256sum"),
    "blake2b": ("b2", "b2sum", "blake2b"),
    "": ("sha224", "sha224sum", "sha384", "sha384sum", "sha512", "sha512sum"),
}
_HINTS = {word: algorithm for algorithm, words in _WORDS.items() for word in words}
_LISTS = {
    word + ending: algorithm
    for word, algorithm in _HINTS.items()
    if word.endswith("sum")
    for ending in ("s", "s.txt", ".txt")
}

# The three ways in which coreutils and the BSDs write a line; a backslash before it tells that
# those in the name are escapes.
_TAGGED = re.compile(rb"(\\?)([A-Za-z0-9-]+) ?\((.*)\) = ([0-9A-Fa-f]+)", re.DOTALL)
_PLAIN = re.compile(rb"(\\?)([0-9A-Fa-f]+) [ *](.+)", re.DOTALL)
_BARE = re.compile(rb"[0-9A-Fa-f]{32,}")
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


_NO_LISTS = ("source.empty", "source.directory", "source.kind")
"""What is called like a list and is none."""


class Listed(NamedTuple):
    """A line of a list of digests."""

    algorithm: str
    """Of :data:`ALGORITHMS`; empty for one that is not computed here."""
    digest: bytes
    name: bytes | None
    """The file's, without its folder; None where the line has only a digest."""


class Expected(NamedTuple):
    """A digest that is known of a source."""

    algorithm: str
    """Of :data:`ALGORITHMS`; empty for one that is not computed here."""
    digest: bytes
    where: str
    """Where it is from, for people."""
    file: str | None
    """The path, as it is shown, of the file that it may be of."""
    disk: bool
    """Whether it is, or may be, that of the disk (or of all parts of the image)."""


class Compared(NamedTuple):
    """What came of one comparison."""

    expected: Expected
    hashed: tuple[Hashed, ...]
    """What it was compared with: the one that it is the digest of, else all that it is not."""
    matches: bool


def parse_list(text: bytes, hint: str | None = None) -> list[Listed]:
    """The digests in a list, as ``sha256sum`` and its like write it, with or without ``--tag``.

    ``hint`` is the algorithm that the list's own name tells, empty for one that is not known here;
    without it the length of each digest does. Lines that are none are passed over.
    """
    found = []
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = line.removesuffix(b"\r")
        algorithm = hint
        if tagged := _TAGGED.fullmatch(line):
            escaped, tag, name, digits = tagged.groups()
            word = tag.decode().lower().replace("-", "")
            algorithm = word if word in ALGORITHMS else ""
        elif plain := _PLAIN.fullmatch(line):
            escaped, digits, name = plain.groups()
        elif bare := _BARE.fullmatch(line.strip()):
            escaped, digits, name = b"", bare[0], None
        else:
            continue
        if len(digits) % 2:
            continue
        digest = bytes.fromhex(digits.decode())
        if algorithm is None:
            algorithm = LENGTHS.get(len(digest), "")
        elif algorithm and LENGTHS.get(len(digest)) != algorithm:
            # No digest of that algorithm.
            continue
        if name is not None:
            if escaped:
                name = re.sub(rb"\\.", lambda one: _ESCAPES.get(one[0], one[0]), name)
            name = name.rpartition(b"/")[2]
        found.append(Listed(algorithm, digest, name))
    return found


def find_lists(names: Iterable[bytes], files: Sequence[bytes]) -> list[tuple[bytes, str, bytes]]:
    """The lists of digests among the names of a folder, for files of the same folder.

    Gives the list's name, the algorithm that this tells, and the file that a digest without a name
    is of (empty: none).
    """
    owners: dict[str, tuple[str, bytes]] = {}
    for file in files:
        stem = file.rpartition(b".")[0]
        for base in (file, stem) if stem else (file,):
            for word, algorithm in _HINTS.items():
                key = f"{base.decode('latin-1')}.{word}".lower()
                owners.setdefault(key, (algorithm, file))
    found = []
    for name in sorted(names):
        key = name.decode("latin-1").lower()
        if key in owners and name not in files:
            found.append((name, *owners[key]))
        elif key in _LISTS:
            found.append((name, _LISTS[key], b""))
    return found


def likely_lists(files: Sequence[bytes]) -> list[bytes]:
    """What lists are called most often, for a folder that cannot be listed."""
    words = ("md5", "sha1", "sha256")
    own = [b"%b.%b" % (file, word.encode()) for file in files for word in words]
    return [*own, b"SHA256SUMS", b"SHA1SUMS", b"MD5SUMS"]


def find_expected(image: Image) -> list[Expected]:
    """The digests that stand in an image and in files beside it.

    Raises :exc:`SourceError` when a list is there but cannot be read.
    """
    found = [
        Expected(
            algorithm if algorithm in ALGORITHMS else "",
            digest,
            f"stored in the image ({algorithm})",
            None,
            disk=True,
        )
        for algorithm, digest in image.stored_hashes().items()
    ]
    if image.origin is not None:
        found += _read_lists(image, image.origin.folder)
    return found


def given_expected(image: Image, digest: bytes) -> Expected:
    """A digest that the user gave, of whatever it may be: the file, its parts, or the disk."""
    algorithm = LENGTHS.get(len(digest), "")
    return Expected(algorithm, digest, "as given", _first_path(image), disk=True)


def _first_path(image: Image) -> str | None:
    files = stored_files(image)
    return files[0].file.path if files else None


def _read_lists(image: Image, folder: Folder) -> list[Expected]:
    # Lists are looked for beside the first file, and only what is there too is named by them.
    paths: dict[bytes, str] = {}
    for stored in stored_files(image):
        paths.setdefault(stored.name, stored.file.path)
    beside = [name for name in paths if b"/" not in name]
    first = _first_path(image)
    names = folder.names()
    expected = []
    for name, algorithm, owner in find_lists(names or likely_lists(beside), beside):
        try:
            file, _folder = folder.open(name, "list of digests", image.path)
        except MissingPart:
            continue
        except SourceError as error:
            if error.code not in _NO_LISTS:
                raise
            continue
        try:
            text = file.read(0, SIZE_LIMIT)
        finally:
            file.close()
        for listed in parse_list(text, algorithm):
            path = paths.get(owner if listed.name is None else listed.name)
            if path is not None:
                where = f"in {show_name(name)}"
                expected.append(
                    Expected(listed.algorithm, listed.digest, where, path, disk=path == first)
                )
    return expected


def verify(
    image: Image, expected: Sequence[Expected], progress: TellProgress = quiet
) -> list[Compared]:
    """Compare a source with digests; each gives one comparison, in their order.

    The disk is read when only that can have the digest, or when no file had it.
    """
    known = [one for one in expected if one.algorithm]
    results: list[Hashed] = []
    stored = any(one.file is not None for one in known)
    disk = any(one.file is None for one in known)
    if known:
        algorithms = sorted({one.algorithm for one in known})
        results = source_hash(image, algorithms, stored=stored, disk=disk, progress=progress)
    compared = [_compare(one, results) for one in expected]
    left = {
        one.expected.algorithm
        for one in compared
        if one.expected.disk and one.expected.algorithm and not one.matches
    }
    if left and not disk and not _is_stored_plainly(image):
        results += source_hash(image, sorted(left), stored=False, progress=progress)
        compared = [_compare(one, results) for one in expected]
    return compared


def _is_stored_plainly(image: Image) -> bool:
    """Whether the disk's bytes are those of a file, or of all parts, one for one."""
    whole = image.whole_file()
    return any(one.file is whole for one in stored_files(image))


def _compare(expected: Expected, results: Sequence[Hashed]) -> Compared:
    candidates = [
        one
        for one in results
        if (
            one.name == expected.file
            if one.kind == "file"
            else expected.disk and (one.kind == "disk" or expected.file is not None)
        )
        and (one.error is not None or expected.algorithm in one.digests)
    ]
    for one in candidates:
        if one.digests.get(expected.algorithm) == expected.digest:
            return Compared(expected, (one,), matches=True)
    return Compared(expected, tuple(candidates), matches=False)
