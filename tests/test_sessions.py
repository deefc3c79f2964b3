"""Tabs and their uploads: what a tab brought is its own, and gone when it closes."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from PIL import Image

from emoreason.apps.ui.conversation import Settings
from emoreason.apps.ui.sessions import LOCK_GRACE_S, Sessions


@pytest.fixture
def sessions(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Sessions(max_tabs=3)
    yield made
    made.close()


def upload(sessions: Sessions, name: str = "face.jpg", age: float = 0) -> Path:
    """As Gradio writes it: in a folder of its own."""
    path = sessions.folder / name.partition(".")[0] / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"picture")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_only_uploads_can_be_claimed(sessions, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"")
    (sessions.folder / "out").symlink_to(tmp_path)
    for path in ("/etc/passwd", tmp_path / "secret.jpg", sessions.folder / ".." / "secret.jpg", sessions.folder,
                 sessions.folder / "out" / "secret.jpg", f"{sessions.folder}-other/face.jpg", "face.jpg"):  # fmt: skip
        with pytest.raises(ValueError):
            sessions.claim("a", path)
    path = upload(sessions)
    assert sessions.claim("a", path) == path.resolve()


def test_a_closed_tab_leaves_nothing(sessions):
    path = upload(sessions)
    sessions.claim("a", path)
    conversation = sessions.tab("a").conversation
    sessions.end("a")
    assert not path.parent.exists() and len(sessions) == 0
    assert conversation.stop.is_set()  # its answer, were one written, stops
    sessions.end("a")  # twice is no mistake
    assert sessions.tab("a").conversation is not conversation


def test_what_two_tabs_hold_goes_with_the_second(sessions):
    path = upload(sessions)
    for key in "ab":
        sessions.claim(key, path)
    sessions.end("a")
    assert path.exists()
    sessions.end("b")
    assert not path.exists()


def test_what_was_sent_again_survives_the_end_of_the_other_tab(sessions):
    """The same picture has the same place: a second tab sent it, and did not ask about it yet."""
    path = upload(sessions)
    sessions.claim("a", path)
    os.utime(path, (time.time() + 1,) * 2)
    sessions.end("a")
    assert path.exists()
    sessions.claim("b", path)
    os.utime(path, (time.time() - 1,) * 2)
    sessions.end("b")
    assert not path.exists()


def test_uploads_that_nobody_asked_about_go_after_a_while(sessions):
    old, fresh, held = (
        upload(sessions, "old.jpg", 7200),
        upload(sessions, "new.jpg"),
        upload(sessions, "held.jpg", 7200),
    )
    sessions.claim("held", held)
    sessions.tab("a")
    sessions.end("a")
    assert [path.exists() for path in (old, fresh, held)] == [False, True, True]


def test_the_tab_that_was_silent_for_longest_is_forgotten(sessions):
    paths = {key: upload(sessions, f"{key}.jpg") for key in "abcd"}
    for key in "abc":
        sessions.claim(key, paths[key])
    sessions.tab("a")  # not silent
    sessions.claim("d", paths["d"])
    assert {key for key, path in paths.items() if path.exists()} == set("acd") and len(sessions) == 3


def test_pictures_have_so_much_memory_together(tmp_path, monkeypatch):
    import emoreason
    from emoreason.apps.ui.conversation import with_small_picture

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sessions = Sessions(max_bytes=7_000_000)
    try:
        model = emoreason.load("mini", device_name="cpu", explainer="none")
        for key in "abc":
            conversation = sessions.tab(key).conversation
            exchange = conversation.begin("", (), ("noise.png",), Settings("mini"))
            exchange.analyses = (with_small_picture(model.analyze(Image.new("RGB", (700, 700)), detect=False)),)
            exchange.first = 1
            assert conversation.bytes > 700 * 700 * 3
            sessions.tab(key)
        assert len(sessions) == 2
        assert sessions.tab("c").conversation.exchanges and not sessions.tab("a").conversation.exchanges
    finally:
        sessions.close()


def test_the_folder_is_its_users_and_goes_with_the_server(sessions, tmp_path):
    assert sessions.folder.stat().st_mode & 0o077 == 0
    sessions.claim("a", upload(sessions))
    upload(sessions, "unclaimed.jpg")
    sessions.close()
    assert not list(tmp_path.iterdir())


KILLED = """
import sys, time
from emoreason.apps.ui.sessions import Sessions
sessions = Sessions()
folder = sessions.folder
(folder / "face.jpg").write_bytes(b"")
print(folder, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of this kind")
def test_what_a_killed_server_left_goes_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started = [
        subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True,
                         env={**os.environ, "TMPDIR": str(tmp_path)}) for _ in range(2)
    ]  # fmt: skip
    killed, living = (Path(process.stdout.readline().strip()) for process in started)
    try:
        started[0].kill()
        started[0].wait()
        (tmp_path / "emoreason-of-somebody").mkdir()  # made otherwise: nothing says that its owner is gone
        for folder in (killed, living):
            os.utime(folder.with_suffix(".lock"), (time.time() - LOCK_GRACE_S - 1,) * 2)
        sessions = Sessions()
        assert not killed.exists() and not killed.with_suffix(".lock").exists()
        assert (living / "face.jpg").exists() and (tmp_path / "emoreason-of-somebody").exists()
        sessions.close()
    finally:
        for process in started:
            process.kill()
            process.wait()
