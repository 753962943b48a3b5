# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The child process: one source, one kernel, asked by frames over a pipe.

It parses hostile bytes, so it is the half that may fall: a crash, a panic or a hang in here costs
one open source, never the window. It imports no Qt, and prints nothing to its standard output,
which is the wire.
"""
