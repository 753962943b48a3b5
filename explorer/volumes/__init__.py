# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Volumes: what stands on a disk, and how it is mounted.

Partitions come from the kernel. What is on them is recognised here, by the magic numbers of the
on-disk formats, so that the kernel is asked only for the file system that is there.
"""

from __future__ import annotations

from explorer.volumes.disk import ImageDisk, MountedVolume, list_volumes, select_volume

__all__ = ["ImageDisk", "MountedVolume", "list_volumes", "select_volume"]
