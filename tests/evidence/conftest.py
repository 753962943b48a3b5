# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of several kinds of evidence share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from explorer.volumes import Source, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.kernel import Mount


@pytest.fixture
def mount(built: None, unchanged: Callable[[Path], Path]) -> Iterator[Callable[[Path], Mount]]:
    """Mounts the only volume of an image, which must not change by it."""
    with ExitStack() as stack:

        def mount_image(path: Path) -> Mount:
            source = stack.enter_context(Source(Wanted(paths=(bytes(unchanged(path)),))))
            return stack.enter_context(source.mount(source.choose(None))).mount

        yield mount_image
