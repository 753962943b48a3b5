# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules for every file of the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import explorer

ROOT = Path(__file__).resolve().parents[2]

# Files without a comment syntax, or not ours to mark.
UNMARKED = {".clang-format", ".gitignore", "LICENSE", "explorer/py.typed", "requirements.lock"}
UNMARKED_SUFFIXES = {".md", ".png", ".svg", ".json", ".ts", ".desktop"}


def repository_files() -> list[Path]:
    """Files that are, or would be, committed; links are not followed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = [ROOT / name.decode() for name in listing.split(b"\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


FILES = repository_files()
TEXTS = [path for path in FILES if path.suffix != ".png"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def breaches(pattern: re.Pattern[str]) -> list[str]:
    """Places where a pattern occurs."""
    return [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_repository_is_seen() -> None:
    names = {name_of(path) for path in FILES}
    assert {"dev", "pyproject.toml", "liblkl/include/lkl.h", "explorer/__init__.py"} <= names


def test_every_source_file_names_its_licence() -> None:
    unmarked = []
    for path in FILES:
        if name_of(path) in UNMARKED or path.suffix in UNMARKED_SUFFIXES:
            continue
        head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:4])
        if not re.search(r"SPDX-License-Identifier: GPL-2\.0(-or-later|-only)?\b", head):
            unmarked.append(name_of(path))
    assert not unmarked


def test_every_source_file_names_its_holders() -> None:
    unmarked = []
    for path in FILES:
        # The kernel's own form, which its checkpatch.pl wants, is the licence's line alone.
        kernel_side = name_of(path).startswith(("liblkl/arch/", "liblkl/shared/"))
        if kernel_side or name_of(path) in UNMARKED or path.suffix in UNMARKED_SUFFIXES:
            continue
        head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:4])
        if "SPDX-FileCopyrightText: LKL Explorer contributors" not in head:
            unmarked.append(name_of(path))
    assert not unmarked


def test_texts_are_clean() -> None:
    dirty = []
    for path in TEXTS:
        content = path.read_bytes()
        if path.name == "LICENSE":
            continue
        content.decode("utf-8")
        if b"\r" in content:
            dirty.append(f"{name_of(path)}: carriage returns")
        if content and not content.endswith(b"\n"):
            dirty.append(f"{name_of(path)}: no end of line at the end")
        if re.search(rb"[ \t]\n", content):
            dirty.append(f"{name_of(path)}: blanks at the end of a line")
    assert not dirty


def test_no_file_is_large() -> None:
    # No image, no binary: what tests read they make.
    large = [name_of(path) for path in FILES if path.stat().st_size > 600_000]
    assert not large


def test_no_package_index_is_named() -> None:
    host = r"(pypi|pythonhosted|/simple\b|devpi|artifactory|nexus)"
    option = r"--(extra-)?index-url|--find-links|--trusted-host"
    here = name_of(Path(__file__))
    found = breaches(re.compile(rf"://\S*{host}|{option}", re.IGNORECASE))
    assert not [place for place in found if not place.startswith(here)]


def test_no_path_of_a_machine_is_named() -> None:
    # Written apart, so that these lines are not found themselves.
    places = "|".join(("ho" + "me", "ro" + "ot", "wo" + "rk", "Us" + "ers"))
    assert not breaches(re.compile(rf"(?<![\w.}}/-])/({places})/[\w.]+/"))


def test_every_c_file_is_formatted() -> None:
    # The kernel's side is held to the kernel's own checkpatch.pl instead.
    files = [
        path
        for path in FILES
        if path.suffix in {".c", ".h"} and not name_of(path).startswith("liblkl/arch/")
    ]
    assert files
    done = subprocess.run(
        [Path(sys.executable).with_name("clang-format"), "--dry-run", "-Werror", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    badly_formatted = sorted(set(re.findall(rf"^{ROOT}/(\S+?):", done.stderr, re.MULTILINE)))
    assert not badly_formatted
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", ["dev", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    shell = path.read_text().splitlines()[0].rpartition("/")[2].removeprefix("env ")
    subprocess.run([shell, "-n", path], check=True)


def test_the_lock_pins_every_package_by_hash() -> None:
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", "")
    entries = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry


def test_the_lock_covers_every_requirement() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    required = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        required += extra
    names = {re.split(r"[^A-Za-z0-9._-]", item)[0].lower() for item in required}
    text = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9.-]+)==", text, re.MULTILINE))
    assert names <= locked


def test_one_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert explorer.__version__ == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("document", sorted(name_of(p) for p in FILES if p.suffix == ".md"))
def test_links_of_documents_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text())
    missing = [
        target for target in targets if "://" not in target and not (path.parent / target).exists()
    ]
    assert not missing
