# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Qt item models over the engine's client: what the tree and the contents show.

They sort and filter by themselves (a proxy model over Python is a hundred times slower), in slices
between which the event loop runs.
"""
