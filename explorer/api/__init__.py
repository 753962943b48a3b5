# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The program for other programs: ``import explorer``.

What it does with an image is done by an engine, what it writes by a writer, each a process of its
own; nothing here parses an image. Objects are used by one thread at a time.
"""
