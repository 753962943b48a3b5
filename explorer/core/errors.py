# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The one tree of errors.

An error is a code and parameters, never a sentence: both cross the wire between processes as
JSON, and :mod:`explorer.core.messages` turns them into the text a person reads. Parameters that
name something inside an image are text made safe by :func:`explorer.core.names.show_name`.
"""

from __future__ import annotations

import os
from typing import Any

from explorer.core.names import show_name

Param = str | int | bool | None | list[str]

NUMBER_LIMIT = (1 << 63) - 1
"""The largest number that an error has as such, above 0 and below; others are text."""


class ExplorerError(Exception):
    """Anything that can go wrong and that the program foresaw."""

    def __init__(self, code: str, **params: Param) -> None:
        super().__init__(code)
        self.code = code
        # A place that an image makes up may lie beyond all places; the wire has 64 bits for one.
        self.params = {
            name: str(value) if isinstance(value, int) and abs(value) > NUMBER_LIMIT else value
            for name, value in params.items()
        }

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{self.code}({given})"

    def to_wire(self) -> dict[str, Any]:
        """The error as a JSON object; :func:`error_from_wire` is the way back."""
        return {"kind": type(self).__name__, "code": self.code, "params": self.params}


class SourceError(ExplorerError):
    """What the user opened cannot be read: missing, no rights, empty, not a file."""


class ImageError(ExplorerError):
    """The source can be read, but not as an image."""


class UnknownFormat(ImageError):
    """No image format, or no partition table and file system, was recognised."""


class UnsupportedFeature(ImageError):
    """The format is known and named; it, or a feature of it, cannot be read."""


class CorruptImage(ImageError):
    """The image breaks the rules of its own format."""


class MissingPart(ImageError):
    """An image of several files, of which one is not there."""


class Encrypted(ImageError):
    """The image needs a key."""


class KernelError(ExplorerError, OSError):
    """A call of the in-process Linux kernel failed.

    ``errno`` is the kernel's number (Linux' generic numbers on every host), ``call`` the name of
    the call, ``log`` the last messages of the kernel.
    """

    def __init__(
        self,
        code: str = "kernel.call",
        *,
        errno: int,
        name: str,
        call: str,
        reason: str = "",
        path: str = "",
        log: list[str] | None = None,
    ) -> None:
        self.log: list[str] = [] if log is None else log
        super().__init__(
            code, errno=errno, name=name, call=call, reason=reason, path=path, log=self.log
        )
        self.errno = self.number = errno
        self.strerror = self.reason = reason or name
        self.name = name
        self.call = call
        self.path = path


class VolumeError(ExplorerError):
    """A volume cannot be found, chosen or mounted."""


class ExportError(ExplorerError):
    """Something could not be written to the host."""


class SearchError(ExplorerError):
    """What is to be looked for cannot be looked for: no pattern, no encoding, no such owner."""


class EngineLost(ExplorerError):
    """The process that held the kernel has ended."""


class RecordError(ExplorerError):
    """A packed record breaks its rules; whoever sent it is not to be trusted."""


_KINDS: dict[str, type[ExplorerError]] = {
    kind.__name__: kind
    for kind in (
        ExplorerError,
        SourceError,
        ImageError,
        UnknownFormat,
        UnsupportedFeature,
        CorruptImage,
        MissingPart,
        Encrypted,
        KernelError,
        VolumeError,
        ExportError,
        SearchError,
        EngineLost,
        RecordError,
    )
}


def _is_param(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return value is None or isinstance(value, (str, int, bool))


def _are_kernel_params(params: dict[str, object]) -> bool:
    """Whether these are of the types that a :class:`KernelError` has as attributes."""
    return type(params.get("errno")) is int and all(
        isinstance(value, list) if name == "log" else isinstance(value, str)
        for name, value in params.items()
        if name != "errno"
    )


def error_from_wire(data: object) -> ExplorerError:
    """The error that :meth:`ExplorerError.to_wire` gave; trusts nothing in ``data``.

    Raises :exc:`RecordError` when it is not such an object.
    """
    if not isinstance(data, dict):
        raise RecordError("record.error", reason="not an object")
    kind = _KINDS.get(str(data.get("kind")))
    code, params = data.get("code"), data.get("params")
    if kind is None or not isinstance(code, str) or not isinstance(params, dict):
        raise RecordError("record.error", reason="kind, code or params is wrong")
    if not all(isinstance(name, str) and _is_param(value) for name, value in params.items()):
        raise RecordError("record.error", reason="a parameter is wrong")
    if kind is KernelError and not _are_kernel_params(params):
        raise RecordError("record.error", reason="a parameter of the kernel's is wrong")
    try:
        return kind(code, **params)
    except TypeError as wrong:
        raise RecordError("record.error", reason=str(wrong)) from None


def host_path(path: str | bytes | os.PathLike[str]) -> str:
    """A path of the host as an error's parameter: text that is safe to show."""
    return show_name(os.fsencode(path))


def source_error(path: str | bytes | os.PathLike[str], failure: OSError) -> SourceError:
    """Why the host would not open or read a source, as a typed error."""
    if isinstance(failure, FileNotFoundError):
        code = "source.missing"
    elif isinstance(failure, PermissionError):
        code = "source.rights"
    elif isinstance(failure, IsADirectoryError):
        code = "source.directory"
    else:
        code = "source.unreadable"
    return SourceError(code, path=host_path(path), reason=failure.strerror or str(failure))
