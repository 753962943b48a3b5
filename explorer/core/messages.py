# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The texts of errors: one clear line that names the thing and what to do.

The only place with such texts; the command line prints them and the window shows them.
"""

from __future__ import annotations

import os
import re

from explorer.core.errors import ExplorerError, KernelError, error_from_wire
from explorer.core.names import show_name

TEXTS: dict[str, str] = {
    # What the user opened
    "source.differs": "{path}: the image is not what it was before; the report tells more",
    "source.missing": "{path}: there is no such file",
    "source.rights": "{path}: no right to read it; devices usually need an administrator",
    "source.directory": "{path}: this is a folder of the host; open an image file or a device",
    "source.kind": "{path}: neither a file nor a disk; open an image file or a block device",
    "source.empty": "{path}: the file is empty",
    "source.unreadable": "{path}: cannot be read: {reason}",
    "source.no-size": "{path}: the server does not tell how large the file is",
    "source.no-ranges": (
        "{path}: the server gives files only as a whole ({reason}); download the image first"
    ),
    "source.key-size": "{path}: more than {limit} bytes, too long for a key",
    "source.changed": "{path}: the file became shorter while it was open",
    # Images
    "image.unsupported-format": "{path}: {format} cannot be read yet; convert it to a raw image",
    "image.corrupt": "{path}: damaged: {structure} at byte {offset}: {reason}",
    "image.feature": "{path}: {feature} cannot be read",
    "image.missing-part": "{path}: its {role} {name} is missing; put it beside the image",
    "image.part": "{path}: is only a part of an image; open {name} instead",
    "image.consent": (
        "{path}: names {name} as its {role}, which is not in its own folder; if that is right, "
        "allow it with --allow-path {folder}"
    ),
    "image.passphrase-needed": "{path}: is encrypted; a passphrase is needed",
    "image.passphrase-wrong": "{path}: the passphrase is wrong",
    "image.no-snapshots": "{path}: a {format} has no snapshots to choose from",
    "image.no-members": "{path}: a {format} is one disk; there is none to choose",
    "image.snapshot-missing": "{path}: has no snapshot {wanted}; there are: {known}",
    "image.member-missing": "{path}: holds several disks; choose one with --member: {known}",
    "image.unknown-name": "{format}: no such image format; known are {known}",
    "image.not-an-image": (
        "{path}: neither a partition table nor a file system was recognised in it"
    ),
    # Volumes
    "volume.none": "{path}: no volume that can be opened:\n{list}",
    "volume.choose": (
        "{path}: has several volumes; choose one with --volume N, label or UUID:\n{list}"
    ),
    "volume.missing": "{path}: no volume {wanted}; there are:\n{list}",
    "volume.no-link": "{path}: not a link, or one that cannot be read",
    "volume.ambiguous": "{path}: {wanted} names several volumes; choose by number:\n{list}",
    "volume.marked": "{volume}: is not opened again by itself, after this: {reason}",
    "volume.unknown": "{volume}: no file system was recognised on it",
    "volume.refused": "{volume}: {title} cannot be opened: {why}",
    "volume.unusable": "{volume}: {reason}",
    "volume.locked": "{volume}: is encrypted; a passphrase or a key file is needed",
    "volume.nesting": "more than {limit} images within one another",
    "volume.too-many": "more than {limit} volumes; what stands on this one is not looked for",
    "volume.passphrase-wrong": "{volume}: the passphrase is wrong{untried}",
    "volume.no-key": "{volume}: none of its key slots is in use, so nothing can open it",
    "volume.memory": (
        "{volume}: its passphrase is hashed with {needed} MiB of memory, which are not free"
    ),
    "volume.not-locked": "{volume}: is not encrypted in a way that can be unlocked",
    "volume.mount": "{volume}: Linux could not mount it as {type}: {reason}{said}",
    "volume.damaged": "damaged: {structure} at byte {offset}: {reason}",
    "volume.feature": "{feature} cannot be read",
    "volume.corrupt-metadata": "{volume}: its LVM metadata is damaged: {where}: {reason}",
    "volume.missing-member": "{volume}: cannot do without these, which miss: {names}",
    # Volume groups
    "group.refused": "{volume}: Linux could not put it together: {reason}{said}",
    "group.outdated": "{volume}: what is left of it is out of date: {names}",
    "group.snapshot-lost": "{volume}: the snapshot was full, and is lost",
    "group.degraded": "these are missing, which its redundancy makes up for: {names}",
    "group.cut-off": "the image ends before it does; what is behind cannot be read",
    # Arrays; disks are counted from 0, as mdadm does
    "array.incomplete": "a {level} of {disks} disks cannot do without these, which miss: {roles}",
    "array.refused": "Linux could not put it together: {reason}{said}",
    "array.degraded": "of its {disks} disks these are missing: {roles}",
    "array.outdated": (
        "disk {role} is out of date, and left out: written {events} times, the newest {newest}"
    ),
    "array.different": "disk {role} does not fit the others, and is left out",
    "array.failed": "disk {role} has failed, as the others tell, and is left out",
    "array.split": "disk {role} was used without the others, and is left out",
    "array.twice": "disk {role} is there more than once; one is used",
    "array.dirty": "it was not stopped cleanly, so that what is missing may be made up wrongly",
    "array.journal": "its journal is not replayed; the newest changes may be missing",
    "array.reshape": "it is on its way to another shape, and cannot be written to",
    # Btrfs on several devices
    "btrfs.missing": "of its {count} devices {missing} are missing (there are: {found})",
    "btrfs.twice": "device {number} is there more than once; the one written last is used",
    "btrfs.degraded": "of its {count} devices these are missing, without loss: {numbers}",
    "btrfs.refused": "Linux refuses its device {number}: {reason}{said}",
    "btrfs.lost": (
        "of its {count} devices these are missing: {numbers}; areas of {lost} bytes are on them "
        "alone"
    ),
    # Kernel
    "kernel.missing": ("the kernel library was not found ({path}); build it with: make -C liblkl"),
    "sample.missing": "the sample disk was not found ({path}); make it with: ./dev setup",
    "kernel.load": "{path}: cannot be loaded: {reason}",
    "kernel.ended": "the kernel in this process has ended ({reason}) at {call}{said}",
    # Host
    "copy.protocol": "what the engine sends makes no sense: {reason}",
    "copy.journal": "the journal of the copy is damaged, or none",
    "copy.other-journal": "the journal is that of another copy, or of other options",
    "copy.engine": "the engine ended before the copy did",
    "copy.attributes": "{path}: extended attributes were not kept: {names}",
    "copy.link-copied": "{path}: a copy of its own, instead of another name of a file",
    "copy.stopped": "{path}: the copy ended before this was whole",
    "copy.streams": "{path}: its named streams have no place there",
    "copy.type": "{path}: a folder stands where a file should, or the reverse",
    "copy.unreadable": "{path}: {bytes} bytes cannot be read, and are zeros in the copy",
    "copy.first-link": "{path}: the name that its content came with was not copied",
    "copy.no-links": "{path}: this archive holds no further names of a file",
    "copy.not-a-file": "{path}: not a file; only a file has a content to be written by itself",
    "copy.parent": "{path}: the folder that it stands in could not be made",
    "copy.path-length": "{path}: its path is too long to be written",
    "copy.pieces": "{path}: has more holes than an archive can tell of",
    "export.target": "{path}: cannot be written: {reason}",
    "export.pipe-closed": "{path}: nobody reads what is written any more",
    "export.writer-lost": (
        "the process that wrote the copy ended ({exit}); a copy to a folder can be resumed"
    ),
    "export.full": "{path}: there is no room left",
    "export.exists": "{path}: exists already",
    "export.not-a-folder": "{path}: not a folder; several things can only be copied into a folder",
    "export.missing-folder": "{path}: there is no such folder to copy into",
    "export.directory": "{path}: a folder is not copied without -r",
    "export.onto-image": "{path}: this would replace the image that is being read",
    "export.busy": "{path}: another copy is writing it",
    "export.room": "{path}: {needed} bytes are needed, and {free} are free",
    "export.space": "{path}: no room is left there: {reason}",
    "export.cancelled": "cancelled",
    "export.incomplete-stream": "what was being copied did not come to its end",
    "export.nothing-to-resume": "{path}: holds no unfinished copy of these",
    "export.one-manifest": "a manifest is of a copy to one place; contents of folders are another",
    "export.terminal": "an archive is not written to a terminal; -o names a file",
    "export.incomplete": "{errors} of {entries} entries could not be copied whole",
    # Between processes
    "engine.lost": "the process that read the image ended ({exit})",
    "engine.kernel-ended": "the kernel that read the image has ended{said}",
    "engine.hangs": "the process that read the image was ended, for it did not get on: {what}",
    "engine.abuse": "the process that read the image was ended, for it broke out: {what}",
    "engine.memory": "the process that read the image came to the limit of its memory",
    "engine.killed": (
        "the process that read the image was killed ({exit}), by someone or for want of memory"
    ),
    "engine.signal": "the process that read the image crashed ({exit})",
    "engine.refused": "the process that read the image ended: it was asked what is no request",
    "engine.protocol": "the process that read the image was ended, for it broke the rules: {exit}",
    "engine.start": "the process that reads images could not be started: {exit}",
    "engine.internal": "a fault in the program itself: {reason}",
    "request.cancelled": "cancelled",
    "keeper.gone": "the process that opens files for this one has ended",
    "record.frame": "what came from the other process breaks the protocol: {reason}",
    "record.message": "a damaged message came from the other process ({message}): {reason}",
    "record.entry": "a damaged record came from the engine: {reason}",
    "record.error": "a damaged error came from the engine: {reason}",
    "record.manifest": "not a manifest, or a damaged one: {reason}",
    "record.xattr": "a damaged extended attribute came from the engine: {reason}",
    "record.volume": "a damaged volume came from the engine: {reason}",
    # Searching
    "search.pattern": "no regular expression: {pattern}: {reason}",
    "search.encoding": "the text cannot be had in {encoding}: {reason}",
    "search.length": "nothing to search for, or more than {limit} bytes",
    "search.owner": "{kind} {name}: the volume knows no such name; a number is always taken",
    "search.type": "{type}: no type of entry; known are the letters {known}",
    # Inside the image
    "path.directory": "{path}: is a folder in the image, not a file",
    "path.not-a-file": "{path}: is a {type} in the image, not a file",
    "path.not-a-directory": "{path}: is no folder in the image",
}

# Why a volume that was recognised is not opened.
WHY: dict[str, str] = {
    "encrypted": "it is encrypted in a way that cannot be unlocked here",
    "group": "it is part of a volume group; what is in it is listed as volumes of their own",
    "array": "it is one member of an array; if that can be assembled, it is a volume of its own",
    "no-driver": "Linux has no file system for it",
    "not-files": "it holds no files",
    "flash": "it belongs on a flash chip; Linux does not read it from a disk",
    "old-version": "Linux reads only newer versions of it",
    "damaged": "it is damaged where Linux would not survive it",
    "byte-order": "Linux reads it only in the byte order of its own processor",
}

# What is worth knowing, though nothing went wrong.
NOTES: dict[str, str] = {
    "volume.recovered": "was not closed cleanly; put in order in memory only",
    "volume.as-stored": "its journal cannot be replayed; shown as stored, without its last changes",
}

# What the common ones among the kernel's errors mean to a person.
ERRNO_TEXTS: dict[str, str] = {
    "ENOENT": "no such file or folder in the image",
    "ENOTDIR": "a part of the path is no folder in the image",
    "EISDIR": "is a folder in the image, not a file",
    "ELOOP": "too many links, or a link where none is followed",
    "EACCES": "the file system refuses it",
    "ENAMETOOLONG": "the name is too long for the file system",
    "EIO": "the image cannot be read there, or is damaged",
    "EUCLEAN": "the file system is damaged there",
    "EBADMSG": "the file system is damaged there (a checksum is wrong)",
    "EFSCORRUPTED": "the file system is damaged there",
    "EOPNOTSUPP": "the file system does not support it",
    "ENOKEY": "it is encrypted, and the key is not there",
    "ENOMEM": "the kernel's memory is used up",
    "ENOSPC": "the memory for changes of this session is used up",
    "ECANCELED": "cancelled",
}


_SAYS_NOTHING = re.compile(
    r"mount failed$|open_ctree failed|bch2_fs_get_tree\(\) error|rectify the problem"
)


class _Gaps(dict[str, object]):
    """Parameters of a text; one that is not given is empty, never a second error."""

    def __missing__(self, key: str) -> str:
        return ""


def _kernel_said(log: object) -> str:
    """The kernel's last words, as the end of a one-line text."""
    if not isinstance(log, list) or not log:
        return ""
    # "mount failed" comes after the line that tells why.
    telling = [line for line in log if not _SAYS_NOTHING.search(line)]
    return f" (the kernel says: {(telling or log)[-1]})"


def describe_at(path: bytes, error: ExplorerError) -> str:
    """One clear line about an error of an entry, which is named by ``path``, and once."""
    shown = show_name(path)
    if "path" not in error.params:
        return f"{shown}: {describe(error)}"
    told = error.to_wire()
    return describe(error_from_wire({**told, "params": {**told["params"], "path": shown}}))


def describe(error: BaseException) -> str:
    """One clear line about an error (a list of volumes to choose from may follow it)."""
    if isinstance(error, KernelError) and error.code == "kernel.call":
        reason = ERRNO_TEXTS.get(error.name) or error.strerror or error.name
        named = f"{error.path}: " if error.path else ""
        return f"{named}{reason} ({error.call}: {error.name})"
    if isinstance(error, ExplorerError):
        text = TEXTS.get(error.code)
        if text is None:
            return str(error)
        params = _Gaps(error.params)
        params["why"] = WHY.get(str(error.params.get("why")), "")
        params["said"] = _kernel_said(error.params.get("log"))
        return text.format_map(params)
    if isinstance(error, OSError) and error.strerror:
        named = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{named}{error.strerror}"
    return f"{type(error).__name__}: {error}"
