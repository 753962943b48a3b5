# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of an image as files for other programs: dragged out, or copied and pasted.

They are extracted when the other program asks for them, into a private folder that goes with the
program's end.
"""
