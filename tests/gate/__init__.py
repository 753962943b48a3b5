# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of hostile images: whatever is opened, one process may fall, and nothing else.

Every image is opened as a window opens it: in a new engine process, asked over its pipe. It is
visited as a person would (:mod:`tests.gate.visit`): open it, mount every volume, walk its tree,
read stats, links, extended attributes, and both ends of files. Each opening ends as one of these:

- ``ok``: all that was asked for was answered;
- ``error``: something was refused, by an error with a code that has its text;
- ``restarted``: the engine ended in order and said that its kernel did (a panic, a fault of the
  CPU in kernel code, a watchdog), so that a window would start another.

These let the gate down: ``hang`` (nothing was answered for longer than any watchdog takes),
``wrong`` (a signal, an exit without a reason, an error without a code of its own, a damaged
answer), and a source that is not the same afterwards, to the byte and the time.

Where the images come from (:mod:`tests.gate.corpora`):

- ``real``: those of other projects beside this one, most of them damaged on purpose;
- ``mutated``: small images of every file system that the tests can make. What Linux reads of each
  while it recognises, mounts and walks it is recorded first, and that is where changes go: bits,
  numbers at which arithmetic goes wrong, blocks in each other's place, ends cut off. Checksums of
  XFS, Btrfs, F2FS, NILFS2, EROFS, exFAT and UDF are put right afterwards (:mod:`tests.gate.sums`),
  for most changes would never get past them;
- ``fuzzed``: the same done by tools that know the structures: ``xfs_db`` with its ``blocktrash``
  and ``fuzz``, ``debugfs -w``;
- ``containers``, ``stacks``: image formats, and metadata of LVM, MD and LUKS, as the fuzzer of
  their readers changes them.

By hand: ``python -m tests.gate --mutations 5000 --seed 1``; ``--only PATTERN`` visits some again,
``--json FILE`` writes down all outcomes, and Ctrl+C ends it with the table of what was seen. Images
that an engine fell over are kept in build/gate/found. The tests run a part that takes about a
minute.
"""
