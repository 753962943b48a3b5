# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of a source as evidence: digests, timeline, inventory, search, comparison.

Plain functions and generators over an image or a mount, for the command line and the engine alike.
They read only, and give what they find in batches while they look; each takes a function that is
called between the pieces of its work, and ends it by raising.
"""
