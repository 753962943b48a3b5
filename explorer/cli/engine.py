# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One source, opened by an engine of its own, for the length of a command that copies."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from explorer.api.source import Source
from explorer.cli.output import print_note
from explorer.cli.passphrases import Passphrases
from explorer.core.errors import Encrypted, VolumeError
from explorer.core.selection import choose_volume
from explorer.core.views import View

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from explorer.api.source import Volume
    from explorer.core.volume import Volume as VolumeFacts


class _Asked:
    """A source's volumes, with a person to ask for passphrases."""

    def __init__(self, source: Source, passphrases: Passphrases) -> None:
        self._source = source
        self._passphrases = passphrases

    def volumes(self) -> Sequence[VolumeFacts]:
        return [volume.facts for volume in self._source.volumes]

    def find_subvolumes(self, volume: VolumeFacts) -> None:
        self._source.volume(volume.number).find_subvolumes()

    def unlock(self, volume: VolumeFacts) -> VolumeFacts:
        name = volume.name or str(volume.number)
        failure = VolumeError("volume.locked", volume=name)
        for wrong in count():
            passphrase = self._passphrases.ask(name, wrong)
            if passphrase is None:
                break
            try:
                return self._source.volume(volume.number).unlock(passphrase).facts
            except VolumeError as error:
                if error.code != "volume.passphrase-wrong":
                    raise
                failure = error
        raise failure


def _open(arguments: Namespace, passphrases: Passphrases) -> Source:
    known: list[bytes] = []
    while True:
        try:
            return Source(
                arguments.image,
                *arguments.more,
                format=arguments.format or "",
                snapshot=arguments.snapshot or "",
                member=arguments.member or "",
                inside=arguments.inside,
                allowed=arguments.allowed,
                view=arguments.view,
                passphrases=known,
            )
        except (Encrypted, VolumeError) as error:
            if error.code not in ("image.passphrase-needed", "volume.locked"):
                raise
            passphrase = passphrases.ask(str(error.params.get("path", arguments.image)), len(known))
            if passphrase is None:
                raise
            known.append(passphrase)


@contextmanager
def open_volume(arguments: Namespace) -> Iterator[Volume]:
    """The volume that the arguments name, mounted; its source is closed at the end."""
    passphrases = Passphrases(arguments.key_file)
    with _open(arguments, passphrases) as source:
        path = os.fsdecode(source.paths[0])
        facts = choose_volume(path, _Asked(source, passphrases), arguments.volume)
        volume = source.volume(facts.number)
        opened = volume.mount()
        if opened.as_stored and arguments.view == View.AUTO.value:
            print_note("volume.as-stored", facts.name)
        elif opened.recovered:
            print_note("volume.recovered", facts.name)
        yield volume
