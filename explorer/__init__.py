# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LKL Explorer: looks into disk images with Linux' own file systems, in process."""

from __future__ import annotations

__version__ = "0.1.0"
