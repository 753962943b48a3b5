# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The arguments of the command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeVar

from explorer import __version__
from explorer.core.views import View

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG = """\
Without a command, or with nothing but an image, the window opens.

PATH is a path inside the image, from the file system's root. Times are UTC.
Names are printed with control and unprintable bytes escaped; -0 prints raw bytes,
each name followed by a NUL.

exit codes:
  0    done
  1    some entries could not be read or copied whole, each was reported; diff: they differ;
       verify: a digest is not that of the image
  2    wrong arguments
  3    the image cannot be opened: missing, no rights, empty, of no known format
  4    no such volume, several to choose from, or one that cannot be mounted
  5    the path in the image: missing, of the wrong kind, or not readable
  6    the target on the host cannot be written
  7    the kernel library is missing, or the kernel has ended
  8    verify: there is nothing to compare the image with
  130  interrupted
  141  the reader of the output went away
"""

ALGORITHMS = ("md5", "sha1", "sha256", "blake2b")
"""Those of :mod:`explorer.native.digests`, which a parser need not load."""


T = TypeVar("T")


def _checked(what: str, read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader of an argument's value that says what is wrong with one it cannot read."""

    def checked(text: str) -> T:
        try:
            return read(text)
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"not {what}: {text}") from None

    return checked


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) not in (16, 20, 32, 64):
        raise ValueError
    return digest


DIFF_FACTS = (
    *("type", "mode", "owner", "links", "size", "device", "modified", "changed"),
    *("target", "xattrs", "content"),
)
"""Those of :mod:`explorer.evidence.comparison`."""

SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _size(text: str) -> int:
    """Bytes, as ``4096``, ``64K`` or ``1.5G``."""
    unit = text[-1:].upper()
    digits = text[:-1] if unit in SIZE_UNITS else text
    size = float(digits) * SIZE_UNITS.get(unit, 1)
    if not 0 <= size < 1 << 63:
        raise ValueError
    return int(size)


def _size_range(text: str) -> tuple[int | None, int | None]:
    """The least and the most bytes that ``+N`` (more), ``-N`` (less) or ``N`` stand for."""
    if text.startswith("+"):
        return _size(text[1:]) + 1, None
    if text.startswith("-"):
        return None, _size(text[1:]) - 1
    return _size(text), _size(text)


def _moment(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time, with up to nine digits of a second."""
    import re
    from datetime import UTC, datetime, timedelta

    found = re.fullmatch(r"(.*?)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", text)
    if found is None:
        raise ValueError
    moment = datetime.fromisoformat(found[1] + (found[3] or ""))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


def _types(text: str) -> str:
    letters = text.replace(",", "")
    if not letters or set(letters) - set("fdlpsbc"):
        raise ValueError
    return letters


def _mode_bits(text: str) -> int:
    bits = int(text, 8)
    if not 0 < bits <= 0o7777:
        raise ValueError
    return bits


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="lkl-explorer",
        description="Look into disk images with Linux' own file systems, without mounting them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lkl-explorer {__version__}")
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    source = argparse.ArgumentParser(add_help=False, parents=[common], allow_abbrev=False)
    source.add_argument("--format", metavar="NAME", help="take the image as this format, as raw")
    source.add_argument("--snapshot", metavar="NAME", help="an internal snapshot of the image")
    source.add_argument("--member", metavar="NAME", help="which disk of an appliance (OVA)")
    source.add_argument(
        "--with",
        dest="more",
        metavar="IMAGE",
        action="append",
        default=[],
        help="another image whose volumes belong together with this one's; may be repeated",
    )
    source.add_argument(
        "--inside",
        metavar="[VOLUME:]PATH",
        action="append",
        default=[],
        help="open the image that is this file in the image; may be repeated",
    )
    source.add_argument(
        "--view",
        choices=[view.value for view in View],
        default=View.AUTO.value,
        help="file systems that were not closed cleanly: as stored, or recovered in memory",
    )
    source.add_argument(
        "--allow-path",
        dest="allowed",
        metavar="DIR",
        action="append",
        default=[],
        help="let the image name files in this folder too, as its backing image; may be repeated",
    )
    source.add_argument(
        "--key-file", metavar="FILE", help="unlock with the bytes of this file, asking nobody"
    )
    source.add_argument("image", metavar="IMAGE", help="image file or block device")
    volume = argparse.ArgumentParser(add_help=False, parents=[source], allow_abbrev=False)
    volume.add_argument(
        "--volume", metavar="NAME|LABEL|UUID", help="which volume, if several; info lists them"
    )

    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser(
        "info", parents=[source], help="what the image is and which volumes it has"
    )
    info.add_argument("--unlock", action="store_true", help="ask for passphrases, and look inside")

    ls = commands.add_parser("ls", parents=[volume], help="list a folder")
    ls.add_argument("-l", dest="long", action="store_true", help="mode, owner, size and time too")
    ls.add_argument("-R", dest="recursive", action="store_true", help="all folders below as well")
    ls.add_argument("-0", dest="raw", action="store_true", help="raw names, each with a NUL")
    ls.add_argument("path", metavar="PATH", nargs="?", default="/")

    stat = commands.add_parser("stat", parents=[volume], help="all that is known of an entry")
    stat.add_argument("path", metavar="PATH")

    cat = commands.add_parser("cat", parents=[volume], help="write a file's content to the output")
    cat.add_argument("path", metavar="PATH", help="of NTFS also PATH:STREAM")

    _add_copies(commands, volume)

    hashing = commands.add_parser(
        "hash",
        parents=[volume],
        help="digests of the image: its files as stored, and the disk in it",
        description="Prints digests of each file that the image is stored in, of all parts of a "
        "split one, and of the disk that the image presents; each says which bytes it is of. "
        "With --volume, of the bytes of that volume instead.",
    )
    hashing.add_argument(
        "--algorithm",
        dest="algorithms",
        choices=ALGORITHMS,
        action="append",
        help="sha256 if none is given; may be repeated",
    )
    hashing.add_argument("--only", choices=["stored", "disk"], help="the files, or the disk, alone")

    verify = commands.add_parser(
        "verify",
        parents=[source],
        help="compare the image with digests that are known of it",
        description="Compares the image with the digests stored in it (E01), with those in files "
        "beside it (IMAGE.sha256, SHA256SUMS and the like, with md5, sha1 and b2 too), or with "
        "those given. Ends with 0 when all are right, 1 when one is not, 8 when there are none.",
    )
    verify.add_argument(
        "--expect",
        metavar="HEX",
        type=_checked("a digest in hexadecimal", _digest),
        action="append",
        default=[],
        help="a digest of the file, all parts, or the disk, and no others; may be repeated",
    )

    _add_evidence(commands, volume)

    diff = commands.add_parser(
        "diff",
        parents=[volume],
        help="what differs between two volumes, or two views of one",
        description="Compares all that is at and below PATH with what is there in another image, "
        "another volume (a subvolume or snapshot is one), or another view of the same volume: "
        "type, mode, owner, size, times of modification and change, links, targets, attributes; "
        "with --content the bytes of files, too. Prints what was added, removed and changed, with "
        "--json an object in each line. Ends with 0 when nothing differs, else with 1.",
    )
    other = diff.add_mutually_exclusive_group()
    other.add_argument("--against", metavar="IMAGE", help="the other image")
    other.add_argument(
        "--views", action="store_true", help="the volume as stored, and recovered in memory"
    )
    diff.add_argument(
        "--against-volume", metavar="NAME|LABEL|UUID", help="which volume of the other side"
    )
    diff.add_argument("--content", action="store_true", help="compare the bytes of files, too")
    diff.add_argument(
        "--ignore",
        choices=DIFF_FACTS,
        metavar="FACT",
        action="append",
        default=[],
        help=f"what may differ, one of {', '.join(DIFF_FACTS)}; may be repeated",
    )
    diff.add_argument("path", metavar="PATH", nargs="?", default="/")

    commands.add_parser(
        "self-test", parents=[common], help="boot, open the sample, copy it and compare"
    )
    return parser


def _add_evidence(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], volume: argparse.ArgumentParser
) -> None:
    """The commands that go through a volume, and print while they do."""
    whole = argparse.ArgumentParser(add_help=False, parents=[volume], allow_abbrev=False)
    whole.add_argument(
        "--all-volumes",
        action="store_true",
        help="go through all that can be mounted; each path has VOLUME: before it",
    )

    timeline = commands.add_parser(
        "timeline",
        parents=[whole],
        help="the times of all entries, for mactime or as CSV",
        description="Prints the four times of all that is at and below PATH, as a body file of "
        "the Sleuth Kit (whole seconds; mactime reads it), or in nanoseconds with --csv and --json "
        "(an object in each line).",
    )
    timeline.add_argument("--csv", action="store_true", help="CSV, with nanoseconds")
    timeline.add_argument("path", metavar="PATH", nargs="?", default="/")

    inventory = commands.add_parser(
        "inventory",
        parents=[whole],
        help="all that is known of all entries, as CSV",
        description="Prints all metadata of all that is at and below PATH as CSV, or with --json "
        "as an object in each line.",
    )
    inventory.add_argument(
        "--hash",
        dest="algorithms",
        choices=ALGORITHMS,
        action="append",
        default=[],
        help="digests of the files' contents too; may be repeated",
    )
    inventory.add_argument("path", metavar="PATH", nargs="?", default="/")

    find = commands.add_parser(
        "find",
        parents=[whole],
        help="find entries by name, size, time, type and owner",
        description="Prints the path of each entry at and below PATH that meets all criteria, as "
        "it is met; with --json an object in each line.",
    )
    find.add_argument("-0", dest="raw", action="store_true", help="raw paths, each with a NUL")
    name = find.add_mutually_exclusive_group()
    for option, dest, text in (
        ("--name", "names", "a pattern of the shell that the name has; may be repeated"),
        ("--iname", "inames", "the same, whatever the case of letters"),
    ):
        name.add_argument(option, dest=dest, metavar="GLOB", action="append", default=[], help=text)
    find.add_argument("--regex", metavar="RE", help="what is found somewhere in the path")
    find.add_argument(
        "--size",
        metavar="[+-]N[KMGT]",
        type=_checked("a size", _size_range),
        default=(None, None),
        help="more than N bytes, less (--size=-N), or just so many",
    )
    find.add_argument(
        "--newer",
        metavar="TIME",
        type=_checked("a time", _moment),
        help="later than an ISO 8601 time",
    )
    find.add_argument(
        "--older", metavar="TIME", type=_checked("a time", _moment), help="earlier than that"
    )
    find.add_argument(
        "--time-kind",
        choices=["modified", "changed", "accessed", "born"],
        default="modified",
        help="which time that is",
    )
    find.add_argument(
        "--type",
        dest="types",
        metavar="f,d,l,p,s,b,c",
        type=_checked("types of entries", _types),
        action="append",
        default=[],
        help="files, directories, links, fifos, sockets, block and character devices",
    )
    find.add_argument(
        "--user", "--uid", metavar="USER", help="a number, or a name of the volume's /etc/passwd"
    )
    find.add_argument(
        "--group", "--gid", metavar="GROUP", help="a number, or a name of its /etc/group"
    )
    find.add_argument(
        "--perm",
        dest="mode_bits",
        metavar="MODE",
        type=_checked("an octal mode", _mode_bits),
        default=0,
        help="octal; all of its bits are set, as 6000 or 0002",
    )
    find.add_argument("path", metavar="PATH", nargs="?", default="/")

    grep = commands.add_parser(
        "grep",
        parents=[whole],
        help="find text or bytes in the contents of files",
        description="Prints path, offset in bytes and surroundings of each place where the "
        "contents of files at and below PATH hold PATTERN; with --json an object in each line.",
    )
    kind = grep.add_mutually_exclusive_group()
    kind.add_argument("--hex", action="store_true", help="PATTERN is bytes in hexadecimal")
    kind.add_argument(
        "--regex", action="store_true", help="PATTERN is a regular expression over bytes"
    )
    kind.add_argument(
        "--encoding",
        dest="encodings",
        metavar="NAME[,NAME]",
        action="append",
        default=[],
        help="how the text is encoded; utf-8 and utf-16-le if none is given; may be repeated",
    )
    grep.add_argument("-i", dest="ignore_case", action="store_true", help="whatever the case")
    grep.add_argument(
        "--name",
        dest="names",
        metavar="GLOB",
        action="append",
        default=[],
        help="only in files whose name has this pattern of the shell; may be repeated",
    )
    grep.add_argument(
        "--max-size",
        metavar="N[KMGT]",
        type=_checked("a size", _size),
        help="only in files that are not larger",
    )
    grep.add_argument("pattern", metavar="PATTERN")
    grep.add_argument("path", metavar="PATH", nargs="?", default="/")


def _add_copies(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], volume: argparse.ArgumentParser
) -> None:
    copying = argparse.ArgumentParser(add_help=False, parents=[volume], allow_abbrev=False)
    copying.add_argument(
        "--symlinks",
        choices=["recreate", "follow", "text", "skip"],
        default="recreate",
        help="links as links, as the files they lead to inside the volume, as files that hold "
        "where they point, or not at all",
    )
    copying.add_argument(
        "--holes",
        action="store_true",
        help="leave a hole where a file cannot be read, instead of leaving the file out",
    )
    copying.add_argument(
        "--names",
        choices=["auto", "posix", "windows"],
        default="auto",
        help="whose rules for names; others are mapped, as docs/copies.md tells",
    )
    copying.add_argument(
        "--manifest",
        metavar="FILE",
        help="write what became of each entry: as JSON lines if FILE ends in .json, else CSV",
    )
    copying.add_argument(
        "--hash",
        dest="digests",
        choices=ALGORITHMS,
        action="append",
        help="digests of the files for the manifest, sha256 if none is given; may be repeated",
    )
    cp = commands.add_parser(
        "cp",
        parents=[copying],
        help="copy out of the image",
        description="Copy files out of the image as cp does; with -r folders too. The contents "
        "of / go into DEST itself. Times, modes, links, holes and attributes are kept, owners "
        "when run as root. A file is written as NAME.part until it is whole.",
    )
    cp.add_argument("-r", "-R", dest="recursive", action="store_true", help="folders too")
    cp.add_argument(
        "--conflicts",
        choices=["ask", "skip", "overwrite", "rename", "newer"],
        default="overwrite",
        help="what to do where a file of that name exists; as cp, overwrite it",
    )
    cp.add_argument("--special", action="store_true", help="create devices, fifos and sockets, too")
    cp.add_argument(
        "--report",
        metavar="FILE",
        help="write a report of it all: as HTML if FILE ends in .html, else JSON; the manifest is "
        "FILE.manifest.csv if no other is named",
    )
    cp.add_argument(
        "--hash-source",
        action="store_true",
        help="with --report: hash the image before and after, as it is stored and the disk in it",
    )
    cp.add_argument("--resume", action="store_true", help="go on with a copy that was interrupted")
    cp.add_argument(
        "--dry-run", action="store_true", help="only tell what would be copied, and as what"
    )
    cp.add_argument("paths", metavar="PATH", nargs="+")
    cp.add_argument("dest", metavar="DEST")
    for name, what in (("tar", "a tar archive (pax)"), ("zip", "a zip archive")):
        archive = commands.add_parser(
            name, parents=[copying], help=f"write {what} of entries of the image"
        )
        archive.add_argument(
            "-o", "--output", metavar="FILE", help="the archive; standard output if not given"
        )
        archive.add_argument("paths", metavar="PATH", nargs="+")
