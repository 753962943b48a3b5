# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The singular of the texts with a number, in the language they are written in.

Qt takes plurals from translations only, and the language of the source has none.
"""

from __future__ import annotations

from PySide6.QtCore import QTranslator

SINGULARS = {
    "%n engines ended at it": "%n engine ended at it",
    "%n entries": "%n entry",
    "%n entries selected": "%n entry selected",
    "%n failed": "%n failed",
    "%n hidden by the filter": "%n hidden by the filter",
    "%n items": "%n item",
    "%n left out": "%n left out",
    "%n of them exist in that folder.": "%n of them exists in that folder.",
    "%n selected": "%n selected",
    "%n volumes": "%n volume",
}


class EnglishPlurals(QTranslator):
    """Installed before the translations of other languages, which go first."""

    def translate(
        self,
        context: str,  # noqa: ARG002 - Qt's signature
        text: str,
        disambiguation: str | None = None,  # noqa: ARG002
        n: int = -1,
    ) -> str:
        """The singular for 1; nothing for any other number, which leaves the text as it is."""
        # None, though Qt's declaration wants a text: an empty one would be a translation.
        return SINGULARS.get(text) if n == 1 else None  # type: ignore[return-value]

    def isEmpty(self) -> bool:  # noqa: N802 - Qt's name
        """Not empty, though no file was loaded."""
        return False
