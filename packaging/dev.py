# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of ./dev: from a fresh clone to a window, to all tests, to figures.

Standard library only, for it runs before anything is installed. Every command begins with
setup, which does only what is missing: Debian packages, the Python environment, the kernel,
the sample image.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
EXPLORER = VENV / "bin" / "lkl-explorer"
LOCK = ROOT / "requirements.lock"
MAKE = ("make", "-C", ROOT / "liblkl", "--no-print-directory")
SAMPLE = BUILD / "sample.img"
SAMPLE_SOURCE = ROOT / "resources" / "sample"

EXIT_NO_DISPLAY = 69
"""How lkl-explorer ends when it cannot show a window."""

EXIT_USAGE = 2
# As a shell tells of SIGINT and SIGPIPE.
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141

USAGE = """\
usage: ./dev setup                    install what is missing, build the kernel
       ./dev run [IMAGE]              open the window on IMAGE, or on a sample
       ./dev test [PYTEST ARGUMENTS]  run all tests, or those pytest is told
       ./dev bench [--quick]          measure, beside other tools
"""


@dataclass(frozen=True)
class Packages:
    """Debian packages that are needed for one reason."""

    reason: str
    names: tuple[str, ...]


PACKAGES = (
    Packages(
        "the kernel: its source, and what its build calls",
        ("linux-source-6.12", "bc", "bison", "flex", "libelf-dev", "perl", "xz-utils"),
    ),
    Packages(
        "C: the compiler, and a cache that makes the second kernel build quick",
        ("build-essential", "ccache"),
    ),
    Packages(
        "digests of files and images",
        ("libgcrypt20-dev",),
    ),
    Packages(
        "Qt's wheels: the libraries they take from the system",
        (
            "fontconfig",
            "fonts-dejavu-core",
            "libdbus-1-3",
            "libegl1",
            "libfontconfig1",
            "libfreetype6",
            "libgl1",
            "libglib2.0-0",
            "libopengl0",
            "libwayland-client0",
            "libwayland-cursor0",
            "libx11-6",
            "libx11-xcb1",
            "libxcb-cursor0",
            "libxcb-icccm4",
            "libxcb-image0",
            "libxcb-keysyms1",
            "libxcb-randr0",
            "libxcb-render-util0",
            "libxcb-shape0",
            "libxcb-xinerama0",
            "libxcb-xkb1",
            "libxkbcommon-x11-0",
            "libxkbcommon0",
        ),
    ),
    Packages(
        "tests and the sample: tools that make images, second readers, a screen",
        (
            "android-sdk-libsparse-utils",
            "btrfs-progs",
            "bzip2",
            "cryptsetup-bin",
            "dosfstools",
            "e2fsprogs",
            "erofs-utils",
            "ewf-tools",
            "exfatprogs",
            "f2fs-tools",
            "fdisk",
            "gdisk",
            "genisoimage",
            "genromfs",
            "git",
            "grub-common",
            "hfsutils",
            "jfsutils",
            "lvm2",
            "lz4",
            "makefs",
            "mdadm",
            "mtools",
            "nilfs-tools",
            "ntfs-3g",
            "p7zip-full",
            "parted",
            "pixz",
            "qemu-utils",
            "reiserfsprogs",
            "sleuthkit",
            "squashfs-tools",
            "tabix",
            "thin-provisioning-tools",
            "udftools",
            "unadf",
            "util-linux-extra",
            "xauth",
            "xdotool",
            "xfsprogs",
            "xorriso",
            "xvfb",
            "zip",
            "zstd",
        ),
    ),
)


class DevError(Exception):
    """A command cannot go on; its text says why and what to do."""


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit status."""
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "setup": command_setup,
        "run": command_run,
        "test": command_test,
        "bench": command_bench,
    }
    try:
        if not arguments or arguments[0] not in commands:
            asked = bool(arguments) and arguments[0] in ("-h", "--help", "help")
            print(USAGE, end="", flush=True, file=sys.stdout if asked else sys.stderr)
            return 0 if asked else EXIT_USAGE
        return commands[arguments[0]](arguments[1:])
    except DevError as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output left; Python shall not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED


# ---- Commands -----------------------------------------------------------------------------


def command_setup(arguments: Sequence[str]) -> int:
    """Installs and builds what is missing or out of date."""
    if arguments:
        raise DevError(f"setup takes no arguments: {shlex.join(arguments)}")
    setup()
    return 0


def command_run(arguments: Sequence[str]) -> int:
    """Opens the window; without a screen, lists the image instead."""
    if len(arguments) > 1:
        raise DevError(f"run takes one image at most: {shlex.join(arguments)}")
    image = Path(arguments[0]).absolute() if arguments else SAMPLE
    setup()
    status = subprocess.call((EXPLORER, image))
    if status != EXIT_NO_DISPLAY:
        return status
    say(f"Without a screen, here is what is in {image}:")
    return list_volumes(image)


def command_test(arguments: Sequence[str]) -> int:
    """Runs all tests; with arguments, only pytest, with these."""
    setup()
    with test_environment() as environment:
        if arguments:
            return call((PYTHON, "-m", "pytest", *arguments), environment)
        return run_all_tests(environment)


def command_bench(arguments: Sequence[str]) -> int:
    """Measures, beside other tools, and prints a table."""
    setup()
    return call((PYTHON, "-m", "tests.bench", *arguments), os.environ)


# ---- Setup --------------------------------------------------------------------------------


def setup() -> None:
    """Brings packages, environment, kernel and sample up to date."""
    install_packages()
    install_environment()
    run_step("kernel", (*MAKE, "--silent"), show=True)
    make_sample()


def install_packages() -> None:
    """Installs the Debian packages that are missing, or says which."""
    if shutil.which("dpkg-query") is None:
        say("packages: not a Debian, so not checked; needed there:")
        for group in PACKAGES:
            say(f"  {' '.join(group.names)}  ({group.reason})")
        return
    missing = missing_packages(installed_packages())
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() == 0:
        prefix = ["env", "DEBIAN_FRONTEND=noninteractive"]
    elif subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        prefix = ["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"]
    else:
        raise DevError(f"packages are missing; install them:\n  sudo {shlex.join(install)}")
    try:
        run_step("packages", prefix + install)
    except DevError:
        # A fresh or an old system does not know today's versions.
        run_step("package lists", [*prefix, "apt-get", "update"])
        run_step("packages", prefix + install)


def installed_packages() -> set[str]:
    """Names of the Debian packages installed, with those they provide."""
    listing = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Status}\t${Package}\t${Provides}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = set()
    for line in listing.splitlines():
        status, name, provides = line.split("\t")
        if status == "installed":
            names.add(name)
            names.update(item.split()[0].partition(":")[0] for item in provides.split(", ") if item)
    return names


def missing_packages(installed: set[str]) -> list[str]:
    """Names of PACKAGES that are not installed."""
    missing = [name for group in PACKAGES for name in group.names if name not in installed]
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    return missing


def install_environment() -> None:
    """Makes .venv from the lock, with the project in it, when either changed."""
    python = f"{sys.executable} {sys.version} {ROOT}"
    stamp = VENV / "stamp"
    wanted = digest(LOCK, ROOT / "pyproject.toml", text=python)
    if stamp.is_file() and stamp.read_text() == wanted and EXPLORER.is_file():
        return
    owner = VENV / "python"
    if not owner.is_file() or owner.read_text() != python:
        run_step("Python environment", [sys.executable, "-m", "venv", "--clear", VENV])
        owner.write_text(python)
    pip = (PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", "install")
    run_step("Python packages", (*pip, "--require-hashes", "-r", LOCK))
    # setuptools comes with the lock, so nothing is fetched here.
    run_step("the project", (*pip, "--no-index", "--no-deps", "--no-build-isolation", "-e", ROOT))
    stamp.write_text(wanted)


def make_sample() -> None:
    """Makes the sample image when its recipe changed."""
    stamp = BUILD / "sample.stamp"
    wanted = digest(*sorted(path for path in SAMPLE_SOURCE.rglob("*") if path.is_file()))
    if SAMPLE.is_file() and stamp.is_file() and stamp.read_text() == wanted:
        return
    run_step("sample image", [PYTHON, SAMPLE_SOURCE / "make.py", SAMPLE])
    stamp.write_text(wanted)


def digest(*paths: Path, text: str = "") -> str:
    """SHA-256 over names and contents, to tell when something must be done again."""
    total = hashlib.sha256(text.encode())
    for path in paths:
        total.update(str(path.relative_to(ROOT)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


# ---- Run ----------------------------------------------------------------------------------


def list_volumes(image: Path) -> int:
    """Prints what the image is, and the root of each of its volumes; returns an exit status."""
    status = subprocess.call((EXPLORER, "info", image))
    if status:
        return status
    answer = subprocess.run(
        (EXPLORER, "info", "--json", image), stdout=subprocess.PIPE, check=True
    ).stdout
    for volume in json.loads(answer)["volumes"]:
        if volume["mountable"]:
            say(f"\nvolume {volume['number']}, {volume['title']} {volume['label']}".rstrip())
            argv = (EXPLORER, "ls", "-l", "--volume", str(volume["number"]), image)
            status = subprocess.call(argv) or status
    return status


# ---- Test ---------------------------------------------------------------------------------


@dataclass
class Counts:
    """What tests came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Counts) -> None:
        """Adds another's numbers to these."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def run_all_tests(environment: Mapping[str, str]) -> int:
    """C tests, checkers of style, types and imports, pytest; the last line counts them."""
    begin = time.monotonic()
    total = Counts()
    headline("C tests")
    total.add(run_c_tests(environment))
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        headline(tool)
        program, *options = tool.split()
        status = call((VENV / "bin" / program, *options), environment)
        total.add(Counts(failed=1) if status else Counts(passed=1))
    headline("pytest")
    total.add(run_pytest(environment))
    headline(f"all tests, {duration(time.monotonic() - begin)}")
    say(str(total))
    return 1 if total.failed else 0


def run_c_tests(environment: Mapping[str, str]) -> Counts:
    """Runs liblkl's own tests, counting from the lines that sum up."""
    counts = Counts()
    argv = (*MAKE, "--keep-going", "check")
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            counts.add(count_checks(line))
    if not counts.failed and (process.returncode or not counts.passed):
        counts.failed = 1
    return counts


def count_checks(line: str) -> Counts:
    """What the last line of liblkl/tests/run.py says; nothing for other lines."""
    found = re.fullmatch(r"\d+ programs, (\d+) checks passed, (\d+) programs failed", line.strip())
    return Counts(int(found[1]), int(found[2])) if found else Counts()


def run_pytest(environment: Mapping[str, str]) -> Counts:
    """Runs pytest, counting from its report."""
    report = BUILD / "pytest.xml"
    report.unlink(missing_ok=True)
    status = call((PYTHON, "-m", "pytest", f"--junitxml={report}"), environment)
    counts = Counts()
    if report.is_file():
        for suite in ET.parse(report).getroot().iter("testsuite"):
            failed = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
            skipped = int(suite.get("skipped", "0"))
            passed = int(suite.get("tests", "0")) - failed - skipped
            counts.add(Counts(passed, failed, skipped))
    if not counts.failed and (status or not counts.passed):
        counts.failed = 1
    return counts


def call(argv: Sequence[str | Path], environment: Mapping[str, str]) -> int:
    """Runs a program at the root, its output as it comes; returns its exit status."""
    return subprocess.call(argv, cwd=ROOT, env=environment)


@contextlib.contextmanager
def test_environment() -> Iterator[dict[str, str]]:
    """Environment variables of the tests: a screen and folders of their own.

    Windows appear on a virtual screen or (Qt's "offscreen") nowhere, and no test reads or
    writes the person's settings.
    """
    with tempfile.TemporaryDirectory(prefix="lkl-explorer-test-") as folder:
        environment = dict(os.environ)
        environment.setdefault("QT_QPA_PLATFORM", "offscreen")
        environment["LC_ALL"] = "C.UTF-8"
        # Debian keeps the tools of file systems out of an ordinary user's PATH.
        environment["PATH"] = f"{environment.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        for name in ("RUNTIME_DIR", "CONFIG_HOME", "DATA_HOME", "CACHE_HOME"):
            path = Path(folder, name.lower())
            path.mkdir(mode=0o700)
            environment[f"XDG_{name}"] = str(path)
        environment.pop("WAYLAND_DISPLAY", None)
        with virtual_screen() as display:
            environment["DISPLAY"] = display
            yield environment


@contextlib.contextmanager
def virtual_screen() -> Iterator[str]:
    """A virtual X server; gives its name for DISPLAY."""
    reader, writer = os.pipe()
    argv = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
    with subprocess.Popen(
        argv, pass_fds=[writer], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        os.close(writer)
        try:
            with os.fdopen(reader) as answer:
                number = answer.readline().strip()
            if not number:
                raise DevError("the virtual screen (Xvfb) does not start")
            yield f":{number}"
        finally:
            server.terminate()


# ---- Steps and their progress -------------------------------------------------------------


def run_step(title: str, argv: Sequence[str | Path], *, show: bool = False) -> None:
    """Runs a command of setup, its output into build/log, and shows that it lives.

    On a terminal one line tells what it does and since when; elsewhere one line a minute.
    With show, the command's own lines are printed too.
    """
    log = BUILD / "log" / f"{title.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    progress = Progress(title, begin)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        for line in iter_lines(process.stdout.fileno(), progress.tick):
            output.write(line)
            output.flush()
            progress.line(line.decode(errors="backslashreplace").rstrip(), show=show)
    progress.clear()
    if process.returncode:
        sys.stderr.write(tail(log, 40))
        raise DevError(f"{title} failed (status {process.returncode}); all of its output: {log}")
    if not show:
        say(f"{title}: {duration(time.monotonic() - begin)}")


def iter_lines(fd: int, tick: Callable[[], None]) -> Iterator[bytes]:
    """Lines of a pipe as they come; calls tick once a second meanwhile."""
    rest = b""
    while True:
        if not select.select([fd], [], [], 1.0)[0]:
            tick()
            continue
        piece = os.read(fd, 65536)
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"
        tick()
    if rest:
        yield rest + b"\n"


class Progress:
    """Shows that a step lives."""

    def __init__(self, title: str, begin: float) -> None:
        self._title = title
        self._begin = begin
        self._terminal = sys.stdout.isatty()
        self._told = begin
        self._latest = ""

    def line(self, text: str, *, show: bool) -> None:
        """Takes a line of the step's output."""
        if show:
            self.clear()
            say(text)
        else:
            self._latest = text

    def tick(self) -> None:
        """Redraws the line on a terminal; elsewhere says something once a minute."""
        now = time.monotonic()
        elapsed = duration(now - self._begin)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            text = f"{self._title}: {elapsed}  {self._latest}"
            sys.stdout.write(f"\r\033[K{text[:width]}")
            sys.stdout.flush()
        elif now - self._told >= 60:
            self._told = now
            say(f"{self._title}: {elapsed}, still at work")

    def clear(self) -> None:
        """Removes the line from the terminal."""
        if self._terminal:
            sys.stdout.write("\r\033[K")


def duration(seconds: float) -> str:
    """Seconds, for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def tail(path: Path, count: int) -> str:
    """The last lines of a text file."""
    lines = path.read_text(errors="backslashreplace").splitlines(keepends=True)
    return "".join(lines[-count:])


def headline(title: str) -> None:
    """Begins a part of the output."""
    say(f"\n== {title} ==")


def say(text: str) -> None:
    """Prints at once, in order with what child processes print."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
