# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A confined process tries what it must not, and its keeper is lied to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import RecordError
from explorer.host.processes import process_start
from explorer.keeper.rules import MOST, Abuse, Rules, Wanted
from explorer.keeper.wishes import (
    WISHES,
    AskState,
    FindModule,
    ListNames,
    NameSources,
    OpenNamed,
    OpenSource,
    decode_wish,
    encode,
)
from tests.engine.acts import NUMBERS, SENT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
IN_ORDER = {"code": 0, "signal": 0, "hangs": "", "memory": 0, "abuse": ""}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="how Linux confines")


@contextmanager
def begun(act: str, **wanted: object) -> Iterator[subprocess.Popen[str]]:
    """A keeper and a confined process that does an act of :mod:`tests.engine.acts`."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.engine.acts", act, json.dumps(wanted)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def confined(act: str, **wanted: object) -> tuple[Any, dict[str, Any]]:
    """What an act returned, None if it did not, and how the process ended."""
    with begun(act, **wanted) as process:
        output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    *said, ending = map(json.loads, output.splitlines())
    return (said[-1] if said else None), ending


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Something to read, in a folder of its own."""
    folder = tmp_path / "images"
    folder.mkdir()
    path = folder / "source.img"
    path.write_bytes(b"evidence" * 512)
    return path


# ---- System calls


def test_the_numbers_are_those_of_this_system() -> None:
    """A call that there is not would be refused for the wrong reason."""
    found = subprocess.run(
        ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", os.devnull],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = {name: int(number) for name, number in re.findall(r"__NR_(\w+) (\d+)", found)}
    place = 0 if os.uname().machine == "x86_64" else 1
    for name, numbers in NUMBERS.items():
        # Headers may be older than what is forbidden.
        if name in known:
            assert known[name] == numbers[place], name
    assert len(known.keys() & NUMBERS) > 50


def test_nothing_that_is_forbidden_is_done(built: None, source: Path) -> None:
    before = source.read_bytes(), source.stat()
    results, ending = confined("calls", sources=[str(source)])
    assert ending == IN_ORDER
    by_name = re.compile(r"open(?! by handle| a tree)|look|read a link|execute( what is open)?$")
    for what, result in results.items():
        if what.startswith("write to the source"):
            assert result == "EBADF", what
        elif what == "fork, newer":
            # The C library then makes its threads in the way that can be looked into.
            assert result == "ENOSYS"
        elif by_name.match(what):
            assert result == "EACCES", what
        else:
            assert result == "EPERM", what
    after = source.read_bytes(), source.stat()
    assert before[0] == after[0]
    assert before[1].st_mtime_ns == after[1].st_mtime_ns


def test_kernels_boot_and_no_memory_is_both_written_and_executed(built: None) -> None:
    with begun("boots") as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        maps = Path(f"/proc/{number}/maps").read_text()
        status = Path(f"/proc/{number}/status").read_text()
        output, _errors = process.communicate(timeout=60)
    assert maps.count("lkl-kernel.so") >= 2
    assert not re.search(r"^\S+ .wx", maps, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    first, second = json.loads(output.splitlines()[0])
    assert first == second


@pytest.mark.parametrize(
    ("without", "results"),
    [
        ((), ["EACCES", "EPERM", "EPERM"]),
        # Each of the two forbids most of what the other does.
        (("seccomp",), ["EACCES", "EPERM", "EACCES"]),
        (("landlock",), ["EACCES", "EPERM", "EPERM"]),
        (("landlock", "seccomp", "no-new-privileges", "limits"), [3, 0, "ECONNREFUSED"]),
    ],
)
def test_a_host_that_lacks_a_part_is_told_of_and_used(
    built: None, source: Path, without: tuple[str, ...], results: list[object]
) -> None:
    (missing, *found), ending = confined("opens", sources=[str(source)], without=without)
    assert ending == IN_ORDER
    # Without the filter, memory could be made executable again.
    lacking = {*without, "code"} if "seccomp" in without else set(without)
    assert set(missing) == lacking
    if isinstance(results[0], int):
        assert isinstance(found[0], int)
        results[0] = found[0]
    assert found == results


def test_all_code_that_reads_images_can_be_imported(built: None) -> None:
    rooms = ("cli", "core", "engine", "evidence", "images", "kernel", "volumes", "wire")
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in rooms
        for path in sorted((ROOT / "explorer" / room).glob("[a-z]*.py"))
    ]
    assert len(names) > 100
    found, ending = confined("imports", names=names)
    assert ending == IN_ORDER
    assert set(names) <= set(found)
    # One that a kernel under GPL-2.0-only could not stand beside.
    assert "_ssl" not in found
    assert "_hashlib" not in found


# ---- Bounds and ends


def test_memory_has_a_bound(built: None) -> None:
    assert confined("fills_own", memory=1 << 30) == ("no more", IN_ORDER)


def test_memory_that_is_not_its_own_is_counted(built: None) -> None:
    result, ending = confined("fills_shared", memory=512 << 20)
    assert result is None
    assert ending["memory"] > 512 << 20


def test_a_crash_is_told_by_its_signal(built: None) -> None:
    result, ending = confined("crashes")
    assert result is None
    assert ending == {**IN_ORDER, "signal": signal.SIGSEGV}


def has_ended(process: int, start: int | None) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(1000):
        # One that nobody waits for keeps its number.
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z" or process_start(process) != start:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_keeper(built: None, number: signal.Signals) -> None:
    with begun("waits") as process:
        assert process.stdout is not None
        confined_one = int(process.stdout.readline())
        start = process_start(confined_one)
        process.send_signal(number)
        assert has_ended(confined_one, start)


def test_it_is_ended_when_it_leaves_its_keeper(built: None) -> None:
    result, ending = confined("leaves_keeper")
    assert result is None
    assert ending["abuse"]


# ---- Wishes


def test_files_are_had_by_the_rules_alone(built: None, source: Path, tmp_path: Path) -> None:
    folder = source.parent
    (folder / "part").write_bytes(b"12345")
    (folder / "below").mkdir()
    (folder / "below" / "part").write_bytes(b"1234567")
    (tmp_path / "secret").write_bytes(b"123456789")
    (folder / "link").symlink_to("../secret")
    (folder / "chain").symlink_to("link")
    (folder / "way").symlink_to("..")
    (folder / "inward").symlink_to("below/part")
    os.mkfifo(folder / "fifo")
    inside = {
        "part": "5",
        "below/part": "7",
        str(folder / "part"): "5",
        "below/../part": "5",
        "inward": "7",
        "missing": "image.missing-part",
        "below": "source.directory",
        "fifo": "source.kind",
        "": "image.consent",
        "part\0": "image.missing-part",
    }
    outside = {
        "../secret": "9",
        str(tmp_path / "secret"): "9",
        "link": "9",
        "chain": "9",
        "way/secret": "9",
        "below/../../secret": "9",
    }
    refused = {
        "/etc/passwd": "image.consent",
        "../../../../../../../etc/passwd": "image.consent",
        "/proc/self/mem": "image.consent",
        "/dev/zero": "image.consent",
    }
    names = [*inside, *outside, *refused]
    found, ending = confined("asks_for_files", sources=[str(source)], names=names)
    assert ending == IN_ORDER
    assert found.pop("names") == "below chain fifo inward link part source.img way"
    assert found.pop("another source") == "source.rights"
    assert found == inside | dict.fromkeys(outside, "image.consent") | refused
    # The user's consent is for a folder, and for what is below it.
    found, ending = confined(
        "asks_for_files", sources=[str(source)], names=names, allowed=[str(tmp_path)]
    )
    assert ending == IN_ORDER
    del found["names"], found["another source"]
    assert found.pop("") in ("source.directory", "image.consent")
    del inside[""]
    assert found == inside | outside | refused


def test_only_its_own_installation_can_be_looked_at(built: None) -> None:
    found, ending = confined("looks_at_installation")
    assert ending == IN_ORDER
    assert found == {
        "of its own": "colorsys.py",
        "state": True,
        "no such": False,
        "another's": 0,
        "by a way around": 0,
    }


@pytest.mark.parametrize("act", SENT)
def test_what_is_no_wish_in_order_is_its_end(built: None, source: Path, act: str) -> None:
    result, ending = confined(act, sources=[str(source)])
    assert result is None
    assert ending["abuse"]
    assert not ending["signal"]


def test_sources_are_named_before_any_is_read(built: None, source: Path) -> None:
    result, ending = confined("names_sources_again", sources=[str(source)], named=False)
    assert result is None
    assert "under an image's control" in ending["abuse"]


def test_a_flood_of_wishes_is_its_end(built: None) -> None:
    result, ending = confined("floods")
    assert result is None
    assert ending["abuse"] == f"more than {MOST[FindModule]} times FindModule"


def test_descriptors_that_it_hands_over_are_not_kept(built: None, source: Path) -> None:
    # Fifty with each of two thousand wishes are more than any process may have.
    assert confined("hands_over", sources=[str(source)]) == ("all taken", IN_ORDER)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_bytes_are_a_wish_or_refused(data: bytes) -> None:
    buffer = bytearray(data)
    try:
        while decode_wish(buffer) is not None:
            pass
    except RecordError:
        pass


@given(st.sampled_from(sorted(WISHES)), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_fields_are_those_of_a_wish_or_refused(number: int, fields: bytes) -> None:
    buffer = bytearray(bytes([number]) + len(fields).to_bytes(4, "little") + bytes(4) + fields)
    try:
        wish = decode_wish(buffer)
    except RecordError:
        return
    assert wish is not None
    assert decode_wish(bytearray(encode(wish))) == wish


_NUMBERS = st.integers(0, 5)
_TEXTS = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=9)
_NAMES = st.binary(max_size=20) | st.sampled_from(
    [b"part", b"../secret", b"/etc/passwd", b".", b"..", b"", b"link", b"\0", b"a/" * 40]
)
_ANY_WISHES = st.one_of(
    st.builds(OpenSource, _NUMBERS),
    st.builds(OpenNamed, _NUMBERS, _NAMES, _TEXTS, _TEXTS),
    st.builds(ListNames, _NUMBERS, st.booleans()),
    st.builds(AskState, _NAMES.filter(bool)),
    st.builds(NameSources, st.lists(_NAMES).map(tuple), st.lists(_NAMES).map(tuple)),
)


@given(st.lists(_ANY_WISHES, max_size=30))
@settings(max_examples=100, deadline=None)
def test_whatever_is_wished_nothing_outside_is_given(
    tmp_path_factory: pytest.TempPathFactory, wishes: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "secret").write_bytes(b"secret")
    inside = folder / "images"
    inside.mkdir()
    (inside / "source").write_bytes(b"source")
    (inside / "part").write_bytes(b"part")
    (inside / "link").symlink_to("../secret")
    wanted = Wanted(paths=(os.fsencode(inside / "source"),), allowed=())
    with Rules(wanted) as rules:
        for wish in wishes:
            try:
                grant = rules.grant(wish)
            except Abuse:
                break
            for descriptor in grant.descriptors:
                assert os.pread(descriptor, 10, 0) in (b"source", b"part")
                os.close(descriptor)
