# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How each file system is mounted: read-only, and so that nothing is lost or hidden.

A disk has an overlay in memory, so a file system may bring itself in order (replay its journal)
without a byte of the image being written. Where that fails, a second attempt leaves the journal
alone: what is stored then shows as it is stored.

Options and their meanings are from ``Documentation/filesystems`` and the option tables of each
file system in the Linux source.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from explorer.core.views import View

RECOVERED = re.compile(
    r"EXT4-fs .*(recovery complete|orphan inodes? deleted|truncates? cleaned up)"
    r"|XFS .*Ending recovery"
    r"|BTRFS .*start tree-log replay"
    r"|REISERFS .*replayed [1-9]"
    r"|NILFS .*recovery complete"
    r"|bcachefs .*recovering from unclean"
)
"""What the file systems log when they had something to bring in order."""


class Attempt(NamedTuple):
    """One way to mount."""

    options: str = ""
    as_stored: bool = False
    """Whether the journal is left alone."""
    writable: bool = False
    """Whether it is mounted to be written to, and made read-only before anything is read."""


def _journaled(options: str, without: str) -> tuple[Attempt, ...]:
    return (
        Attempt(options),
        Attempt(f"{options},{without}" if options else without, as_stored=True),
    )


ATTEMPTS: dict[str, tuple[Attempt, ...]] = {
    # errors=continue: an image may ask for a panic at the first damage, and Linux would obey.
    "ext4": _journaled("errors=continue", "noload"),
    # nouuid: clones of one file system may be open at once. norecovery wants a read-only mount,
    # which it is.
    "xfs": _journaled("nouuid", "norecovery"),
    # rescue=nologreplay is the log; usebackuproot takes an older tree root where the newest is
    # damaged, and ibadroots goes on without the trees that only writing needs.
    "btrfs": (
        Attempt(),
        Attempt("rescue=nologreplay", as_stored=True),
        Attempt("rescue=usebackuproot:nologreplay:ibadroots", as_stored=True),
    ),
    # memory=low: compressed pages are mapped after they are read; the other order does not work
    # in a kernel without an MMU unless the host can map its pages twice.
    "f2fs": _journaled("memory=low", "norecovery"),
    # errors=ro goes on reading at a damage. version_upgrade: what is only looked at is left in the
    # version it has. There is no second attempt: norecovery can wait for ever.
    "bcachefs": (Attempt("errors=ro,version_upgrade=none"),),
    # errors=continue: as for ext4. iocharset: without it names are cut to Latin-1.
    "jfs": (Attempt("errors=continue,iocharset=utf8"),),
    # user_xattr, acl: without them it hides what it has of both. No attempt leaves the journal
    # alone: Linux replays that of a ReiserFS, or does not mount it.
    "reiserfs": (Attempt("user_xattr,acl"), Attempt()),
    "nilfs2": _journaled("errors=continue", "norecovery"),
    # utf8: names as they are, instead of Latin-1 with question marks. tz=UTC: the times of FAT
    # have no zone, and show as they are stored wherever this program runs. errors=continue: as
    # for ext4.
    "vfat": (Attempt("utf8,tz=UTC,errors=continue"),),
    "exfat": (Attempt("iocharset=utf8,errors=continue"),),
    # Half of a surrogate pair, which NTFS allows, cannot be UTF-8; such names become readable by
    # escapes of the driver.
    "ntfs3": (Attempt("iocharset=utf8"),),
    # HFS' names are in the Macintosh's own character set; the other attempt takes them raw.
    "hfs": (Attempt("codepage=macroman,iocharset=utf8"), Attempt()),
    "hfsplus": (Attempt("nls=utf8"),),
    # iocharset: for Joliet's names. unhide, undelete: files with the flag "hidden" are files, and
    # those marked as deleted are still on the disc.
    "iso9660": (Attempt("iocharset=utf8,unhide"),),
    "udf": (Attempt("iocharset=utf8,unhide"),),
    # errors=continue: as for ext4. A damaged block is reported when it is read, not before.
    "squashfs": (Attempt("errors=continue"),),
    # case=asis: names as they are stored, not in lower case. check=normal is enough for reading;
    # with check=none Linux goes round for ever in a tree that leads back to itself.
    "hpfs": (Attempt("case=asis,errors=continue"),),
    "befs": (Attempt("iocharset=utf8"),),
}

# Of those that have to replay their journal, where that takes another way.
_REPLAYED: dict[str, tuple[Attempt, ...]] = {
    # ntfs3 replays $LogFile only when it may write. force: also where a volume is marked as dirty.
    "ntfs3": (
        Attempt("iocharset=utf8,force", writable=True),
        Attempt("iocharset=utf8", as_stored=True),
    ),
}

# UFS does not say whose it is; what the superblock tells leaves these, likeliest first. One that
# is mounted as another's shows nothing but errors.
_UFS: dict[str, tuple[Attempt, ...]] = {
    variant: tuple(Attempt(f"ufstype={whose}") for whose in types)
    for variant, types in {
        "ufs2": ("ufs2",),
        "little-44bsd": ("44bsd",),
        "big-44bsd": ("44bsd", "openstep"),
        "little": ("sunx86", "old", "hp", "44bsd"),
        "big": ("sun", "nextstep", "openstep", "old", "44bsd"),
    }.items()
}


def attempts(
    kind: str, variant: str = "", view: View = View.AUTO, *, replay: bool = False
) -> tuple[Attempt, ...]:
    """The ways to mount a file system of the kernel in a view, best first.

    ``replay``: it is known to have something in its journal.
    """
    known = _known_attempts(kind, variant)
    if replay:
        known = _REPLAYED.get(kind, known)
    # A file system without a journal has one way, which is both.
    if view is View.STORED:
        return tuple(attempt for attempt in known if attempt.as_stored) or known
    if view is View.RECOVERED:
        return tuple(attempt for attempt in known if not attempt.as_stored)
    return known


def _known_attempts(kind: str, variant: str) -> tuple[Attempt, ...]:
    if kind == "ufs":
        return _UFS[variant]
    if kind == "qnx6" and variant == "mmi":
        return (Attempt("mmi_fs"),)
    return ATTEMPTS.get(kind, (Attempt(),))
