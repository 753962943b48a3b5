# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors handed from one process to another that runs already.

Each carries a number by which the receiver tells it from others: the number of the request that it
is for.
"""

from __future__ import annotations

import os
import socket
from struct import Struct
from threading import Lock

from explorer.core.closing import Closing
from explorer.core.errors import RecordError

_TAG = Struct("<Q")
WAIT_SECONDS = 10.0
"""How long a descriptor may be on its way when the request that needs it is there."""
_KEPT_MOST = 16
"""Descriptors that wait to be asked for: more than there are threads that ask at once."""


class Giver(Closing):
    """The end of whoever opens things."""

    def __init__(self) -> None:
        """Make both ends; :attr:`other` is the descriptor that the receiver is to inherit."""
        self._socket, other = socket.socketpair()
        self.other = other.detach()

    def give(self, tag: int, descriptor: int) -> None:
        """Hand over a copy of a descriptor; raises :exc:`OSError` when nobody takes it."""
        socket.send_fds(self._socket, [_TAG.pack(tag)], [descriptor])

    def close_other(self) -> None:
        """Close the receiver's end here, once it was inherited."""
        if self.other >= 0:
            os.close(self.other)
            self.other = -1

    def close(self) -> None:
        """Close both ends; a second call does nothing."""
        self.close_other()
        self._socket.close()


class Taker(Closing):
    """The end of whoever is given them; used from any thread."""

    def __init__(self, descriptor: int) -> None:
        """Take the end that was inherited."""
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(WAIT_SECONDS)
        self._lock = Lock()
        self._kept: dict[int, int] = {}

    def take(self, tag: int) -> int:
        """The descriptor of that number; raises :exc:`RecordError` when none comes."""
        with self._lock:
            while tag not in self._kept:
                self._receive()
            return self._kept.pop(tag)

    def _receive(self) -> None:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._socket, _TAG.size, 1)
        except OSError as error:
            raise RecordError("record.frame", reason="no descriptor came") from error
        if len(data) != _TAG.size or len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise RecordError("record.frame", reason="no descriptor came")
        (tag,) = _TAG.unpack(data)
        self._kept[tag] = descriptors[0]
        if len(self._kept) > _KEPT_MOST:
            # The oldest belongs to a request that was withdrawn before it was begun.
            os.close(self._kept.pop(next(iter(self._kept))))

    def close(self) -> None:
        """Close what was never taken, too."""
        for descriptor in self._kept.values():
            os.close(descriptor)
        self._kept.clear()
        self._socket.close()
