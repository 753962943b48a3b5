# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The window on sources that are more than a disk with file systems: what it asks, and shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PySide6.QtWidgets import QInputDialog, QMessageBox

from explorer.core.views import View
from explorer.models.location import Location
from explorer.models.tree import Kind
from tests.dirty import KINDS, make_dirty
from tests.gui.conftest import WAIT_MS, settle
from tests.trees import make_empty, run_tool

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from explorer.ui.window import MainWindow
    from tests.gui.conftest import OpenWindow

MIB = 1 << 20


def make_ext4(top: Path, image: Path) -> Path:
    """An ext4 of what is in a folder."""
    make_empty(image, 8 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    return image


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An ext4 with a file in it."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "known.txt").write_text("known\n")
    return make_ext4(top, tmp_path / "small.img")


def shown_names(window: MainWindow) -> set[bytes]:
    model = window.browser.contents_model
    return {model.name(row) for row in range(model.rowCount())}


def test_another_folder_is_asked_for(
    qtbot: QtBot, window: MainWindow, small: Path, tmp_path: Path
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    base = small.rename(there / "base.img")
    top = here / "top.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top)
    window.open_path(bytes(top))
    qtbot.waitUntil(lambda: window.findChild(QMessageBox) is not None, timeout=WAIT_MS)
    box = window.findChild(QMessageBox)
    assert box is not None
    assert str(base) in box.text()
    assert str(there) in box.informativeText()
    # Not what the return key does.
    assert box.defaultButton().text() != "Allow"
    allow = next(button for button in box.buttons() if button.text() == "Allow")
    allow.click()
    settle(qtbot, window)
    assert b"known.txt" in shown_names(window)


def test_without_consent_nothing_is_opened(
    qtbot: QtBot, window: MainWindow, small: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    top = here / "top.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", small, "-F", "raw", top)
    window.open_path(bytes(top))
    qtbot.waitUntil(lambda: window.findChild(QMessageBox) is not None, timeout=WAIT_MS)
    box = window.findChild(QMessageBox)
    assert box is not None
    box.reject()
    qtbot.waitUntil(lambda: window.findChild(QMessageBox) is None, timeout=WAIT_MS)
    assert window.location is None
    assert not window.sources


def test_a_file_is_opened_as_an_image(
    qtbot: QtBot, window: MainWindow, small: Path, tmp_path: Path
) -> None:
    holder = tmp_path / "holder"
    holder.mkdir()
    run_tool("qemu-img", "convert", "-O", "qcow2", small, holder / "inner.qcow2")
    outer = make_ext4(holder, tmp_path / "outer.img")
    window.open_path(bytes(outer))
    settle(qtbot, window)
    window.browser.contents.select_name(b"inner.qcow2")
    qtbot.waitUntil(window.commands.open_inside.isEnabled, timeout=WAIT_MS)
    first = window.location
    window.commands.open_inside.trigger()
    qtbot.waitUntil(
        lambda: (
            window.location is not None
            and first is not None
            and window.location.session is not first.session
        ),
        timeout=WAIT_MS,
    )
    settle(qtbot, window)
    here = window.location
    assert here is not None
    assert here.session.name == "inner.qcow2"
    assert here.session.source is not None
    assert here.session.source.format == "qcow2"
    assert b"known.txt" in shown_names(window)


def test_the_view_is_chosen_and_shown(
    qtbot: QtBot, open_window: OpenWindow, tmp_path: Path
) -> None:
    window = open_window(make_dirty(KINDS[0], tmp_path))
    actions = {action.data(): action for action in window.commands.views.actions()}
    assert actions[View.AUTO.value].isChecked()
    qtbot.waitUntil(lambda: "recovered" in window.status.system.text(), timeout=WAIT_MS)
    assert b"new" in shown_names(window)
    qtbot.waitUntil(lambda: "blocks in memory" in window.status.written.text(), timeout=WAIT_MS)
    assert ": 0 ·" in window.status.written.text()
    actions[View.STORED.value].trigger()
    qtbot.waitUntil(lambda: "as stored" in window.status.system.text(), timeout=WAIT_MS)
    settle(qtbot, window)
    assert b"new" not in shown_names(window)
    assert actions[View.STORED.value].isChecked()


def answer(qtbot: QtBot, window: MainWindow, asked: str, passphrase: str) -> None:
    """Type a passphrase when it is asked for with these words."""

    def dialogs() -> list[QInputDialog]:
        found = window.findChildren(QInputDialog)
        return [dialog for dialog in found if dialog.labelText().find(asked) >= 0]

    qtbot.waitUntil(lambda: bool(dialogs()), timeout=WAIT_MS)
    dialog = dialogs()[-1]
    dialog.setTextValue(passphrase)
    dialog.accept()


def test_a_volume_is_unlocked(qtbot: QtBot, open_window: OpenWindow, tmp_path: Path) -> None:
    # Empty inside: what it holds was never written, and is not recognised.
    image = make_empty(tmp_path / "secret.img", 32 * MIB)
    key = tmp_path / "key"
    key.write_text("open sesame")
    run_tool("cryptsetup", "-q", "luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2",
             "--iter-time", "10", image, key)  # fmt: skip
    window = open_window(image)
    here = window.location
    assert here is not None
    model = window.browser.tree_model
    locked = Location(here.session, 0, b"/")
    assert model.kind(model.reveal(locked)) is Kind.LOCKED_VOLUME
    window.navigation.go(locked)
    answer(qtbot, window, "Passphrase", "wrong")
    answer(qtbot, window, "the passphrase is wrong", "open sesame")
    qtbot.waitUntil(lambda: model.hasChildren(model.reveal(locked)), timeout=WAIT_MS)
    (inside,) = (
        volume
        for volume in (here.session.source.volumes if here.session.source else ())
        if volume.parent == 0
    )
    assert inside.kind == "opened"
    # The command line of the engine does not have it, nor what is kept to open the source again.
    assert "sesame" not in repr(here.session.wanted)
    command = Path(f"/proc/{here.session.process_id}/cmdline").read_bytes()
    assert command
    assert b"sesame" not in command
