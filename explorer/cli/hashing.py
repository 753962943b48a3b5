# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``hash`` and ``verify``: digests of the source, told with what was hashed."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from explorer.cli.codes import DONE, NOTHING_TO_COMPARE, SOME_FAILED
from explorer.cli.output import print_error, print_json_line
from explorer.cli.progress import Progress
from explorer.cli.session import open_images, open_source
from explorer.core.messages import describe
from explorer.evidence.hashing import quiet, source_hash, volume_hash
from explorer.evidence.verifying import find_expected, given_expected, verify

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from explorer.evidence.hashing import Hashed, TellProgress
    from explorer.evidence.verifying import Compared


@contextmanager
def shown_progress() -> Iterator[TellProgress]:
    """A bar on the terminal, where there is one; taken away at the end."""
    if not sys.stderr.isatty():
        yield quiet
        return
    progress = Progress(sys.stderr)
    try:
        yield progress.show_bytes
    finally:
        progress.clear()


def hash_image(arguments: Namespace) -> int:
    """Print digests of what the image is stored in, of its disk, and of a volume."""
    algorithms = tuple(dict.fromkeys(arguments.algorithms or ["sha256"]))
    results: list[Hashed] = []
    if arguments.volume is not None:
        with open_source(arguments) as source:
            volume = source.choose(arguments.volume)
            with shown_progress() as progress:
                results.append(volume_hash(source.stack, volume, algorithms, progress))
    else:
        with open_images(arguments) as images:
            for image in images:
                with shown_progress() as progress:
                    results += source_hash(
                        image,
                        algorithms,
                        stored=arguments.only != "disk",
                        disk=arguments.only != "stored",
                        progress=progress,
                    )
    for result in results:
        if arguments.json:
            print_json_line(json_hashed(result))
        elif not result.error:
            _print_hashed(result)
        if result.error:
            print_error(describe(result.error))
    return SOME_FAILED if any(result.error for result in results) else DONE


def json_hashed(result: Hashed) -> dict[str, Any]:
    """What was hashed, as a JSON object."""
    shown: dict[str, Any] = {"kind": result.kind, "name": result.name, "size": result.size}
    if result.format:
        shown["format"] = result.format
    if result.kind == "disk":
        shown["same_as_stored"] = result.same
    shown["digests"] = {name: digest.hex() for name, digest in result.digests.items()}
    if result.error:
        shown["error"] = {"message": describe(result.error), **result.error.to_wire()}
    return shown


def _print_hashed(result: Hashed) -> None:
    same = " (the same bytes)" if result.same else ""
    print(f"{result.title}: {result.size} bytes{same}")
    for name, digest in result.digests.items():
        print(f"  {name:<8} {digest.hex()}")


def verify_image(arguments: Namespace) -> int:
    """Compare the image with the digests that are known of it."""
    compared: list[Compared] = []
    with open_images(arguments) as images:
        for image in images:
            given = [given_expected(image, digest) for digest in arguments.expect]
            with shown_progress() as progress:
                compared += verify(image, given or find_expected(image), progress)
    for one in compared:
        if arguments.json:
            print_json_line(_json_compared(one))
        else:
            print("\n".join(_compared_lines(one)))
        for each in one.hashed:
            if each.error:
                print_error(describe(each.error))
    done = [one for one in compared if one.expected.algorithm]
    if not done:
        print_error(f"{arguments.image}: there is no digest to compare it with")
        return NOTHING_TO_COMPARE
    return DONE if all(one.matches for one in done) else SOME_FAILED


def _outcome(compared: Compared) -> str:
    if not compared.expected.algorithm:
        return "not compared"
    return "match" if compared.matches else "MISMATCH"


def _compared_lines(compared: Compared) -> list[str]:
    expected = compared.expected
    lines = [
        f"{_outcome(compared)}: {expected.algorithm} {expected.digest.hex()}, {expected.where}"
    ]
    if not expected.algorithm:
        lines = [f"not compared: {expected.digest.hex()}, {expected.where}, by another algorithm"]
    for each in compared.hashed:
        word = "is that of" if compared.matches else "is not that of"
        lines.append(f"  {word} {each.title}: {each.size} bytes")
        if not compared.matches and not each.error:
            lines.append(f"    which is {each.digests[expected.algorithm].hex()}")
    return lines


def _json_compared(compared: Compared) -> dict[str, Any]:
    expected = compared.expected
    return {
        "outcome": _outcome(compared).lower(),
        "algorithm": expected.algorithm,
        "expected": expected.digest.hex(),
        "from": expected.where,
        "file": expected.file,
        "compared_with": [json_hashed(each) for each in compared.hashed],
    }
