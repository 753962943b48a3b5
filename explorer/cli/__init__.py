# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: images without a window, and without Qt.

The kernel runs in this process. Reads arguments, prints, and copies; what it prints of an image is
safe on a terminal unless ``-0`` asks for raw bytes.
"""
