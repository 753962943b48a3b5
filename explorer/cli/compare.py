# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``compare``: a volume as stored beside the same volume recovered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.cli.codes import DONE, SOME_FAILED
from explorer.cli.output import print_error, print_json
from explorer.cli.session import open_source
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.objects import json_entry, json_name
from explorer.core.views import View
from explorer.volumes.comparison import compare_mounts

if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from explorer.volumes.comparison import Difference


def compare(arguments: Namespace) -> int:
    """Print what recovery changes; code 1 when it changes anything."""
    shown: list[dict[str, Any]] = []
    found = 0
    with (
        open_source(arguments, View.STORED) as stored,
        open_source(arguments, View.RECOVERED) as recovered,
        stored.mount(stored.choose(arguments.volume)) as left,
        recovered.mount(recovered.choose(arguments.volume)) as right,
    ):
        for difference in compare_mounts(left.mount, right.mount):
            found += 1
            if arguments.json:
                shown.append(_json(difference))
            else:
                _print(difference)
        overlay = recovered.stack.overlay_bytes()
    if arguments.json:
        print_json({"differences": shown, "overlay_bytes": overlay})
    else:
        entries = "1 entry differs" if found == 1 else f"{found} entries differ"
        print(f"{entries}; recovery changed {overlay} bytes, in memory")
    return SOME_FAILED if found else DONE


def _print(difference: Difference) -> None:
    path = show_name(difference.path)
    if difference.left is None:
        print(f"only recovered: {path}")
    elif difference.right is None:
        print(f"only as stored: {path}")
    else:
        print(f"differs: {path} ({', '.join(difference.facts) or 'cannot be compared'})")
    if difference.error is not None:
        print_error(describe(difference.error))


def _json(difference: Difference) -> dict[str, Any]:
    sides = {"stored": difference.left, "recovered": difference.right}
    shown: dict[str, Any] = {
        **json_name(difference.path, "path"),
        "differs": list(difference.facts),
        **{word: None if entry is None else json_entry(entry) for word, entry in sides.items()},
    }
    if difference.error is not None:
        shown["error"] = describe(difference.error)
    return shown
