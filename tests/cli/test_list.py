# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``info``, ``ls``, ``stat``, ``cat`` and ``self-test``."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from explorer.__main__ import COMMANDS, is_image
from explorer.cli.arguments import make_parser
from explorer.core.names import show_name
from explorer.core.times import iso_time, short_time
from explorer.native.locate import find_build, find_native
from tests.cli.conftest import ROOT
from tests.trees import LONGEST_NAME, make_empty, noise, run_tool
from tests.trees import ROOT as IS_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


def test_info_names_every_volume(
    run: Run, two_volumes: Path, unchanged: Callable[[Path], Path]
) -> None:
    found = run("info", unchanged(two_volumes))
    assert found.code == 0
    assert str(two_volumes) in found.lines[0]
    start = next(n for n, line in enumerate(found.lines) if line.split()[:1] == ["VOLUME"])
    rows = found.lines[start + 1 :]
    assert [row.split()[0:2] for row in rows[:4]] == [
        ["1", "ext4"], ["2", "ext2"], ["3", "swap"], ["4", "not"],
    ]  # fmt: skip
    # A label may not control the terminal.
    assert "second \\x1b[31m" in rows[1]


def test_info_as_json(run: Run, two_volumes: Path) -> None:
    found = run("info", "--json", two_volumes).json
    (image,) = found["images"]
    assert (image["path"], image["format"], image["size"]) == (str(two_volumes), "raw", 40 << 20)
    assert [table["type"] for table in found["tables"]] == ["gpt"]
    free = [one for one in found["volumes"] if one["kind"] == "free"]
    volumes = [one for one in found["volumes"] if one["kind"] == "partition"]
    assert len(free) + len(volumes) == len(found["volumes"])
    assert sum(one["size"] for one in free) < (40 << 20) - sum(one["size"] for one in volumes)
    assert [one["content"] for one in volumes] == ["ext4", "ext2", "swap", ""]
    assert [one["mountable"] for one in volumes] == [True, True, False, False]
    assert volumes[0]["start"] == 1 << 20
    assert volumes[0]["size"] == 8 << 20


def test_names_are_listed_safely_and_in_order(run: Run, ext4: Path, tree: Path) -> None:
    names = sorted([*os.listdir(os.fsencode(tree)), b"lost+found"])
    found = run("ls", ext4)
    assert found.code == 0
    assert found.lines == [show_name(name) for name in names]
    assert b"\x1b" not in found.output


def test_raw_names(run: Run, ext4: Path, tree: Path) -> None:
    names = sorted([*os.listdir(os.fsencode(tree)), b"lost+found"])
    assert run("ls", "-0", ext4).output == b"".join(name + b"\0" for name in names)


def test_raw_paths(run: Run, ext4: Path, tree: Path) -> None:
    found = run("ls", "-R", "-0", ext4, "/folder")
    top = os.fsencode(tree)
    wanted = set()
    for folder, folders, files in os.walk(top + b"/folder"):
        wanted |= {(folder + b"/" + name)[len(top) :] for name in folders + files}
    assert set(found.output.rstrip(b"\0").split(b"\0")) == wanted


def test_folders_are_listed_below_one_another(run: Run, ext4: Path) -> None:
    found = run("ls", "-R", ext4, "folder")
    assert found.lines == [
        "folder:", "deeper", "large", "repeated", "second name", "up", "",
        "folder/deeper:", "deepest", "third name", "",
        "folder/deeper/deepest:", "small",
    ]  # fmt: skip


def test_an_empty_folder_is_listed(run: Run, ext4: Path) -> None:
    assert run("ls", ext4, "/empty folder").output == b""
    assert run("ls", "-R", ext4, "/empty folder").lines == ["/empty folder:"]


def test_empty_folders_have_their_line(
    run: Run, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    top = tmp_path / "top"
    for folder in ("a/a1", "a/a2/a21", "b", "c/c1"):
        (top / folder).mkdir(parents=True)
    (top / "c" / "file").touch()
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    lines = run("ls", "-R", unchanged(image)).lines
    below = {
        "/": ["a", "b", "c", "lost+found"],
        "/a": ["a1", "a2"], "/a/a1": [], "/a/a2": ["a21"], "/a/a2/a21": [], "/b": [],
        "/c": ["c1", "file"], "/c/c1": [], "/lost+found": [],
    }  # fmt: skip
    found = {}
    for block in "\n".join(lines).split("\n\n"):
        head, *names = block.splitlines()
        assert head.endswith(":")
        found[head[:-1]] = names
    assert found == below
    # Each stands before what is in it.
    order = list(found)
    for path in order[1:]:
        assert order.index(os.path.dirname(path)) < order.index(path)


def test_a_folder_that_is_not_entered_is_told_of(
    run: Run, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    top = tmp_path / "top"
    for folder in ("a/inside", "b", "c"):
        (top / folder).mkdir(parents=True)
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    # A folder that stands in itself, as only a damaged file system has it.
    run_tool("debugfs", "-w", "-R", "link a a/again", image)
    found = run("ls", "-R", unchanged(image))
    assert found.code == 1
    assert len(found.errors.splitlines()) == 1
    assert "/a/again" in found.errors
    heads = {line for line in found.lines if line.startswith("/")}
    assert heads == {"/:", "/a:", "/a/inside:", "/b:", "/c:", "/lost+found:"}
    assert {"again", "inside"} <= set(found.lines)


def test_a_large_folder_is_one_table(
    run: Run, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    count = 2500
    for number in range(count):
        file = top / f"{number:04} \t"
        file.touch()
        file.chmod(0o644)
        # The last one alone needs the widest column.
        if number == count - 1:
            os.truncate(file, 1 << 20)
        os.utime(file, (number * 54321, number * 54321))
    image = make_empty(tmp_path / "image", 16 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    lines = run("ls", "-l", unchanged(image)).lines[:-1]
    owner = f"{os.geteuid()} {os.getegid()}"
    assert lines == [
        f"-rw-r--r-- 1 {owner} {1 << 20 if number == count - 1 else 0:7} "
        f"{short_time(number * 54321 * 10**9)} {number:04} \\t"
        for number in range(count)
    ]


def test_a_long_listing(run: Run, ext4: Path, tree: Path) -> None:
    rows = {row.split(" ", 1)[0]: row for row in run("ls", "-l", ext4, "/").lines}
    assert any(" to a file -> folder/large" in row for row in rows.values())
    by_name = {row.split(":")[-1][3:]: row for row in rows.values()}
    row = by_name["one byte"].split()
    info = (tree / "one byte").lstat()
    assert row[:5] == ["-rw-------", "1", str(info.st_uid), str(info.st_gid), "1"]
    assert " ".join(row[5:7]) == short_time(info.st_mtime_ns)


def test_a_single_file_is_listed(run: Run, ext4: Path) -> None:
    assert run("ls", ext4, "/folder/large").lines == ["large"]
    assert run("ls", "-l", ext4, "/to a file").lines[0].endswith("to a file -> folder/large")
    assert run("ls", ext4, "/absolute").lines == ["deepest", "third name"]


def test_a_listing_as_json(run: Run, ext4: Path, tree: Path) -> None:
    found = run("ls", "--json", ext4, "/").json
    assert found["errors"] == []
    by_name = {one["name"]: one for one in found["entries"]}
    odd = by_name["latin caf\\xe9 \\xff"]
    assert bytes.fromhex(odd["name_hex"]) == b"latin caf\xe9 \xff"
    assert "name_hex" not in by_name["line\nbreak"]
    assert by_name["to a file"]["target"] == "folder/large"
    info = (tree / "block").lstat()
    assert by_name["block"] | {"changed": "", "accessed": "", "born": "", "inode": 0} == {
        "name": "block", "type": "file", "mode": "4755", "uid": info.st_uid, "gid": info.st_gid,
        "links": 3, "inode": 0, "size": 4096, "allocated": 4096,
        "modified": iso_time(info.st_mtime_ns), "changed": "", "accessed": "", "born": "",
    }  # fmt: skip
    if IS_ROOT:
        assert (by_name["disk"]["major"], by_name["disk"]["minor"]) == (8, 17)


def test_stat(run: Run, ext4: Path, tree: Path) -> None:
    text = run("stat", ext4, "/one byte").output.decode()
    info = (tree / "one byte").lstat()
    owner = f"user {info.st_uid}, group {info.st_gid}"
    for part in ("/one byte", "1 bytes", "-rw-------", "0600", owner, "user.note = a value with "):
        assert part in text
    assert iso_time(info.st_mtime_ns) in text
    shown = run("stat", "--json", ext4, "/one byte").json
    assert {"name": "user.empty", "value_hex": ""} in shown["xattrs"]
    assert run("stat", "--json", ext4, "/broken").json["target"] == "no\\xffwhere\\n"


def test_cat(run: Run, ext4: Path) -> None:
    assert run("cat", ext4, "/folder/large").output == noise(3 * 2**20 + 17, 2)
    assert run("cat", ext4, "/to a file").output == noise(3 * 2**20 + 17, 2)
    assert run("cat", ext4, "empty").output == b""
    assert run("cat", ext4, f"/{LONGEST_NAME}").output == b"longest name\n"
    assert run("cat", ext4, b"/latin caf\xe9 \xff").output == b"not UTF-8\n"
    assert bytes.fromhex(run("cat", "--json", ext4, "/one byte").json["content_hex"]) == b"1"


def test_cat_of_a_sparse_file(run: Run, ext4: Path, tree: Path) -> None:
    found = run("cat", ext4, "/sparse").output
    with (tree / "sparse").open("rb") as file:
        assert hashlib.sha256(found).digest() == hashlib.file_digest(file, "sha256").digest()


@pytest.mark.parametrize("wanted", ["1", "first"])
def test_a_volume_is_chosen(run: Run, two_volumes: Path, wanted: str) -> None:
    assert run("ls", "--volume", wanted, two_volumes).lines == ["lost+found"]


def test_a_volume_is_chosen_by_uuid(run: Run, two_volumes: Path) -> None:
    uuid = run("info", "--json", two_volumes).json["volumes"][0]["uuid"]
    found = run("ls", "--json", "--volume", uuid.upper(), two_volumes).json
    assert found["volume"] == 1


def test_the_self_test_passes(run: Run, sample: Path, unchanged: Callable[[Path], Path]) -> None:
    unchanged(sample)
    found = run("self-test", "--json")
    report = found.json
    assert found.code == 0, report
    assert report["ok"] is True
    with open(report["kernel"]["image"], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert report["kernel"]["sha256"] == digest
    assert report["kernel"]["release"].startswith("6.12")
    assert report["kernel"]["boot_ms"] > 0
    assert [one["content"] for one in report["sample"]["volumes"]] == ["ext4", "btrfs"]
    assert all(one["entries"] > 50 for one in report["sample"]["volumes"])
    text = run("self-test").lines
    assert text[-1] == "self-test passed"
    confined = "engine  confined"
    missing = ", ".join(report["engine"]["missing"])
    assert (f"{confined}, without {missing}" if missing else confined) in text


def test_the_self_test_fails_when_a_byte_is_wrong(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = find_build()
    for path in (build.library, build.image, find_native()[0]):
        (tmp_path / path.name).symlink_to(path)
    content = bytearray(sample.read_bytes())
    known = content.index(bytes(range(256)) * 16)
    content[known + 1000] ^= 1
    (tmp_path / sample.name).write_bytes(content)
    monkeypatch.setenv("LKL_BUILD", str(tmp_path))
    found = run("self-test")
    assert found.code != 0
    assert found.lines[-1] == "self-test FAILED"
    assert found.errors == "lkl-explorer: /Data/All bytes.bin: wrong content\n"


def test_help_lists_exit_codes(run: Run) -> None:
    text = run("--help").output.decode()
    assert "exit codes" in text
    assert "141" in text
    assert run("--version").output.startswith(b"lkl-explorer ")


def test_a_reader_that_goes_away_ends_it_quietly(built: None, ext4: Path) -> None:
    commands: list[list[str | Path]] = [
        ["cat", ext4, "/folder/large"],
        ["ls", "-R", ext4],
        ["ls", "--json", ext4],
    ]
    for arguments in commands:
        process = subprocess.Popen(
            [sys.executable, "-m", "explorer", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=60) == 141
        assert errors == b""


def test_no_window_is_loaded_for_a_command(built: None, ext4: Path) -> None:
    program = (
        "import sys\nfrom explorer.__main__ import main\n"
        "code = main(['ls', sys.argv[1]])\n"
        "assert not [name for name in sys.modules if name.startswith('PySide6')]\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ext4], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_is_known_where_the_program_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["no such command"])
    choices = capsys.readouterr().err.partition("choose from")[2]
    assert set(re.findall(r"[a-z][a-z-]+", choices)) == COMMANDS
    assert not any(map(is_image, COMMANDS))
    assert is_image("disk.img")
    assert is_image("./ls")
    assert not is_image("--help")


def test_help_loads_no_kernel() -> None:
    program = (
        "import sys\nfrom explorer.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'cffi', 'PySide6', 'explorer.kernel'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
