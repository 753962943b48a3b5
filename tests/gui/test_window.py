# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The window, with real engines on real images."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, QSettings, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QInputDialog, QMessageBox, QWidget

from explorer.client.session import State
from explorer.core.messages import describe
from explorer.models.location import Location
from explorer.models.tree import Kind
from explorer.ui.dragout.mime import GNOME_FILES, OWN_ENTRIES, URI_LIST
from explorer.ui.extraction import Selection
from explorer.ui.window import MainWindow
from tests.engine.images import LATIN, TEXT, large_bytes
from tests.gui.conftest import WAIT_MS, settle

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from tests.gui.conftest import OpenWindow

LEFT = Qt.MouseButton.LeftButton
NONE = Qt.KeyboardModifier.NoModifier
ALT = Qt.KeyboardModifier.AltModifier


def go(qtbot: QtBot, window: MainWindow, path: bytes) -> None:
    here = window.location
    assert here is not None
    window.navigation.go(here._replace(path=path))
    settle(qtbot, window)


def path_of(window: MainWindow) -> bytes:
    here = window.location
    assert here is not None
    return here.path


def wait_for(qtbot: QtBot, window: MainWindow, path: bytes) -> None:
    qtbot.waitUntil(lambda: path_of(window) == path, timeout=WAIT_MS)
    settle(qtbot, window)


def select(window: MainWindow, *names: bytes) -> None:
    window.browser.contents.clearSelection()
    selection = window.browser.contents.selectionModel()
    for name in names:
        row = window.browser.contents_model.row_of(name)
        assert row is not None
        index = window.browser.contents_model.index(row, 0)
        flag = selection.SelectionFlag
        selection.setCurrentIndex(index, flag.Select | flag.Rows)


def selection(window: MainWindow) -> Selection:
    chosen = window.browser.selection()
    assert chosen is not None
    return chosen


def press(qtbot: QtBot, window: MainWindow, key: Qt.Key, modifiers: Qt.KeyboardModifier) -> None:
    window.activateWindow()
    window.browser.contents.setFocus()
    qtbot.waitUntil(window.browser.contents.hasFocus, timeout=WAIT_MS)
    QTest.keyClick(window.browser.contents, key, modifiers)
    settle(qtbot, window)


def test_an_image_with_one_volume_opens_at_its_root(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    assert path_of(window) == b"/"
    qtbot.waitUntil(lambda: "free of" in window.status.system.text(), timeout=WAIT_MS)
    assert window.windowTitle() == "ext4.img - ext4 - [Read-only]"
    assert window.status.system.text().startswith("ext4 · ")
    assert window.status.items.text() == "9 items"
    qtbot.waitUntil(lambda: bool(window.status.written.text()), timeout=WAIT_MS)
    assert window.status.written.text() == "Bytes written to the source: 0"
    assert window.browser.tree.currentIndex().data().startswith("sample")
    assert not window.banner.isVisible()


def test_folders_are_walked_by_keyboard(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    window.browser.contents.select_name(b"folder")
    press(qtbot, window, Qt.Key.Key_Return, NONE)
    assert path_of(window) == b"/folder"
    assert window.browser.tree.currentIndex().data() == "folder"
    window.browser.contents.select_name(b"below")
    press(qtbot, window, Qt.Key.Key_Return, NONE)
    assert path_of(window) == b"/folder/below"
    press(qtbot, window, Qt.Key.Key_Backspace, NONE)
    assert path_of(window) == b"/folder"
    assert (
        window.browser.contents_model.name(window.browser.contents.currentIndex().row()) == b"below"
    )
    press(qtbot, window, Qt.Key.Key_Up, ALT)
    assert path_of(window) == b"/"
    for expected in (b"/folder", b"/folder/below", b"/folder", b"/"):
        press(qtbot, window, Qt.Key.Key_Left, ALT)
        assert path_of(window) == expected
    assert not window.commands.back.isEnabled()
    press(qtbot, window, Qt.Key.Key_Right, ALT)
    assert path_of(window) == b"/folder"
    press(qtbot, window, Qt.Key.Key_F5, NONE)
    assert window.browser.contents_model.rowCount() == 3


def test_links_lead_to_where_they_point(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    for link, path, name in (
        (b"to-folder", b"/folder", b""),
        (b"absolute", b"/folder/below", b""),
        (b"out", b"/folder/below", b"deep.txt"),
    ):
        go(qtbot, window, b"/links")
        row = window.browser.contents_model.row_of(link)
        assert row is not None
        window.browser.contents.opened.emit(row)
        wait_for(qtbot, window, path)
        if name:
            assert selection(window).names == [name]
    go(qtbot, window, b"/links")
    row = window.browser.contents_model.row_of(b"dangling")
    assert row is not None
    window.browser.contents.opened.emit(row)
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    assert "no such file" in window.banner.text
    assert path_of(window) == b"/links"


def test_a_path_can_be_typed(open_window: OpenWindow, qtbot: QtBot, ext4_image: Path) -> None:
    window = open_window(ext4_image)
    for typed, path in (("/folder/below", b"/folder/below"), ("..", b"/folder"), ("/", b"/")):
        window.commands.edit_path.trigger()
        assert window.path_bar.edit.isVisible()
        assert window.path_bar.edit.text() == path_of(window).decode()
        window.path_bar.edit.setText(typed)
        QTest.keyClick(window.path_bar.edit, Qt.Key.Key_Return)
        wait_for(qtbot, window, path)
        assert not window.path_bar.edit.isVisible()
    window.commands.edit_path.trigger()
    window.path_bar.edit.setText("/nowhere")
    QTest.keyClick(window.path_bar.edit, Qt.Key.Key_Return)
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    window.commands.edit_path.trigger()
    QTest.keyClick(window.path_bar.edit, Qt.Key.Key_Escape)
    assert not window.path_bar.edit.isVisible()


def test_the_tree_leads_too(open_window: OpenWindow, qtbot: QtBot, ext4_image: Path) -> None:
    window = open_window(ext4_image)
    here = window.location
    assert here is not None
    index = window.browser.tree_model.reveal(here._replace(path=b"/many/Alpha"))
    window.browser.tree.setCurrentIndex(index)
    settle(qtbot, window)
    assert path_of(window) == b"/many/Alpha"
    assert window.browser.contents_model.rowCount() == 0
    window.browser.tree.setCurrentIndex(
        window.browser.tree_model.reveal(Location(here.session, None, b"/"))
    )
    assert window.location == Location(here.session, None, b"/")
    assert window.browser.volumes.isVisible()
    assert window.status.items.text() == "1 volumes"
    window.browser.volumes.activated.emit(
        window.browser.tree_model.index(0, 0, window.browser.volumes.rootIndex())
    )
    settle(qtbot, window)
    assert path_of(window) == b"/"


def test_what_is_selected_is_shown(open_window: OpenWindow, qtbot: QtBot, ext4_image: Path) -> None:
    window = open_window(ext4_image)
    preview = window.browser.preview
    select(window, b"readme.txt")
    qtbot.waitUntil(lambda: preview.text == TEXT, timeout=WAIT_MS)
    select(window, b"latin.txt")
    qtbot.waitUntil(lambda: preview.text == LATIN.decode("latin-1"), timeout=WAIT_MS)
    select(window, b"picture.png")
    qtbot.waitUntil(lambda: preview.shows_picture, timeout=WAIT_MS)
    select(window, b"empty")
    qtbot.waitUntil(lambda: preview.message == "The file is empty", timeout=WAIT_MS)
    select(window, b"folder")
    qtbot.waitUntil(lambda: preview.message == "Directory", timeout=WAIT_MS)
    select(window, b"readme.txt", b"empty")
    qtbot.waitUntil(lambda: preview.message == "2 entries selected", timeout=WAIT_MS)
    assert window.status.items.text() == "9 items · 2 selected, 920 bytes"
    go(qtbot, window, b"/links")
    select(window, b"absolute")
    qtbot.waitUntil(lambda: preview.message == "→ /folder/below", timeout=WAIT_MS)
    rows = preview.properties.rows
    assert rows[rows.index(("Type", "link")) + 1] == ("Target", "/folder/below")


def test_bytes_are_read_as_they_come_in_sight(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    go(qtbot, window, b"/folder")
    view = window.browser.preview.hex
    window.browser.preview.setCurrentWidget(view)
    select(window, b"large.bin")
    qtbot.waitUntil(lambda: "No bytes" not in view.accessibleDescription(), timeout=WAIT_MS)
    data = large_bytes()
    clipboard = QGuiApplication.clipboard()

    def copied() -> str:
        view.copy_selection()
        return clipboard.text()

    qtbot.waitUntil(lambda: copied() == "00", timeout=WAIT_MS)
    QTest.keyClick(view, Qt.Key.Key_End, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: copied() == f"{data[-1]:02x}", timeout=WAIT_MS)
    assert view.verticalScrollBar().value() == view.verticalScrollBar().maximum()
    QTest.keyClick(view, Qt.Key.Key_Home, Qt.KeyboardModifier.ShiftModifier)
    row = len(data) // 16 * 16
    assert copied() == data[row:].hex(" ")


def test_properties_tell_everything(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    select(window, b"readme.txt")
    window.commands.properties.trigger()
    properties = window.browser.preview.properties
    qtbot.waitUntil(lambda: "user.note" in dict(properties.rows), timeout=WAIT_MS)
    qtbot.waitUntil(lambda: "Mode" in dict(properties.rows), timeout=WAIT_MS)
    rows = dict(properties.rows)
    assert properties.isVisible()
    assert rows["user.note"] == "a note"
    assert rows["Size"] == "920 bytes"
    assert rows["Mode"] == "-rw-r--r-- (0644)"
    assert ".123456789 " in rows["Modified"]
    go(qtbot, window, b"/odd")
    select(window, b"caf\xe9")
    qtbot.waitUntil(lambda: "Name, raw bytes" in dict(properties.rows), timeout=WAIT_MS)
    assert dict(properties.rows)["Name, raw bytes"] == "63 61 66 e9"


def test_names_are_filtered(open_window: OpenWindow, qtbot: QtBot, ext4_image: Path) -> None:
    window = open_window(ext4_image)
    go(qtbot, window, b"/many")
    QTest.keyClicks(window.filter_edit, "file11")
    settle(qtbot, window)
    assert window.browser.contents_model.rowCount() == 11
    assert "113 hidden by the filter" in window.status.items.text()
    go(qtbot, window, b"/folder")
    assert window.filter_edit.text() == ""
    assert window.browser.contents_model.rowCount() == 3


def test_extracting_shows_a_job(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path, tree: Path, tmp_path: Path
) -> None:
    window = open_window(ext4_image)
    select(window, b"folder", b"readme.txt")
    job = window.extraction.begin(selection(window), tmp_path)
    assert window.jobs.isVisible()
    qtbot.waitUntil(lambda: job.ended, timeout=WAIT_MS)
    assert job.error is None
    assert job.failures == []
    assert (tmp_path / "readme.txt").read_text() == TEXT
    assert (tmp_path / "folder" / "large.bin").read_bytes() == large_bytes()
    (view,) = window.jobs.views
    assert view.state.startswith("Done · ")


def test_what_could_not_be_copied_is_listed(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path, tmp_path: Path
) -> None:
    (tmp_path / "readme.txt").mkdir()
    (tmp_path / "empty").write_text("mine")
    window = open_window(ext4_image)
    select(window, b"readme.txt", b"empty", b"latin.txt")
    job = window.extraction.begin(selection(window), tmp_path)
    qtbot.waitUntil(lambda: job.ended, timeout=WAIT_MS)
    assert job.error is None
    assert job.errors == 1
    (view,) = window.jobs.views
    assert view.state.startswith("Done · 3 entries · 5 bytes · 1 left out")
    assert not view.errors.isVisible()
    QTest.mouseClick(view._show_errors, LEFT)
    assert view.errors.isVisible()
    assert "readme.txt" in view.errors.toPlainText()
    assert list((tmp_path / "readme.txt").iterdir()) == []
    assert (tmp_path / "empty").read_text() == "mine"
    assert (tmp_path / "latin.txt").read_bytes() == LATIN


@pytest.mark.parametrize(("choice", "text"), [("Replace", TEXT), ("Keep those", "mine")])
def test_replacing_is_asked_first(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path, tmp_path: Path, choice: str, text: str
) -> None:
    (tmp_path / "readme.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    window = open_window(ext4_image)
    select(window, b"readme.txt", b"folder")
    window.extraction.extract(selection(window), tmp_path)
    (box,) = window.findChildren(QMessageBox)
    assert "Folders are merged" in box.informativeText()
    (button,) = [button for button in box.buttons() if button.text() == choice]
    QTest.mouseClick(button, LEFT)
    qtbot.waitUntil(lambda: bool(window.jobs.views), timeout=WAIT_MS)
    qtbot.waitUntil(lambda: not window.jobs.running, timeout=WAIT_MS)
    assert (tmp_path / "readme.txt").read_text() == text
    assert (tmp_path / "folder" / "large.bin").read_bytes() == large_bytes()


@pytest.mark.parametrize(
    ("choice", "text"), [("Replace", TEXT), ("Leave out", "mine"), ("Keep both", "mine")]
)
def test_each_file_that_exists_can_be_asked_about(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path, tmp_path: Path, choice: str, text: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("readme.txt", "latin.txt"):
        (out / name).write_text("mine")
    window = open_window(ext4_image)
    select(window, b"readme.txt", b"latin.txt")
    job = window.extraction.begin(selection(window), out, conflicts="ask")
    qtbot.waitUntil(lambda: bool(window.findChildren(QMessageBox)), timeout=WAIT_MS)
    (box,) = window.findChildren(QMessageBox)
    assert "There: 4 bytes" in box.informativeText()
    box.checkBox().setChecked(True)
    (button,) = [button for button in box.buttons() if button.text() == choice]
    QTest.mouseClick(button, LEFT)
    qtbot.waitUntil(lambda: job.ended, timeout=WAIT_MS)
    assert job.error is None
    assert (out / "readme.txt").read_text() == text
    kept = (out / "latin.txt").read_bytes() == b"mine"
    assert kept == (choice != "Replace")
    assert len(list(out.iterdir())) == (4 if choice == "Keep both" else 2)


def test_a_job_can_be_cancelled(
    open_window: OpenWindow, qtbot: QtBot, crowd_image: Path, tmp_path: Path
) -> None:
    window = open_window(crowd_image)
    window.browser.contents.selectAll()
    job = window.extraction.begin(selection(window), tmp_path)
    qtbot.waitUntil(lambda: job.entries > 0, timeout=WAIT_MS)
    (view,) = window.jobs.views
    QTest.mouseClick(view._cancel, LEFT)
    qtbot.waitUntil(lambda: job.ended, timeout=WAIT_MS)
    assert job.cancelled
    assert view.state.startswith("Cancelled")
    assert len(list(tmp_path.iterdir())) < window.browser.contents_model.rowCount()


def test_a_window_that_closes_leaves_no_writer(
    open_window: OpenWindow,
    qtbot: QtBot,
    crowd_image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = open_window(crowd_image)
    window.browser.contents.selectAll()
    job = window.extraction.begin(selection(window), tmp_path)
    qtbot.waitUntil(lambda: job.entries > 0, timeout=WAIT_MS)
    writer = job._writer.process_id
    assert Path(f"/proc/{writer}").exists()
    monkeypatch.setattr(window.extraction, "may_stop", lambda: True)
    assert window.close()
    assert job.cancelled
    assert not Path(f"/proc/{writer}").exists()
    made = list(tmp_path.iterdir())
    assert 0 < len(made) < window.browser.contents_model.rowCount()
    assert not [path for path in made if path.name.endswith(".part")]


def test_a_copy_of_what_cannot_be_read_ends(
    open_window: OpenWindow, qtbot: QtBot, disk_image: Path, tmp_path: Path
) -> None:
    window = open_window(disk_image)
    here = window.location
    assert here is not None
    assert here.session.source is not None
    locked = next(volume for volume in here.session.source.volumes if volume.locked)
    there = Selection(here._replace(volume=locked.number, path=b"/"), [b"x"], None)
    job = window.extraction.begin(there, tmp_path)
    qtbot.waitUntil(lambda: job.ended, timeout=WAIT_MS)
    assert job.error is not None
    assert job.error.code == "volume.locked"
    (view,) = window.jobs.views
    assert view.state == describe(job.error)


def test_other_programs_get_files(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path, tree: Path
) -> None:
    window = open_window(ext4_image)
    go(qtbot, window, b"/odd")
    window.browser.contents.selectAll()
    data = window.extraction.mime_data(selection(window))
    assert window.jobs.views == []
    assert data.hasFormat(URI_LIST)
    uris = bytes(data.data(URI_LIST).data()).decode("ascii").split("\r\n")
    assert uris.pop() == ""
    paths = [unquote_to_bytes(uri.removeprefix("file://")) for uri in uris]
    files = [Path(os.fsdecode(path)) for path in paths]
    assert {path.name for path in files} == {path.name for path in (tree / "odd").iterdir()}
    assert all(path.read_bytes() == os.fsencode(path.name) for path in files)
    gnome = bytes(data.data(GNOME_FILES).data()).decode("ascii").split("\n")
    assert gnome == ["copy", *uris]
    # Extracted once, however often it is asked for; nobody else may look in.
    assert len(window.jobs.views) == 1
    folder = files[0].parent.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    window.close()
    assert not folder.exists()


def test_copy_puts_files_on_the_clipboard(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    select(window, b"readme.txt")
    press(qtbot, window, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    data = QGuiApplication.clipboard().mimeData()
    assert data.hasFormat(OWN_ENTRIES)
    (url,) = data.urls()
    assert Path(url.toLocalFile()).read_text(encoding="utf-8") == TEXT
    window.commands.copy_path.trigger()
    assert QGuiApplication.clipboard().text() == "/readme.txt"


def test_a_locked_volume_says_why(open_window: OpenWindow, qtbot: QtBot, disk_image: Path) -> None:
    window = open_window(disk_image)
    here = window.location
    assert here is not None
    # Of its volumes one can be opened: it is.
    assert here.volume == 1
    window.navigation.go(here._replace(volume=3))
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    assert "no file system was recognised" in window.banner.text
    assert window.browser.contents_model.rowCount() == 0
    # Of a locked one the passphrase is asked for; its header here is only a head.
    window.navigation.go(here._replace(volume=2))
    dialog = window.findChild(QInputDialog)
    assert dialog is not None
    assert "secret" in dialog.labelText()
    dialog.setTextValue("open sesame")
    dialog.accept()
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    assert "volume 2" in window.banner.text
    assert "open sesame" not in window.banner.text
    window.navigation.go(here)
    settle(qtbot, window)
    assert not window.banner.isVisible()
    assert window.browser.contents_model.rowCount() == 9


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"", "the file is empty"),
        (b"no image\n" * 1000, "neither a partition table nor a file system"),
    ],
)
def test_what_cannot_be_opened_says_why(
    window: MainWindow, qtbot: QtBot, tmp_path: Path, content: bytes | None, said: str
) -> None:
    image = tmp_path / "image"
    if content is not None:
        image.write_bytes(content)
    window.open_path(str(image))
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    assert said in window.banner.text
    assert str(image) in window.banner.text
    assert window.start_page.isVisible()
    assert window.windowTitle() == "LKL Explorer"


def test_a_lost_engine_can_be_started_again(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    go(qtbot, window, b"/folder")
    here = window.location
    assert here is not None
    os.kill(here.session.process_id, signal.SIGKILL)
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    assert "was killed (SIGKILL)" in window.banner.text
    QTest.mouseClick(window.banner._button, LEFT)
    settle(qtbot, window)
    assert path_of(window) == b"/folder"
    assert window.browser.contents_model.rowCount() == 3
    assert not window.banner.isVisible()


def test_what_ended_an_engine_is_marked_and_tried_again_when_wanted(
    qtbot: QtBot, tmp_path: Path, ext4_image: Path, disk_image: Path
) -> None:
    settings = QSettings(str(tmp_path / "own.ini"), QSettings.Format.IniFormat)
    window = MainWindow(settings, [sys.executable, "-m", "tests.engine.faulty"])
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    window.open_path(bytes(ext4_image))
    settle(qtbot, window)
    other = window.location
    assert other is not None
    window.open_path(bytes(disk_image))
    qtbot.waitUntil(lambda: window.location != other, timeout=WAIT_MS)
    settle(qtbot, window)
    here = window.location
    assert here is not None
    session, model = here.session, window.browser.tree_model
    root = Location(session, 1, b"/")
    window.navigation.go(root._replace(path=b"/panic"))
    qtbot.waitUntil(lambda: session.state is State.LOST, timeout=WAIT_MS)
    assert window.banner.isVisible()
    assert "Kernel panic" in window.banner.text
    assert "sysrq: Trigger a crash" in window.banner.details
    assert window.banner._button.text() == "Start again"
    assert model.kind(model.reveal(root)) is Kind.MARKED_VOLUME
    assert not model.canFetchMore(model.reveal(root))
    # The other is as it was.
    assert other.session.state is State.OPEN
    QTest.mouseClick(window.banner._button, LEFT)
    qtbot.waitUntil(lambda: session.state is State.OPEN, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: window.banner._button.text() == "Try again", timeout=WAIT_MS)
    assert "Kernel panic" in window.banner.text
    tip = model.data(model.reveal(root), Qt.ItemDataRole.ToolTipRole)
    assert "Kernel panic" in tip
    assert "1 engine ended at it" in model.data(model.reveal(root)).replace("engines", "engine")
    window.navigation.go(root)
    qtbot.waitUntil(window.banner.isVisible, timeout=WAIT_MS)
    assert window.browser.contents_model.rowCount() == 0
    QTest.mouseClick(window.banner._button, LEFT)
    qtbot.waitUntil(lambda: window.browser.contents_model.rowCount() > 3, timeout=WAIT_MS)
    assert session.state is State.OPEN
    assert model.kind(model.reveal(root)) is Kind.VOLUME
    window.close()


def test_several_sources_stand_side_by_side(
    open_window: OpenWindow, qtbot: QtBot, ext4_image: Path, disk_image: Path
) -> None:
    window = open_window(ext4_image)
    first = window.location
    assert first is not None
    window.open_path(bytes(disk_image))
    qtbot.waitUntil(lambda: window.location != first, timeout=WAIT_MS)
    settle(qtbot, window)
    assert window.browser.tree_model.rowCount() == 2
    window.commands.close.trigger()
    settle(qtbot, window)
    assert window.location == first
    assert window.browser.tree_model.rowCount() == 1
    window.commands.close.trigger()
    assert window.location is None
    assert window.start_page.isVisible()


def drop(window: MainWindow, data: QMimeData) -> bool:
    copy = Qt.DropAction.CopyAction
    enter = QDragEnterEvent(QPoint(5, 5), copy, data, LEFT, NONE)
    window.dragEnterEvent(enter)
    if enter.isAccepted():
        window.dropEvent(QDropEvent(QPointF(5, 5), copy, data, LEFT, NONE))
    return enter.isAccepted()


def test_an_image_can_be_dropped(window: MainWindow, qtbot: QtBot, ext4_image: Path) -> None:
    text = QMimeData()
    text.setText("no file")
    assert not drop(window, text)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(ext4_image))])
    assert drop(window, data)
    settle(qtbot, window)
    assert window.windowTitle().startswith("ext4.img - ")
    # The window does not open what is dragged out of it, nor extract it to look.
    select(window, b"readme.txt")
    assert not drop(window, window.extraction.mime_data(selection(window)))
    assert window.jobs.views == []


def test_recent_images_are_offered(open_window: OpenWindow, qtbot: QtBot, ext4_image: Path) -> None:
    window = open_window(ext4_image)
    actions = window.recent.actions()
    assert [action.text() for action in actions] == [str(ext4_image)]
    window.commands.close.trigger()
    actions[0].trigger()
    settle(qtbot, window)
    assert window.windowTitle().startswith("ext4.img - ")


def test_everything_that_takes_the_focus_has_a_name(
    open_window: OpenWindow, ext4_image: Path
) -> None:
    window = open_window(ext4_image)
    nameless = [
        widget
        for widget in window.findChildren(QWidget)
        if widget.focusPolicy() != Qt.FocusPolicy.NoFocus
        and not widget.isHidden()
        and not widget.objectName().startswith("qt_")
        and type(widget).__name__ not in ("QScrollBar", "QMenuBar", "QMenu", "QHeaderView")
        and not widget.accessibleName()
        and not widget.property("text")
    ]
    assert nameless == []
