# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""From a stream of entries to a folder of the host; the loop over them is C's.

See :mod:`explorer.native.folder` for what it promises.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.core.errors import ExplorerError, ExportError
from explorer.core.names import show_name
from explorer.native.digests import Digests
from explorer.native.folder import (
    Conflicts,
    Ended,
    Flag,
    HostOperation,
    Journal,
    Options,
    Result,
    Rule,
    Symlinks,
    copy_to_folder,
)
from explorer.native.stream import Operation
from explorer.writer.outcomes import Outcome, entry_of, kernel_error, show_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from explorer.native import folder as native
    from explorer.native.stream import Stat, Stream
    from explorer.wire.writing import Write
    from explorer.writer.outcomes import Accounts
    from explorer.writer.outcomes import Result as ResultName
    from explorer.writer.steering import Steering, Teller

WINDOWS_SYSTEMS = frozenset(
    ("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "cifs", "smb3", "smbfs")
)
"""File systems of Linux that hold the names that Windows allows."""

_RESULTS: dict[int, ResultName] = {
    Result.COPIED: "copied",
    Result.DAMAGED: "damaged",
    Result.SKIPPED: "skipped",
    Result.FAILED: "failed",
    Result.DONE_BEFORE: "before",
}
_RULES = {
    Rule.EXISTS: "exists",
    Rule.NOT_NEWER: "not-newer",
    Rule.SYMLINK: "symlinks",
    Rule.SPECIAL: "special",
}
_DECISIONS = {
    "ask": Conflicts.ASK,
    "skip": Conflicts.SKIP,
    "overwrite": Conflicts.OVERWRITE,
    "rename": Conflicts.RENAME,
    "newer": Conflicts.NEWER,
}
_SYMLINKS = {
    "recreate": Symlinks.RECREATE,
    "text": Symlinks.TEXT,
    "skip": Symlinks.SKIP,
}
_PIECE = 1 << 20


class FolderCopy:
    """One copy into a folder, from the stream's first message to its last."""

    def __init__(
        self,
        stream: Stream,
        destination: int,
        job: Write,
        accounts: Accounts,
        steering: Steering,
        teller: Teller,
        tell: Callable[[Outcome], None],
        *,
        journal: int | None,
    ) -> None:
        """``destination`` and ``journal`` are descriptors, and stay the caller's.

        ``tell`` takes outcomes: all of them where a manifest is written, else those that are worth
        telling.
        """
        self._stream = stream
        self._destination = destination
        self._job = job
        self._accounts = accounts
        self._steering = steering
        self._teller = teller
        self._tell = tell
        self._journal = journal
        self._decided: Conflicts | None = None
        self.ended: ExplorerError | None = None
        """Why it ended before all was done."""

    def run(self) -> None:
        """Take the whole stream; raises :exc:`ExplorerError` when it could not begin."""
        job = self._job
        names = job.names
        if names == "auto":
            names = "windows" if _is_windows(self._destination) else "posix"
        options = Options(
            owner=job.owner,
            special=job.special,
            plan=job.plan,
            list_all=job.manifest is not None,
            stop_full=True,
            conflicts=_DECISIONS[job.conflicts],
            symlinks=_SYMLINKS[job.symlinks],
            names=names,
            digests=job.digests,
        )
        identity = _digest(repr((job.destination, job.journal, job.source, job.volume)))
        journal = None
        if self._journal is not None:
            journal = Journal(self._journal, _digest(repr(options)))
        try:
            end = copy_to_folder(
                self._stream, self._destination, options, self, job=identity[:16], journal=journal
            )
        except ExplorerError as error:
            # What was copied until then is there, and is accounted for.
            if error.code not in ("copy.engine", "copy.protocol", "export.cancelled"):
                raise
            self.ended = error
        except OSError as failure:
            reason = failure.strerror or ""
            raise ExportError(
                "export.target", path=show_name(job.destination or b""), reason=reason
            ) from failure
        else:
            self.ended = self._ending(end.why, end.error)

    def _ending(self, why: Ended, number: int) -> ExplorerError | None:
        path = show_name(self._job.destination or b"")
        if why == Ended.WHOLE:
            return None
        # The journal may be what finds no room.
        if why == Ended.JOURNAL and -number in (errno.ENOSPC, errno.EDQUOT):
            why = Ended.FULL
        if why == Ended.FULL:
            return ExportError("export.full", path=path)
        if why in (Ended.LOST, Ended.JOURNAL):
            return ExportError("export.target", path=path, reason=os.strerror(-number))
        if why == Ended.CANCELLED:
            return ExportError("export.cancelled")
        return ExplorerError("copy.engine")

    # ---- What the loop calls

    def ask(self, path: bytes, existing: Stat, entry: Stat) -> Conflicts:
        """Ask what to do about what is there already."""
        if self._decided is not None:
            return self._decided
        name = path.rpartition(b"/")[2]
        question = self._teller.ask(b"/" + path, entry_of(name, existing), entry_of(name, entry))
        answer = self._steering.wait_answer(question)
        decision = _DECISIONS[answer.decision]
        if answer.for_all:
            self._decided = decision
        return decision

    def take(self, outcomes: Sequence[native.Outcome], durable: bool) -> None:
        """Tell of some outcomes.

        What is durable needs no more of us: a run that goes on with this one tells of all entries
        again, and of its own manifest only that is kept.
        """
        del durable
        for outcome in outcomes:
            self._tell(self._outcome(outcome))

    def progress(self, accounts: native.Accounts, path: bytes) -> None:
        """Tell how far it is; waits while it is paused."""
        self._count(accounts)
        self._teller.progress(b"/" + path)
        self._steering.check()

    def _count(self, now: native.Accounts) -> None:
        accounts = self._accounts
        accounts.results = Counter(
            copied=now.copied,
            damaged=now.damaged,
            skipped=now.skipped,
            failed=now.failed,
            before=now.done_before,
        )
        rules = {
            "exists": now.skipped_exists,
            "not-newer": now.skipped_not_newer,
            "symlinks": now.skipped_symlink,
            "special": now.skipped_special,
        }
        accounts.rules = Counter({rule: number for rule, number in rules.items() if number})
        # Of a plan, what it would be.
        done = now.written + now.holes + now.unreadable
        accounts.written = now.size if self._job.plan else done
        accounts.holes = now.holes
        accounts.mapped = now.mapped
        accounts.owners_lost = now.owners_lost
        accounts.attributes_lost = now.xattrs_lost

    # ---- Outcomes

    def _outcome(self, told: native.Outcome) -> Outcome:
        path = b"/" + told.path
        outcome = Outcome(path, entry_of(told.path.rpartition(b"/")[2], told.stat))
        outcome.result = _RESULTS[told.result]
        if told.result == Result.SKIPPED:
            outcome.rule = _RULES[Rule(told.rule)]
        there = told.result in (Result.COPIED, Result.DAMAGED, Result.DONE_BEFORE)
        outcome.target = (told.target or told.path) if there else b""
        outcome.written = told.written + told.holes + told.unreadable
        outcome.holes = told.holes
        if told.flags & Flag.LINKED:
            outcome.same_as = told.link
        elif told.link:
            outcome.link = told.link
        outcome.digests = self._digests(told)
        outcome.unreadable = list(told.ranges)
        outcome.not_kept = list(told.not_kept)
        outcome.owner_lost = bool(told.flags & Flag.OWNER_LOST)
        outcome.error = _error(told, path)
        return outcome

    def _digests(self, told: native.Outcome) -> dict[str, bytes]:
        wanted = self._job.digests
        found = {}
        at = 0
        if told.digests:
            for name, length in _LENGTHS.items():
                if name in wanted:
                    found[name] = told.digests[at : at + length]
                    at += length
        elif wanted and told.result == Result.DONE_BEFORE and self._job.manifest is not None:
            found = self._digest_copy(told)
        return {name: found[name] for name in wanted if name in found}

    def _digest_copy(self, told: native.Outcome) -> dict[str, bytes]:
        """Digests of what an earlier run has written, as it is there now."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if entry_of(b"", told.stat).is_file:
            try:
                file = os.open(told.target or told.path, flags, dir_fd=self._destination)
                with (
                    os.fdopen(file, "rb", buffering=0) as copy,
                    Digests(self._job.digests) as digests,
                ):
                    while piece := copy.read(_PIECE):
                        self._steering.check()
                        digests.update(piece)
                    return digests.read()
            except OSError:
                # Then there is none to tell.
                pass
        return {}


_LENGTHS = {"md5": 16, "sha1": 20, "sha256": 32, "blake2b": 64}
"""Bytes of digests, in the order of their bits."""


def _error(told: native.Outcome, path: bytes) -> ExplorerError | None:
    """What an entry, or something of it, was lost by."""
    shown = show_path(path)
    if told.unreadable:
        return ExplorerError("copy.unreadable", path=shown, bytes=told.unreadable)
    of_image = bool(told.flags & Flag.OF_IMAGE)
    lost_by = (HostOperation.NOTHING, HostOperation.XATTRS)
    if told.not_kept and told.operation in lost_by and not of_image:
        # Whatever the host said to one of them: no room, for example, where there is much.
        names = ", ".join(map(show_name, told.not_kept))
        return ExplorerError("copy.attributes", path=shown, names=names)
    if told.operation or told.error:
        if of_image:
            return kernel_error(told.error, told.operation or Operation.READ, path)
        if told.operation == HostOperation.READ:
            # A file that the image is stored in.
            return kernel_error(told.error, Operation.READ, path)
        if told.operation == HostOperation.LINK:
            return ExplorerError("copy.first-link", path=shown)
        if told.operation == HostOperation.FOLDER:
            return ExplorerError("copy.parent", path=shown)
        if told.operation == HostOperation.TYPE:
            return ExplorerError("copy.type", path=shown)
        if told.operation == HostOperation.STOPPED:
            return ExplorerError("copy.stopped", path=shown)
        return ExportError("export.target", path=shown, reason=os.strerror(-told.error))
    if told.flags & Flag.STREAM_LOST:
        return ExplorerError("copy.streams", path=shown)
    if told.flags & Flag.LINK_LOST:
        return ExplorerError("copy.link-copied", path=shown)
    return None


def _digest(text: str) -> bytes:
    with Digests(("sha256",)) as digests:
        digests.update(text.encode("utf-8", "surrogateescape"))
        return digests.read()["sha256"]


def _is_windows(folder: int) -> bool:
    """Whether a folder is on a file system that holds only names of Windows; see proc(5)."""
    if os.name == "nt":
        return True
    device = os.fstat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == wanted:
            return rest.split()[0] in WINDOWS_SYSTEMS
    return False
