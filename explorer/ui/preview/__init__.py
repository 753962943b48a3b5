# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in a file, and what is known of an entry; never more is read than is shown."""
