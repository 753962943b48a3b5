# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Inventories, beside what the host knows of the tree; attributes, beside what their tools say."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import stat
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from explorer.evidence.attributes import describe_attribute
from explorer.evidence.inventory import csv_columns, inventory
from explorer.evidence.owners import read_owners
from tests.trees import ROOT, find_tool, make_empty, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.evidence.inventory import Form
    from explorer.kernel import Mount

    MountImage = Callable[[Path], Mount]

ALGORITHMS = ("sha256", "md5")


def text_of(mount: Mount, form: Form, algorithms: tuple[str, ...] = ALGORITHMS) -> str:
    rows = list(inventory(mount, form=form, algorithms=algorithms))
    assert not any(row.failures for row in rows)
    return b"".join(row.text for row in rows).decode()


def by_path(rows: list[dict[str, Any]]) -> dict[bytes, dict[str, Any]]:
    return {
        bytes.fromhex(row["path_hex"]) if row.get("path_hex") else row["path"].encode(): row
        for row in rows
    }


@pytest.mark.skipif(not ROOT, reason="owners")
@pytest.mark.parametrize("maker", ["ext4-written", "xfs", "btrfs-written"])
def test_inventory_has_what_the_host_has(
    maker: str, image_of: Callable[[str], Path], tree: Path, mount: MountImage
) -> None:
    mounted = mount(image_of(maker))
    reader = csv.DictReader(io.StringIO(text_of(mounted, "csv"), newline=""))
    assert reader.fieldnames == csv_columns(ALGORITHMS)
    rows = by_path(list(reader))
    objects = by_path([json.loads(line) for line in text_of(mounted, "json").splitlines()])
    assert rows.keys() == objects.keys()
    top = os.fsencode(tree)
    paths = {b"/"}
    for folder, folders, files in os.walk(top):
        paths |= {(folder + b"/" + name)[len(top) :] for name in folders + files}
    assert paths == rows.keys() - {b"/lost+found"}
    for path in paths:
        row, shown, info = rows[path], objects[path], os.lstat(top + path)
        assert int(row["mode"], 8) == int(shown["mode"], 8) == stat.S_IMODE(info.st_mode)
        assert (int(row["uid"]), int(row["gid"])) == (info.st_uid, info.st_gid)
        assert int(row["modified_ns"]) == shown["modified_ns"] == info.st_mtime_ns
        if stat.S_ISREG(info.st_mode):
            with open(top + path, "rb") as file:
                content = file.read()
            assert int(row["size"]) == shown["size"] == len(content)
            assert row["sha256"] == shown["sha256"] == hashlib.sha256(content).hexdigest()
            assert row["md5"] == shown["md5"] == hashlib.md5(content).hexdigest()
            assert int(row["links"]) == info.st_nlink
        else:
            assert not row["sha256"]
            assert "sha256" not in shown
        if stat.S_ISLNK(info.st_mode):
            target = bytes.fromhex(row["target_hex"]) or row["target"].encode()
            assert target == os.readlink(top + path)
        if stat.S_ISCHR(info.st_mode):
            assert (row["major"], row["minor"]) == ("4", "67")
        xattrs = {
            one["name"]: bytes.fromhex(one["value_hex"])
            for one in json.loads(row["xattrs"] or "[]")
        }
        assert shown.get("xattrs", []) == json.loads(row["xattrs"] or "[]")
        assert xattrs == {
            name: os.getxattr(top + path, name, follow_symlinks=False)
            for name in os.listxattr(top + path, follow_symlinks=False)
        }


def test_owners_have_the_names_that_the_volume_knows(tmp_path: Path, mount: MountImage) -> None:
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").write_bytes(
        b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nbad line\n:x:5:5::\n"
        b"esc\x1b:x:7:7::/:\nhuge:x:99999999999999999999:1::\nnone:x:-1:1::\n"
    )
    # As many systems have it.
    (top / "etc" / "group").symlink_to("/lists/group")
    (top / "lists").mkdir()
    (top / "lists" / "group").write_text("wheel:x:0:\nstaff:x:50:root\n")
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    mounted = mount(image)
    assert read_owners(mounted) == (
        {0: "root", 7: "esc\\x1b"},
        {0: "wheel", 50: "staff"},
    )
    (row,) = (
        json.loads(line)
        for line in text_of(mounted, "json", ()).splitlines()
        if json.loads(line)["path"] == "/lost+found"
    )
    assert (row["user"], row["group"]) == ("root", "wheel")


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, mount: MountImage) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "bad").write_bytes(b"x" * 100_000)
    (top / "good").write_bytes(b"good")
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", top, image)
    # One of its blocks is beyond the end of the file system; so says the block that lists them.
    (indirect,) = re.findall(r"\(IND\):(\d+)", run_tool("debugfs", "-R", "stat /bad", image))
    with image.open("r+b") as file:
        file.seek(int(indirect) * 1024 + 40)
        file.write(b"\xff\xff\xff\x7f")
    # And one has a block that shows as soon as it is looked at.
    (top / "worse").write_bytes(b"x" * 5000)
    run_tool("debugfs", "-w", "-R", f"write {top}/worse worse", image)
    run_tool("debugfs", "-w", "-R", "sif /worse block[2] 0x7fffffff", image)
    rows = list(inventory(mount(image), algorithms=("sha256",)))
    assert [one.path for row in rows for one in row.failures] == [b"/worse", b"/bad"]
    found = by_path(
        list(csv.DictReader(io.StringIO(b"".join(row.text for row in rows).decode(), newline="")))
    )
    assert found[b"/good"]["sha256"] == hashlib.sha256(b"good").hexdigest()
    assert found[b"/bad"]["sha256"] == ""
    assert found[b"/bad"]["size"] == "100000"
    # Nothing is known of it but where it is.
    worse = found[b"/worse"]
    assert (worse["size"], worse["mode"], worse["uid"], worse["modified"]) == ("", "", "", "")
    assert worse["inode"]


# ---- Attributes


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
ACL = acl(
    (0x01, 6, NOBODY), (0x02, 7, 1234), (0x04, 5, NOBODY), (0x08, 4, 99), (0x10, 7, NOBODY),
    (0x20, 0, NOBODY),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            b"system.posix_acl_access",
            ACL,
            "user::rw-,user:1234:rwx,group::r-x,group:99:r--,mask::rwx,other::---",
        ),
        (b"system.posix_acl_default", acl(), ""),
        (b"system.posix_acl_access", b"", None),
        (b"system.posix_acl_access", ACL[:-1], None),
        (b"system.posix_acl_access", struct.pack("<I", 3), None),
        (b"system.posix_acl_access", acl((0x40, 7, 0)), None),
        (b"system.posix_acl_access", acl((0x01, 8, 0)), None),
        (b"security.selinux", b"system_u:object_r:etc_t:s0\0", "system_u:object_r:etc_t:s0"),
        (b"security.selinux", b"\xff\0", None),
        (b"security.selinux", b"a\x1b[31m", None),
        (b"user.note", "Größe".encode(), "Größe"),
        (b"user.note", b"", ""),
        (b"user.note", b"\0", None),
        (
            b"security.capability",
            struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0),
            "cap_net_raw=ep",
        ),
        (
            b"security.capability",
            struct.pack("<5I", 0x02000000, 1 << 13 | 1, 1, 1 << 6 | 1 << 31, 0),
            "cap_chown=ip cap_net_raw,cap_perfmon,63=p",
        ),
        (
            b"security.capability",
            struct.pack("<6I", 0x03000001, 1 << 10, 0, 0, 0, 100000),
            "cap_net_bind_service=ep [rootid=100000]",
        ),
        (b"security.capability", struct.pack("<3I", 0x01000000, 2, 0), "cap_dac_override=p"),
        (b"security.capability", struct.pack("<3I", 0x02000000, 2, 0), None),
        (b"security.capability", struct.pack("<3I", 0x09000000, 2, 0), None),
        (b"security.capability", b"", None),
        (b"security.ima", b"\x03\x02", None),
    ],
)
def test_attributes_say_what_they_mean(name: bytes, value: bytes, text: str | None) -> None:
    assert describe_attribute(name, value) == text


@pytest.mark.skipif(not ROOT, reason="the right to set capabilities")
@pytest.mark.parametrize(
    "text", ["cap_net_raw=ep", "cap_chown,cap_bpf=eip", "cap_sys_admin=p", "cap_net_admin=i"]
)
def test_capabilities_are_those_that_setcap_set(text: str, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.touch()
    done = subprocess.run(
        [find_tool("setcap"), text, path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(done.stderr)
    value = os.getxattr(path, "security.capability")
    assert describe_attribute(b"security.capability", value) == text
