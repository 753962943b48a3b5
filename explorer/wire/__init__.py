# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages and framing between the window and its child processes.

Both ends import this room, so it holds the one protocol version. It does no input or output of
its own, but for :mod:`explorer.wire.pipe`, a child's end; and it believes nothing before it is
checked: the engine parses hostile bytes, and whoever reads its frames is protected by the checks
made here.
"""
