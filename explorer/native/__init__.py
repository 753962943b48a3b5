# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The program's own C code that needs no kernel: confinement, digests, the writer's loop.

Knows how C libraries are found and declared, for the kernel's binding too.
"""
