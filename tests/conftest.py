# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ExplorerError
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.native.locate import find_build
from explorer.volumes import Stack, select_volume
from tests import makers, trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.volumes import MountedVolume


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what programs would keep for the next time out of the user's own folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def built() -> None:
    """Skips a test where the kernel is not built."""
    try:
        find_build()
    except ExplorerError as error:
        pytest.skip(str(error))


@pytest.fixture
def kernel(built: None) -> Iterator[Kernel]:
    """A running kernel of the test's own."""
    with Kernel() as running:
        yield running


@pytest.fixture
def unchanged() -> Iterator[Callable[[Path], Path]]:
    """Holds images to their bytes and time: each given path is compared when the test ends."""
    seen: list[tuple[Path, str, int]] = []

    def watch(path: Path) -> Path:
        seen.append((path, trees.sha256(path), path.stat().st_mtime_ns))
        return path

    yield watch
    for path, digest, moment in seen:
        assert path.stat().st_mtime_ns == moment, f"{path} was touched"
        assert trees.sha256(path) == digest, f"{path} was changed"


@pytest.fixture
def mounted(
    kernel: Kernel, unchanged: Callable[[Path], Path]
) -> Iterator[Callable[[Path], MountedVolume]]:
    """Mounts the only volume of an image, which must not change by it."""
    with ExitStack() as stack:

        def mount(path: Path, wanted: str | None = None) -> MountedVolume:
            image = stack.enter_context(open_image(unchanged(path)))
            disk = stack.enter_context(Stack(kernel, [image]))
            volume = select_volume(image.path, disk.volumes(), wanted)
            return stack.enter_context(disk.mount(volume))

        yield mount


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with all that a file system may be asked to keep."""
    top = tmp_path_factory.mktemp("tree") / "top"
    top.mkdir()
    trees.make_tree(top)
    return top


@pytest.fixture(scope="session")
def modest_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of what most file systems know."""
    top = tmp_path_factory.mktemp("modest") / "top"
    top.mkdir()
    trees.make_modest_tree(top)
    return top


@pytest.fixture(scope="session")
def image_of(
    built: None, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Images of the tree by the name of their file system, each made once."""
    folder = tmp_path_factory.mktemp("images")
    made: dict[str, Path] = {}

    def image(name: str) -> Path:
        if name not in made:
            made[name] = makers.MAKERS[name](tree, folder / f"{name}.img")
        return made[name]

    return image
