# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Encrypted images and volumes, by cryptsetup and QEMU."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.trees import find_tool, make_empty, run_tool

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = "geheim"
SECRET = ("--object", f"secret,id=secret,data={PASSPHRASE}")
"""For QEMU's tools: the passphrase, which goes by the name of ``secret``."""


def make_luks1(path: Path, passphrase: bytes, *options: str) -> Path:
    """A LUKS1 volume of 3 MiB, by cryptsetup, with as few iterations as it does."""
    key_file = path.with_suffix(".key")
    key_file.write_bytes(passphrase)
    make_empty(path, 3 << 20)
    run_tool(
        "cryptsetup",
        "luksFormat",
        "--batch-mode",
        "--type=luks1",
        "--pbkdf-force-iterations=1000",
        *options,
        str(path),
        str(key_file),
    )
    return path


def create_encrypted(path: Path, kind: str, size: int, *options: str) -> Path:
    """An empty image by qemu-img, with options that tell how it is encrypted."""
    command = [find_tool("qemu-img"), "create", "-q", *SECRET, "-f", kind]
    command += ["-o", ",".join(options), str(path), str(size)]
    # It measures its speed, and gives up where the processor's time counts in steps too large.
    for _ in range(100):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "accurate CPU usage" not in done.stderr:
            assert done.returncode == 0, done.stderr
            return path
    pytest.fail("qemu-img cannot measure its speed here")


def fill_encrypted(raw: Path, image: Path, driver: str, key: str = "key-secret") -> Path:
    """Have qemu-img write a raw disk into an image that it can unlock; the image is kept else.

    ``driver`` is its driver and options; ``key`` is what it calls the option with the passphrase.
    """
    target = f"driver={driver},{key}=secret,file.filename={image}"
    run_tool(
        "qemu-img", "convert", "-n", *SECRET, "-f", "raw", "--target-image-opts", str(raw), target
    )
    return image
