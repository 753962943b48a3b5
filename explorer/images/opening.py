# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a format is given to open an image: the file, what the user chose, and the way to others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from explorer.core.errors import (
    CorruptImage,
    Encrypted,
    MissingPart,
    UnsupportedFeature,
)
from explorer.core.names import show_name
from explorer.images.cache import BlockCache
from explorer.images.files import Stored

if TYPE_CHECKING:
    from pathlib import Path

    from explorer.images.base import Image
    from explorer.images.files import Folder, SourceFile

CHAIN_LIMIT = 64
"""Images that may stand behind one another."""

AskPassphrase = Callable[[str], bytes | None]
"""Given what the passphrase is for; None: the user has none to give."""

TellProgress = Callable[[int, int], None]
"""Given how many bytes of the file are done, and of how many; what it raises ends the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user decided about a source."""

    format: str | None = None
    """The format to take it as, whatever it looks like."""
    snapshot: str | None = None
    """Name or number of the image's internal snapshot to open, instead of its present state."""
    member: str | None = None
    """Name of the disk to open of a source that holds several."""
    allowed: tuple[bytes, ...] = ()
    """Folders of the host whose files an image may name, besides its own."""
    ask_passphrase: AskPassphrase | None = None
    cache_folder: Path | None = None
    """Where what was costly to find out is kept for the next time; None: nowhere."""
    progress: TellProgress | None = None
    """Told how far opening has come, where that means to go through the whole file."""


OpenNamed = Callable[["Opening"], "Image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One image on its way to being open.

    What is opened through it is closed with the image, or at once when opening fails.
    """

    file: SourceFile
    folder: Folder
    choices: Choices
    open_image: OpenNamed
    """Opens whatever format a file has; the registry's."""
    name: bytes = b""
    """The file's own name in its folder; formats of several files count on from it."""
    stack: ExitStack = field(default_factory=ExitStack)
    cache: BlockCache = field(default_factory=BlockCache)
    """Shared by all images of a chain."""
    chain: tuple[Hashable, ...] = ()
    """Identities of the files on the way here."""
    files: list[Stored] = field(default_factory=list)
    """What was opened so far for the source as a whole; shared by all images of a chain."""

    @property
    def path(self) -> str:
        """The image's name for messages, safe to show."""
        return self.file.path

    # ---- Other files

    def open_file(self, names: Sequence[bytes], role: str) -> SourceFile:
        """Open a file that the image names, without looking at its format.

        ``names`` are what it may be called, likeliest first; ``role`` is what it is to the image,
        as ``extent``. Raises as :meth:`explorer.images.files.Folder.open`.
        """
        return self._find(names, role)[0]

    def open_other(
        self,
        names: Sequence[bytes],
        role: str,
        format_name: str | None = None,
        *,
        snapshot: str | None = None,
    ) -> Image:
        """Open another image that this one names, as its backing image or parent.

        With ``format_name`` None its format is recognised; ``snapshot`` is one of its own. Raises
        :exc:`CorruptImage` for a loop and for a chain that is too long, else as :meth:`open_file`,
        and as the format does.
        """
        file, folder, name = self._find(names, role)
        chain = (*self.chain, self.file.identity)
        if file.identity is not None and file.identity in chain:
            raise self.corrupt(role, 0, f"{file.path} is behind itself")
        if len(chain) >= CHAIN_LIMIT:
            raise self.corrupt(role, 0, f"more than {CHAIN_LIMIT} images behind one another")
        choices = replace(self.choices, format=format_name, snapshot=snapshot, member=None)
        image = self.open_image(
            Opening(
                file=file,
                folder=folder,
                choices=choices,
                open_image=self.open_image,
                name=name.rpartition(b"/")[2],
                cache=self.cache,
                chain=chain,
                files=self.files,
            )
        )
        self.stack.callback(image.close)
        return image

    def _find(self, names: Sequence[bytes], role: str) -> tuple[SourceFile, Folder, bytes]:
        refusal: UnsupportedFeature | MissingPart | None = None
        for name in names:
            try:
                file, folder = self.folder.open(name, role, self.path)
            except (UnsupportedFeature, MissingPart) as error:
                # What needs the user's consent is the one to tell: with it, it may be found.
                if refusal is None or isinstance(error, UnsupportedFeature):
                    refusal = error
            else:
                self.stack.callback(file.close)
                self.files.append(Stored(name, file))
                return file, folder, name
        if refusal is None:
            raise MissingPart("image.missing-part", path=self.path, role=role, name="")
        raise refusal

    def ask_passphrase(self, what: str) -> bytes:
        """The passphrase that an image needs; raises :exc:`Encrypted` when there is none."""
        ask = self.choices.ask_passphrase
        passphrase = ask(what) if ask is not None else None
        if passphrase is None:
            raise Encrypted("image.passphrase-needed", path=self.path)
        return passphrase

    # ---- What is wrong

    def corrupt(self, structure: str, offset: int, reason: str) -> CorruptImage:
        """The error for a structure that breaks the format's rules.

        ``structure`` names it as the format's documents do, ``offset`` is in the image's file.
        """
        return CorruptImage(
            "image.corrupt", path=self.path, structure=structure, offset=offset, reason=reason
        )

    def unsupported(self, feature: str) -> UnsupportedFeature:
        """The error for a feature, by its name, that cannot be read."""
        return UnsupportedFeature("image.feature", path=self.path, feature=feature)

    # ---- Reading structures

    def read_exactly(self, offset: int, length: int, structure: str) -> bytes:
        """Bytes of the file that must be there; raises :exc:`CorruptImage` when they are not.

        The caller bounds ``length``: it may come from the image.
        """
        if offset < 0 or offset + length > self.file.size:
            raise self.corrupt(
                structure,
                offset,
                f"{length} bytes are beyond the end of the file ({self.file.size} bytes)",
            )
        return self.file.read(offset, length)


def find_choice(wanted: str, names: Sequence[bytes]) -> int | None:
    """The place of the name that a user wrote, as it is or as it is shown."""
    for place, name in enumerate(names):
        if wanted in (name.decode("utf-8", "backslashreplace"), show_name(name)):
            return place
    return None
