# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Image formats: from what the user opens to the bytes of a disk.

One module per format, :mod:`explorer.images.registry` to choose among them. Knows nothing of
kernels and file systems, and opens nothing for writing.
"""
