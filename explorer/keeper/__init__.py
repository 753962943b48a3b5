# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two processes where one would do: the confined one reads images, its keeper opens files for it.

The program that a user or the window starts is the keeper. It parses no image. It starts the
confined process, which gives up every right to open anything before the first byte of an image is
read; what it needs later it asks the keeper for, who grants it by rules, watches how long it
takes and how much memory, and ends with its exit code.
"""
