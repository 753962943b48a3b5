# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A source as a user names it, opened down to its stack of volumes."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.core.errors import VolumeError
from explorer.core.selection import choose_volume, unlock_any
from explorer.core.views import View
from explorer.images.opening import Choices
from explorer.images.registry import open_file, open_image
from explorer.kernel import Kernel
from explorer.volumes.nested import NestedFile, NestedFolder
from explorer.volumes.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explorer.core.volume import Volume
    from explorer.images.base import Image
    from explorer.volumes.mounting import MountedVolume

NESTING_LIMIT = 8
"""Images that may be opened within one another."""

AskForVolume = Callable[[str, int], bytes | None]
"""Given how messages name a volume, and how many passphrases were wrong so far, its passphrase;
None: there is none to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be opened."""

    paths: tuple[bytes, ...]
    """Files or disks of the host; several that belong together make one stack."""
    choices: Choices = field(default_factory=Choices)
    inside: tuple[str, ...] = ()
    """Images within: ``VOLUME:PATH``, or ``PATH`` where there is only one volume. ``choices`` are
    those of the last; the others are recognised."""
    view: View = View.AUTO


class Source(Closing):
    """Images, a kernel that reads them, and what they hold. A context manager."""

    def __init__(self, wanted: Wanted, ask: AskForVolume | None = None) -> None:
        """Open it; raises what :func:`open_image`, :class:`Stack` and its mounts raise.

        ``ask`` is asked for the passphrase of an encrypted volume on the way to an image within.
        """
        self._ask = ask
        self._closing = ExitStack()
        try:
            self._open(wanted)
        except BaseException:
            self._closing.close()
            raise

    def _open(self, wanted: Wanted) -> None:
        if len(wanted.inside) > NESTING_LIMIT:
            raise VolumeError("volume.nesting", limit=NESTING_LIMIT)
        outer = replace(wanted.choices, format=None, snapshot=None, member=None)
        images = [
            self._closing.enter_context(
                open_image(path, choices=outer if wanted.inside else wanted.choices)
            )
            for path in wanted.paths
        ]
        self._start(images, wanted.view)
        for number, step in enumerate(wanted.inside, 1):
            last = number == len(wanted.inside)
            images = [self._open_inside(step, wanted.choices if last else outer)]
            self._start(images, wanted.view)

    def _start(self, images: Sequence[Image], view: View) -> None:
        # A kernel of its own for each level: a disk of one cannot wait for a file of the same.
        self.kernel = self._closing.enter_context(Kernel())
        self.stack = self._closing.enter_context(Stack(self.kernel, images, view=view))

    def _open_inside(self, step: str, choices: Choices) -> Image:
        name, separator, path = step.partition(":/")
        # A path alone may have those signs in it.
        with_volume = bool(separator) and not step.startswith("/")
        wanted = name if with_volume else None
        inner = os.fsencode("/" + path if with_volume else step)
        volume = self.choose(wanted)
        mounted = self._closing.enter_context(self.stack.mount(volume))
        shown = self.stack.name(volume)
        file = NestedFile(mounted.mount, inner, shown)
        folder = NestedFolder(mounted.mount, posixpath.dirname(inner), shown)
        image = open_file(file, folder, choices, posixpath.basename(inner))
        return self._closing.enter_context(image)

    @property
    def image(self) -> Image:
        """The first image of the innermost level, which messages name the source by."""
        return self.stack.images[0]

    def choose(self, wanted: str | None) -> Volume:
        """The volume that a person means, unlocked for it as far as need be.

        Raises as :func:`select_volume`, and as :meth:`Stack.unlock`.
        """
        return choose_volume(self.image.path, self, wanted)

    def volumes(self) -> Sequence[Volume]:
        """All volumes of the innermost level, as far as they are known."""
        return self.stack.volumes()

    def find_subvolumes(self, volume: Volume) -> None:
        """Look for subvolumes and snapshots in a volume."""
        self.stack.find_subvolumes(volume)

    def unlock(self, volume: Volume) -> Volume:
        """Ask for the passphrase of a volume and open it.

        Raises :exc:`VolumeError` when there is none to be had, or when it was wrong and there is
        no other.
        """
        name = self.stack.name(volume)
        failure = VolumeError("volume.locked", volume=name)
        for wrong in count():
            passphrase = self._ask(name, wrong) if self._ask is not None else None
            if passphrase is None:
                break
            try:
                return self.stack.unlock(volume, passphrase)
            except VolumeError as error:
                if error.code != "volume.passphrase-wrong":
                    raise
                failure = error
        raise failure

    def unlock_all(self) -> None:
        """Unlock everything that is encrypted, what is in it too."""
        while self._ask is not None and unlock_any(self):
            pass

    def mount(self, volume: Volume) -> MountedVolume:
        """Mount a volume; whoever asked unmounts it, before this is closed."""
        return self.stack.mount(volume)

    def close(self) -> None:
        """Close everything; mounted volumes must be unmounted."""
        self._closing.close()
