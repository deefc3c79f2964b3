"""Uploaded pictures and zips, one picture at a time. Zips come from strangers: nothing is written to disk and no size
that a zip states about itself is believed."""

import io
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emoreason.apps.ui.words import words
from emoreason.media import images

MAX_NAME = 200  # characters of a name that are shown
STEP = 2**20  # bytes that are read at a time
MAX_INDEX = 4 * 2**20  # bytes: about 50,000 names
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python unpacks bzip2 and lzma without a limit on what comes out
# Of broken bytes zipfile raises any of these (RuntimeError: also for what it does not know how to unpack).
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, LookupError, RuntimeError)


@dataclass(frozen=True)
class UploadLimits:
    """What one upload may cost."""

    upload_bytes: int = 200 * 2**20  # all files together, as they came
    entries: int = 2_000
    picture_bytes: int = 64 * 2**20
    unpacked_bytes: int = 2**30  # of all members together
    ratio: int = 100  # unpacked to packed, once STEP bytes came out; pictures hardly shrink in a zip
    picture: images.Limits = images.Limits(max_pixels=50_000_000)


@dataclass(frozen=True)
class Member:
    """A file that may be a picture: nothing was decoded yet."""

    name: str
    data: bytes


@dataclass(frozen=True)
class RefusedEntry:
    """A file, a member or a whole zip that is not read, and a sentence that says why."""

    name: str
    why: str


class _Stop(Exception):
    """The rest of this zip is not read; the message says why."""


def read_files(files: Sequence[Path], limits: UploadLimits = UploadLimits()) -> Iterator[Member | RefusedEntry]:
    """Pictures, and the pictures of zips, in the order of the upload. A name that comes again gets a number."""
    taken: Counter[str] = Counter()
    for entry in _entries(files, limits):
        if taken.total() == limits.entries:
            yield RefusedEntry(entry.name, _why("many", limit=f"{limits.entries:,}"))
            return
        taken[entry.name] += 1
        if taken[entry.name] > 1 and isinstance(entry, Member):
            entry = Member(f"{entry.name} ({taken[entry.name]})", entry.data)
        yield entry


def expected(files: Sequence[Path], limits: UploadLimits = UploadLimits()) -> int:
    """How many entries `read_files` gives when all goes well: by the names alone."""
    found = 0
    for path in files:
        try:
            with _opened(path) as archive:
                found += max(1, len(_wanted(archive)))
        except (_Stop, OSError):  # no zip, or one that is one refused entry
            found += 1
    return min(found, limits.entries + 1)


def shown(name: str) -> str:
    """A name for rows and tables: no way out of a folder, one line, printable, not endless."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    absolute = name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name)
    kept = "/".join(parts[-1:] if absolute or ".." in parts else parts)
    kept = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in kept) or "?"
    return kept if len(kept) <= MAX_NAME else f"{kept[: MAX_NAME - 21]}…{kept[-20:]}"


def is_zip(path: Path) -> bool:
    if path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _entries(files: Sequence[Path], limits: UploadLimits) -> Iterator[Member | RefusedEntry]:
    uploaded = 0
    unpacker = _Unpacker(limits)
    for path in files:
        name = shown(path.name)
        try:
            size = path.stat().st_size
            uploaded += size
            if uploaded > limits.upload_bytes:
                yield RefusedEntry(name, _why("upload", limit=_mega(limits.upload_bytes)))
            elif is_zip(path):
                yield from unpacker.members(path)
            elif size > limits.picture_bytes:
                yield RefusedEntry(name, _why("large", limit=_mega(limits.picture_bytes)))
            else:
                yield Member(name, path.read_bytes())
        except _Stop as stop:
            yield RefusedEntry(name, str(stop))
        except OSError as error:
            yield RefusedEntry(name, _why("unreadable", error=error.strerror or error))


class _Careful(io.BufferedReader):
    """Refuses the one read of zipfile that could be large: the whole index at once, of any stated size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_INDEX:
            raise _Stop(_why("index"))
        return super().read(size)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip whose members lie beside each other: many that share their bytes would unpack to more than was counted."""
    if not is_zip(path):
        raise _Stop
    with _Careful(io.FileIO(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise _Stop(_why("broken")) from error
        end = 0
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise _Stop(_why("overlap"))
            end = info.header_offset + info.compress_size
        if end > archive.start_dir:
            raise _Stop(_why("overlap"))
        yield archive


def _wanted(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members to be read or refused: pictures and zips by their names, hidden ones and those of macOS left out."""
    found = []
    for info in archive.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        hidden = any(part.startswith(".") and part != ".." or part == "__MACOSX" for part in path.parts)
        if not info.filename.endswith("/") and not hidden and path.suffix.lower() in images.SUFFIXES | {".zip"}:
            found.append(info)
    return found


@dataclass
class _Unpacker:
    """Reads the zips of one upload and counts what comes out of all of them together."""

    limits: UploadLimits
    unpacked: int = 0

    def members(self, path: Path) -> Iterator[Member | RefusedEntry]:
        with _opened(path) as archive:
            wanted = _wanted(archive)
            if not wanted:
                yield RefusedEntry(shown(path.name), _why("empty"))
            for info in wanted:
                name = shown(info.filename)
                if name.lower().endswith(".zip"):
                    yield RefusedEntry(name, _why("nested"))
                elif info.flag_bits & 0x1:
                    yield RefusedEntry(name, _why("locked"))
                elif info.compress_type not in METHODS:
                    yield RefusedEntry(name, _why("method"))
                else:
                    yield self._read(archive, info, name)

    def _read(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Member | RefusedEntry:
        """One member, counted as it comes out. What is refused counts as well: unpacking it took the time."""
        limits, data = self.limits, bytearray()
        try:
            with archive.open(info) as stream:
                while piece := stream.read(STEP):
                    data += piece
                    self.unpacked += len(piece)
                    if self.unpacked > limits.unpacked_bytes:
                        raise _Stop(_why("unpacked", limit=_mega(limits.unpacked_bytes)))
                    if len(data) >= STEP and len(data) > limits.ratio * info.compress_size:
                        raise _Stop(_why("bomb", name=name, ratio=limits.ratio))
                    if len(data) > limits.picture_bytes:
                        return RefusedEntry(name, _why("large", limit=_mega(limits.picture_bytes)))
        except BROKEN:
            return RefusedEntry(name, _why("broken_member"))
        return Member(name, bytes(data))


def _mega(n: int) -> str:
    return f"{n / 2**20:,.0f} MB"


def _why(key: str, **values: object) -> str:
    return str(words()["folder"]["refused"][key]).format(**values)
