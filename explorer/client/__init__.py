# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's handle for the window: a process, requests, and what comes back as signals.

Nothing in here waits: the pipe's own signals drive it, on the window's one thread.
"""
