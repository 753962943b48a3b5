# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The child process that writes the host's files, and nothing else.

It has no kernel and reads no image: an engine sends it entries through a socket, and it trusts no
name, length or order of what comes. A folder is written in C; archives and manifests here.
"""
