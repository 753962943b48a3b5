# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``self-test``: whether this installation works, and with which kernel.

Boots, opens the sample disk, copies every volume of it, and compares the copy with what the kernel
lists and reads, entry by entry; one file is compared with bytes that are known beforehand.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.cli import codes
from explorer.cli.commands import join
from explorer.cli.output import print_error, print_json
from explorer.core.entries import FileType
from explorer.core.errors import ExplorerError
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.native.locate import find_sample
from explorer.volumes import Stack

if TYPE_CHECKING:
    from argparse import Namespace

    from explorer.core.entries import Entry
    from explorer.kernel import ExportFailure, Mount


# resources/sample/make.py writes it into the first volume.
_KNOWN_PATH = b"/Data/All bytes.bin"
_KNOWN_CONTENT = bytes(range(256)) * 16


def self_test(arguments: Namespace) -> int:
    """Run it; the exit code is 0 when all is well."""
    report: dict[str, Any] = {}
    problems: list[str] = []
    try:
        with Kernel() as kernel:
            report["kernel"] = {
                "image": str(kernel.image),
                "sha256": kernel.image_sha256,
                "release": kernel.release,
                "boot_ms": round(kernel.boot_ns / 1e6, 3),
            }
            report["sample"] = _check_sample(kernel, problems)
    except ExplorerError as error:
        problems.append(describe(error))
    report |= {"ok": not problems, "problems": problems}
    if arguments.json:
        print_json(report)
    else:
        _print_report(report)
    return codes.KERNEL if problems else codes.DONE


def _print_report(report: dict[str, Any]) -> None:
    if kernel := report.get("kernel"):
        print(f"kernel  Linux {kernel['release']}, booted in {kernel['boot_ms']} ms")
        print(f"        {kernel['image']}")
        print(f"        SHA-256 {kernel['sha256']}")
    if sample := report.get("sample"):
        print(f"sample  {sample['path']}")
        for volume in sample["volumes"]:
            print(
                f"        volume {volume['number']}, {volume['content']}: "
                f"{volume['entries']} entries, {volume['bytes']} bytes"
            )
    for problem in report["problems"]:
        print_error(problem)
    print("self-test", "passed" if report["ok"] else "FAILED")


def _check_sample(kernel: Kernel, problems: list[str]) -> dict[str, Any]:
    sample = find_sample()
    checked = []
    with open_image(sample) as image, Stack(kernel, [image]) as stack:
        mountable = [volume for volume in stack.volumes() if volume.mountable]
        for number, volume in enumerate(mountable):
            with stack.mount(volume) as mounted:
                found = _check_volume(mounted.mount, problems)
                if number == 0:
                    _check_known(mounted.mount, problems)
            checked.append({"number": volume.number, "content": volume.content, **found})
    if not checked:
        problems.append(f"{sample}: no volumes")
    return {"path": str(sample), "volumes": checked}


def _check_known(mount: Mount, problems: list[str]) -> None:
    with mount.open_file(_KNOWN_PATH) as file:
        if file.read_at(0, file.size) != _KNOWN_CONTENT:
            problems.append(f"{show_name(_KNOWN_PATH)}: wrong content")


def _check_volume(mount: Mount, problems: list[str]) -> dict[str, int]:
    """Copy a volume and compare the copy; returns what there was."""

    def failed(failure: ExportFailure) -> None:
        problems.append(f"{show_name(failure.path)}: {failure.operation}: {failure.reason}")

    with tempfile.TemporaryDirectory(prefix="lkl-explorer-") as name:
        copy = Path(name)
        folder = os.open(copy, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with mount.open_directory() as root:
                result = root.export(b".", folder, b".", contents=True, failed=failed)
        finally:
            os.close(folder)
        listed = 0
        paths = {0: b"/"}
        with mount.open_directory() as root, root.walk() as walk:
            for entry in walk:
                path = paths.get(entry.directory, b"/") if entry.name else b""
                path = join(path, entry.name)
                if entry.number:
                    paths[entry.number] = path
                listed += 1
                problems += _differences(mount, entry, path, copy / os.fsdecode(path[1:]))
    # The copy counts the root as an entry, the listing does not.
    if result.entries != listed + 1:
        problems.append(f"{listed} entries listed, {result.entries - 1} copied")
    return {"entries": listed, "bytes": result.bytes}


def _differences(mount: Mount, entry: Entry, path: bytes, copy: Path) -> list[str]:
    shown = show_name(path)
    if entry.error:
        return [f"{shown}: cannot be read"]
    if not os.path.lexists(copy):
        return [f"{shown}: was not copied"]
    found = copy.lstat()
    wrong = []
    if found.st_mode >> 12 != entry.type:
        return [f"{shown}: another type"]
    if found.st_mtime_ns != entry.modify_ns:
        wrong.append(f"{shown}: another time")
    if entry.type == FileType.LINK:
        if os.fsencode(copy.readlink()) != mount.read_link(path):
            wrong.append(f"{shown}: another target")
    elif (found.st_mode ^ entry.mode) & 0o777:
        wrong.append(f"{shown}: another mode")
    if entry.is_file:
        if found.st_size != entry.size:
            wrong.append(f"{shown}: another size")
        elif _hash_copy(copy) != _hash_original(mount, path):
            wrong.append(f"{shown}: another content")
    return wrong


def _hash_copy(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _hash_original(mount: Mount, path: bytes) -> bytes:
    with mount.open_file(path) as file:
        return file.sha256()
