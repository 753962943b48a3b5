# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``diff``: two volumes, or two views of one, entry by entry."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from explorer.cli.codes import DONE, SOME_FAILED, USAGE
from explorer.cli.output import print_error, print_json_line
from explorer.cli.progress import Progress
from explorer.cli.session import open_source
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.objects import json_entry, json_name
from explorer.core.views import View
from explorer.evidence.comparison import compare_trees

if TYPE_CHECKING:
    from typing import Any

    from explorer.evidence.comparison import Difference


def diff(arguments: argparse.Namespace) -> int:
    """Print what differs; code 1 when anything does."""
    if not (arguments.views or arguments.against or arguments.against_volume):
        print_error("diff: with what? Give --against, --against-volume or --views")
        return USAGE
    found = errors = 0
    # Each side has a kernel of its own: one cannot mount copies of a file system beside each other.
    with (
        open_source(arguments, View.STORED if arguments.views else None) as source,
        open_source(_other_side(arguments), View.RECOVERED if arguments.views else None) as other,
        source.mount(source.choose(arguments.volume)) as left,
        other.mount(other.choose(_other_volume(arguments))) as right,
    ):
        progress = Progress(sys.stderr) if sys.stderr.isatty() and not sys.stdout.isatty() else None
        for difference in compare_trees(
            left.mount,
            right.mount,
            os.fsencode(arguments.path),
            content=arguments.content,
            ignore=arguments.ignore,
        ):
            found += 1
            errors += difference.error is not None
            if arguments.json:
                print_json_line(_json(difference))
            else:
                _print(difference)
            if progress:
                progress.show_count(found, found)
        if progress:
            progress.clear()
        overlay = other.stack.overlay_bytes()
    if arguments.json:
        counts = {"found": found, "errors": errors}
        if arguments.views:
            counts["overlay_bytes"] = overlay
        print_json_line({"summary": counts})
    elif arguments.views:
        entries = "1 entry differs" if found == 1 else f"{found} entries differ"
        print(f"{entries}; recovery changed {overlay} bytes, in memory")
    return SOME_FAILED if found else DONE


def _other_side(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments that name what is compared with."""
    if arguments.against is None:
        return arguments
    # What was chosen of the one image says nothing of the other.
    alone: dict[str, object] = {
        "format": None,
        "snapshot": None,
        "member": None,
        "more": [],
        "inside": [],
    }
    return argparse.Namespace(**{**vars(arguments), **alone, "image": arguments.against})


def _other_volume(arguments: argparse.Namespace) -> str | None:
    both = arguments.against is None and arguments.against_volume is None
    wanted: str | None = arguments.volume if both else arguments.against_volume
    return wanted


def _change(difference: Difference) -> str:
    if difference.left is None:
        return "added"
    if difference.right is None:
        return "removed"
    return "changed" if difference.facts else "not compared"


def _print(difference: Difference) -> None:
    path = show_name(difference.path)
    facts = f" ({', '.join(difference.facts)})" if difference.facts else ""
    print(f"{_change(difference)}: {path}{facts}")
    if difference.error is not None:
        print_error(describe(difference.error))


def _json(difference: Difference) -> dict[str, Any]:
    sides = {"left": difference.left, "right": difference.right}
    shown: dict[str, Any] = {
        **json_name(difference.path, "path"),
        "change": _change(difference),
        "differs": list(difference.facts),
        **{word: None if entry is None else json_entry(entry) for word, entry in sides.items()},
    }
    if difference.error is not None:
        shown["error"] = {"message": describe(difference.error), **difference.error.to_wire()}
    return shown
