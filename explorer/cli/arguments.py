# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The arguments of the command line."""

from __future__ import annotations

import argparse

from explorer import __version__
from explorer.core.views import View

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


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) not in (16, 20, 32, 64):
        raise ValueError
    return digest


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

    commands.add_parser(
        "compare",
        parents=[volume],
        help="what recovery changes: the volume as stored beside the volume recovered",
    )

    ls = commands.add_parser("ls", parents=[volume], help="list a folder")
    ls.add_argument("-l", dest="long", action="store_true", help="mode, owner, size and time too")
    ls.add_argument("-R", dest="recursive", action="store_true", help="all folders below as well")
    ls.add_argument("-0", dest="raw", action="store_true", help="raw names, each with a NUL")
    ls.add_argument("path", metavar="PATH", nargs="?", default="/")

    stat = commands.add_parser("stat", parents=[volume], help="all that is known of an entry")
    stat.add_argument("path", metavar="PATH")

    cat = commands.add_parser("cat", parents=[volume], help="write a file's content to the output")
    cat.add_argument("path", metavar="PATH", help="of NTFS also PATH:STREAM")

    cp = commands.add_parser(
        "cp",
        parents=[volume],
        help="copy out of the image",
        description="Copy files out of the image as cp does; with -r folders too. The contents "
        "of / go into DEST itself. Times, modes, links, holes and attributes are kept, owners "
        "when run as root.",
    )
    cp.add_argument("-r", "-R", dest="recursive", action="store_true", help="folders too")
    cp.add_argument("paths", metavar="PATH", nargs="+")
    cp.add_argument("dest", metavar="DEST")

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
        type=_digest,
        action="append",
        default=[],
        help="a digest of the file, all parts, or the disk, and no others; may be repeated",
    )

    commands.add_parser(
        "self-test", parents=[common], help="boot, open the sample, copy it and compare"
    )
    return parser
