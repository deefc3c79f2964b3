"""Browser tabs and their uploads. Uploads are deleted when the tab closes, at the latest when the server stops."""

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
except ImportError:  # Windows: uploads of a killed server stay until the system clears its temporary folder
    fcntl = None

PREFIX, LOCK = "emoreason-", ".lock"
LOCK_GRACE_S = 10.0  # seconds in which a new lock file may not be locked yet
MAX_TABS = 500  # tabs to remember
MAX_BYTES = 2 * 2**30  # of all their pictures; the least recently used tabs are dropped first
UNCLAIMED_S = 3600.0  # seconds after which an upload that no tab claimed is deleted


@dataclass
class Tab:
    conversation: PageConversation = field(default_factory=PageConversation)
    uploads: dict[Path, float] = field(default_factory=dict)  # and when the tab claimed them
    labeling: threading.Event = field(default_factory=threading.Event)  # set to stop labeling a folder
    rows: list = field(default_factory=list)  # of the last labeled folder
    columns: list[str] = field(default_factory=list)


class Sessions:
    """One tab per session hash, and the folder for uploads."""

    def __init__(self, max_tabs: int = MAX_TABS, max_bytes: int = MAX_BYTES):
        delete_abandoned_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # readable by this user only
        self._folder_lock = _lock_folder(self.folder)
        self._max_tabs, self._max_bytes = max_tabs, max_bytes
        self._tabs: dict[str, Tab] = {}
        self._lock = threading.RLock()

    def tab(self, key: str) -> Tab:
        with self._lock:
            tab = self._tabs.pop(key, None) or Tab()
            self._tabs[key] = tab  # the most recently used tab is the last one
            self._evict()
            return tab

    def _evict(self) -> None:
        sizes = {key: tab.conversation.bytes for key, tab in self._tabs.items()}
        total = sum(sizes.values())
        for key in list(self._tabs)[:-1]:
            if len(self._tabs) <= self._max_tabs and total <= self._max_bytes:
                return
            total -= sizes[key]
            self.end(key)

    def claim(self, key: str, path: str | Path) -> Path:
        """Assigns an upload to this tab. Only files in the upload folder can be claimed."""
        claimed = Path(path).resolve()
        folder = self.folder.resolve()
        if folder not in claimed.parent.parents:  # Gradio gives every upload its own folder
            raise ValueError("not an upload")
        self.tab(key).uploads[claimed] = time.time()
        return claimed

    def end(self, key: str) -> None:
        """Forgets a closed tab: stops its work and deletes its uploads."""
        with self._lock:
            tab = self._tabs.pop(key, None)
            if tab is None:
                return
            tab.conversation.stop.set()
            tab.labeling.set()
            others = {path for other in self._tabs.values() for path in other.uploads}
        for path, claimed_at in tab.uploads.items():
            # The same picture gets the same path: another tab may have it, or have just uploaded it again.
            if path not in others and _modified(path) <= claimed_at:
                _remove(path)
        self._delete_unclaimed(others)

    def _delete_unclaimed(self, claimed: set[Path]) -> None:
        """Deletes old uploads that no tab claimed."""
        for folder, _, names in os.walk(self.folder):  # other threads may delete files meanwhile
            for path in (Path(folder, name) for name in names):
                if path.resolve() not in claimed and time.time() - _modified(path) > UNCLAIMED_S:
                    _remove(path)

    def __len__(self) -> int:
        return len(self._tabs)

    def close(self) -> None:
        for key in list(self._tabs):
            self.end(key)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._folder_lock is not None:
            self._folder_lock.close()
            self.folder.with_suffix(LOCK).unlink(missing_ok=True)


def _lock_folder(folder: Path) -> IO[bytes] | None:
    """A locked file beside the folder. The system releases it when this process ends, even if it is killed."""
    if fcntl is None:
        return None
    file = folder.with_suffix(LOCK).open("xb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def delete_abandoned_folders() -> None:
    """Deletes upload folders that killed servers of this user left behind."""
    if fcntl is None:
        return
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK}"):
        with suppress(OSError):
            info = lock.lstat()
            if not S_ISREG(info.st_mode) or info.st_uid != os.getuid() or time.time() - info.st_mtime < LOCK_GRACE_S:
                continue
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its server is running
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()  # every upload has its own folder
