# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One source, opened with a kernel of its own, for the length of a command."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from explorer.cli.codes import DONE, SOME_FAILED
from explorer.cli.output import print_error, print_note
from explorer.cli.passphrases import Passphrases
from explorer.core.errors import (
    KernelError,
    SearchError,
    VolumeError,
)
from explorer.core.messages import describe
from explorer.core.views import View
from explorer.host.folders import cache_folder
from explorer.images.opening import Choices
from explorer.images.registry import open_image
from explorer.volumes import Source, Wanted

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from explorer.images.base import Image
    from explorer.volumes import MountedVolume


def _wanted(arguments: Namespace, passphrases: Passphrases) -> Wanted:
    return Wanted(
        paths=tuple(os.fsencode(path) for path in (arguments.image, *arguments.more)),
        choices=Choices(
            format=arguments.format,
            snapshot=arguments.snapshot,
            member=arguments.member,
            allowed=tuple(os.fsencode(folder) for folder in arguments.allowed),
            ask_passphrase=passphrases.ask,
            cache_folder=cache_folder(),
        ),
        inside=tuple(arguments.inside),
        view=View(arguments.view),
    )


@contextmanager
def open_source(arguments: Namespace, view: View | None = None) -> Iterator[Source]:
    """The source that the arguments name, looked at in ``view`` if not in theirs."""
    passphrases = Passphrases(arguments.key_file)
    wanted = _wanted(arguments, passphrases)
    if view is not None:
        wanted = replace(wanted, view=view)
    with Source(wanted, passphrases.ask) as source:
        yield source


@contextmanager
def open_volume(arguments: Namespace) -> Iterator[MountedVolume]:
    """The volume that the arguments name, mounted."""
    with open_source(arguments) as source:
        volume = source.choose(arguments.volume)
        with source.mount(volume) as mounted:
            _tell_view(source, mounted)
            yield mounted


def each_volume(arguments: Namespace, work: Callable[[MountedVolume, bytes], None]) -> int:
    """Do something with the volume that the arguments name, or with all; returns the exit code.

    With all, each has a prefix that tells its paths from those of others, and one that cannot be
    mounted, or has no such path, is reported.
    """
    code = DONE
    if not arguments.all_volumes:
        with open_volume(arguments) as mounted:
            work(mounted, b"")
        return code
    with open_source(arguments) as source:
        if arguments.key_file is not None:
            source.unlock_all()
        volumes = [one for one in source.stack.volumes() if one.mountable or one.locked]
        if not volumes:
            # It tells what there is instead.
            source.choose(None)
        for volume in volumes:
            try:
                with source.mount(volume) as mounted:
                    _tell_view(source, mounted)
                    work(mounted, f"{volume.name}:".encode())
            except (KernelError, SearchError, VolumeError) as error:
                if error.code == "kernel.ended":
                    raise
                print_error(describe(error))
                code = SOME_FAILED
    return code


def _tell_view(source: Source, mounted: MountedVolume) -> None:
    name = source.stack.name(mounted.volume)
    if mounted.as_stored and source.stack.view is View.AUTO:
        print_note("volume.as-stored", name)
    elif mounted.recovered:
        print_note("volume.recovered", name)


@contextmanager
def open_images(arguments: Namespace) -> Iterator[tuple[Image, ...]]:
    """The images that the arguments name; a kernel is booted only for one within another."""
    if arguments.inside:
        with open_source(arguments) as source:
            yield source.stack.images
        return
    wanted = _wanted(arguments, Passphrases(arguments.key_file))
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(open_image(path, choices=wanted.choices)) for path in wanted.paths
        )
