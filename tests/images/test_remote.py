# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images on a server, here one on the loopback: ranges, what is kept, and what is refused."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import MissingPart, SourceError, UnsupportedFeature
from explorer.core.messages import describe
from explorer.images.opening import Choices
from explorer.images.registry import open_image
from tests.images.checks import check_image
from tests.trees import noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = 5_000_001

remote = pytest.mark.proves("format", "http(s)", "ranges of a server's file")


class Site:
    """A server of a folder, which can be made to misbehave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        """The ranges asked for."""
        self.ranges = True
        self.tags = True
        self.cut = False
        """Whether answers end in the middle."""
        self.version = 1
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: object) -> None:
                """Says nothing."""

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, *, with_body: bool) -> None:
                path = site.folder / self.path.lstrip("/").partition("?")[0]
                tag = f'"v{site.version}"'
                if not path.is_file():
                    self.send_error(404)
                    return
                if site.tags and self.headers.get("If-Match", tag) != tag:
                    self.send_error(412)
                    return
                content = path.read_bytes()
                size = len(content)
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if wanted and site.ranges:
                    site.asked.append(wanted[0])
                    first, last = int(wanted[1]), min(int(wanted[2]), size - 1)
                    content = content[first : last + 1]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                else:
                    self.send_response(200)
                if site.tags:
                    self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if with_body and site.cut and len(content) > 1:
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                elif with_body:
                    self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "disk.img").write_bytes(noise(SIZE, 7))
    with ExitStack() as stack:
        made = Site(folder)
        stack.callback(made.close)
        yield made


@remote
def test_it_is_read_by_ranges(site: Site) -> None:
    with open_image(f"{site.url}/disk.img") as image:
        assert image.format == "raw"
        assert image.path == f"{site.url}/disk.img"
        check_image(image, site.folder / "disk.img")
    assert len(site.asked) > 2


@remote
def test_only_what_is_read_is_fetched_and_it_is_kept(site: Site, tmp_path: Path) -> None:
    choices = Choices(cache_folder=tmp_path / "cache")
    content = (site.folder / "disk.img").read_bytes()
    for _ in range(2):
        with open_image(f"{site.url}/disk.img", choices=choices) as image:
            assert image.read(4_500_000, 1000) == content[4_500_000:4_501_000]
            first = len(site.asked)
            assert image.read(4_600_000, 1000) == content[4_600_000:4_601_000]
            # Of the same block.
            assert len(site.asked) == first
    # What the second time asks for anew is whether ranges are given, the ends that tell the
    # format, and nothing else.
    before = list(site.asked)
    with open_image(f"{site.url}/disk.img", choices=choices) as image:
        image.read(4_500_000, 1000)
    assert site.asked[len(before) :] == ["bytes=1-1"]


@remote
def test_a_file_that_has_changed_is_not_mixed_with_what_was_kept(
    site: Site, tmp_path: Path
) -> None:
    choices = Choices(cache_folder=tmp_path / "cache")
    path = site.folder / "disk.img"
    with open_image(f"{site.url}/disk.img", choices=choices) as image:
        image.read(2_000_000, 10)
        path.write_bytes(noise(SIZE, 8))
        site.version = 2
        # Blocks that are there stay those of the file that was opened.
        with pytest.raises(SourceError) as caught:
            image.read(3_500_000, 10)
        assert "has changed" in describe(caught.value)
    with open_image(f"{site.url}/disk.img", choices=choices) as image:
        check_image(image, path)


@remote
def test_without_a_word_on_its_state_nothing_is_kept(site: Site, tmp_path: Path) -> None:
    site.tags = False
    choices = Choices(cache_folder=tmp_path / "cache")
    with open_image(f"{site.url}/disk.img", choices=choices) as image:
        image.read(2_000_000, 10)
    (site.folder / "disk.img").write_bytes(noise(SIZE, 9))
    with open_image(f"{site.url}/disk.img", choices=choices) as image:
        check_image(image, site.folder / "disk.img")


def no_ranges(site: Site) -> None:
    site.ranges = False


def no_file(site: Site) -> None:
    (site.folder / "disk.img").unlink()


@remote
@pytest.mark.parametrize(
    ("spoil", "code"), [(no_ranges, "source.no-ranges"), (no_file, "source.missing")]
)
def test_what_cannot_be_read_is_refused(
    site: Site, spoil: Callable[[Site], None], code: str
) -> None:
    spoil(site)
    with pytest.raises(SourceError) as caught:
        open_image(f"{site.url}/disk.img?key=secret")
    assert caught.value.code == code
    text = describe(caught.value)
    assert f"{site.url}/disk.img" in text
    assert "secret" not in text


@remote
def test_an_answer_that_ends_early_is_an_error_and_can_be_tried_again(site: Site) -> None:
    with open_image(f"{site.url}/disk.img") as image:
        site.cut = True
        with pytest.raises(SourceError):
            image.read(3_000_000, 100)
        site.cut = False
        content = (site.folder / "disk.img").read_bytes()
        assert image.read(3_000_000, 100) == content[3_000_000:3_000_100]


@remote
def test_nobody_answers(site: Site) -> None:
    site.close()
    with pytest.raises(SourceError) as caught:
        open_image(f"{site.url}/disk.img")
    assert caught.value.code == "source.unreadable"


@remote
def test_an_image_with_a_backing_image_beside_it(site: Site) -> None:
    folder = site.folder
    (folder / "base.raw").write_bytes(noise(1 << 20, 3))
    run_tool(
        "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw",
        str(folder / "top.qcow2"),
    )  # fmt: skip
    run_tool("qemu-io", "-c", "write -P 7 4096 65536", str(folder / "top.qcow2"))
    run_tool(
        "qemu-img", "convert", "-O", "raw", str(folder / "top.qcow2"), str(folder / "whole.raw")
    )
    with open_image(f"{site.url}/top.qcow2") as image:
        assert image.format == "qcow2"
        check_image(image, folder / "whole.raw")
    (folder / "base.raw").unlink()
    with pytest.raises(MissingPart):
        open_image(f"{site.url}/top.qcow2").read(0, 512)


@remote
def test_it_may_not_name_a_file_of_the_host(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(noise(1 << 20, 3))
    run_tool(
        "qemu-img", "create", "-q", "-f", "qcow2", "-b", str(tmp_path / "secret.raw"), "-F", "raw",
        str(site.folder / "top.qcow2"),
    )  # fmt: skip
    with pytest.raises((UnsupportedFeature, MissingPart)):
        open_image(f"{site.url}/top.qcow2").read(0, 512)
