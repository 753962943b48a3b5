# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a session: the same for the same, and nobody's but its own markup."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import ExplorerError, KernelError
from explorer.core.names import show_name
from explorer.evidence.report import (
    CopiedFile,
    CopyRecord,
    Hashes,
    Problem,
    Report,
    VolumeRecord,
    to_html,
    to_json,
)
from explorer.writer.checking import record_copy
from tests.native.packer import Node, file, folder
from tests.writer.process import write
from tests.writer.test_process import to_folder

if TYPE_CHECKING:
    from pathlib import Path

SHA = bytes(range(32))
HOSTILE = b"</td><script>alert(1)</script>\xff\x1b[31m\xe2\x80\xae txt.exe&amp;\n"
REPORT = Report(
    program="lkl-explorer 1",
    kernel="6.12.1",
    written_ns=1_700_000_000_000_000_000,
    source="disk.img",
    format="qcow2",
    size=1 << 30,
    facts=("version: 3", "encrypted: no"),
    confined=("landlock", "seccomp"),
    unconfined=(),
    overlay_bytes=4096,
    refused_writes=1,
    written_bytes=0,
    hashes=(
        Hashes("disk.img, as stored", 5, {"sha256": SHA}, {"sha256": SHA}, {}),
        Hashes("the disk in it", 5, {"md5": b"1" * 16}, {}, {"md5": b"2" * 16}),
        Hashes("volume 1", 5, {}, {}, {}, ExplorerError("source.changed", path="x")),
    ),
    volumes=(
        VolumeRecord("1", "partition", "ext4", "<b>", "1-2", 1 << 20, 1 << 29, "recovered"),
        VolumeRecord("2", "partition", "", "", "", 1 << 29, 9, ""),
    ),
    copies=(
        CopyRecord(
            "1 ext4",
            b"/tmp/out",
            "folder",
            {"seen": 2, "copied": 1, "failed": 1},
            complete=False,
            files=(
                CopiedFile(b"/" + HOSTILE, HOSTILE, "file", "copied", 3, {"sha256": SHA}),
                CopiedFile(b"/no", b"", "file", "failed", 3, {}, "cannot be read"),
            ),
        ),
    ),
    problems=(
        Problem(HOSTILE, KernelError(errno=5, name="EIO", call="read", path=show_name(HOSTILE))),
    ),
)


class Elements(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[tuple[str, str | None]] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that begins."""
        self.tags.append(tag)
        self.attributes |= set(attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Hold it to the one that began last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep what the program filled in."""
        if self.open and self.open[-1] == "bdi":
            self.texts.append(data)


def test_the_same_session_has_the_same_report() -> None:
    later = replace(REPORT, written_ns=REPORT.written_ns + 10**9)
    for form in (to_json, to_html):
        assert form(REPORT) == form(replace(REPORT))
        lines = zip(form(REPORT).splitlines(), form(later).splitlines(), strict=True)
        different = [one for one, other in lines if one != other]
        assert all("ritten" in line for line in different)
        assert len(different) == (2 if form is to_json else 1)


def test_json_has_every_field() -> None:
    told = json.loads(to_json(REPORT))
    assert told["report"] == 1
    assert told["written"] == "2023-11-14T22:13:20.000000000Z"
    assert [one["verdict"] for one in told["hashes"]] == [
        "the same", "DIFFERENT: md5", "not hashed"
    ]  # fmt: skip
    (copy,) = told["copies"]
    assert copy["accounts"] == {"copied": 1, "failed": 1, "seen": 2}
    assert bytes.fromhex(copy["files"][0]["target_hex"]) == HOSTILE
    assert copy["files"][0]["digests"] == {"sha256": SHA.hex()}
    assert told["problems"][0]["error"]["params"]["errno"] == 5
    assert told["volumes"][1]["view"] == ""


def test_names_are_no_markup() -> None:
    page = Elements(to_html(REPORT))
    assert not page.open
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "tr", "th",
        "td", "bdi",
    }  # fmt: skip
    assert {name for name, _value in page.attributes} == {
        "lang", "charset", "http-equiv", "content", "class"
    }  # fmt: skip
    assert "/" + show_name(HOSTILE) in page.texts
    assert "\u202e" not in to_html(REPORT)
    assert "\x1b" not in to_html(REPORT)


@given(st.binary(max_size=60), st.text(max_size=60))
def test_no_name_changes_the_page(name: bytes, text: str) -> None:
    copy = replace(REPORT.copies[0], destination=name, files=(
        CopiedFile(name, name, text, text, 1, {}, text),
    ))  # fmt: skip
    volume = replace(REPORT.volumes[0], label=text, note=text)
    changed = replace(
        REPORT, source=text, facts=(text,), copies=(copy,), volumes=(volume,),
        problems=(Problem(name, ExplorerError(text)),),
    )  # fmt: skip
    plain = replace(copy, destination=b"", files=(CopiedFile(b"", b"", "", "", 1, {}),))
    wanted = replace(
        REPORT, copies=(plain,), facts=("",), volumes=(volume,), problems=REPORT.problems[:1]
    )
    page = Elements(to_html(changed))
    assert page.tags == Elements(to_html(wanted)).tags
    assert not page.open
    json.loads(to_json(changed))


def test_a_copy_is_told_by_its_manifest(built: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    tree = [folder(b"d", file(b"\xff", b"1")), Node(b"no", more={"size": 9}, result=(-5, 2))]
    records = []
    for form in ("csv", "json"):
        manifest = tmp_path / form
        job = to_folder(
            out, manifest=os.fsencode(manifest), manifest_form=form, digests=("sha256",),
            volume="1 ext4", conflicts="overwrite",
        )  # fmt: skip
        write(tree, job)
        records.append(record_copy(manifest, b"/out"))
    assert records[0] == records[1]
    record = records[0]
    assert (record.volume, record.sink, record.complete) == ("1 ext4", "folder", True)
    assert (record.accounts["seen"], record.accounts["failed"]) == (3, 1)
    by_path = {one.path: one for one in record.files}
    assert len(by_path[b"/d/\xff"].digests["sha256"]) == 32
    assert "/no" in by_path[b"/no"].error
