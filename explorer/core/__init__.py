# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The vocabulary of the program and its errors.

Every other room imports this one; it imports the standard library only, and touches neither
files nor processes.
"""
