# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The bootstrap: what it decides, and what it says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.app.start import EXIT_NO_DISPLAY

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_dev() -> ModuleType:
    """The bootstrap as a module; its folder is no package, and bears the name of one of PyPI's."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "packaging" / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


dev = load_dev()


def test_the_end_without_a_screen_is_the_programs() -> None:
    assert dev.EXIT_NO_DISPLAY == EXIT_NO_DISPLAY


def test_packages_are_named_once_with_a_reason() -> None:
    names = [name for group in dev.PACKAGES for name in group.names]
    assert len(set(names)) == len(names)
    for group in dev.PACKAGES:
        assert group.reason


def test_installed_packages_include_what_they_provide() -> None:
    installed = dev.installed_packages()
    assert "dpkg" in installed
    # Provided by awk's implementations, never a package of its own.
    assert "awk" in installed


def test_only_missing_packages_are_asked_for() -> None:
    names = {name for group in dev.PACKAGES for name in group.names}
    assert dev.missing_packages(names) == []
    assert dev.missing_packages(names - {"bc", "xvfb"}) == ["bc", "xvfb"]


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("7 programs, 120 checks passed, 0 programs failed\n", dev.Counts(120, 0, 0)),
        ("7 programs, 96 checks passed, 2 programs failed\n", dev.Counts(96, 2, 0)),
        ("boot                         12 checks    0.10 s  ok\n", dev.Counts(0, 0, 0)),
        ("    7 programs, as if passed\n", dev.Counts(0, 0, 0)),
    ],
)
def test_sums_of_c_tests_are_read(line: str, counts: object) -> None:
    assert dev.count_checks(line) == counts


def test_the_sum_of_c_tests_is_what_their_runner_prints(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("#!/bin/sh\necho 'ok 1 - a'\necho 'ok 2 - b'\necho 1..2\n")
    bad.write_text("#!/bin/sh\necho 'ok 1 - a'\necho 'not ok 2 - b'\necho 1..2\nexit 1\n")
    for program in (good, bad):
        program.chmod(0o755)
    runner = ROOT / "liblkl" / "tests" / "run.py"
    done = subprocess.run(
        [sys.executable, runner, good, bad], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert dev.count_checks(done.stdout.splitlines()[-1]) == dev.Counts(3, 1, 0)


def make_program(folder: Path, name: str, script: str) -> None:
    """A program that is found first."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_rights_the_line_to_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_program(tmp_path, "dpkg-query", r"printf 'installed\tdpkg\t\n'")
    make_program(tmp_path, "sudo", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(dev.DevError) as caught:
        dev.install_packages()
    line = str(caught.value).splitlines()[-1].strip()
    assert line.startswith("sudo apt-get install -y --no-install-recommends linux-source-6.12 ")
    assert line.split()[5:] == dev.missing_packages(set())


def test_package_lists_are_fetched_when_a_package_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"
    make_program(tmp_path, "dpkg-query", r"printf 'installed\tdpkg\t\n'")
    make_program(
        tmp_path,
        "apt-get",
        f'echo "$1" >> {calls}; [ "$1" = update ] || grep -q update {calls}',
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(dev, "BUILD", tmp_path / "build")
    dev.install_packages()
    assert calls.read_text().split() == ["install", "update", "install"]
    assert "package lists: " in capfd.readouterr().out


def test_the_last_line_counts_passed_and_failed() -> None:
    total = dev.Counts(3, 1, 0)
    assert str(total) == "3 passed, 1 failed"
    total.add(dev.Counts(1, 0, 2))
    assert str(total) == "4 passed, 1 failed, 2 skipped"


def test_lines_come_one_by_one_and_the_last_may_lack_its_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\nthr")
    os.write(writer, b"ee")
    os.close(writer)
    ticks: list[None] = []
    assert list(dev.iter_lines(reader, lambda: ticks.append(None))) == [
        b"one\n",
        b"two\n",
        b"three\n",
    ]
    assert ticks
    os.close(reader)


def test_a_digest_depends_on_content_and_name() -> None:
    one, two = ROOT / "LICENSE", ROOT / "pyproject.toml"
    assert dev.digest(one) == dev.digest(one)
    assert dev.digest(one) != dev.digest(two)
    assert dev.digest(one, text="3.11") != dev.digest(one, text="3.12")


def test_a_step_that_fails_shows_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "BUILD", tmp_path)
    program = "print('the reason'); raise SystemExit(3)"
    with pytest.raises(dev.DevError, match=r"a bad step failed \(status 3\)"):
        dev.run_step("a bad step", [sys.executable, "-c", program])
    assert "the reason" in capfd.readouterr().err
    assert (tmp_path / "log" / "a-bad-step.log").read_text() == "the reason\n"


def test_a_step_shows_its_lines_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "BUILD", tmp_path)
    dev.run_step("stages", [sys.executable, "-c", "print('stage one')"], show=True)
    assert capfd.readouterr().out == "stage one\n"
    dev.run_step("quiet", [sys.executable, "-c", "print('detail')"])
    out = capfd.readouterr().out
    assert out.startswith("quiet: ")
    assert "detail" not in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3725, "62 min 5 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert dev.duration(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "status"), [((), 2), (("fly",), 2), (("--help",), 0), (("run", "a", "b"), 1)]
)
def test_wrong_use_is_answered_with_usage(arguments: tuple[str, ...], status: int) -> None:
    done = subprocess.run([ROOT / "dev", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status
    said = done.stdout + done.stderr
    assert "./dev setup" in said or "one image at most" in said


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [ROOT / "dev", "help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141
