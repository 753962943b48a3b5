# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Passphrases, from a key file or from the person at the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from explorer.core.errors import SourceError, host_path, source_error

KEY_LIMIT = 8 * 1024 * 1024
"""Bytes of a key file; as many as cryptsetup reads."""

AskPerson = Callable[[str, int], bytes | None]
"""Given what a passphrase is for, and how many were wrong so far."""

TRIES = 3
"""Passphrases that a person may type before the command gives up."""


@cache
def read_key(path: str) -> bytes:
    """The bytes of a key file, read once; raises :exc:`SourceError`."""
    try:
        with Path(path).open("rb") as file:
            key = file.read(KEY_LIMIT + 1)
    except OSError as failure:
        raise source_error(path, failure) from failure
    if len(key) > KEY_LIMIT:
        raise SourceError("source.key-size", path=host_path(path), limit=KEY_LIMIT)
    return key


def ask_terminal(what: str, wrong: int) -> bytes | None:
    """Ask the person at the terminal; None when there is none, or after too many tries."""
    if wrong >= TRIES or not sys.stdin.isatty():
        return None
    from getpass import getpass

    again = "Wrong. " if wrong else ""
    return os.fsencode(getpass(f"{again}Passphrase for {what}: "))


class _Person:
    """How a person is asked in this process."""

    ask: AskPerson = staticmethod(ask_terminal)


def set_person(ask: AskPerson) -> None:
    """Ask people in another way from now on."""
    setattr(_Person, "ask", staticmethod(ask))  # noqa: B010 - mypy takes it for a method


class Passphrases:
    """Where passphrases come from: the key file if one was given, else the person, if there."""

    def __init__(self, key_file: str | None) -> None:
        self._key = None if key_file is None else read_key(key_file)

    def ask(self, what: str, wrong: int = 0) -> bytes | None:
        """A passphrase for ``what``, of which ``wrong`` were tried in vain."""
        if self._key is not None:
            return None if wrong else self._key
        return _Person.ask(what, wrong)
