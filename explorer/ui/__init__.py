# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows and views.

Nothing in here blocks the event loop: what takes time is a call to the engine, and its signals
bring the answer. Errors are shown where they happen; a box that stops the user is only for a
choice.
"""
