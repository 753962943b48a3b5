# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Volumes: what stands on a disk, and how it is mounted.

Partitions come from the kernel, which also does the work of arrays, volume groups and encryption.
What is where is recognised here, by the magic numbers and metadata of the on-disk formats, so that
the kernel is asked only for what is there.
"""

from __future__ import annotations

from explorer.core.selection import select_volume
from explorer.volumes.mounting import MountedVolume
from explorer.volumes.source import Source, Wanted
from explorer.volumes.stack import Stack

__all__ = ["MountedVolume", "Source", "Stack", "Wanted", "select_volume"]
