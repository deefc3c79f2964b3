"""Browser tabs and their uploads. What a tab brought is gone when the tab is closed, at the latest with the server."""

import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from types import ModuleType
from typing import IO

from emoreason.apps.ui.conversation import PageConversation

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: what a killed server left stays until the system clears its folder for such files
    fcntl = None

PREFIX, LOCK = "emoreason-", ".lock"
JUST_MADE = 10.0  # seconds in which a new lock may not be held yet
MAX_TABS = 500  # tabs that are remembered
MAX_BYTES = 2 * 2**30  # of all their pictures; the tabs that were silent for longest are forgotten first
UNCLAIMED = 3600.0  # seconds after which an upload that no tab asked about is deleted


@dataclass
class Tab:
    conversation: PageConversation = field(default_factory=PageConversation)
    uploads: dict[Path, float] = field(default_factory=dict)  # and when the tab took them
    labeling: threading.Event = field(default_factory=threading.Event)  # stops the folder that is being labeled
    rows: list = field(default_factory=list)  # of the folder that was labeled last
    columns: list[str] = field(default_factory=list)


class Sessions:
    """A tab per session hash, and the folder that uploads go to."""

    def __init__(self, max_tabs: int = MAX_TABS, most_bytes: int = MAX_BYTES):
        sweep_dead()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # readable by this user only
        self._held = _hold(self.folder)
        self._most, self._most_bytes = max_tabs, most_bytes
        self._tabs: dict[str, Tab] = {}
        self._lock = threading.RLock()

    def tab(self, key: str) -> Tab:
        with self._lock:
            tab = self._tabs.pop(key, None) or Tab()
            self._tabs[key] = tab  # the newest is the last one
            self._forget()
            return tab

    def _forget(self) -> None:
        held = {key: tab.conversation.bytes for key, tab in self._tabs.items()}
        total = sum(held.values())
        for key in list(self._tabs)[:-1]:
            if len(self._tabs) <= self._most and total <= self._most_bytes:
                return
            total -= held[key]
            self.end(key)

    def claim(self, key: str, path: str | Path) -> Path:
        """An upload belongs to this tab now. Only what lies in the folder of uploads can be claimed."""
        claimed = Path(path).resolve()
        folder = self.folder.resolve()
        if folder not in claimed.parent.parents:  # every upload has a folder of its own
            raise ValueError("not an upload")
        self.tab(key).uploads[claimed] = time.time()
        return claimed

    def end(self, key: str) -> None:
        """The tab was closed: stop what it waits for, delete what it brought."""
        with self._lock:
            tab = self._tabs.pop(key, None)
            if tab is None:
                return
            tab.conversation.stop.set()
            tab.labeling.set()
            others = {path for other in self._tabs.values() for path in other.uploads}
        for path, taken in tab.uploads.items():
            # the same picture has the same place: another tab may hold it, or be about to (it was sent again since)
            if path not in others and _sent(path) <= taken:
                _remove(path)
        self._sweep(others)

    def _sweep(self, claimed: set[Path]) -> None:
        """Uploads that no tab ever asked about."""
        for folder, _, names in os.walk(self.folder):  # others may delete in it meanwhile
            for path in (Path(folder, name) for name in names):
                if path.resolve() not in claimed and time.time() - _sent(path) > UNCLAIMED:
                    _remove(path)

    def __len__(self) -> int:
        return len(self._tabs)

    def close(self) -> None:
        for key in list(self._tabs):
            self.end(key)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._held is not None:
            self._held.close()
            self.folder.with_suffix(LOCK).unlink(missing_ok=True)


def _hold(folder: Path) -> IO[bytes] | None:
    """A lock beside the folder, which the system lets go when this process ends, however it ends."""
    if fcntl is None:
        return None
    file = folder.with_suffix(LOCK).open("xb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def sweep_dead() -> None:
    """Delete the folders of this user's servers that ended without a chance to do it themselves."""
    if fcntl is None:
        return
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK}"):
        with suppress(OSError):
            about = lock.lstat()
            if not S_ISREG(about.st_mode) or about.st_uid != os.getuid() or time.time() - about.st_mtime < JUST_MADE:
                continue
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its server lives
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()


def _sent(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()  # Gradio gives every upload a folder of its own
