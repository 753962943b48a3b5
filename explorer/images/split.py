# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that were cut into several files, to be laid after one another.

Nothing in the files tells so, only their names: ``disk.001``, ``disk.002`` and so on as of FTK
Imager, ``.000`` first as of dcfldd, or ``.aa``, ``.ab`` as of split(1). What they are together is
a raw disk or an image of any other format.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from explorer.core.errors import ImageError, MissingPart, SourceError, UnsupportedFeature
from explorer.core.names import show_name
from explorer.images.concat import JoinedFile
from explorer.images.files import Stored
from explorer.images.inner import open_inner
from explorer.images.raw import RawImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.images.base import Fact, Image
    from explorer.images.files import SourceFile
    from explorer.images.opening import Opening

_NAME = re.compile(rb"(.+\.)(0{2,}[01]|a{2,})", re.DOTALL)

# How far beyond the last part another one is looked for, whose existence shows that some are
# missing. Of letters not far: any other ending of two letters might be met.
_NUMBERS_AHEAD = 1000
_LETTERS_AHEAD = 25


class SplitImage(RawImage):
    """A raw disk in several files."""

    format = "split"

    def __init__(self, file: SourceFile, parts: int) -> None:
        """Of so many parts that are joined in ``file``."""
        super().__init__(file)
        self._parts = parts

    def facts(self) -> dict[str, Fact]:
        """How many files there are."""
        return {"parts": self._parts}


def open_split(opening: Opening) -> Image:
    """Open all parts by the first; a file without others is opened as it would be without a name.

    Raises :exc:`MissingPart` for a gap between them, :exc:`UnsupportedFeature` when it is not the
    first.
    """
    names = _find_parts(opening)
    if len(names) == 1:
        image: Image = RawImage(opening.file)
    else:
        others = [opening.open_file([name], "part") for name in names[1:]]
        joined = JoinedFile([opening.file, *others], opening.path)
        opening.files.append(Stored(opening.name, joined))
        image = SplitImage(joined, len(names))
    if opening.choices.format is not None:
        # Whoever names this format means what is in the files as it is.
        return image
    return open_inner(opening, image)


def following_endings(ending: bytes) -> list[bytes]:
    """What may end the next part's name, likeliest first.

    Numbers of a fixed width become longer where it does not suffice. Letters do so earlier with
    split(1): ``yz`` is followed by ``zaaa``, so that the names stay in order.
    """
    if ending.isdigit():
        return [b"%0*d" % (len(ending), int(ending) + 1)]
    letters = bytearray(ending)
    place = len(letters)
    while place and letters[place - 1 :] == b"z" * (len(letters) - place + 1):
        place -= 1
    if not place:
        return []
    letters[place - 1] += 1
    letters[place:] = b"a" * (len(letters) - place)
    following = bytes(letters)
    if re.fullmatch(rb"z+a+", following):
        return [following, following + b"aa"]
    return [following]


def _find_parts(opening: Opening) -> list[bytes]:
    """The names of all parts."""
    found = _NAME.fullmatch(opening.name)
    if found is None:
        return [opening.name]
    stem, ending = found.groups()
    listed = set(opening.folder.names())
    exists = listed.__contains__ if listed else _opens(opening)
    if ending.endswith(b"1"):
        earlier = stem + ending[:-1] + b"0"
        if exists(earlier):
            raise UnsupportedFeature("image.part", path=opening.path, name=show_name(earlier))
    names = [opening.name]
    while True:
        endings = following_endings(ending)
        following = next((one for one in endings if exists(stem + one)), None)
        if following is None:
            break
        ending = following
        names.append(stem + ending)
    # What cannot be listed is not asked for by a thousand names.
    if listed and endings:
        _refuse_gap(opening, stem, endings[0], exists)
    return names


def _refuse_gap(
    opening: Opening, stem: bytes, missing: bytes, exists: Callable[[bytes], bool]
) -> None:
    """Raise :exc:`MissingPart` when a later part exists."""
    later = missing
    for _ in range(_NUMBERS_AHEAD if missing.isdigit() else _LETTERS_AHEAD):
        endings = following_endings(later)
        if not endings or len(endings[0]) != len(missing):
            break
        later = endings[0]
        if exists(stem + later):
            raise MissingPart(
                "image.missing-part",
                path=opening.path,
                role="part",
                name=show_name(stem + missing),
            )


def _opens(opening: Opening) -> Callable[[bytes], bool]:
    """Whether a file exists, found out by opening it."""

    def opens(name: bytes) -> bool:
        try:
            file, _folder = opening.folder.open(name, "part", opening.path)
        except (ImageError, SourceError):
            return False
        file.close()
        return True

    return opens
