# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that reads a file of a server, for an image that lies there.

A process of its own, without a kernel: only here is a network reached, and the libraries for it
are under licences that must not meet the kernel's. It is asked and answers over its standard input
and output, by :mod:`explorer.images.remote`.
"""
